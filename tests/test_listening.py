"""Listening tests: what is asked, blind and at one loudness; what is kept of the answers; figures and agreement."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import soundfile
import torch

from lab import audio
from lab.errors import LabError
from lab.evaluate.scoring import mos_spans
from lab.measure import listening
from lab.measure.listening import Agreement, Answer
from lab.speech import Story
from lab.view import listening as room
from lab.view.listening import ListeningTest, Trial, intervals, nmos, nmos_t, preference, seams
from tests.notebooks.execute import FOLDER


def tone(seconds: float, level: float = 0.3, hertz: float = 440) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * 16_000)) / 16_000)).astype(np.float32)


def systems(items: int = 4) -> dict[str, dict[str, np.ndarray]]:
    """Two systems, told apart by how long their sounds last, one ten decibels louder."""
    return {
        "short": {f"prompt {k}": tone(0.5, 0.3, 200 + 10 * k) for k in range(items)},
        "long": {f"prompt {k}": tone(0.75, 0.1, 200 + 10 * k) for k in range(items)},
    }


def say(test: ListeningTest, number: int, score: float, flags: tuple[str, ...] = ()) -> None:
    """What the page sends."""
    test._heard(test, {"kind": "answer", "number": number, "score": score, "flags": list(flags)}, [])


# --- what is asked


def test_nmos_asks_for_every_sound_once() -> None:
    trials = nmos(systems())
    assert Counter(trial.sounds[0][0] for trial in trials) == {"short": 4, "long": 4}
    assert {trial.item for trial in trials} == set(systems()["short"]) and all(len(t.sounds) == 1 for t in trials)


def test_preference_asks_for_every_two_systems() -> None:
    three = {**systems(2), "third": systems(2)["long"]}
    pairs = Counter(frozenset(system for system, _ in trial.sounds) for trial in preference(three))
    assert len(pairs) == 3 and set(pairs.values()) == {2}


def test_nmos_t_hears_the_same_span_of_each_minute_in_all_systems() -> None:
    """The paper's spans: from the prompt to 60 s, 60 to 120 s, and so on to the end of what is shortest."""
    seconds = np.arange(200 * 16_000, dtype=np.float32) / 16_000  # a sound that tells what second it is
    made = {"one": {"story": seconds / 200}, "other": {"story": seconds[: 130 * 16_000] / 200}}
    trials = nmos_t(made, first=10)
    assert [trial.part for trial in trials] == ["minute 1"] * 2 + ["minute 2"] * 2 + ["minute 3"] * 2
    heard = [200 * trial.sounds[0][1][len(trial.sounds[0][1]) // 2] for trial in trials]
    assert heard[::2] == heard[1::2]
    for middle, low, high in zip(heard[::2], (10, 60, 120), (60, 120, 130), strict=True):
        assert low + 2.5 <= middle <= high - 2.49
    assert all(len(trial.sounds[0][1]) == 5 * 16_000 for trial in trials)
    again = nmos_t({system: {"tale": sounds["story"]} for system, sounds in made.items()}, first=10)
    assert [200 * trial.sounds[0][1][40_000] for trial in again][::2] != heard[::2]
    judged = mos_spans("story", seconds[10 * 16_000 :], 10 * 16_000, seconds[10 * 16_000 : 130 * 16_000])
    assert [span[40_000] for span in judged][:2] == pytest.approx(heard[:4:2], abs=1e-3)  # by a predictor of MOS
    with pytest.raises(LabError, match="story lasts 12.0 s: no 5 s after the first 10"):
        nmos_t({"one": {"story": tone(12)}})


def test_seams_are_heard_beside_the_middles_of_windows() -> None:
    waveform = np.arange(60 * 16_000, dtype=np.float32) / (60 * 16_000)
    trials = seams({"owl": Story(waveform, torch.zeros(1500), 250, [25.0, 48.0])})
    middles = {trial.item: 60 * trial.sounds[0][1][40_000] for trial in trials}
    kinds = Counter(trial.sounds[0][0] for trial in trials)
    assert kinds == {"at a join": 2, "between joins": 3} and all(trial.flags for trial in trials)
    for item, moment in middles.items():
        assert float(item.split()[-2]) == pytest.approx(moment, abs=0.01)
    with pytest.raises(LabError, match="no join in 1 stories"):
        seams({"owl": Story(waveform, torch.zeros(1500), 250, [])})


def test_a_span_begins_and_ends_in_silence() -> None:
    (trial,) = nmos_t({"one": {"story": np.full(20 * 16_000, 0.5, np.float32)}}, first=10)
    sound = trial.sounds[0][1]
    assert sound[0] == sound[-1] == 0 and sound[200] == 0.5 and np.abs(np.diff(sound)).max() < 0.01


# --- blind, in random order, at one loudness


def heard(test: ListeningTest) -> list[list[np.ndarray]]:
    return [[soundfile.read(io.BytesIO(sound))[0] for sound in trial["sounds"]] for trial in test._trials]


def test_what_the_page_gets_tells_no_system(tmp_path: Path) -> None:
    test = ListeningTest([*nmos(systems()), *preference(systems())], tmp_path / "answers.csv")
    sent = json.dumps([{**trial, "sounds": []} for trial in test._trials]) + repr(test)
    assert "short" not in sent and "long" not in sent and "prompt 0" not in sent
    shown = re.sub(r"<(script|style).*?</\1>", "", test._page(), flags=re.S)
    assert "short" not in shown and "long" not in shown and "prompt 0" not in test._page()
    assert "<audio controls" in shown and "12 trials" in shown  # what a page shows that runs no scripts


def test_sounds_are_at_one_loudness(tmp_path: Path) -> None:
    test = ListeningTest([*nmos(systems()), *preference(systems())], tmp_path / "answers.csv")
    levels = [audio.level(sound.astype(np.float32)) for trial in heard(test) for sound in trial]
    assert np.ptp(levels) < 0.1 and max(test.gains) == 0 and min(test.gains) == pytest.approx(-9.54, abs=0.02)


def test_the_order_is_random_and_the_seed_decides(tmp_path: Path) -> None:
    def order(seed: int) -> list[tuple[str, ...]]:
        test = ListeningTest(preference(systems(12)), tmp_path / "answers.csv", seed=seed)
        return [(trial.item, *(system for system, _ in trial.sounds)) for trial in test.trials]

    one, again, other = order(0), order(0), order(1)
    assert one == again != other and sorted(one) != one
    first = Counter(pair[1] for seed in range(20) for pair in order(seed))
    assert min(first.values()) > 0.35 * first.total()  # neither is A much more often
    for trial, sounds in zip(
        *(lambda t: (t.trials, heard(t)))(ListeningTest(preference(systems()), tmp_path / "a.csv")), strict=True
    ):
        assert [round(len(sound) / 16_000, 2) for sound in sounds] == [
            {"short": 0.5, "long": 0.75}[system] for system, _ in trial.sounds
        ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [], "needs trials"),
        (lambda: nmos({"one": {"a": tone(1)}, "other": {}}), "other has no 'a', which another system has"),
        (lambda: nmos(systems()) * 2, "two trials are of the same item"),
        (lambda: [Trial("N-MOS", "?", "a", "", (("one", tone(1)[:0]),))], "no samples"),
        (lambda: nmos({"one": {"a": np.zeros(9, np.int16)}}), "one is of int16"),
    ],
)
def test_what_cannot_be_asked(make: Callable[[], Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=message) as caught:
        ListeningTest(make(), tmp_path / "answers.csv")
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(LabError, match="holds no answers of a listening test"):
        ListeningTest(nmos(systems()), tmp_path / "notes.csv")
    assert (tmp_path / "notes.csv").read_text() == "a,b\n1,2\n"


# --- answers


def test_each_answer_is_in_the_file_when_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.csv"
    test = ListeningTest([*nmos(systems()), *preference(systems())], path, rater="Ada, L.")
    for number, trial in enumerate(test.trials):
        say(test, number, 3.5 if len(trial.sounds) == 1 else 1.0, ("prosody", "speed"))
        assert len(path.read_text().splitlines()) == number + 2
        assert test._given[str(number)][0] in (3.5, 1.0) and not test._refused
    answers = listening.read(path)
    assert {answer.rater for answer in answers} == {"Ada, L."} and {answer.flags for answer in answers} == {
        "speed prosody"
    }
    for answer, trial in zip(answers, test.trials, strict=True):
        assert (answer.test, answer.item) == (trial.test, trial.item)
        assert (answer.system, answer.against) == (*(system for system, _ in trial.sounds), "")[:2]


def test_a_rater_goes_on_where_they_were_and_may_think_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    test = ListeningTest(preference(systems()), path, rater="Ada", seed=1)
    say(test, 0, 1.0)
    say(test, 1, 0.5)
    say(test, 0, 0.0)
    assert sorted(answer.score for answer in listening.read(path)) == [0.0, 0.5]  # the last one counts
    asked, turned = test.trials[0], set()
    for seed in range(2, 10):  # in other orders, of trials and within a pair
        other = ListeningTest(preference(systems()), path, seed=seed)
        assert other._given == {}
        other.rater = "Ada"
        assert len(other._given) == 2
        (number,) = [k for k, trial in enumerate(other.trials) if trial.item == asked.item]
        turned.add(other.trials[number].sounds[0][0] != asked.sounds[0][0])
        assert other._given[str(number)] == [float(other.trials[number].sounds[0][0] != asked.sounds[0][0]), []]
        other.rater = "Bob"
        assert other._given == {}
    assert turned == {False, True}


@pytest.mark.parametrize("score", [0.0, 5.5, 3.2, math.nan])
def test_a_score_that_nobody_can_give_is_refused(score: float, tmp_path: Path) -> None:
    test = ListeningTest(nmos(systems()), tmp_path / "answers.csv", rater="Ada")
    say(test, 0, score)
    assert "has a score of" in test._refused and test._given == {} and not (tmp_path / "answers.csv").exists()


def test_an_answer_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    test = ListeningTest(nmos(systems()), tmp_path / "file" / "answers.csv", rater="Ada")
    (tmp_path / "file").write_text("in the way")
    say(test, 0, 3.0)
    assert "cannot write" in test._refused and test._given == {}
    (tmp_path / "file").unlink()
    say(test, 0, 3.0)
    assert test._refused == "" and len(test.answers()) == 1


def test_results_are_live_once_asked_for_and_that_is_noted(tmp_path: Path) -> None:
    test = ListeningTest(nmos(systems()), tmp_path / "answers.csv", rater="Ada")
    say(test, 0, 4.0)
    assert test._results == []
    test._heard(test, {"kind": "results"}, [])
    ((*_, value, low, high, items),) = test._results
    assert (value, low, high, items) == (4, None, None, 1)  # NaN has no JSON
    say(test, 1, 2.0)
    assert sum(row[6] for row in test._results) == 2
    assert [answer.seen for answer in test.answers()] == [0, 1]


# --- a page without a kernel


def test_the_page_holds_sounds_and_sealed_names(tmp_path: Path) -> None:
    test = ListeningTest([*nmos(systems()), *preference(systems())], tmp_path / "answers.csv")
    (state,) = re.findall(
        r"^alone\(document\.getElementById\('listening-\w{12}'\), (.*)\);</script>", test._page(), re.M
    )
    state = json.loads(state)
    assert state["fields"] == list(Answer._fields) and state["file"] == "answers.csv"
    for trial, asked in zip(test.trials, state["trials"], strict=True):
        key = json.loads(base64.b64decode(asked["key"]))
        names = (*(system for system, _ in trial.sounds), "")[:2]
        assert key == [trial.test, trial.item, trial.part, *names]
        for (_, sound), clip in zip(trial.sounds, asked["sounds"], strict=True):
            again, rate = soundfile.read(io.BytesIO(base64.b64decode(clip)))
            assert rate == 16_000 and abs(len(again) - len(sound)) < 3000  # MP3 pads to whole frames
    assert repr(test) == "ListeningTest(12 trials, seed 0)"  # the same in every run


# --- figures


def rated(rater: str, system: str, item: str, score: float, against: str = "", **more: Any) -> Answer:
    answer = Answer("2026-11-28T10:00:00.000Z", rater, "AB" if against else "MOS", item, "", system, against, score)
    return answer._replace(**more)


def test_files_of_raters_merge(tmp_path: Path) -> None:
    one = [rated("Ada", "x", "a", 3.0), rated("Ada", "y", "a", 4.5), rated("Ada", "x", "a", 2.0, time="2026-11-29")]
    two = [rated("Bob", "x", "a", 3.5), rated("Bob", "ü, y", "a", 5.0, flags="speed other")]
    for name, answers in (("one", one), ("two", two)):
        for answer in answers:
            listening.append(tmp_path / name, answer)
    found = listening.merge([tmp_path / "one", tmp_path / "two", tmp_path / "one"], tmp_path / "both")
    assert found == listening.read(tmp_path / "both") and len(found) == 4
    assert found[-1] == one[2] and one[0] not in found and two[1] in found


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("t,Ada,MOS,a,,x,,three,,0", "line 2, is no answer"),
        ("t,Ada,MOS,a,,x,,3", "line 2, is no answer"),
        ("t,Ada,MOS,a,,x,,7,,0", "line 2, has a score of 7"),
        ("t,Ada,AB,a,,x,y,3,,0", "line 2, has a score of 3"),
    ],
)
def test_a_line_that_is_no_answer_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(",".join(Answer._fields) + f"\n{line}\n")
    with pytest.raises(LabError, match=message):
        listening.read(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").write_bytes(b"")
    for name, message in (("none", "cannot read"), ("binary", "cannot read"), ("empty", "holds no answers")):
        with pytest.raises(LabError, match=message):
            listening.read(tmp_path / name)


def test_a_mean_is_over_items_and_not_over_raters() -> None:
    """An item that ten people rated counts as much as one that a single person rated."""
    answers = [rated(f"r{k}", "x", "a", 5.0) for k in range(10)] + [rated("r0", "x", "b", 1.0)]
    (row,) = listening.results(answers)
    assert (row.test, row.name, row.estimate.value, row.estimate.n) == ("MOS", "x", 3.0, 2)
    assert row.estimate.low < 3 < row.estimate.high


def test_a_preference_counts_whichever_was_heard_first() -> None:
    answers = [rated("r", "x", "a", 1.0, "y"), rated("r", "y", "b", 0.0, "x"), rated("r", "y", "c", 0.5, "x")]
    (row,) = listening.results(answers)
    assert row.name == "x over y" and row.estimate.value == pytest.approx((1 + 1 + 0.5) / 3)
    (sure,) = listening.results([rated("r", "x", f"{k}", 1.0, "y") for k in range(10)])
    assert sure.estimate.high == 1 and sure.estimate.low == pytest.approx(0.025 ** (1 / 10))  # Clopper and Pearson


def test_minutes_are_in_order() -> None:
    answers = [rated("r", "x", "a", 3.0, part=f"minute {minute}") for minute in (10, 2, 1)]
    assert [row.part for row in listening.results(answers)] == ["minute 1", "minute 2", "minute 10"]
    assert str(listening.results(answers)[0]).startswith("MOS, x, minute 1: 3 ")


def test_alpha_is_the_published_one() -> None:
    """Krippendorff (2011), example C: four observers, twelve units, some unseen; interval data."""
    table = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    rows = [line.split() for line in table]
    units = [[float(value) for value in column if value != "."] for column in zip(*rows, strict=True)]
    assert listening.krippendorff(units) == pytest.approx(0.849, abs=5e-4)
    assert math.isnan(listening.krippendorff([[2.0, 2.0], [2.0, 2.0]])) and math.isnan(listening.krippendorff([[1.0]]))


def test_agreement_is_of_trials_that_two_heard() -> None:
    same = [rated(rater, "x", f"{k}", float(k)) for rater in ("Ada", "Bob") for k in range(1, 6)]
    lone = [rated("Cora", "x", "9", 3.0)]
    turned = [rated("Ada", "x", "a", 1.0, "y"), rated("Bob", "y", "a", 0.0, "x")]
    turned += [rated("Ada", "x", "b", 0.0, "y"), rated("Bob", "x", "b", 0.0, "y")]
    found = listening.agreement([*same, *lone, *turned])
    assert found == {"MOS": Agreement(1.0, 2, 5), "AB": Agreement(1.0, 2, 2)}
    chance = np.random.default_rng(0).choice(listening.RATINGS, (2, 400))
    random = [rated(f"r{r}", "x", f"{k}", float(score)) for r, row in enumerate(chance) for k, score in enumerate(row)]
    assert abs(listening.agreement(random)["MOS"].alpha) < 0.1
    with pytest.raises(LabError, match="no two raters"):
        listening.agreement(lone)


def test_flags_are_counted_beside_how_many_could_have() -> None:
    answers = [rated("r", "join", "a", 3.0, flags="speed other"), rated("r", "join", "b", 3.0, flags="speed")]
    assert listening.flagged(answers) == {"join": {"speed": 2, "other": 1, "answers": 2}}


def test_intervals_are_drawn_as_they_are() -> None:
    rows = listening.results([rated("r", system, f"{k}", 3.0 + k % 2) for system in "xy" for k in range(6)])
    (trace,) = intervals(rows).data
    assert list(trace.y) == ["x", "y"] and list(trace.x) == [3.5, 3.5]
    expected = [row.estimate.high - row.estimate.value for row in rows]
    np.testing.assert_allclose(trace.error_x.array, expected, atol=2e-3)


def test_the_stored_notebook_carries_the_page_as_it_is_now() -> None:
    """Its outputs hold a copy of listening.js: after a change `make notebooks` stores it anew."""
    notebook = nbformat.read(FOLDER / "07_listening_test.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pages = [page for output in outputs if "alone(" in (page := output.get("data", {}).get("text/html", ""))]
    script = Path(room.__file__).with_suffix(".js").read_text()
    assert len(pages) == 4 and all(script in page for page in pages)
