"""lab.view.captions: words read while a story is told are in the end those of the whole story."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch

from lab import audio, bundle
from lab.corpora import narration, storyworld
from lab.corpora.prompts import prompts
from lab.measure.coherence import heroes
from lab.view.captions import BEFORE, UNSETTLED, Captions, Transcript

STORY = storyworld.story(narration.held_out_seed(3), 30)
WORDS = storyworld.normalize(" ".join(STORY.sentences)).split()
SIZE, REACH = 8, 42  # tokens of a word, and what the CTC head sees to each side


class Reader:
    """Words of SIZE tokens each. A token is its number in the story, and words that end less than REACH before the end
    of what is read, or begin less than REACH after its beginning, are misread."""

    def words(self, tokens: torch.Tensor) -> list[tuple[float, float, str]]:
        found, last = [], int(tokens[-1])
        for number in range(-(-int(tokens[0]) // SIZE), (last + 1) // SIZE):
            begin, end = (SIZE * each - int(tokens[0]) for each in (number, number + 1))
            sure = (begin >= REACH or tokens[0] == 0) and SIZE * (number + 1) + REACH <= last + 1
            found.append((begin / 25, (end - 1) / 25, WORDS[number] if sure else "mumbled"))
        return found


def told(captions: Captions, tokens: Sequence[int], sizes: list[int]) -> Transcript:
    """What was read of tokens that came in pieces of these sizes."""
    transcript, at = Transcript(), 0
    for size in sizes:
        transcript.take(captions.add(tokens[at : at + size]))
        at += size
        assert len(captions._held) <= UNSETTLED + BEFORE + size
    return transcript


@pytest.mark.parametrize("size", [7, 51, 575, SIZE * len(WORDS)])
def test_words_and_heroes_are_those_of_the_whole_story(size: int) -> None:
    total = SIZE * len(WORDS)
    assert total > 2 * (UNSETTLED + BEFORE)
    whole = [(round(a, 2), round(b, 2), word) for a, b, word in Reader().words(torch.arange(total))]
    for hero in (STORY.cast.hero, "leo"):
        cast = dataclasses.replace(STORY.cast, hero=hero)
        transcript = told(Captions(Reader(), cast), range(total), [size] * (total // size + 1))
        assert transcript.words == whole
        named = heroes(whole, cast)
        assert len(named) > 10 and {right for _, right in named} == {hero == STORY.cast.hero}
        assert transcript.right == [at for at, right in named if right]
        assert transcript.wrong == [at for at, right in named if not right]


def test_words_of_the_newest_seconds_are_read_anew() -> None:
    captions = Captions(Reader())
    first, second = captions.add(range(100)), captions.add(range(100, 200))
    assert [word for *_, word in first.words] == [*WORDS[:7], *["mumbled"] * 5]
    assert second.start == 0 and [word for *_, word in second.words][:19] == WORDS[:19]
    assert (second.right, second.wrong) == ([], [])  # no cast, no hero


def test_nothing_is_read_where_nothing_was_said() -> None:
    tokenizer = bundle.load(bundle.folder(), "tokenizer")
    captions = Captions(tokenizer, STORY.cast)
    assert captions.add(()) == (0.0, [], [], [])
    assert captions.add([7]).words == tokenizer.words([7]) and captions.add(()).start == 0


def test_our_tokenizer_reads_in_pieces_what_it_reads_in_one() -> None:
    tokenizer = bundle.load(bundle.folder(), "tokenizer")
    tokens = torch.cat([tokenizer.encode(audio.load(prompt.path)) for prompt in prompts()]).tolist()
    whole = [(round(a, 2), round(b, 2), word) for a, b, word in tokenizer.words(tokens)]
    assert len(tokens) > 1.2 * (UNSETTLED + BEFORE) and len(whole) > 100
    assert told(Captions(tokenizer), tokens, [51, *[90] * 15, 2000]).words == whole
