"""A direction in h that tells one hero from another, written into h while a story is told: who is it about then?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from lab.corpora.storyworld.world import HEROES
from lab.errors import LabError
from lab.language import Griffin, GriffinState, generate
from lab.language.layers import RecurrentState
from lab.measure import recall, statistics
from lab.measure.causes import Mention, before, other_name, some, together
from lab.measure.minutes import Words
from lab.measure.state import SentenceEnds
from lab.measure.statistics import Estimate
from lab.tokens import TOKEN_HOP, TOKEN_RATE, Tokenizer


def direction(ends: SentenceEnds, heroes: tuple[str, str]) -> Tensor:
    """From the mean h of states of the one hero to that of the other, (layers, L).

    Raises LabError for a hero of whom `ends` has no state.
    """
    whose = np.array([facts.hero for facts in ends.facts])
    if missing := [hero for hero in heroes if hero not in whose]:
        raise LabError(f"there is no state of {missing[0]} to find a direction by; give stories of every hero")
    here, there = (ends.hidden[:, whose == hero].mean(1) for hero in heroes)
    return torch.from_numpy(there - here)


def at_random(way: Tensor, dice: torch.Generator) -> Tensor:
    """A random direction, in each layer as long as `way` (layers, L)."""
    chance = torch.randn(way.shape, generator=dice)
    return chance * way.norm(dim=1, keepdim=True) / chance.norm(dim=1, keepdim=True)


def likelier(
    model: Griffin, told: Sequence[Mention], ends: SentenceEnds, times: Sequence[float] = (1, 2, 4), seed: int = 0
) -> dict[float, tuple[Estimate, Estimate]]:
    """How much likelier the other hero's name gets, over stories, where h of all layers is moved `times` the way
    from the mean state of the one hero to that of the other; and where it is moved as far in a random direction.

    ends: of other stories. Raises LabError for no mention.
    """
    gained = []
    for mention, moves in zip(told, _moves(told, ends, times, seed), strict=True):
        mine = before(model, mention.heard[0])
        unmoved, *after = other_name(model, mention, [mine, *(_moved(mine, move) for move in moves)])
        gained.append(np.array(after) - unmoved)
    return _by_strength(times, map(statistics.mean, np.transpose(gained)))


@torch.no_grad()
def told_on(
    model: Griffin, told: Sequence[Mention], moves: Sequence[Sequence[Tensor]], count: int, seed: int = 0
) -> Tensor:
    """How each story before a mention goes on where h of all layers is moved: tokens (stories, moves, count).

    moves: (layers, L), added to h; of each story as many.
    """
    befores = [before(model, mention.heard[0]) for mention in told]
    state = together([_moved(mine, move) for mine, each in zip(befores, moves, strict=True) for move in each])
    newest = torch.stack([mention.heard[0][-1:] for mention, each in zip(told, moves, strict=True) for _ in each])
    dice = torch.Generator().manual_seed(seed)
    new = torch.stack(list(generate(model, newest, state=state, generator=dice, max_tokens=count)), 1)
    return new.reshape(len(told), -1, count)


def renamed(
    tokenizer: Tokenizer,
    model: Griffin,
    told: Sequence[Mention],
    ends: SentenceEnds,
    times: Sequence[float] = (1, 2),
    seconds: float = 10,
    seed: int = 0,
) -> dict[float, tuple[Estimate, Estimate]]:
    """In how many stories, as they go on for `seconds`, the first hero whose name is heard is the other one: shares
    over stories, with h moved as in `likelier`, that way and at random. Raises LabError for no mention.
    """
    new, hits = told_on(model, told, _moves(told, ends, times, seed), round(seconds * TOKEN_RATE), seed), []
    for mention, rows in zip(told, new, strict=True):
        heard = mention.heard[0][-recall.CONTEXT // TOKEN_HOP :]
        first = (_first_name(tokenizer.words(torch.cat([heard, row])), len(heard) / TOKEN_RATE) for row in rows)
        hits.append([name == mention.heroes[1] for name in first])
    return _by_strength(times, (statistics.share(each, np.ones(len(told))) for each in np.transpose(hits)))


def _first_name(words: Words, since: float) -> str | None:
    """The first hero's name that begins at that second or later."""
    return next((word for start, _, word in words if word in HEROES and start >= since), None)


def _moves(told: Sequence[Mention], ends: SentenceEnds, times: Sequence[float], seed: int) -> list[list[Tensor]]:
    """Of each mention `times` the way to the other hero, and after each a random move as far."""
    dice, found = torch.Generator().manual_seed(seed), []
    for mention in some(told):
        way = direction(ends, mention.heroes)
        chance = at_random(way, dice)
        found.append([share * move for share in times for move in (way, chance)])
    return found


def _by_strength(times: Sequence[float], found: Iterable[Estimate]) -> dict[float, tuple[Estimate, Estimate]]:
    """Estimates of `_moves`, by how far."""
    each = iter(found)
    return {share: (next(each), next(each)) for share in times}


def _moved(state: GriffinState, change: Tensor) -> GriffinState:
    """`state` with change (layers, L) added to h of its recurrent layers."""
    steps = iter(change)
    layers = (
        layer._replace(hidden=layer.hidden + next(steps)) if isinstance(layer, RecurrentState) else layer
        for layer in state.layers
    )
    return GriffinState(state.length, tuple(layers))
