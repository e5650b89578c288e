"""Text to semantic tokens: a Griffin that reads aloud, in tokens, what language models are to learn from.

It is SPEAR-TTS's first stage (Kharitonov et al. 2023, arXiv 2302.03540). Human-like narrators read an hour or two, too
little for a language model to learn stories from; what they say how, this model learns from as much, and then it writes
the tokens of any number of stories as they would read them. No text enters the models that learn from those.

A document: the letters of a word, its tokens, END, the letters of the next one, and so on, with a space after the last
word of a sentence: so a model of 3 M parameters need not learn which of a hundred letters it has come to, and the state
carries voice and tempo along.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import chain, pairwise

import numpy as np
import torch

from lab.corpora.utterance import normalize
from lab.language import Griffin
from lab.language.decode import decoder
from lab.nn.sampling import sample
from lab.tokens import TOKEN_RATE, Tokenizer, ctc
from lab.train.language import LEAD

END = len(ctc.CHARACTERS)  # of a word's tokens; ids below are letters, which are given and never predicted
FIRST = END + 1  # the id of semantic token 0
LONGEST = 3 * TOKEN_RATE  # tokens of a word and the pause after it; one that has not ended by then is ended


def letters(sentences: Sequence[str]) -> Iterator[list[int]]:
    """Ids of each word, 0 to END - 1, with a space after the last one of a sentence."""
    for sentence in sentences:
        if words := normalize(sentence).split():
            words[-1] += " "
        yield from ([label - 1 for label in ctc.labels(word)] for word in words)


def document(
    tokenizer: Tokenizer, tokens: np.ndarray, sentences: Sequence[str], shuffle: np.random.Generator | None = None
) -> np.ndarray:
    """Tokens (T,) of a reading of some sentences -> ids (N,), in any order of the words with `shuffle`.

    Words are where the tokenizer's CTC head reads them; those beside one that it misreads stay together.
    """
    heard = tokenizer.words(torch.from_numpy(tokens.astype(np.int64)))
    said = [word for sentence in sentences for word in normalize(sentence).split()]
    cuts, words = {0: 0}, list(letters(sentences))  # word -> the token with which it begins
    matched = SequenceMatcher(None, said, [word for _, _, word in heard], autojunk=False).get_matching_blocks()
    for first, there, count in matched:
        for k in range(1, count):
            before, begin = (round(time * TOKEN_RATE) for time in (heard[there + k - 1][1], heard[there + k][0]))
            cuts[first + k] = max(before, begin - LEAD)
    bounds = pairwise([*sorted(cuts.items()), (len(words), len(tokens))])
    parts = [
        [*chain.from_iterable(words[word:following]), *(tokens[start:end].astype(np.int64) + FIRST).tolist(), END]
        for (word, start), (following, end) in bounds
    ]
    if shuffle:
        shuffle.shuffle(parts)
    return np.fromiter(chain.from_iterable(parts), np.int64)


@torch.no_grad()
def read(
    model: Griffin,
    stories: Sequence[Sequence[str]],
    begins: Sequence[np.ndarray],
    generator: torch.Generator,
    temperature: float,
) -> list[np.ndarray]:
    """Sentences of each story -> its semantic tokens (T,) int64, as whoever read `begins` would read them.

    begins: ids of the beginning of a document for each story, which are read first and left out of the result.
    """
    told = [letters(story) for story in stories]
    waiting = [deque([*begin.tolist(), *next(words)]) for begin, words in zip(begins, told, strict=True)]
    said: list[list[int]] = [[] for _ in stories]
    lasted, busy = [0] * len(stories), set(range(len(stories)))
    logits, state = model(torch.tensor([[row.popleft()] for row in waiting], device=model.device), last=True)
    steps, logits = decoder(model, state), logits[:, -1]
    while busy:
        drawn = (sample(logits[:, END:], temperature, generator) + END).tolist()
        ids = [END] * len(stories)
        for row in sorted(busy):
            if waiting[row]:
                ids[row] = waiting[row].popleft()
            elif drawn[row] != END and lasted[row] < LONGEST:
                ids[row] = drawn[row]
                said[row].append(drawn[row] - FIRST)
                lasted[row] += 1
            else:
                word = next(told[row], None)
                waiting[row], lasted[row] = deque(word or ()), 0
                busy -= {row} if word is None else set()
        logits = steps.step(torch.tensor(ids, device=model.device))
    return [np.array(each) for each in said]
