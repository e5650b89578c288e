"""What rows of lab.evaluate come to: means, rank correlations, likelihood tests and tables call all what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.evaluate import likelihood, report, summary, tables
from lab.evaluate.results import Results, Row
from lab.evaluate.systems import TRUTH, System
from lab.measure import zero_resource
from lab.measure.statistics import Estimate
from tests.test_evaluate import noise, row, sample


def test_means_by_minute_and_what_decays() -> None:
    mine = row(judges={"ear": {}})
    for number in range(16):
        noisy = 0.01 * (number % 4)
        minutes = [
            {"MOS (ear)": 4 + noisy, "ASR-PPL (ear)": 4 - noisy, "words": 150.0, "SpkrSim (ear)": 0.5 + noisy},
            {"MOS (ear)": 3 - noisy, "ASR-PPL (ear)": 5 + noisy, "words": 10.0, "SpkrSim (ear)": 0.5 - noisy + 0.02},
        ]
        spans = {"SC-L (ear)": [0.5, 0.4 + noisy, 0.3 + noisy]}
        mine.samples.append(sample(str(number), minutes[0]) | {"minutes": minutes, "spans": spans})
    mine.samples.append(sample("short", {"MOS (ear)": 1.0}))  # has no second minute
    found = summary.summarize(mine)
    assert found["minutes"][1]["MOS (ear)"]["value"] == pytest.approx(2.985)
    assert found["minutes"][1]["MOS (ear)"]["n"] == 16 and found["minutes"][0]["MOS (ear)"]["n"] == 17
    decays, holds = found["decay"]
    assert (
        decays.startswith("decays: MOS (ear) 4.02 -> 2.99 (-1.04 to -1.0") and "PPL (ear) 3.99 -> 5.02 (+1." in decays
    )
    assert "SC-L (ear) 0.5 -> 0.315" in decays and holds.startswith("holds: SpkrSim (ear) 0.515 -> 0.505 (-0.02")
    assert "words" not in decays + holds
    assert [each["value"] for each in found["spans"]["SC-L (ear)"]] == pytest.approx([0.5, 0.415, 0.315])
    shown = tables.by_minute(mine_with(mine, found))
    assert "| MOS (ear) |" in shown and "| minute 2 |" in shown and decays in shown


def mine_with(each: Row, found: dict[str, Any]) -> Row:
    each.summary = found
    return each


def test_whether_a_cheap_measure_ranks_as_an_outside_one(tmp_path: Path) -> None:
    rows = []
    for number, (wrong, heard) in enumerate([(0.1, 0.2), (0.3, 0.4), (0.2, 0.3), (0.4, 0.9), (0.9, None)]):
        values = {"words wrong (a)": wrong, "words wrong (b)": heard, "MOS (a)": wrong, "STOI": None if number else 1.0}
        rows.append(row(str(number), samples=[sample("x", {key: v for key, v in values.items() if v is not None})]))
        rows[-1].summary = summary.summarize(rows[-1])
    found = summary.agreements(rows)
    assert list(found) == ["MOS (a), STOI", "words wrong (a), words wrong (b)"]  # MOS and words are of two kinds
    assert (found["words wrong (a), words wrong (b)"].value, found["words wrong (a), words wrong (b)"].n) == (1.0, 4)
    shown = report.page({}, Results(tmp_path / "r.json", rows), [])
    assert "| words wrong (a), words wrong (b) | 1.00 (" in shown
    assert "| MOS (a), STOI | fewer than four are left | 1 |" in shown and "one row that has both measures" in shown


def test_a_system_counts_once_however_often_it_was_measured() -> None:
    """At other lengths and temperatures, on another set and made longer by restarts it is no other system."""

    def judged(system: str, wrong: float, heard: float, **given: Any) -> Row:
        found = row(system, samples=[sample("x", {"words wrong (a)": wrong, "words wrong (b)": heard})], **given)
        found.summary = summary.summarize(found)
        return found

    rows = [
        judged(TRUTH, 0.9, 0.1, seconds=20.0),
        judged(TRUTH, 0.1, 0.1, seconds=240.0),
        judged(TRUTH, 0.9, 0.1, seconds=48.0),
        judged("codec", 0.2, 0.2, seconds=48.0),
        judged("codec+1", 0.3, 0.3, seconds=48.0),
        judged("griffin", 0.9, 0.1, seconds=960.0, temperature=1.0),
        judged("griffin", 0.4, 0.4, seconds=240.0, temperature=0.5),
        judged("gslm+3s", 0.5, 0.5, seconds=240.0, temperature=0.4),
        judged("gslm", 0.9, 0.1, seconds=20.0, temperature=0.4),
        judged("voice", 0.9, 0.1, set="other", seconds=960.0),
    ]
    (rho,) = summary.agreements(rows).values()
    assert rho.value == pytest.approx(1) and rho.n == 5
    alone = rows[:3]
    assert "| fewer than four are left | 1 |" in report.agreement(alone) and report.agreement([]) == ""
    alike = [judged(name, 0.5, 0.1 * at, seconds=20.0) for at, name in enumerate((TRUTH, "codec", "codec+1", "voice"))]
    assert "| all are alike | 4 |" in report.agreement(alike)


def test_stories_rank_by_words_unknown_and_natural_speech_by_its_own_stoi() -> None:
    """A story of a language model has no text to be wrong by; natural speech is not held against itself."""
    rows = []
    for number, system in enumerate((TRUTH, "codec", "voice", "griffin")):
        values = {"MOS (ear)": 4.0 - number} | ({"STOI": 1 - number / 10} if system in ("codec", "voice") else {})
        heard = {"a": ["the owl"] + ["xylo"] * number, "b": ["owl"] + ["qux"] * (3 - number)}
        told = sample("x", values, texts=heard, minutes=[{"words that parse": 1.0}])
        rows.append(row(system, samples=[told]))
        rows[-1].summary = summary.summarize(rows[-1])
    assert [each.summary["values"]["words unknown (a)"]["value"] for each in rows] == [0, 1 / 3, 1 / 2, 3 / 5]
    found = summary.agreements(rows)
    assert found["words unknown (a), words unknown (b)"].value == -1
    assert found["MOS (ear), STOI"].n == 3 and np.isnan(found["MOS (ear), STOI"].value)
    rows[-1].samples[0]["values"]["STOI"] = 0.1
    rows[-1].summary = summary.summarize(rows[-1])
    assert summary.agreements(rows)["MOS (ear), STOI"][:1] == (1.0,)
    silent = sample("x", {}, texts={"a": [""]}, minutes=[{"words that parse": 0.0}])
    assert summary.summarize(row(samples=[silent]))["values"]["words unknown (a)"]["value"] == 1


def test_the_likelihood_tests_are_of_a_rows_own_model_and_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def likelier(likelihood: Any, pairs: Any) -> Any:
        asked.append((likelihood(noise(1)), len(list(pairs))))
        return Estimate(0.75, 0.5, 1.0, asked[-1][1]), Estimate(0.25, 0.0, 0.5, asked[-1][1])

    monkeypatch.setattr(zero_resource, "likelier", likelier)
    results = Results(tmp_path / "r.json")
    system = System("griffin", 1.0, {"griffin": "1"}, lambda *_: noise(1), likelihood=lambda _: (-1.0, 4))
    rows = [
        results.row(row(name, temperature=t, weights={"griffin": w}, samples=[sample("a", {})]))
        for name, t, w in (("griffin", 1.0, "1"), ("griffin+3s", 0.5, "1"), ("griffin", 0.7, "2"))
    ]
    for each in rows[:2]:
        likelihood.hold(results, each, system, 3)
    assert asked == [((-1.0, 4), 3)] * 2  # words and sentences
    assert rows[0].likelihood == rows[1].likelihood and list(rows[0].likelihood) == ["sWUGGY", "sBLIMP"]
    likelihood.hold(results, rows[2], system, 3)
    assert len(asked) == 4  # of other weights
    kept = Results.load(results.path)
    summary.summarize_all(kept)
    shown = tables.table(kept, "2")
    assert (
        "| 0.75 (0.5 to 1), n = 3; by the sum 0.25 (0 to 0.5) |" in shown
        and "sWUGGY, by nats a token, chance 0.5" in shown
    )
    assert kept.rows[0].likelihood == rows[0].likelihood


def test_a_likelihood_of_more_or_fewer_pairs_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_resource, "spoken", lambda texts: texts)
    monkeypatch.setattr(zero_resource, "likelier", lambda _, pairs: (Estimate(0.5, 0.0, 1.0, len(list(pairs))),) * 2)
    system = System("griffin", 1.0, {}, lambda *_: noise(1), likelihood=lambda _: (-1.0, 4))
    results = Results(tmp_path / "r.json")
    short, long = (results.row(row("griffin", seconds=seconds, samples=[sample("a", {})])) for seconds in (20.0, 240.0))
    short.likelihood = {"sWUGGY": {"value": 0.7, "low": 0.6, "high": 0.8, "n": 3}}  # as it was stored without the sum
    likelihood.hold(results, long, system, 3)
    assert long.likelihood["sWUGGY"] == short.likelihood["sWUGGY"] and "by the sum" not in tables.table(results, "2")
    likelihood.hold(results, long, system, 5)
    assert long.likelihood["sWUGGY"]["n"] == 5 and short.likelihood["sWUGGY"]["n"] == 3
    likelihood.hold(results, short, system, 400)  # the world has fewer words than that, and says so
    held = short.likelihood["sWUGGY"]
    likelihood.hold(results, short, system, 400)
    assert 100 < held["n"] < 400 and short.likelihood["sWUGGY"] is held


def test_rows_of_other_weights_are_not_printed(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.json")
    for system, weights in (("griffin", {"griffin": "1", "codec": "2"}), ("transformer", {"transformer": "3"})):
        mine = results.row(row(system, set="narrated", seconds=240.0, temperature=1.0, weights=weights))
        mine.samples = [sample("a", {"ASR-PPL (ear)": 4.5})]
        mine.summary = summary.summarize(mine)
    kept, stale = report.fresh(results, {"griffin": "1", "codec": "other", "transformer": "3"})
    assert [each.system for each in kept.rows] == ["transformer"]
    assert stale == ["griffin on narrated: measure it again, codec changed since"]
    lines = report.fresh(kept, {"codec": "2"})[1]
    assert lines == ["transformer on narrated: measured with models that are not in the bundle, transformer 3"]
    head, _, first, *_ = report.headlines(kept).splitlines()
    assert "| transformer, temperature 1, n = 1 | ground truth, published |" in head and "griffin" not in head
    assert first == "| ASR-PPL, nats a token | 4.5 | 3.61 | 3.75 | 4.71 |"
    assert "\n| hero right, chance 0.08, minute 4 |" in report.headlines(kept)
    kept.rows[0].samples[0]["minutes"] = [{"hero right": 0.5}]
    summary.summarize_all(kept)
    assert "\n| hero right, chance 0.08 |  | 0.5 |" in tables.by_minute(kept.rows[0])
    assert stale[0] in report.page({}, kept, stale)


def test_stages_stand_below_the_truth_with_each_judge_named(tmp_path: Path) -> None:
    rows = []
    for system, wrong in (("voice", 0.5), ("codec", 0.2), (TRUTH, 0.1)):
        rows.append(row(system, set="narrated", samples=[sample("a", {"words wrong (ear)": wrong, "STOI": 1.0})]))
    rows.append(row("griffin", set="narrated", temperature=1.0, samples=[sample("a", {"words wrong (ear)": 0.9})]))
    for seconds in (20.0, 240.0):
        rows.append(row(TRUTH, set="narrated", seconds=seconds, samples=[sample("b", {"words wrong (ear)": 0.3})]))
    for each in rows:
        each.summary = summary.summarize(each)
    head, _, *body = report.stages(Results(tmp_path / "r.json", rows)).splitlines()
    assert head == "| speech of a held-out voice, mean (95 %) | words wrong (ear) |"
    assert body == ["| ground truth, n = 1 | 0.1 |", "| codec, n = 1 | 0.2 |", "| voice, n = 1 | 0.5 |"]


def test_tables_call_the_published_rows_published(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.json")
    for system, ppl in (("griffin", 4.0), ("transformer+3s", 5.5), (TRUTH, 3.0)):
        mine = results.row(row(system, seconds=240.0, temperature=None if system == TRUTH else 0.5))
        minutes = [{"MOS (ear)": 4.0 - number / 10} for number in range(4)]
        spans = {"SC-L (ear)": [0.5, 0.45, 0.41]}
        values = {"ASR-PPL (ear)": ppl, "SpkrSim (ear)": 0.7}
        mine.samples = [sample(name, values, minutes=minutes, spans=spans) for name in "ab"]
        mine.summary = summary.summarize(mine)
    third = tables.table(results, "3").splitlines()
    ours = [line for line in third if "| here |" in line]
    assert [line.split(" | ")[0] for line in ours] == [
        f"| {name} (folder, 240 s)" for name in ("griffin", "transformer+3s", TRUTH)
    ]
    assert "| 2 | 0.5 | 4 (4 to 4) |" in ours[0] and "| 50, itself |" in ours[0]
    assert ours[0].endswith("| 4 (4 to 4) | 3.9 (3.9 to 3.9) | 3.8 (3.8 to 3.8) | 3.7 (3.7 to 3.7) |")
    published = [line for line in third if "| published |" in line]
    assert len(published) == 10 and len(third) == 10 + 3 + 6
    assert "| SpeechSSM-2B | published |  | 1 | 3.75 | 0.7 | 50.0 | 0.85 | 4.12 +- 0.08 |" in published[4]
    assert "here" not in "".join(line for line in tables.table(results, "2").splitlines() if line.startswith("|"))
    curve = tables.figure(results).splitlines()
    assert (
        "| griffin (folder, 240 s, SC-L (ear)) | here | 2 | 0.5 | 0.5 (0.5 to 0.5) | 0.41 (0.41 to 0.41) |" in curve[4]
    )
    assert sum("| published |" in line for line in curve) == 9
    results.rows[0].samples[0]["spans"] = {"SC-L (ear)": [0.5]}  # this one ends before
    results.rows[0].summary = summary.summarize(results.rows[0])
    assert "| 0.5 (0.5 to 0.5) | 0.41, n = 1 |" in tables.figure(results).splitlines()[4]
