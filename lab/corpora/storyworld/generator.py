"""Stories: scene by scene, a form that fits the world, chosen by seed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from lab.corpora.storyworld import world
from lab.corpora.storyworld.gaps import Gaps, Recall, recalls
from lab.corpora.storyworld.grammar import CAST, FORMS, NONE, SLOTS, Form, State, read_lines, speaks_of

T = TypeVar("T")

MEMORY = 60  # sentences within which no form comes twice, where the beat has another


@dataclass(frozen=True)
class Cast:
    """What holds from the first sentence to the last."""

    hero: str
    pronoun: str
    kind: str
    companion: str
    house: str
    near: str  # the place where the house stands
    colour: str
    thing: str
    promise: str

    @property
    def keepsake(self) -> str:
        return f"{self.colour} {self.thing}"


class Facts(NamedTuple):
    """What holds after a sentence, as far as has been said."""

    hero: str | None
    companion: str | None  # who is with the hero
    place: str | None
    holding: tuple[str, ...]  # keepsake, something to deliver
    open: tuple[str, ...]  # what is promised and not done, what is lost and not found

    @classmethod
    def of(cls, state: State) -> Facts:
        def get(variable: str) -> str | None:
            return None if state.get(variable, NONE) == NONE else state[variable]

        keepsake = f"{get('colour')} {get('thing')}"
        errand = f"bring {get('gift')} to {get('whom')}" if get("gift") else None
        promise = get("promise") if get("vow") == "open" else None
        lost = f"find {keepsake}" if get("keepsake") == "lost" else None
        return cls(
            get("hero"),
            get("companion") if get("company") == "with" else None,
            get("place"),
            tuple(filter(None, (keepsake if get("keepsake") == "held" else None, get("gift")))),
            tuple(filter(None, (promise, errand, lost))),
        )


class Sentence(NamedTuple):
    """A form, what stands in its slots, and what holds after it."""

    form: Form
    bindings: dict[str, str]
    facts: Facts


@dataclass(frozen=True)
class Story:
    seed: int
    cast: Cast
    parsed: tuple[Sentence, ...]
    bits: float  # how much was left to chance: -log2 of the probability of the choices made

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        return tuple(sentence.form.fill(sentence.bindings) for sentence in self.parsed)

    @property
    def text(self) -> str:
        """As a narrator reads it, with punctuation."""
        return " ".join(self.sentences)

    @property
    def facts(self) -> tuple[Facts, ...]:
        """What holds after each sentence."""
        return tuple(sentence.facts for sentence in self.parsed)

    @cached_property
    def recalls(self) -> tuple[Recall, ...]:
        """Where facts of the cast are said again, and how long after they were last said."""
        return tuple(recalls(self.parsed))

    @property
    def chapters(self) -> tuple[int, ...]:
        """Where chapters begin: one a day."""
        return (0, *(k for k, sentence in enumerate(self.parsed) if sentence.form.beat == "dawn" and k))


def _scenes() -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for line in filter(None, read_lines("scenes").splitlines()):
        head, _, items = line.partition(":")
        name, _, weight = head.partition(" ")
        found.setdefault(name, []).extend([tuple(items.split())] * int(weight or 1))
    return found


SCENES = _scenes()
VARIABLES = sorted(
    ({variable for variable, _ in SLOTS.values()} | {need.variable for form in FORMS for need in form.needs})
    - set(CAST)
)
BEATS = {beat: [form for form in FORMS if form.beat == beat] for beat in dict.fromkeys(f.beat for f in FORMS)}


class _Generator:
    def __init__(self, rng: np.random.Generator, cast: Cast, lives: dict[str, str], state: State, gaps: Gaps) -> None:
        self.rng, self.cast, self.lives, self.state, self.gaps = rng, cast, lives, state, gaps
        self.told = 0  # sentences
        self.unsaid: frozenset[str] = frozenset()  # variables in a gap
        self.recent: deque[int] = deque(maxlen=MEMORY)
        self.unnamed = 0  # sentences since the hero was named
        self.before = NONE  # the place left last
        self.bits = 0.0

    def branch(self, rng: np.random.Generator) -> _Generator:
        """A copy that goes on from here by itself, with no gap."""
        other = copy(self)
        other.gaps, other.unsaid = Gaps(rng), frozenset()
        other.rng, other.state, other.recent = rng, dict(self.state), self.recent.copy()
        return other

    def pick(self, options: Sequence[T]) -> T:
        self.bits += math.log2(len(options))
        return options[int(self.rng.random() * len(options))]

    def body(self) -> Iterator[Sentence | None]:
        """Sentences for ever; None where the story may turn to its end."""
        for beat in SCENES["opening"][0]:
            yield self.say(beat)
            yield None
        while True:
            for item in self.pick(SCENES["day"]):
                yield from self.scene(item)
                yield from self.recall()
                if self.state["time"] != "night" and self.state["weather"] != NONE:
                    yield None

    def scene(self, item: str) -> Iterator[Sentence]:
        """A scene or a beat; nothing where it does not fit the world."""
        name = item.rstrip("?+")
        if item.endswith("?") and self.pick((True, False)):
            return
        if name in SCENES:
            fits = {first: self.fits(first) for first in {items[0] for items in SCENES[name]}}
            for each in self.pick([items for items in SCENES[name] if fits[items[0]]]):
                yield from self.scene(each)
        elif self.fits(name):
            yield self.say(name)

    def recall(self) -> Iterator[Sentence]:
        """Gaps that are over end here."""
        for fact, gap in self.gaps.over(self.told):
            if gap.asked:
                yield self.say(f"ask_{fact}")
            self.gaps.end(fact, self.told)
            self.unsaid = self.gaps.unsaid(self.told)
            if gap.asked:
                yield self.say(f"tell_{fact}")

    def fits(self, beat: str) -> bool:
        return any(map(self.may_say, BEATS[beat]))

    def may_say(self, form: Form) -> bool:
        """Whether the form fits the world, and says nothing that is in a gap.

        Outside of gaps the hero is named at least every third sentence, and is he or she only in the sentence after the
        name or beside it.
        """
        if not self.unsaid.isdisjoint(form.variables):
            return False
        if "hero" not in self.unsaid and (
            form.unnamed or self.unnamed >= 2 and not form.names or self.unnamed and form.only_pronouns
        ):
            return False
        state = self.state
        for need in form.needs:
            if not need.held(state):
                return False
        return NONE not in [state.get(variable, NONE) for variable in form.recalls]

    def say(self, beat: str) -> Sentence:
        fitting = [form for form in BEATS[beat] if self.may_say(form)]
        form = self.pick([form for form in fitting if form.number not in self.recent] or fitting)
        bindings: dict[str, str] = {}
        for slot in form.slots:
            bindings[slot] = self.pick(self.options(slot, bindings))
        here = self.state["place"]
        form.happen(bindings, self.state)
        if "Place" in bindings:
            self.before = here
        self.told += 1
        self.unsaid = self.gaps.unsaid(self.told)
        self.recent.append(form.number)
        self.unnamed = 0 if form.names else self.unnamed + 1
        return Sentence(form, bindings, Facts.of(self.state))

    def options(self, slot: str, bindings: dict[str, str]) -> Sequence[str]:
        variable, values = speaks_of(slot)
        if variable in CAST:
            return (getattr(self.cast, variable),)
        if variable and slot.islower():
            return (self.state[variable],)
        here, goal = self.state["place"], self.state["where"]
        if slot == "Place":
            roads = world.ROADS[here]
            if goal != NONE and goal != here:
                return [there for there in roads if world.STEPS[goal][there] < world.STEPS[goal][here]]
            return [there for there in roads if there != self.before] or roads
        if slot == "Helper":
            return (self.lives[here],)
        if slot == "Whom":
            return [who for place, who in self.lives.items() if place != here]
        if slot == "Where":
            return [place for place, who in self.lives.items() if who == bindings["Whom"]]
        return list(values)

    def end(self, sentences: int) -> list[Sentence]:
        """Close what is open and go to bed, in so many sentences or in as few as it takes."""
        items = SCENES["ending"][0]
        after = items[items.index("hearth*") + 1 :]
        said = [each for item in items[: -len(after) - 1] for each in self.scene(item)]
        said += [self.say("hearth") for _ in range(sentences - len(said) - len(after))]
        return said + [self.say(item) for item in after]


def _begin(seed: int, dense: bool = False) -> _Generator:
    rng = np.random.default_rng((0x57081, seed))
    generator = _Generator(rng, Cast(*[NONE] * len(CAST)), {}, {}, Gaps.of(seed, dense))
    hero = generator.pick(list(world.HEROES))
    drawn = {name: generator.pick(list(SLOTS[name][1])) for name in CAST if name not in ("hero", "pronoun")}
    generator.cast = Cast(hero=hero, pronoun=world.HEROES[hero], **drawn)
    who = rng.permutation(world.HELPERS).tolist()
    generator.lives = dict(zip(world.PLACES, who, strict=True))
    generator.state = {variable: NONE for variable in VARIABLES}
    return generator


def sentences(seed: int) -> Iterator[str]:
    """The sentences of a story without an end, in constant memory."""
    for sentence in _begin(seed).body():
        if sentence:
            yield sentence.form.fill(sentence.bindings)


def story(seed: int, sentences: int, dense: bool = False) -> Story:
    """The story of this seed in so many sentences; of 3 or more, the last ones are its ending.

    A longer story begins as a shorter one does, up to the shorter one's ending. `dense`: told with gaps all the time,
    for models to learn from.
    """
    generator = _begin(seed, dense)
    body: list[Sentence] = []
    endings: list[tuple[int, _Generator]] = []
    for sentence in generator.body():
        if sentence:
            body.append(sentence)
        elif sentences - len(body) <= 30:  # more than an ending takes, and than places to end at are apart
            rng = np.random.default_rng((0x57082, seed, len(body)))
            endings.append((len(body), generator.branch(rng)))
        if len(body) >= sentences:
            break
    for length, ending_by in reversed(endings):
        ending = ending_by.end(sentences - length)
        if length + len(ending) == sentences:
            return Story(seed, generator.cast, (*body[:length], *ending), ending_by.bits)
    return Story(seed, generator.cast, tuple(body), generator.bits)
