"""Widgets that make heard what is asked for: a player below what is shown, and its sound in a page without a kernel."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable

import ipywidgets

from lab.view.explore import remade
from lab.view.player import Player
from lab.view.sound import listen


class Hearing(ipywidgets.VBox):
    """What is shown, and below it the `Player` that was asked for last, or what was wrong with it."""

    def __init__(self, *shown: ipywidgets.Widget) -> None:
        self._player: ipywidgets.Widget | None = None
        self._said = ipywidgets.HTML()
        self._shown = *shown, self._said
        super().__init__(self._shown)

    def _play(self, make: Callable[[], Player], pressed: ipywidgets.Button | None = None) -> None:
        """The player that `make` makes in place of the one before; a button that was pressed rests meanwhile."""
        self._say("It is being spoken ...")
        self._player, wrong = remade(self._player, pressed, make)
        self._say(wrong)
        self.children = (*self._shown, *filter(None, [self._player]))

    def _say(self, text: str) -> None:
        self._said.value = f'<span role="status">{html.escape(text)}</span>' if text else ""


def sounds(players: Iterable[Player]) -> list[str]:
    """HTML of each clip of players, with the caption: what a page keeps. Their posters would be as large again."""
    return [listen(clip, player.caption).data for player in players for clip in player._clips.values()]
