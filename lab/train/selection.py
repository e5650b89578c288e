"""Stories as human-like narrators would read them, in semantic tokens, put together from words that they did read.

It is unit selection (Hunt and Black 1996, 10.1109/ICASSP.1996.541110), of tokens in place of sound: a narrator reads an
hour or two, too little for a language model to learn stories from, but in that hour are all words of the story world,
most of them often. A story is put together from runs of recorded words; a run of one word comes from between words that
end and begin with the same letters. Tokens say next to nothing of the speaker, so a story takes words from all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from rich.progress import Progress, track

from lab import bundle
from lab.console import console
from lab.corpora import Utterance, narration, shards
from lab.corpora.narrated_folder import Document
from lab.corpora.source import digest_of
from lab.corpora.utterance import normalize
from lab.errors import LabError
from lab.files import made
from lab.tokens import TOKEN_RATE, Tokenizer
from lab.train import data
from lab.train.augment import VOICES, in_voices

if TYPE_CHECKING:
    from lab.train.plan import Plan

FIRST = 500_000  # the number of the first story put together: espeak-ng reads others
RUN = (2, 6)  # words at most from one recording, drawn for each: longer ones are heard in every story that has them
TRIED = 96  # recordings of a word to choose from, drawn for each: enough to find a neighbour that fits
FITS = 0.6  # what it is worth, in words, that a neighbour ends or begins with the same letter: fewer words are misread
# Tokens alike in a row at most, 0.3 s. Narrators pause for longer, and a model that cannot tell when a pause will end
# stays in it at a low temperature: `lab measure coherence --development --temperature 0.6` counts silent minutes.
PAUSE = 8
LATE = 2  # tokens before a CTC head reads the first letter of a word that the word begins


def words_of(sentences: Iterable[str]) -> Iterator[str]:
    """Words in lower case; the last one of a sentence, before a pause, is another with a full stop."""
    for sentence in sentences:
        *before, last = normalize(sentence).split() or [""]
        yield from before
        if last:
            yield f"{last}."


def edges_of(tokenizer: Tokenizer, tokens: np.ndarray, words: Sequence[str]) -> np.ndarray:
    """Tokens (T,) of words (W,) read aloud -> (W + 1,): the token with which each begins and, last, T.

    -1 where nobody knows: beside a word that the tokenizer's CTC head misreads.
    """
    heard = tokenizer.words(torch.from_numpy(tokens.astype(np.int64)))
    edges = np.full(len(words) + 1, -1)
    edges[0], edges[-1] = 0, len(tokens)
    plain = [word.rstrip(".") for word in words]
    matcher = SequenceMatcher(None, plain, [word for _, _, word in heard], autojunk=False)
    for first, there, length in matcher.get_matching_blocks():
        for k in range(1, length):
            before, begin = (round(time * TOKEN_RATE) for time in (heard[there + k - 1][1], heard[there + k][0]))
            edges[first + k] = max(before, begin - LATE)
    return edges


def brief(tokens: np.ndarray) -> np.ndarray:
    """Tokens (T,) -> (up to T,), no more than PAUSE in a row alike."""
    begins = np.flatnonzero(np.diff(tokens.astype(int), prepend=-1))
    since = np.arange(len(tokens)) - np.repeat(begins, np.diff(begins, append=len(tokens)))
    return tokens[since < PAUSE]


class Told(NamedTuple):
    places: np.ndarray  # (T,) of a story's tokens among those of all documents
    words: list[tuple[float, float, str]]  # with which token of the story each begins and ends


def spans(edges: Sequence[int], words: Sequence[str], first: float = 0.0) -> list[tuple[float, float, str]]:
    """Words (W,) with their edges (W + 1,), counted from `first` on; one that nobody knows lies evenly among others."""
    known = [k for k, edge in enumerate(edges) if edge >= 0]
    times = np.interp(range(len(edges)), known, [edges[k] - edges[0] + first for k in known]).tolist()
    return [(begin, end, word.rstrip(".")) for begin, end, word in zip(times, times[1:], words, strict=False)]


def heard(tokenizer: Tokenizer, utterance: Utterance, document: Document) -> tuple[np.ndarray, list[str], np.ndarray]:
    """A document as it was read -> its tokens (T,), words (W,) and edges (W + 1,)."""
    words = [*words_of(sentence.text for sentence in document.sentences)]
    tokens = tokenizer.encode(utterance.samples()).numpy().astype(np.uint16)
    return tokens, words, edges_of(tokenizer, tokens, words)


class Readings:
    """Words read aloud and the tokens of each: tokens (T,), words (W,), edges (W + 1,) of each document.

    `tokens` (N,) are those of all documents, end to end.
    """

    def __init__(self, documents: Iterable[tuple[np.ndarray, Sequence[str], np.ndarray]]) -> None:
        tokens, edges, at = [], [], 0
        self._words: list[str] = []  # of all documents, with "" after each
        for read, words, ends in documents:
            self._words += [*words, ""]
            edges.append(np.where(ends < 0, -1, ends + at))
            tokens.append(read)
            at += len(read)
        if not tokens:
            raise LabError("there is no reading to take words from")
        self.tokens = np.concatenate(tokens)
        self._edges: list[int] = np.concatenate(edges).tolist()
        self._where: dict[str, list[int]] = defaultdict(list)
        for place, word in enumerate(self._words):
            if word and self._run(place, [word], 0, 1):
                self._where[word].append(place)

    def tell(self, sentences: Iterable[str], random: np.random.Generator) -> Told:
        """Some sentences, less those with a word that nobody read."""
        said = ([*words_of([sentence])] for sentence in sentences)
        words = [word for sentence in said if all(word in self._where for word in sentence) for word in sentence]
        times: list[tuple[float, float, str]] = []
        places, at = [np.zeros(0, np.int64)], 0
        words.append("")  # after the last word, and, at -1, before the first
        while words[at]:
            place, length = self._choose(words, at, random)
            edges = self._edges[place : place + length + 1]
            times += spans(edges, words[at : at + length], times[-1][1] if times else 0.0)
            places.append(np.arange(edges[0], edges[-1]))
            at += length
        return Told(np.concatenate(places), times)

    def _choose(self, words: Sequence[str], at: int, random: np.random.Generator) -> tuple[int, int]:
        """Where the recording begins of which the words from `at` on are taken, and how many."""
        most, where = int(random.integers(RUN[0], RUN[1] + 1)), self._where[words[at]]
        found: tuple[float, int, int] = (0, 0, 0)
        for chosen in random.permutation(len(where))[:TRIED].tolist():
            place = where[chosen]
            if length := self._run(place, words, at, most):
                alike = self._words[place - 1][-1:] == words[at - 1][-1:]
                alike += self._words[place + length][:1] == words[at + length][:1]
                found = max(found, (length + FITS * alike, place, length), key=lambda each: each[0])
        return found[1:]

    def _run(self, place: int, words: Sequence[str], at: int, most: int) -> int:
        """How many words from `at` on are read there, to an end that is known; 0 where the beginning is not."""
        length = 0
        if self._edges[place] < 0:
            return length
        for k, word in enumerate(words[at : at + most]):
            if not word or self._words[place + k] != word:
                break
            if self._edges[place + k + 1] >= 0:
                length = k + 1
        return length


def stories(plan: Plan, hours: float, sentences: int) -> tuple[list[np.ndarray], dict[str, float]]:
    """Tokens (T,) uint16 of all that narrators read of the story world, then of so many hours of stories of so many
    sentences, put together from what they read, each from VOICES in turn; and the seconds of both, of what they read
    at their own pace.

    Made once. Raises LabError without narrations of the story world, and for a file of them that is damaged.
    """
    path = made(plan.work) / f"selected-{digest(plan, sentences)}-{hours:g}.npz"
    with plan.compute.fabric().rank_zero_first():  # the others find it made
        if not path.exists():
            read, voices = _read(plan)
            data.save_ragged(path, {"read": read, "told": _told(voices, hours, sentences)})
    read, told = data.load_ragged(path, ["read", "told"])
    spoken = {"read": read[:: len(VOICES)], "told": told}  # the first of VOICES is as they read
    return read + told, {name: sum(map(len, each)) / TOKEN_RATE for name, each in spoken.items()}


def digest(plan: Plan, sentences: int) -> str:
    """12 hexadecimal digits of all that stories depend on. Raises LabError as `stories` does."""
    documents = [(each.voice, each.path.name, each.seed, each.sentences) for each in read_aloud(plan)]
    settings = (VOICES, RUN, TRIED, FITS, PAUSE, LATE, FIRST, sentences, shards.digest("stories"))
    return digest_of(repr((settings, documents, bundle.fingerprint(plan.load("tokenizer")))))


def read_aloud(plan: Plan) -> list[Document]:
    """The stories of the story world that narrators read. Raises LabError where there are none."""
    found = [document for document in plan.documents() if document.seed is not None]
    if not found:
        raise LabError(
            f"{' and '.join(data.READ)} are put together from stories read aloud; give --narration FOLDER with some"
        )
    return found


def tellings(readings: Readings, number: int, sentences: int) -> Told:
    """Story `number` of those put together. Raises LabError where nobody read one sentence's words."""
    said = narration.told(FIRST + number, sentences).sentences
    found = readings.tell(said, np.random.default_rng((0x5E1EC7, number)))
    if not len(found.places):
        raise LabError(f"of story {number} nobody read a sentence's words; narrate more of the story world")
    return found


def _read(plan: Plan) -> tuple[list[np.ndarray], list[Readings]]:
    """Tokens (T,) of each document in all VOICES, and what each of these read."""
    tokenizer, documents, read = plan.load("tokenizer"), read_aloud(plan), []
    for document in track(documents, "listening", console=console):
        read += [heard(tokenizer, voice, document) for voice in in_voices([document.read()])]
    return [brief(tokens) for tokens, _, _ in read], [Readings(read[k :: len(VOICES)]) for k in range(len(VOICES))]


def _told(voices: Sequence[Readings], hours: float, sentences: int) -> list[np.ndarray]:
    told: list[np.ndarray] = []
    with Progress(console=console) as progress:
        task = progress.add_task("telling", total=hours * 3600 * TOKEN_RATE)
        while not progress.finished:
            number = len(told)
            readings = voices[number % len(voices)]
            told.append(brief(readings.tokens[tellings(readings, number, sentences).places]))
            progress.advance(task, len(told[-1]))
    return told
