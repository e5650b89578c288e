"""What the passes of the voice are for: which rows count, what they come to, and that nothing stale is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab.errors import LabError
from lab.evaluate import passes, report, systems
from lab.evaluate.examples import Sound
from lab.evaluate.results import Results, Row
from lab.evaluate.systems import TRUTH
from lab.view import passes_heard
from lab.voice.soundstorm import PASSES
from tests.commands import lab, refused
from tests.test_evaluate import example, noise, row, sample

WEIGHTS = {"tokenizer": "1", "soundstorm": "2", "codec": "3"}
HARD = (0.0, 0.1, 0.4, 0.5)  # words wrong of four stories, whoever reads


def measured(system: str, added: float, *, weights: dict[str, str] = WEIGHTS) -> Row:
    values = [
        {"words wrong (ear)": hard + added, "words wrong (ctc)": hard, "MOS (ear)": 4 - added, "STOI": 0.7}
        for hard in HARD
    ]
    samples = [sample(str(number), each) for number, each in enumerate(values)]
    found = row(system, set=passes.SET, seconds=13.0, weights=weights, samples=samples)
    return replace(found, command=f"lab --system {system}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """32 passes before 4, as a file has them that was added to."""
    rows = [
        measured(TRUTH, 0.0, weights={}), measured("voice+32", 0.1), measured("voice+4", 0.2), measured("codec", 0.0)
    ]  # fmt: skip
    Results(tmp_path / "passes.json", rows).save()
    return tmp_path / "passes.json"


def test_the_voice_in_some_passes_is_the_voice_with_as_many(tiny_bundle: Path) -> None:
    sound = Sound(noise(3), reference=noise(2, seed=1))

    def spoken(name: str) -> np.ndarray:
        system = systems.load(name, tiny_bundle)
        assert system.name == name and set(system.weights) == {"tokenizer", "soundstorm", "codec"}
        return system.go_on(example(), sound, 60.0)

    assert np.array_equal(spoken(f"voice+{PASSES}"), spoken("voice"))
    assert not np.array_equal(spoken("voice+1"), spoken("voice"))
    live, same = spoken("voice-live"), spoken("voice")
    assert live.shape == same.shape and not np.array_equal(live, same)  # its first window lasts 2 s
    for wrong in ("0", "-1", "many", ""):
        with pytest.raises(LabError, match=rf"voice\+{wrong}: the voice takes no '{wrong}' passes; give voice\+1"):
            systems.load(f"voice+{wrong}", tiny_bundle)


def test_rows_are_taken_by_passes_and_other_systems_are_not(path: Path) -> None:
    found = passes.stored(WEIGHTS, path)
    assert list(found.rows) == [4, 32] and found.truth is not None and not found.why
    heard = passes.measures(found)
    assert list(heard) == ["words wrong (ear)", "words wrong (ctc)", "MOS (ear)"]  # by kind, and none but these
    words = heard["words wrong (ear)"]
    assert [(number, round(mean.value, 3), mean.n) for number, mean in words.by_passes.items()] == [
        (4, 0.45, 4), (32, 0.35, 4)
    ]  # fmt: skip
    assert words.truth and words.truth.value == pytest.approx(0.25)
    assert words.by_passes[4].low < 0.45 < words.by_passes[4].high


def test_a_change_is_that_of_each_story(path: Path) -> None:
    """Stories differ by half of all words, and yet the tenth that passes save is certain."""
    found = passes.stored(WEIGHTS, path)
    saved = passes.change(found, "words wrong (ear)", 4, 32)
    assert (round(saved.low, 6), round(saved.value, 6), round(saved.high, 6), saved.n) == (-0.1, -0.1, -0.1, 4)
    assert passes.change(found, "words wrong (ear)", 32, 4).value == pytest.approx(0.1)
    for measure, after in (("words wrong (ear)", 8), ("SpkrSim (ear)", 32)):
        with pytest.raises(LabError, match=f"no story has .* after 4 and after {after} passes"):
            passes.change(found, measure, 4, after)


def test_more_passes_are_better_worse_or_neither(path: Path, tmp_path: Path) -> None:
    found = passes.stored(WEIGHTS, path)
    assert passes.compared(found, 4, 32) == [
        "words wrong (ear): 0.45, -0.1 (-0.1 to -0.1): better",
        "words wrong (ctc): 0.25, +0 (+0 to +0): no more than chance",
        "MOS (ear): 3.8, +0.1 (+0.1 to +0.1): better",
    ]
    assert [line.rpartition(": ")[2] for line in passes.compared(found, 32, 4)] == [
        "worse", "no more than chance", "worse"
    ]  # fmt: skip
    assert passes.compared(found, 4, 8) == []


@pytest.mark.parametrize("changed", ["soundstorm", "codec"])
def test_what_another_voice_said_is_not_shown(path: Path, changed: str) -> None:
    found = passes.stored(WEIGHTS | {changed: "other"}, path)
    assert (found.rows, found.truth) == ({}, None) and "\n" not in found.why
    assert "measured with another voice; `lab evaluate --system voice+1,voice+2" in found.why
    assert passes.page(WEIGHTS | {changed: "other"}, path) == found.why
    assert passes.measures(found) == {}


def test_nothing_stored_is_said(tmp_path: Path) -> None:
    assert "nothing is stored" in passes.stored(WEIGHTS, tmp_path / "none.json").why
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(LabError, match="is no file of `lab evaluate`"):
        passes.stored(WEIGHTS, tmp_path / "none.json")


def test_the_page_tells_all_that_it_takes_to_measure_again(path: Path) -> None:
    head, _, four, many, truth, _, told = passes.page(WEIGHTS, path).splitlines()
    assert head == "| passes of level 1, n = 4, mean (95 %) | words wrong (ear) | words wrong (ctc) | MOS (ear) |"
    assert four.startswith("| 4 | 0.45 (") and many.startswith("| 32 | 0.35 (") and truth.startswith("| ground truth")
    assert "`lab --system voice+4,voice+32`" in told and "soundstorm 2" in told
    results = Results(path)
    assert told in report.page({}, results, [], passes.page(WEIGHTS, path))
    assert "Passes" not in report.page({}, results, [])


def test_what_others_hear_is_drawn_with_its_intervals(path: Path) -> None:
    heard = passes.measures(passes.stored(WEIGHTS, path))
    figure = passes_heard(heard, chosen=8)
    outside, own, mos = (trace for trace in figure.data if trace.name in ("outside ears", "our own reader"))
    assert (outside.name, own.name) == ("outside ears", "our own reader")
    assert (outside.showlegend, own.showlegend, mos.showlegend) == (True, True, False)
    assert outside.x == (4, 32) and outside.y == pytest.approx((45, 35))  # in percent; MOS is none
    assert mos.y == pytest.approx((3.8, 3.9)) and mos.xaxis == "x2"
    mean = heard["words wrong (ear)"].by_passes[4]
    value, low, high = (100 * end for end in mean[:3])
    assert outside.error_y.array[0] == pytest.approx(high - value, abs=1e-3)
    assert outside.error_y.arrayminus[0] == pytest.approx(value - low, abs=1e-3)
    assert [shape.x0 for shape in figure.layout.shapes] == [8, 8]  # of SpkrSim there is nothing
    truths = [trace for trace in figure.data if trace.name == "the reading itself"]
    assert [trace.y[0] for trace in truths] == pytest.approx([25, 4]) and truths[0].x == (4, 32)
    assert [trace.showlegend for trace in truths] == [True, False]
    assert "n = 4" in figure.layout.title.text


def test_one_story_has_no_interval(tmp_path: Path) -> None:
    rows = [measured("voice+1", 0.1), measured(TRUTH, 0.0, weights={})]
    for each in rows:
        each.samples = each.samples[:1]
    Results(tmp_path / "passes.json", rows).save()
    figure = passes_heard(passes.measures(passes.stored(WEIGHTS, tmp_path / "passes.json")), 8)
    (outside,) = (trace for trace in figure.data if trace.name == "outside ears" and trace.showlegend)
    assert outside.error_y.array == (0,)
    assert "NaN" not in figure.to_json() and "n = 1" in figure.layout.title.text


def test_several_systems_in_one_command(desk: Path) -> None:
    """One command measures all; each row has the command that measures it alone, and its own temperature."""
    asked = "evaluate", "--set", "stories", "--minutes", "0.2", "-n", "1", "--pairs", "0", "-o", "r.json"
    done = lab(*asked, "--system", "voice+1, griffin,voice+2")
    assert done.exit_code == 0, done.stderr
    rows = {each.system: each for each in Results.load(Path("r.json")).rows}
    assert list(rows) == [TRUTH, "voice+1", "griffin", "voice+2"]
    assert [rows[name].temperature for name in ("voice+1", "griffin", "voice+2")] == [None, 1.0, None]
    for name in ("voice+1", "griffin", "voice+2"):
        assert f"--system {name} " in rows[name].command and len(rows[name].samples) == 1 and rows[name].summary
    assert rows["voice+1"].samples[0]["values"] != rows["voice+2"].samples[0]["values"]
    refused("--keep holds what one system says", *asked, "--system", "codec,voice", "--keep", "kept")
    refused("voice+0: the voice takes no '0' passes", *asked, "--system", "codec,voice+0")
