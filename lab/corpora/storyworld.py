"""The story world: bedtime stories of any length from a seeded grammar over a few hundred words.

A hero with a companion, a home, a keepsake and a promise travels from place to place; the scenes change the place and
the weather, the hero stays. What stays is known, so coherence can be checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

HEROES = {
    "anna": "she", "tom": "he", "mila": "she", "oscar": "he", "ruby": "she", "finn": "he",
    "nora": "she", "leo": "he", "clara": "she", "hugo": "he", "ella": "she", "max": "he",
}  # fmt: skip
KINDS = ("fox", "bear", "mouse", "rabbit", "hedgehog", "badger", "squirrel", "otter", "beaver", "kitten")
COMPANIONS = ("owl", "frog", "duck", "dog", "turtle", "robin", "goat", "pony", "snail", "bee")
HELPERS = (
    "baker",
    "miller",
    "shepherd",
    "fisherman",
    "gardener",
    "king",
    "queen",
    "giant",
    "wizard",
    "sailor",
)
NATURE = ("brave", "little", "kind", "clever", "gentle", "happy", "curious", "quiet", "proud", "funny")
PLACES = {
    "forest": "under the tall trees", "river": "beside the water", "mountain": "on the high rocks",
    "meadow": "among the flowers", "village": "near the old well", "lake": "on the sandy shore",
    "garden": "behind the stone wall", "castle": "inside the great hall", "cave": "deep in the dark",
    "island": "close to the sea", "bridge": "above the stream", "valley": "along the narrow path",
}  # fmt: skip
HOMES = ("cottage", "burrow", "mill", "barn", "tower", "boat")
COLOURS = ("red", "blue", "green", "golden", "silver", "white", "yellow", "purple")
KEEPSAKES = ("lantern", "key", "ring", "bell", "flute", "map", "scarf", "shell", "feather", "button")
GIFTS = ("bread", "honey", "apples", "cheese", "soup", "berries", "cake", "milk")
WEATHERS = {
    "rain": "the rain began to fall", "snow": "soft snow covered the ground", "wind": "a cold wind was blowing",
    "sun": "the sun was warm and bright", "fog": "a thick fog came down", "storm": "thunder rolled across the sky",
}  # fmt: skip
SEASONS = ("spring", "summer", "autumn", "winter")
TIMES = ("in the morning", "at noon", "in the afternoon", "before sunset", "the next day", "after breakfast")
FEELINGS = ("tired", "hungry", "glad", "afraid", "lonely", "sleepy", "excited", "thankful")
PROMISES = (
    "to find the lost star", "to bring the music home", "to wake the sleeping moon", "to open the secret door",
    "to mend the broken clock", "to visit the old lighthouse",
)  # fmt: skip

OPENING = (
    "once upon a time there was a {nature} {kind} named {hero}.",
    "{hero} lived in a {colour} {home} with {a_companion}.",
    "in the {season}, {hero} made a promise {promise}.",
    "{hero} always carried a {keepsake}.",
)
TRAVEL = (
    "{time}, {hero} and the {companion} walked to the {place}.",
    "{time}, {hero} followed the {companion} to the {place}.",
    "then {he} left for the {place}, and the {companion} came along.",
    "soon {hero} and the {companion} reached the {place}.",
)
SCENERY = (
    "{weather}.",
    "{weather}, and {hero} felt {feeling}.",
    "everything was still {corner}.",
    "{hero} rested {corner}.",
    "the {companion} was {feeling}, but {hero} was {feeling2}.",
)
MEETING = (
    "there {he} met a {nature2} {helper}.",
    "a {helper} was waiting {corner}.",
    "{corner} stood a {nature2} {helper}.",
)
SPEECH = (
    '"where are you going?" asked the {helper}. "{promise}," said {hero}.',
    '"please help us," said {hero}. "i will," said the {helper}.',
    '"i am {feeling}," whispered the {companion}. "so am i," said {hero}.',
    '"do not be afraid," {hero} told the {companion}.',
    '"have you seen my {keepsake}?" asked {hero}.',
    "the {helper} asked {hero} about the promise {promise}.",
)
DEED = (
    "the {helper} gave {hero} some {gift}.",
    "{hero} shared the {gift} with the {companion}.",
    "{hero} lost the {keepsake}, but the {companion} found it {corner}.",
    "{hero} held the {keepsake} and thought of home.",
    "the {companion} sang a song for {hero}.",
    "{he} looked {corner} and saw a {colour2} light.",
    "{hero} showed the {keepsake} to the {helper}.",
)
NIGHT = (
    "at night, {hero} dreamed of the {home}.",
    "when the moon came up, {hero} and the {companion} fell asleep.",
    "{hero} remembered the promise {promise}.",
    "the {companion} said good night to {hero}.",
)
ENDING = (
    "at last, {hero} and the {companion} came home to the {colour} {home}.",
    "the promise {promise} was kept.",
    "good night, {hero}.",
)
SCENES = (TRAVEL, SCENERY, MEETING, SPEECH, DEED, NIGHT)


@dataclass(frozen=True)
class Cast:
    """What holds from the first sentence to the last."""

    hero: str
    pronoun: str
    kind: str
    companion: str
    home: str
    keepsake: str
    promise: str


@dataclass(frozen=True)
class Story:
    seed: int
    cast: Cast
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """As a narrator reads it, with punctuation."""
        return " ".join(self.sentences)


def story(seed: int, sentences: int) -> Story:
    """The story of this seed in so many sentences; of 8 or more, the last 3 are its ending.

    A longer story begins as a shorter one does, up to the shorter one's ending.
    """
    return Story(seed, *_begin(seed, sentences))


def _begin(seed: int, sentences: int) -> tuple[Cast, tuple[str, ...]]:
    rng = np.random.default_rng((0x57081, seed))
    hero = str(rng.choice(list(HEROES)))
    keepsake = f"{rng.choice(COLOURS)} {rng.choice(KEEPSAKES)}"
    cast = Cast(
        hero,
        HEROES[hero],
        _one(rng, KINDS),
        _one(rng, COMPANIONS),
        _one(rng, HOMES),
        keepsake,
        _one(rng, PROMISES),
    )
    world = {"season": _one(rng, SEASONS), "colour": _one(rng, COLOURS), "nature": _one(rng, NATURE)}
    told = _tell(cast, world, rng)
    if sentences > len(ENDING) + len(OPENING):
        body = tuple(islice(told, sentences - len(ENDING)))
        return cast, body + tuple(_fill(line, cast, rng, world) for line in ENDING)
    return cast, tuple(islice(told, sentences))


def _tell(cast: Cast, world: dict[str, str], rng: np.random.Generator) -> Iterator[str]:
    """Sentence after sentence, for ever."""
    for line in OPENING:
        yield _fill(line, cast, rng, world)
    while True:
        place = _one(rng, tuple(PLACES))
        scene = world | {
            "place": place,
            "corner": PLACES[place],
            "weather": _one(rng, tuple(WEATHERS.values())),
            "time": _one(rng, TIMES),
            "helper": _one(rng, HELPERS),
            "gift": _one(rng, GIFTS),
        }
        for forms in SCENES:
            for line in rng.permutation(forms)[: rng.integers(1, 3)]:
                yield _fill(str(line), cast, rng, scene)


def _fill(line: str, cast: Cast, rng: np.random.Generator, scene: dict[str, str]) -> str:
    article = "an" if cast.companion[0] in "aeiou" else "a"
    return line.format(
        hero=cast.hero,
        he=cast.pronoun,
        kind=cast.kind,
        companion=cast.companion,
        a_companion=f"{article} {cast.companion}",
        home=cast.home,
        keepsake=cast.keepsake,
        promise=cast.promise,
        nature2=_one(rng, NATURE),
        colour2=_one(rng, COLOURS),
        feeling=_one(rng, FEELINGS),
        feeling2=_one(rng, FEELINGS),
        **({"colour": _one(rng, COLOURS)} | scene),
    )


def _one(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]


def normalize(text: str) -> str:
    """What is said, as the tokenizer spells it: lower case, letters and apostrophes, single spaces."""
    return " ".join(re.sub(r"[^a-z' ]+", " ", text.lower()).split())


def _vocabulary() -> frozenset[str]:
    forms = [line for group in (OPENING, *SCENES, ENDING) for line in group]
    lists: list[Iterable[str]] = [HEROES, HEROES.values(), KINDS, COMPANIONS, HELPERS, NATURE, PLACES, PLACES.values()]
    lists += [HOMES, COLOURS, KEEPSAKES, GIFTS, WEATHERS.values(), SEASONS, TIMES, FEELINGS, PROMISES, ("a", "an")]
    plain = [re.sub(r"\{\w+\}", " ", line) for line in forms] + [entry for entries in lists for entry in entries]
    return frozenset(normalize(" ".join(plain)).split())


VOCABULARY = _vocabulary()


def nonsense(rng: np.random.Generator, words: int) -> str:
    """Words of this world in no order: speech that has to be heard, since it cannot be guessed."""
    return " ".join(rng.choice(sorted(VOCABULARY), words))
