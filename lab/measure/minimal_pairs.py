"""Two texts that differ in one thing only, of which one is right: what a language model should find likelier.

Words, sentences and endings of held-out stories of the story world, as sWUGGY and sBLIMP (Nguyen et al. 2020) and
topic StoryCloze (Hassid et al. 2023) have them of all of English.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lab.corpora import narration, splits, storyworld
from lab.corpora.storyworld import world
from lab.errors import LabError

_ONSET = re.compile(r"(s?qu|y|[^aeiouy]+)(.*)")  # consonants before the first vowel, as they are spelt, and the rest
_ALIKE = (  # spellings that sound alike, so that no invented word sounds as one that exists
    (r"^kn", "n"), (r"^wr", "r"), (r"^wh", "w"), (r"ph", "f"), (r"c(?=[eiy])", "s"), (r"ck|c|q", "k"),
    (r"(.)\1", r"\1"), (r"igh|ie|y", "i"), (r"ea|ee", "e"), (r"oa|ow|ou|oo", "o"), (r"ai|ay|ei", "a"),
)  # fmt: skip
_ENGLISH = frozenset(  # words that come of exchanging onsets, and are none of the story world's
    "baking beady bellow bother bower furious hater mutter petter raker reeping rocket runny tiller wunder".split()
)
_BE = {"was": "were", "were": "was", "is": "are", "are": "is", "am": "is"}
_CASE = {"he": "him", "him": "he", "she": "her", "her": "she", "his": "him", "i": "me", "we": "us"}
_PAST = {
    "begin": "began", "bring": "brought", "come": "came", "eat": "ate", "feel": "felt", "find": "found", "get": "got",
    "go": "went", "hear": "heard", "hold": "held", "hide": "hid", "keep": "kept", "lose": "lost", "meet": "met",
    "run": "ran", "say": "said", "see": "saw", "sing": "sang", "sit": "sat", "sleep": "slept", "stand": "stood",
    "take": "took", "tell": "told", "wake": "woke",
}  # fmt: skip


class Pair(NamedTuple):
    """Pairs of one item are no independent draws; `kind` says what is wrong with the wrong one."""

    item: str
    kind: str
    right: str
    wrong: str


def words(count: int) -> list[Pair]:
    """Words of the story world, and invented ones: the onsets of two words exchanged, so that onsets and rests are as
    frequent on both sides. All have two syllables or more: of one, most that the world lacks are English all the same.

    As many as the world has, some 150, if that is fewer.
    """
    sounds = {_sound(word) for word in storyworld.VOCABULARY | _ENGLISH}
    left = [word for word in sorted(storyworld.VOCABULARY) if _ONSET.match(word) and _syllables(word) > 1]
    left = np.random.default_rng(0x50).permutation(left).tolist()
    found: list[Pair] = []
    while left and len(found) < count:
        word = left.pop()
        for partner in left:
            (onset, rest), (other, others) = (_ONSET.match(each).groups() for each in (word, partner))  # type: ignore[union-attr]
            invented = other + rest, onset + others
            if (
                onset != other
                and _syllables(word) == _syllables(partner)
                and not sounds & {_sound(each) for each in invented}
            ):
                left.remove(partner)
                pairs = zip((word, partner), invented, strict=True)
                found += [Pair(right, "word", right, wrong) for right, wrong in pairs]
                break
    return found[:count]


def _syllables(word: str) -> int:
    """Vowels, less those that are not heard."""
    return len(re.findall("[aeiouy]+", re.sub("(?<![td])ed$|(?<![bdfgkptz]l)e$|(?<=[kmnv])es$", "", word)))


def _sound(word: str) -> str:
    for spelt, said in _ALIKE:
        word = re.sub(spelt, said, word)
    return word


def sentences(count: int) -> list[Pair]:
    """Sentences, and the same with one fault of grammar, kinds in turn as far as stories have them: agreement (were),
    case (him), order (star the), verb (to found). Each word is one of the story world; no form says such a sentence.

    Raises LabError for more than the stories have.
    """
    found: list[Pair] = []
    kinds: Counter[str] = Counter(dict.fromkeys(("agreement", "case", "order", "verb"), 0))
    for number in splits.SENTENCES:
        for sentence in storyworld.story(narration.held_out_seed(number), 24).sentences:
            wrong = dict(_faults(sentence))
            kind = min(kinds, key=kinds.__getitem__)
            if kind in wrong and all(sentence != pair.right for pair in found):
                kinds[kind] += 1
                found.append(Pair(str(len(found)), kind, sentence, wrong[kind]))
            if len(found) == count:
                return found
    raise LabError(f"the stories for this have {len(found)} such sentences; ask for no more")


def _faults(sentence: str) -> Iterator[tuple[str, str]]:
    """Kinds of faults, and the sentence with each."""
    for kind, pattern, instead in _FAULTS:
        for match in re.finditer(pattern, sentence):
            wrong = sentence[: match.start()] + instead(match) + sentence[match.end() :]
            exist = storyworld.VOCABULARY.issuperset(storyworld.normalize(wrong).split())
            if exist and storyworld.parse(wrong) is None:
                yield kind, wrong


def _any(among: dict[str, str]) -> str:
    return rf"\b(?:{'|'.join(among)})\b"


def _past() -> dict[str, str]:
    """Verbs of the world and their past."""
    known = storyworld.VOCABULARY
    regular = {verb: past for verb in known - {"be"} if (past := f"{verb.removesuffix('e')}ed") in known}
    return dict(sorted((regular | {verb: past for verb, past in _PAST.items() if {verb, past} <= known}).items()))


_VERBS = _past()
_BASES = {past: verb for verb, past in _VERBS.items()}
_HERO = rf"(?<!and )\b(?:{'|'.join(sorted(world.HEROES))}|he|she) "
_FAULTS = (
    ("agreement", _any(_BE), lambda match: _BE[match[0]]),
    ("case", _any(_CASE), lambda match: _CASE[match[0]]),
    ("order", r"\bthe ([a-z]+)\b", lambda match: f"{match[1]} the"),
    ("verb", rf"\bto ({'|'.join(_VERBS)})\b", lambda match: f"to {_VERBS[match[1]]}"),
    ("verb", rf"({_HERO})({'|'.join(_BASES)})\b", lambda match: match[1] + _BASES[match[2]]),
)


def endings(count: int, context: int = 8, ending: int = 2) -> list[Pair]:
    """`context` sentences of a story with the `ending` that follow, or with those that follow in the next story of
    another hero, companion and keepsake: each ending is right in one pair and wrong in others.
    """
    told = [storyworld.story(narration.held_out_seed(splits.CONTEXTS[k]), context + ending + 40) for k in range(count)]
    found = []
    for number, story in enumerate(told):
        others = (other for other in told[number + 1 :] + told[:number] if _strangers(story.cast, other.cast))
        if (stranger := next(others, None)) is None:
            raise LabError(f"{count} stories have too few of another cast to exchange endings with; ask for more")
        begun = " ".join(story.sentences[:context])
        right, wrong = (" ".join(each.sentences[context : context + ending]) for each in (story, stranger))
        found.append(Pair(str(number), "ending", f"{begun} {right}", f"{begun} {wrong}"))
    return found


def _strangers(one: storyworld.Cast, other: storyworld.Cast) -> bool:
    return one.hero != other.hero and one.companion != other.companion and one.thing != other.thing
