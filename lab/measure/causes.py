"""What a state owes to what: each second of speech in h, exactly, and each part of the state in the name said next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lab.audio import SAMPLE_RATE
from lab.corpora import narrators, storyworld
from lab.corpora.narrators import Narrator
from lab.errors import LabError
from lab.language import Griffin, GriffinState, generate
from lab.language.layers import AttentionState, RecurrentState
from lab.measure import recall, statistics
from lab.measure.state import Trace
from lab.measure.statistics import Estimate
from lab.tokens import TOKEN_HOP, TOKEN_RATE, Tokenizer


def seconds_in(trace: Trace) -> np.ndarray:
    """The share of h at each token that each second put there, (seconds, T): a column adds up to 1.

    A share is the projection of what the second left on h, as a part of h: below 0 where it speaks against it.
    """
    size = trace.hidden.square().sum(1).clamp(min=1e-12)  # (T,)
    starts = range(0, len(trace.x), TOKEN_RATE)
    left = (trace.left_by(start, start + TOKEN_RATE) for start in starts)
    return torch.stack([(part * trace.hidden).sum(1) / size for part in left]).numpy()


# Parts of the state

SLOW_HALF, FAST_HALF, CONVOLUTION, WINDOW = PARTS = (
    "slow half of h",
    "fast half of h",
    "convolution",
    "keys and values",
)


class Mention(NamedTuple):
    """A story just before a sentence that names its hero, and the same story of another hero.

    Both are of one narrator, word for word the same but for the name.
    """

    heard: tuple[Tensor, Tensor]  # tokens (T,) so far, with either hero
    said: tuple[Tensor, Tensor]  # tokens (T_s,) of the sentence that follows the first of them, with either name
    heroes: tuple[str, str]
    ago: float  # seconds since the hero was named


Cell = tuple[str, str]  # of a `Map`: a layer by its name, and one of PARTS


class Map(NamedTuple):
    """How much likelier the other hero's name gets where a part of the state is the other story's, over stories."""

    layers: tuple[str, ...]  # and "all layers" at the end
    gained: dict[Cell, Estimate]  # probability, where the layer has such a part
    before: Estimate  # probability of the other hero's name with nothing exchanged
    everything: Estimate  # gained with the whole state exchanged


def mentions(
    tokenizer: Tokenizer, stories: Iterable[storyworld.Story], least: int, narrator: Narrator | None = None
) -> list[Mention]:
    """Of each story that has one, the mention of the hero after over `least` tokens that comes longest after another.

    The other hero is the next one of the same pronoun. Narrators are held out and take turns, or `narrator` reads all.
    """
    found = []
    for number, story in enumerate(stories):
        reader = narrator or narrators.HELD_OUT[number % len(narrators.HELD_OUT)]
        heroes = recall.options("hero", story.cast)
        names = story.cast.hero, heroes[(heroes.index(story.cast.hero) + 1) % len(heroes)]
        told = [[_read(reader, sentence, name) for sentence in story.parsed] for name in names]
        ends = np.min([np.cumsum([len(each) for each in spoken]) for spoken in told], 0)
        named = [k for k, sentence in enumerate(story.parsed) if sentence.form.names]
        gaps = [(b - a, b) for a, b in pairwise(named) if ends[b - 1] > least * TOKEN_HOP]
        if not gaps:
            continue
        gap, k = max(gaps)
        heard = [np.concatenate(spoken[:k]) for spoken in told]
        context = heard[0][-recall.CONTEXT :]  # what is said is heard after the first story
        said = (tokenizer.encode(np.concatenate([context, spoken[k]]))[len(context) // TOKEN_HOP :] for spoken in told)
        ago = sum(map(len, told[0][k - gap + 1 : k])) / SAMPLE_RATE
        first, second = map(tokenizer.encode, heard)
        found.append(Mention((first, second), (next(said), next(said)), names, ago))
    return found


def _read(reader: Narrator, sentence: storyworld.Sentence, hero: str) -> np.ndarray:
    bindings = {slot: hero if slot.lower() == "hero" else value for slot, value in sentence.bindings.items()}
    waveform = reader.read(sentence.form.fill(bindings))
    return np.pad(waveform, (0, -len(waveform) % TOKEN_HOP))


def exchange(
    state: GriffinState, other: GriffinState, part: str, slow: Sequence[Tensor], layers: Iterable[int] | None = None
) -> GriffinState:
    """`state` with one of PARTS from `other`, in some layers (counted among all), or in each that has it if None.

    slow: (L,) bool for each recurrent layer, True in its slow half. Of another length, keys and values keep their
    distance from the newest token. Raises LabError where a window of `other` has fewer in use, and for another part.
    """
    if part not in PARTS:
        raise LabError(f"a state has no part {part!r}; there are {', '.join(PARTS)}")
    wanted, masks = range(len(state.layers)) if layers is None else list(layers), iter(slow)
    found: list[AttentionState | RecurrentState] = []
    for number, (mine, theirs) in enumerate(zip(state.layers, other.layers, strict=True)):
        if isinstance(mine, RecurrentState) and isinstance(theirs, RecurrentState):
            mask = next(masks)
            taken = {SLOW_HALF: mask, FAST_HALF: ~mask}.get(part, torch.zeros_like(mask))
            changed: AttentionState | RecurrentState = RecurrentState(
                theirs.conv if part == CONVOLUTION else mine.conv, torch.where(taken, theirs.hidden, mine.hidden)
            )
        else:
            changed = _shifted(theirs, int(state.length), int(other.length)) if part == WINDOW else mine
        found.append(changed if number in wanted else mine)
    return GriffinState(state.length, tuple(found))


def _shifted(ring: Sequence[Tensor], length: int, other: int) -> AttentionState:
    """Keys and values (1, window, head_dim) of a story of `other` tokens, as if it had `length`."""
    window = ring[0].shape[1]
    if min(other, window) < min(length, window):
        raise LabError(f"a window of {other} tokens cannot take the place of one of {min(length, window)}")
    return AttentionState(*(kv.roll(length - other, 1) for kv in ring))


@torch.no_grad()
def other_name(model: Griffin, mention: Mention, states: Sequence[GriffinState]) -> np.ndarray:
    """The probability of the sentence with the other hero's name, where it is that or the one with the hero's: (N,).

    states: N of the story but its newest token. A sentence counts by how much likelier they make it than no story does,
    as in `recall.answered`, so that no name is favoured for being short.
    """
    rows, found = together(states), []
    for sentence in mention.said:
        read = torch.cat([mention.heard[0][-1:], sentence[:-1]])
        told = _nats(model, read.expand(len(states), -1), sentence, rows)
        found.append(told - _nats(model, read[None], sentence, None))  # (N,)
    return torch.stack(found).softmax(0)[1].numpy()


def _nats(model: Griffin, read: Tensor, said: Tensor, state: GriffinState | None) -> Tensor:
    """Log-likelihood (N,) of said (T,), each token after the one of read (N, T) at its place."""
    logits = model(read, state)[0].float()  # (N, T, V)
    return -F.cross_entropy(logits.mT, said.expand(len(read), -1), reduction="none").sum(1)


def together(states: Sequence[GriffinState]) -> GriffinState:
    """States of one story each as that of as many rows."""
    rows = (torch.cat(parts) for parts in zip(*(_tensors(state) for state in states), strict=True))
    return GriffinState(next(rows), tuple(type(layer)(*(next(rows) for _ in layer)) for layer in states[0].layers))


def _tensors(state: GriffinState) -> Iterator[Tensor]:
    yield state.length
    for layer in state.layers:
        yield from layer


def cause_map(model: Griffin, told: Sequence[Mention], slow: Sequence[Tensor]) -> Map:
    """Put each part of each layer, as the other story has it, into the state before a mention: a `Map` over stories.

    slow: as of `exchange`. Raises LabError for no mention.
    """
    kinds = model.config.blocks
    cells = [
        (layer, part)
        for layer in (*range(len(kinds)), None)
        for part in PARTS
        if layer is None or (part == WINDOW) == (kinds[layer] == "attention")
    ]
    gained = []
    for mention in some(told):
        mine, theirs = (before(model, heard) for heard in mention.heard)
        changed = [exchange(mine, theirs, part, slow, None if layer is None else [layer]) for layer, part in cells]
        whole = mine
        for part in PARTS:
            whole = exchange(whole, theirs, part, slow)
        first, *after = other_name(model, mention, [mine, whole, *changed])
        gained.append([first, *(np.array(after) - first)])
    start, everything, *of_cells = map(statistics.mean, np.transpose(gained))
    names = _layers(model)
    placed = ((names[-1 if layer is None else layer], part) for layer, part in cells)
    return Map(names, dict(zip(placed, of_cells, strict=True)), start, everything)


@torch.no_grad()
def told_on(
    model: Griffin, mention: Mention, cell: Cell | None, slow: Sequence[Tensor], count: int, seed: int = 0
) -> Tensor:
    """How the story before a mention goes on where the state of one cell is the other story's: tokens (count,).

    cell: None for the story as it is. slow: as of `exchange`. Raises LabError for a cell that no state has.
    """
    state, theirs = (before(model, heard) for heard in mention.heard)
    if cell is not None:
        layer, part = cell
        if layer not in (names := _layers(model)):
            raise LabError(f"there is no layer {layer!r}; there are {', '.join(names)}")
        layers = None if layer == names[-1] else [names.index(layer)]
        state = exchange(state, theirs, part, slow, layers)
    dice = torch.Generator().manual_seed(seed)
    return torch.tensor(list(generate(model, mention.heard[0][-1:], state=state, generator=dice, max_tokens=count)))


def _layers(model: Griffin) -> tuple[str, ...]:
    return (*(f"layer {number + 1}" for number in range(len(model.config.blocks))), "all layers")


def some(told: Sequence[Mention]) -> Sequence[Mention]:
    """What is told, if it is anything: LabError for no mention."""
    if not told:
        raise LabError("no story names its hero after a whole window; give longer ones")
    return told


@torch.no_grad()
def before(model: Griffin, heard: Tensor) -> GriffinState:
    """The state of a story (T,) but for its newest token."""
    return model(heard[None, :-1], last=True)[1]
