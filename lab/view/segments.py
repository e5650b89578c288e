"""The map of coherence made audible: a cell is pressed, and what its story said there is spoken."""

from __future__ import annotations

from collections.abc import Callable

from lab.errors import LabError
from lab.measure import coherence
from lab.measure.coherence import PROMPT_SECONDS, Report
from lab.tokens import TOKEN_RATE, Tokenizer
from lab.view import style
from lab.view.cells import Cell
from lab.view.coherence import MAP_SECONDS, SYSTEMS
from lab.view.player import Player
from lab.view.tracks import Marks, Words
from lab.voice import Synthesizer, VoicePrompt


def segments(
    report: Report, tokenizer: Tokenizer, voice: Synthesizer, prompt: VoicePrompt, seconds: float = 10
) -> Callable[[Cell], Player]:
    """For `Played(coherence_map(report), ...)`: the first `seconds` of a cell, spoken from the tokens of its story.

    It raises LabError for a row that is no story, and for a system whose tokens the report has not.
    """
    stories: list[tuple[str, int] | None] = []
    for system, scores in report.scores.items():
        stories += [None, *((system, number) for number in range(len(scores)))]  # a line above each system

    def hear(cell: Cell) -> Player:
        row, column = cell
        if not (story := stories[row]):
            raise LabError(f"row {row} is no story, but the line above a system; press another cell")
        system, number = story
        if system not in report.tokens:
            name = SYSTEMS[system][0]
            raise LabError(f"the report has no tokens of {name}; `lab measure coherence --save` keeps them")
        told, begin = report.scores[system][number], round((PROMPT_SECONDS + MAP_SECONDS * column) * TOKEN_RATE)
        tokens = report.tokens[system][number, begin : begin + round(seconds * TOKEN_RATE)]
        words = tokenizer.words(tokens)
        named = coherence.heroes(words, coherence.cast_of(told.story))
        lanes = (
            Words("heard", words),
            Marks(told.hero, [second for second, right in named if right], style.PROMPT),
            Marks("another hero", [second for second, right in named if not right], style.SEAM),
        )
        said = " ".join(word for *_, word in words)
        where = f"{SYSTEMS[system][0]}, a story about {told.hero}, from minute {MAP_SECONDS * column / 60:g} on"
        return Player(voice.speak(tokens, prompt, seed=0), lanes, f"{where}: “{said}”", play=True)

    return hear
