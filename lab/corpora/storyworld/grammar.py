"""Forms, read from the text files in forms/, and the way back from words to the form that says them.

A file has one line a form, under the header of its beat; a line that begins with # is a comment.

    == lose : keepsake=held -> keepsake=lost            beat : what must hold -> what holds afterwards
    {hero} looked down, and the {thing} was gone.       a form of it

`{Place}` with a capital tells the listener something new and `{place}` recalls it; `{tall|old|dark}` is a free choice.
A form that recalls needs what it recalls to be known. Besides (unless the header speaks of it) `{companion}` needs
company=with, `{thing}` keepsake=held, `{promise}` vow=open. In a header `a=b|c` is either, `a!=b` is not,
and `{near}` stands for what the variable `near` holds. A beat with several headers takes the forms that fit the world.
A form of a day that says `{hero}` has a twin that says he or she, for the gaps in which a story does not name its hero.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from lab.corpora.storyworld import world
from lab.corpora.utterance import normalize

_FOLDER = Path(__file__).parent / "forms"
_FILES = ("opening", "journey", "events", "ending", "recall")  # in the order that numbers forms
_PRONOUNS = (  # how the hero's name is taken out of a form, one after the other
    (r" named \{hero\}", ""),
    (r", \{hero\}(?=[,.])", ""),
    (r'" (said|asked|cried|whispered|shouted) \{hero\}', r'" {he} \1'),
    (r"the (\w+(?: \w+)?|\{colour\} \{thing\}) of \{hero\}", r"{his} \1"),
    (
        r"\b(to|of|for|with|from|at|on|under|behind|around|told|gave|showed|brought|woke|wished|thanked|made|let|left|led"
        r"|hugged|have|asked) \{hero\}",
        r"\1 {him}",
    ),
    (r"\{hero\}", "{he}"),
)
_BY_NAME = r"\b(a \w+|is|was) \{hero\}"  # a hungry Tom, my name is Tom, it was Tom

# What holds: variable -> value, "none" where there is none; a variable that is not in it is unknown.
# "lives baker" is where the baker lives, "met baker" whether hero and baker met.
State = dict[str, str]
Bindings = Mapping[str, str]  # slot -> value

NONE = "none"
CAST = ("hero", "pronoun", "kind", "companion", "house", "near", "colour", "thing", "promise")  # never change


def _same(values: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    return {value: value for value in values}


_NAMES: dict[str, Sequence[str] | Mapping[str, str]] = {
    "hero": world.HEROES, "kind": world.KINDS, "companion": world.COMPANIONS, "house": world.HOUSES,
    "near": world.PLACES, "colour": world.COLOURS, "thing": world.THINGS, "promise": world.PROMISES,
    "season": world.SEASONS, "place": world.PLACES, "helper": world.HELPERS, "gift": world.GIFTS,
    "whom": world.HELPERS, "where": world.PLACES, "pet": world.PETS,
}  # fmt: skip
# Slot -> the variable it speaks of, and value -> how it is said.
SLOTS: dict[str, tuple[str, dict[str, str]]] = {name: (name, _same(values)) for name, values in _NAMES.items()}
SLOTS |= {name.capitalize(): slot for name, slot in SLOTS.items()}
SLOTS |= {
    name: ("pronoun", {pronoun: cases[k] for pronoun, cases in world.PRONOUNS.items()})
    for k, name in enumerate(("he", "him", "his"))
}
SLOTS |= {"spot": ("place", world.PLACES), "kept": ("promise", world.PROMISES), "nature": ("", _same(world.NATURES))}
_BESIDES = {
    "companion": ("company", "with"),
    "thing": ("keepsake", "held"),
    "promise": ("vow", "open"),
    "kept": ("vow", "open"),
}


class Claim(NamedTuple):
    """What a sentence says of the world: a fact, its value where there is one, and whether it held (None: unknown)."""

    fact: str
    said: str | None
    held: bool | None


class Need(NamedTuple):
    variable: str
    values: tuple[str, ...]
    wanted: bool  # False: none of the values

    def held(self, state: State) -> bool | None:
        values = self.values if self.values[0][0] != "{" else (_value(self.values[0], state),)
        if self.variable not in state or None in values:
            return None
        return (state[self.variable] in values) == self.wanted


@dataclass(frozen=True)
class Form:
    """One sentence with slots, when it may be said and what it changes."""

    number: int
    beat: str
    text: str
    needs: tuple[Need, ...]
    effects: tuple[tuple[str, str], ...]  # variable, value
    unnamed: bool = False  # a twin that says he or she in place of a name

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """Plain text and slots in turn: every second piece is the name of a slot."""
        return tuple(re.split(r"\{([^}]+)\}", self.text))

    @cached_property
    def slots(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.pieces[1::2]))

    @cached_property
    def names(self) -> bool:
        """Whether the hero is named."""
        return "hero" in self.slots or "Hero" in self.slots

    @cached_property
    def only_pronouns(self) -> bool:
        return not self.names and not {"he", "him", "his"}.isdisjoint(self.slots)

    @cached_property
    def recalls(self) -> tuple[str, ...]:
        """Variables that must be known for this to be said."""
        return tuple(variable for slot in self.slots if slot.islower() and (variable := speaks_of(slot)[0]))

    @cached_property
    def variables(self) -> frozenset[str]:
        """Variables that its slots speak of."""
        return frozenset(speaks_of(slot)[0] for slot in self.slots)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Words, and slots in braces."""
        return tuple(
            part
            for k, piece in enumerate(self.pieces)
            for part in ((f"{{{piece}}}",) if k % 2 else normalize(piece).split())
        )

    def fill(self, bindings: Bindings) -> str:
        return "".join(speaks_of(p)[1][bindings[p]] if k % 2 else p for k, p in enumerate(self.pieces))

    def claims(self, bindings: Bindings, state: State) -> Iterator[Claim]:
        """What it says of the world as it was before, against that world."""
        for slot, value in bindings.items():
            variable = speaks_of(slot)[0]
            if variable and (slot.islower() or variable in CAST):
                yield Claim(variable, value, state[variable] == value if variable in state else None)
        for need in self.needs:
            said = _value(need.values[0], state) if need.wanted and len(need.values) == 1 else None
            yield Claim(need.variable, said, need.held(state))
        if "Place" in bindings:
            here = state.get("place")
            yield Claim("road", None, bindings["Place"] in world.ROADS[here] if here in world.ROADS else None)
        for who, where in _residents(bindings, state):
            yield Claim("lives", None, state[f"lives {who}"] == where if f"lives {who}" in state else None)

    def happen(self, bindings: Bindings, state: State) -> None:
        """Change the state as the sentence says."""
        for who, where in _residents(bindings, state):
            state.setdefault(f"lives {who}", where)
        for slot, value in bindings.items():
            if slot[0].isupper() and (slot.lower() not in CAST or slot.lower() not in state):
                state[slot.lower()] = value
        if "Hero" in bindings:
            state.setdefault("pronoun", world.HEROES[bindings["Hero"]])
        if "Helper" in bindings:
            state["met"] = state[f"met {bindings['Helper']}"] = "yes"
        if "Place" in bindings:
            there = (who for who in world.HELPERS if state.get(f"lives {who}") == bindings["Place"])
            state["met"] = "yes" if any(f"met {who}" in state for who in there) else "no"
        for variable, value in self.effects:
            if (found := _value(value, state)) is None:
                state.pop(variable, None)
            else:
                state[variable] = found


def speaks_of(name: str) -> tuple[str, dict[str, str]]:
    """The variable of a slot ("" where none is meant), and value -> how it is said."""
    return SLOTS[name] if name in SLOTS else ("", _same(name.split("|")))


def _value(value: str, state: State) -> str | None:
    return state.get(value[1:-1]) if value.startswith("{") else value


def _residents(bindings: Bindings, state: State) -> Iterator[tuple[str, str]]:
    """Who is said to live where: the one met lives here."""
    if "Helper" in bindings and "place" in state:
        yield bindings["Helper"], state["place"]
    if "Whom" in bindings:
        yield bindings["Whom"], bindings["Where"]


def read_lines(name: str) -> str:
    """A file of forms/ without its comments."""
    lines = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def _read_forms(text: str) -> tuple[Form, ...]:
    read: list[Form] = []
    for line in text.strip().splitlines():
        if line.startswith("== "):
            head, _, after = line[3:].partition(" ->")
            beat, _, before = head.partition(" : ")
            needs = [Need(v, tuple(values.split("|")), not bang) for v, bang, values in _pairs(before)]
            effects = tuple((variable, value) for variable, _, value in _pairs(after))
            spoken_of = {need.variable for need in needs}
        elif line:
            form = Form(len(read), beat.strip(), line, tuple(needs), effects)
            besides = dict(_BESIDES[slot] for slot in form.slots if slot in _BESIDES)
            more = tuple(Need(v, (value,), True) for v, value in besides.items() if v not in spoken_of)
            read.append(Form(len(read), beat.strip(), line, (*needs, *more), effects))
    return tuple(read)


def _pairs(text: str) -> list[tuple[str, str, str]]:
    return re.findall(r"(\w+)(!?)=(\S+)", text)


def _daily() -> set[str]:
    """Beats of days, in which there may be gaps."""
    scenes = re.findall(r"^(\w+).*?:(.*)$", read_lines("scenes"), re.MULTILINE)
    return {item.rstrip("?+") for name, items in scenes if name not in ("opening", "ending") for item in items.split()}


def _twins(forms: Sequence[Form]) -> Iterator[Form]:
    daily = _daily()
    for form in forms:
        if form.beat in daily and "hero" in form.slots and not re.search(_BY_NAME, form.text):
            text = form.text
            for name, pronoun in _PRONOUNS:
                text = re.sub(name, pronoun, text)
            yield replace(form, number=len(forms) + form.number, text=text, unnamed=True)


_NAMED = _read_forms("\n".join(read_lines(name) for name in _FILES))
FORMS = (*_NAMED, *_twins(_NAMED))


class Parse(NamedTuple):
    form: Form
    bindings: dict[str, str]


@dataclass
class _Node:
    """A trie over words and slots: where a sentence can be after its first few words."""

    words: dict[str, _Node] = field(default_factory=dict)
    slots: dict[str, _Node] = field(default_factory=dict)
    ends: list[Form] = field(default_factory=list)


def _trie() -> _Node:
    root = _Node()
    for form in FORMS:
        node = root
        for word in form.words:
            node = (node.slots if word[0] == "{" else node.words).setdefault(word.strip("{}"), _Node())
        node.ends.append(form)
    return root


def _lexicon() -> dict[str, dict[str, list[tuple[tuple[str, ...], str]]]]:
    """Slot -> first word -> the words of each value that begins so, and the value."""
    found: dict[str, dict[str, list[tuple[tuple[str, ...], str]]]] = {}
    for slot in {slot for form in FORMS for slot in form.slots}:
        for value, said in speaks_of(slot)[1].items():
            found.setdefault(slot, {}).setdefault(said.split()[0], []).append((tuple(said.split()), value))
    return found


_ROOT, _LEXICON = _trie(), _lexicon()
VOCABULARY = frozenset(word for form in FORMS for word in form.words if word[0] != "{") | frozenset(
    word for entries in _LEXICON.values() for values in entries.values() for words, _ in values for word in words
)


def sentences_from(words: Sequence[Sequence[str]], start: int) -> Iterator[tuple[int, Parse]]:
    """Every sentence that begins at word `start`, and where it stops. `words`: for each, what it may stand for."""
    yield from _matches(_ROOT, words, start, {})


def _matches(
    node: _Node, transcript: Sequence[Sequence[str]], at: int, bindings: dict[str, str]
) -> Iterator[tuple[int, Parse]]:
    for form in node.ends:
        yield at, Parse(form, bindings)
    if at == len(transcript):
        return
    for word in transcript[at]:
        if word in node.words:
            yield from _matches(node.words[word], transcript, at + 1, bindings)
        for slot, after in node.slots.items():
            for words, value in _LEXICON[slot].get(word, ()):
                stop = at + len(words)
                rest = all(w in heard for w, heard in zip(words, transcript[at:stop], strict=False)) and stop <= len(
                    transcript
                )
                if rest and bindings.get(slot, value) == value:
                    yield from _matches(after, transcript, stop, bindings | {slot: value})


def parses(sentence: str) -> list[Parse]:
    """Every way to read one sentence, exactly as it is spelt; punctuation is passed over."""
    transcript = [(word,) for word in normalize(sentence).split()]
    return [parse for stop, parse in sentences_from(transcript, 0) if stop == len(transcript)]


def parse(sentence: str) -> Parse | None:
    """The form that says this sentence and what stands in its slots; None if no form does. No sentence has two."""
    return next(iter(parses(sentence)), None)
