"""Listening tests: what people hear, blind and at one loudness, and a widget that asks them.

The page (page/trials.js, listening.js) plays and asks; which system a sound is of stays in the kernel, which appends
each answer to a CSV (`lab.measure.listening`). A page without a kernel, of `make html`, keeps the answers itself and
hands them out as the same CSV; there the names lie in the page, encoded, and are shown nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import anywidget
import numpy as np
import plotly.graph_objects as go
import soundfile
import traitlets

from lab.audio import SAMPLE_RATE, as_waveform
from lab.errors import LabError
from lab.measure import listening
from lab.measure.listening import FLAGS, Answer, Row
from lab.speech import Story
from lab.view import style
from lab.view.player import loudness_gains
from lab.view.sound import listen

Systems = Mapping[str, Mapping[str, np.ndarray]]  # system -> item (a prompt or a story) -> waveform (N,) at 16 kHz

NATURAL = "How natural is this speech? Judge the voice alone, not the words nor what they mean."
BETTER = "Which of the two sounds more natural?"
SEAMLESS = "How natural is this speech? Tick what disturbs you, if anything does."


class Trial(NamedTuple):
    """One question: a sound to rate, or two to compare."""

    test: str
    question: str
    item: str
    part: str
    sounds: tuple[tuple[str, np.ndarray], ...]  # system and waveform (N,); of a pair, A first
    flags: bool = False  # whether to ask what disturbs


def nmos(systems: Systems) -> list[Trial]:
    """N-MOS, the paper's naturalness: each sound rated by itself, 1 to 5 in halves."""
    return [
        Trial("N-MOS", NATURAL, item, "", ((system, systems[system][item]),))
        for item in _items(systems)
        for system in systems
    ]


def nmos_t(systems: Systems, first: float = 10.0, every: float = 60.0, seconds: float = 5.0) -> list[Trial]:
    """N-MOS-T: naturalness over time, one span of `seconds` from each minute, the same one in all systems, and where
    items have the names that `lab evaluate` knows them by, the one that is judged there.

    first: where the prompt ends, s; the first minute begins there. every: seconds of what is called a minute. An item
    lasts as long as in the system where it is shortest. Raises LabError for one that is too short for a span.
    """
    trials = []
    for item in _items(systems):
        end = min(len(sounds[item]) for sounds in systems.values()) / SAMPLE_RATE
        edges = [first, *(edge for edge in np.arange(every, end, every) if edge > first), end]
        spans = [(low, high - seconds) for low, high in zip(edges, edges[1:], strict=False) if high - low >= seconds]
        if not spans:
            raise LabError(f"{item} lasts {end:.1f} s: no {seconds:g} s after the first {first:g}; give longer sounds")
        for number, (low, high) in enumerate(spans):
            at, part = low + listening.moment(item, number) * (high - low), f"minute {number + 1}"
            trials += [
                Trial("N-MOS-T", NATURAL, item, part, ((system, _span(systems[system][item], at, seconds)),))
                for system in systems
            ]
    return trials


def preference(systems: Systems, question: str = BETTER) -> list[Trial]:
    """A/B: each item in every two systems; A, B, or no difference."""
    return [
        Trial("preference", question, item, "", tuple((system, systems[system][item]) for system in pair))
        for item in _items(systems)
        for pair in combinations(systems, 2)
    ]


def seams(stories: Mapping[str, Story], seconds: float = 5.0) -> list[Trial]:
    """The paper's Table 6: is a join of windows heard? Spans around joins, and in the middle between two, rated alike.

    Raises LabError where no story has a join with room around it.
    """
    trials = []
    for name, story in stories.items():
        edges = [0.0, *story.seams, story.seconds]
        middles = [(low + high) / 2 for low, high in zip(edges, edges[1:], strict=False)]
        for system, moments in (("at a join", story.seams), ("between joins", middles)):
            for at in moments:
                if seconds / 2 <= at <= story.seconds - seconds / 2:
                    sound = (system, _span(story.waveform, at - seconds / 2, seconds))
                    trials.append(Trial("joins", SEAMLESS, f"{name} at {at:.1f} s", "", (sound,), flags=True))
    if not any(trial.sounds[0][0] == "at a join" for trial in trials):
        raise LabError(f"no join in {len(stories)} stories has {seconds / 2:g} s to either side; give longer stories")
    return trials


class ListeningTest(anywidget.AnyWidget):
    """Trials in random order, asked of one rater at a time; each answer is a line of `file` when it is given.

    trials: of `nmos`, `nmos_t`, `preference`, `seams`, or several of them together. All their sounds are turned down
    to the level of the quietest. seed: of the order of trials and of the two sounds in a pair; give each rater one.
    rater: a name or initials; the page asks for it where it is empty. What a rater has answered in `file` already is
    not asked again; an answer can be changed, and the last one counts.
    Keys: space plays, 1 to 5 and arrows rate, A and B play one of a pair, 1, 2 and 0 choose, Enter goes on.
    Raises LabError for no trials, two that are alike, sounds that are none, and a file of something else.
    """

    # One module: where trials come from and answers go, then what asks.
    _FILES = "page/shared.js", "page/trials.js", "listening.js"
    _esm = "\n".join((Path(__file__).parent / name).read_text() for name in _FILES)
    _css = "".join(Path(__file__).with_name(name).read_text() for name in ("player.css", "listening.css"))
    rater = traitlets.Unicode().tag(sync=True)
    _trials: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    _given = traitlets.Dict().tag(sync=True)  # number of a trial -> score and flags
    _results: traitlets.List[list[Any]] = traitlets.List().tag(sync=True)  # empty until somebody asks
    _refused = traitlets.Unicode().tag(sync=True)  # why the last answer was not kept
    _flags = traitlets.List(list(FLAGS)).tag(sync=True)
    _file = traitlets.Unicode().tag(sync=True)

    def __init__(self, trials: Iterable[Trial], file: str | Path, rater: str = "", seed: int = 0):
        given, rng = list(trials), np.random.default_rng(seed)
        if not given:
            raise LabError("a listening test needs trials; give those of nmos, nmos_t, preference or seams")
        self.path, self.seed = Path(file), seed
        self.trials = [
            trial._replace(sounds=tuple(trial.sounds[k] for k in rng.permutation(len(trial.sounds))))
            for trial in (given[k] for k in rng.permutation(len(given)))
        ]
        if len({self._answer(number, 0.0).trial for number in range(len(given))}) < len(given):
            raise LabError("two trials are of the same item, part and systems; give each its own")
        waveforms = [as_waveform(waveform, system) for trial in self.trials for system, waveform in trial.sounds]
        if not all(map(len, waveforms)):
            raise LabError("a sound of the listening test holds no samples; give sounds that last")
        self.gains = loudness_gains(waveforms)  # dB, 0 or less
        levelled = iter([wave * 10 ** (gain / 20) for wave, gain in zip(waveforms, self.gains, strict=True)])
        self.sounds = [[next(levelled) for _ in trial.sounds] for trial in self.trials]
        if self.path.exists():
            listening.read(self.path)
        super().__init__(rater=rater, _trials=self._asked("FLAC"), _file=self.path.name)
        self.observe(self._resume, "rater")
        self.on_msg(self._heard)
        self._resume()

    def answers(self) -> list[Answer]:
        """All that is in the file, of every rater."""
        return listening.read(self.path) if self.path.exists() else []

    def results(self) -> list[Row]:
        """Figures of this test, with 95 % intervals, from the answers of every rater in the file."""
        mine = {self._answer(number, 0.0).trial for number in range(len(self.trials))}
        return listening.results([answer for answer in self.answers() if answer.trial in mine])

    def _asked(self, encoding: str) -> list[dict[str, Any]]:
        """The trials as the page wants them: nothing tells the systems apart."""
        return [
            {
                "test": trial.test,
                "question": trial.question,
                "flags": trial.flags,
                "sounds": [_encoded(sound, encoding) for sound in sounds],
            }
            for trial, sounds in zip(self.trials, self.sounds, strict=True)
        ]

    def _answer(self, number: int, score: float, flags: Sequence[str] = ()) -> Answer:
        trial, now = self.trials[number], datetime.now(UTC).isoformat(timespec="milliseconds")
        system, against, *_ = (*(system for system, _ in trial.sounds), "")
        told = " ".join(flag for flag in FLAGS if flag in flags)
        row = (now.replace("+00:00", "Z"), self.rater, trial.test, trial.item, trial.part, system, against)
        return Answer(*row, score, told, int(bool(self._results)))

    def _resume(self, _change: Any = None) -> None:
        """What this rater has answered before need not be asked again."""
        known = {answer.trial: answer for answer in self.answers() if answer.rater == self.rater}
        numbers = {number: self._answer(number, 0.0) for number in range(len(self.trials))}
        given = {number: (known.get(asked.trial), asked.system) for number, asked in numbers.items()}
        self._given = {
            str(number): [old.score if old.system == system else 1 - old.score, old.flags.split()]
            for number, (old, system) in given.items()
            if old
        }

    def _heard(self, _: Any, message: dict[str, Any], buffers: Any) -> None:
        self._refused = ""
        try:
            if message["kind"] == "answer":
                number, score, flags = message["number"], float(message["score"]), message["flags"]
                listening.append(self.path, self._answer(number, score, flags))
                self._given = {**self._given, str(number): [score, flags]}
            if message["kind"] == "results" or self._results:
                self._results = [
                    [row.test, row.name, row.part, *(value if isfinite(value) else None for value in row.estimate)]
                    for row in self.results()
                ]
        except LabError as error:
            self._refused = str(error)

    def __repr__(self) -> str:
        return f"ListeningTest({len(self.trials)} trials, seed {self.seed})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        data, metadata = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        return {**data, "text/html": self._page()}, metadata

    def _page(self) -> str:
        """The test for a page without a kernel; where scripts may not run, what it asks, and one of its sounds."""
        trials = self._asked("MP3")
        for number, trial in enumerate(trials):
            trial["sounds"] = [base64.b64encode(sound).decode() for sound in trial["sounds"]]
            key = json.dumps(self._answer(number, 0.0)[2:7]).encode()
            trial["key"] = base64.b64encode(key).decode()
        state = {"trials": trials, "flags": FLAGS, "fields": Answer._fields, "file": self.path.name}
        data = json.dumps(state).replace("</", "<\\/")
        place = "listening-" + hashlib.sha256(data.encode()).hexdigest()[:12]
        text = f"A listening test of {len(trials)} trials. {self.trials[0].question} The first sound of it:"
        clip = listen(self.sounds[0][0], text).data
        script = f"{self._esm}\nalone(document.getElementById('{place}'), {data});"
        return f'<div id="{place}">{clip}</div><style>{self._css}</style><script type="module">{script}</script>'


def intervals(rows: Sequence[Row]) -> go.Figure:
    """Figures of one or more tests with their 95 % intervals, one below the other."""
    figure = go.Figure()
    for test in dict.fromkeys(row.test for row in rows):
        mine = [row for row in rows if row.test == test]
        value, low, high = np.array([row.estimate[:3] for row in mine], float).T.round(3)
        figure.add_scatter(
            x=value, y=[", ".join(filter(None, (row.name, row.part))) for row in mine], name=test, mode="markers",
            error_x={"array": high - value, "arrayminus": value - low}, customdata=[row.estimate.n for row in mine],
            marker={"size": 9, "color": style.CONTINUATION}, hovertemplate="%{y}: %{x}, %{customdata} items",
        )  # fmt: skip
    style.axes(figure, "rating, or share of comparisons", {"autorange": "reversed", "automargin": True})
    return style.styled(figure, "What was answered, with intervals over items", 130 + 34 * len(rows))


def _items(systems: Systems) -> list[str]:
    """What all systems have. LabError where one lacks what another has."""
    items = list(dict.fromkeys(item for sounds in systems.values() for item in sounds))
    for system, sounds in systems.items():
        if lacking := [item for item in items if item not in sounds]:
            raise LabError(f"{system} has no {lacking[0]!r}, which another system has; give all the same items")
    return items


def _span(waveform: np.ndarray, start: float, seconds: float) -> np.ndarray:
    """`seconds` from a moment on, with 10 ms in and out: a cut in the middle of a sound would click."""
    begin = round(start * SAMPLE_RATE)
    span = np.array(waveform[begin : begin + round(seconds * SAMPLE_RATE)], np.float32)
    fade = np.linspace(0, 1, min(len(span) // 2, SAMPLE_RATE // 100), dtype=np.float32)
    span[: len(fade)] *= fade
    span[len(span) - len(fade) :] *= fade[::-1]
    return span


def _encoded(waveform: np.ndarray, encoding: str) -> bytes:
    file = io.BytesIO()
    quality = {"compression_level": 0.6, "bitrate_mode": "VARIABLE"} if encoding == "MP3" else {}
    soundfile.write(file, np.clip(waveform, -1, 1), SAMPLE_RATE, format=encoding, **quality)
    return file.getvalue()
