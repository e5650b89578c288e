"""A menu that writes another hero into h while a story is told, and what is heard then."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import torch

from lab.corpora.storyworld.world import HEROES
from lab.errors import LabError
from lab.language import Griffin
from lab.measure import edits
from lab.measure.causes import Mention
from lab.measure.state import SentenceEnds
from lab.tokens import TOKEN_RATE, Tokenizer
from lab.view.causes import LEAD, going_on
from lab.view.explore import button
from lab.view.hearing import Hearing, sounds
from lab.view.player import Player
from lab.voice import Synthesizer, VoicePrompt

NOTHING, CHANCE = "nobody: h as it is", "a random direction"  # of the menu, beside the heroes


class Menus(Hearing):
    """Menus, and a button that makes heard what they say.

    hear: makes a `Player` of the menus' values, by the names of its parameters. price: what that costs, on the button.
    stored: values whose sounds a notebook keeps for a page without a kernel, where LAB_STORE is set, with captions.
    """

    def __init__(
        self,
        hear: Callable[..., Player],
        stored: Sequence[Mapping[str, Any]] = (),
        price: str = "",
        **menus: ipywidgets.Dropdown,
    ) -> None:
        self.hear, self.stored, self.menus = hear, stored, menus
        for menu in menus.values():
            menu.style.description_width = "initial"
            menu.layout.width = "auto"
        pressed = button(f"Hear it{price and f' ({price})'}", self._heard)
        super().__init__(ipywidgets.Box([*menus.values(), pressed], layout={"flex_flow": "row wrap"}))

    def _heard(self, pressed: ipywidgets.Button) -> None:
        values = {name: menu.value for name, menu in self.menus.items()}
        self._play(lambda: self.hear(**values), pressed)

    def __repr__(self) -> str:
        return f"Menus({', '.join(self.menus)})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        made = super()._repr_mimebundle_(**kwargs)
        if not os.environ.get("LAB_STORE"):
            return made
        return {**made, "text/html": "".join(sounds(self.hear(**values) for values in self.stored))}


def editing(
    tokenizer: Tokenizer,
    model: Griffin,
    voice: Synthesizer,
    prompt: VoicePrompt,
    told: Sequence[Mention],
    ends: SentenceEnds,
    seconds: float = 5,
    seed: int = 0,
) -> Callable[[int, str, float], Player]:
    """For `Menus`: how a story, by its number, goes on with h moved `times` the way to a hero, to NOTHING or CHANCE.

    told, ends: as of `measure.edits.renamed`, whose first random direction CHANCE is.
    """

    def hear(story: int, to: str, times: float) -> Player:
        mention = told[story]
        hero, other = mention.heroes
        if to not in (*HEROES, NOTHING, CHANCE):
            raise LabError(f"there is no direction to {to!r}; there are {', '.join(HEROES)}, {NOTHING}, {CHANCE}")
        target = to if to in HEROES else other
        way = edits.direction(ends, (hero, target))
        moves = {NOTHING: 0 * way, CHANCE: edits.at_random(way, torch.Generator().manual_seed(seed))}
        move = times * moves.get(to, way)
        new = edits.told_on(model, [mention], [[move]], round(seconds * TOKEN_RATE), seed)[0, 0]
        how = {NOTHING: "as it is", CHANCE: f"moved {times:g} times as far in {CHANCE}"}
        changed = how.get(to, f"moved {times:g} times the way to {to}")
        caption = f"{LEAD / TOKEN_RATE:g} s of a story about {hero}, then with h {changed}"
        return going_on(tokenizer, voice, prompt, mention, new, (hero, target), caption)

    return hear
