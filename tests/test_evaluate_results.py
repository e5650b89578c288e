"""lab.evaluate, from samples to tables: nothing is lost or judged twice, and every number is called what it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lab import bundle
from lab.cli.evaluate import _command
from lab.errors import LabError
from lab.evaluate import ears, likelihood, report, run, summary, tables
from lab.evaluate.ears import Ears
from lab.evaluate.examples import Examples, Sound, fingerprint
from lab.evaluate.results import Results, Row
from lab.evaluate.systems import TRUTH, System
from lab.measure import zero_resource
from lab.measure.statistics import Estimate
from tests.commands import lab, refused
from tests.test_evaluate import Ear, example, noise, row, sample


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def listens(ear: Ear) -> Ears:
    return ears.of([ear])


def of(*names: str) -> Examples:
    return Examples("folder", [example(name) for name in names])


# All samples


@pytest.mark.parametrize(("seconds", "systems"), [(9.0, [TRUTH, "mine"]), (12.0, [TRUTH, "mine"]), (12.1, ["mine"])])
def test_a_reading_is_the_truth_of_what_lasts_as_long(
    tmp_path: Path, listens: Ears, seconds: float, systems: list[str]
) -> None:
    """The reference of `example` ends at 9 s; what goes on for longer is still judged."""
    results, system = Results.load(tmp_path / "r.json"), System("mine", 1.0, {}, lambda *given: noise(given[-1]))
    run.run(results, listens, of("a"), row(seconds=seconds, temperature=1.0), system)
    assert (
        [each.system for each in results.rows] == systems == [each.system for each in Results.load(results.path).rows]
    )


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path, listens: Ears, ear: Ear) -> None:
    """Killed while the third sample is spoken: two are there, and are neither spoken nor heard again."""
    spoken: list[str] = []

    def go_on(each: Any, sound: Sound, seconds: float) -> np.ndarray:
        spoken.append(each.name)
        if len(spoken) == 3:
            raise KeyboardInterrupt
        return noise(seconds)

    path = tmp_path / "deep" / "results.json"
    system = System("mine", 1.0, {"mine": "0"}, go_on)
    asked = row(seconds=9.0, temperature=1.0, weights=system.weights)
    with pytest.raises(KeyboardInterrupt):
        run.run(Results.load(path), listens, of("a", "b", "c", "d"), asked, system)
    truth, kept = Results.load(path).rows
    assert truth.system == TRUTH and [each["name"] for each in truth.samples] == ["a", "b", "c"]
    assert [each["name"] for each in kept.samples] == ["a", "b"] and kept.samples[0]["seconds"] == 6
    ear.heard.clear()
    done = run.run(Results.load(path), listens, of("a", "b", "c", "d"), asked, system)
    assert spoken == ["a", "b", "c", "c", "d"] and len(done.samples) == 4
    assert len(ear.heard) == 4  # c; prompt, truth and continuation of d
    assert not list(path.parent.glob("*.part*"))


def test_a_system_that_fails_once_loses_one(tmp_path: Path, listens: Ears) -> None:
    def go_on(each: Any, sound: Sound, seconds: float) -> np.ndarray:
        if each.name == "b":
            raise LabError("the owl is asleep; wake it")
        return noise(seconds)

    system = System("mine", 1.0, {}, go_on)
    done = run.run(Results.load(tmp_path / "r"), listens, of("a", "b", "c"), row(seconds=9.0), system)
    assert [each["name"] for each in done.samples] == ["a", "c"] and done.skipped == ["b: the owl is asleep"]


@pytest.mark.parametrize(
    "changed", [{"weights": {"griffin": "1"}}, {"judges": {"other": {}}}, {"seed": 1}, {"source": "2"}]
)
def test_samples_measured_otherwise_are_not_mixed(tmp_path: Path, listens: Ears, changed: dict[str, Any]) -> None:
    results = Results.load(tmp_path / "r.json")
    run.run(results, listens, of("a"), row())
    with pytest.raises(
        LabError, match=f"r.json has (mine|ground truth) with other {next(iter(changed))}; give another"
    ):
        run.run(Results.load(results.path), listens, of("a", "b"), row(**changed))
    assert len(Results.load(results.path).rows[1].samples) == 1


def test_prompts_of_another_folder_with_the_same_names_are_not_mixed(tmp_path: Path, listens: Ears) -> None:
    """Whether all samples are there already or some are to come; rows of before, without a fingerprint, go on."""
    results = Results.load(tmp_path / "r.json")
    run.run(results, listens, of("a"), row())
    assert {each.samples[0]["prompt"] for each in results.rows} == {fingerprint(noise(3))}
    other = Examples("folder", [example(name) for name in "ab"])
    strange = Sound(noise(3, seed=5), noise(6), noise(6, seed=1))
    other.examples[0] = replace(other.examples[0], sound=lambda: strange)
    for asked in (row(), row("new")):
        with pytest.raises(LabError, match="r.json has a a with another prompt; give another file with -o"):
            run.run(Results.load(results.path), listens, other, asked)
    for each in results.rows:
        del each.samples[0]["prompt"]
    results.save()
    assert len(run.run(Results.load(results.path), listens, other, row()).samples) == 2


def test_a_fingerprint_is_of_what_is_heard_and_not_of_how_numbers_are_rounded() -> None:
    heard = noise(3)
    assert fingerprint(heard * np.float32(1.0000002)) == fingerprint(heard) != fingerprint(noise(3, seed=1))
    assert fingerprint(np.zeros(0, np.float32)) != fingerprint(np.zeros(3200, np.float32))


def test_the_command_of_a_row_has_all_that_was_asked(tmp_path: Path) -> None:
    """Of a folder its own name: where it lies is this machine's affair."""
    given = None, "griffin", "narrated", 240.0, 16, "ctc", 1.0, 0, 50, tmp_path / "voices", "cpu"
    told = "--temperature 1 --seed 0 --pairs 50 --speech voices --device cpu --ears ctc"
    assert _command(*given) == f"lab evaluate --system griffin --set narrated --minutes 4 --count 16 {told}"


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 0, "rows": []}', '{"format": 1, "rows": [{"owl": 1}]}'])
def test_files_that_hold_no_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(LabError, match="r.json is no file of `lab evaluate`"):
        Results.load(tmp_path / "r.json")


def test_results_may_be_packed(tmp_path: Path, listens: Ears) -> None:
    packed = Results.load(tmp_path / "r.json.gz")
    run.run(packed, listens, of("a"), row())
    assert [len(each.samples) for each in Results.load(packed.path).rows] == [1, 1] and packed.path.read_bytes()[
        :2
    ] == b"\x1f\x8b"
    packed.path.write_bytes(packed.path.read_bytes()[:40])
    with pytest.raises(LabError, match="r.json.gz is no file of `lab evaluate`"):
        Results.load(packed.path)


def test_two_runs_into_one_file_lose_nothing(tmp_path: Path, listens: Ears) -> None:
    path = tmp_path / "r.json"
    first, second = Results.load(path), Results.load(path)
    run.run(first, listens, of("a"), row())
    with pytest.raises(LabError, match="another run writes to .*r.json; give another -o"):
        run.run(second, listens, of("a"), row("other"))
    run.run(first, listens, of("a", "b"), row())
    assert [each.system for each in Results.load(path).rows] == [TRUTH, "mine"]


def test_judges_of_text_need_somebody_who_hears_it() -> None:
    class Deaf:
        name = "deaf"

        def embed_text(self, texts: Any) -> None: ...

    with pytest.raises(LabError, match="nobody hears the text that deaf judges; give a recognizer"):
        ears.of([Deaf()])


# What it comes to


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


# The command


def test_the_command_scores_a_system_and_goes_on(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("evaluate", "--system", "transformer+window", "--minutes", "0.2", "-o", "r.json", "--temperature", "0.5")
    first = lab(*words, "-n", "1", "--keep", "kept", "--pairs", "2")
    assert first.exit_code == 0, first.output
    assert "nobody judges SpkrSim; MOS; ASR-PPL; similarity to the reference and SC-L: give more" in first.stderr
    again = lab(*words, "-n", "2", "--json", "--table", "2", "--pairs", "2")
    assert again.exit_code == 0, again.output
    truth, mine = Results.load(Path("r.json")).rows
    assert [each["name"] for each in mine.samples] == ["story-0000", "story-0001"]
    assert [each["seed"] for each in mine.samples] == [0, 1] and mine.samples[0]["seconds"] == 2
    assert mine.weights == {name: bundle.digests(bundle.folder())[name] for name in mine.weights} and not truth.weights
    assert "stand-in" in mine.judges["ctc"]["backend"] and mine.temperature == 0.5 and mine.machine and mine.date
    asked = "--set stories --minutes 0.2 --count 2 --temperature 0.5 --seed 0 --pairs 2 --ears ctc"
    assert mine.command == f"lab evaluate --system transformer+window {asked}"
    assert json.loads(again.stdout)["rows"][1]["values"]["words"]["n"] == 2
    assert [(key, each["n"]) for key, each in mine.likelihood.items()] == [("sWUGGY", 2), ("sBLIMP", 2)]
    kept = lab("evaluate", "kept", "-o", "other.json")
    assert kept.exit_code == 0 and "continuations on kept: 1 samples, 0 left out" in kept.stdout
    unfinished = Results.load(Path("r.json"))
    unfinished.rows[1].summary = {}  # as a kill leaves it
    unfinished.save()
    assert (truth.likelihood, truth.trained) == ({}, None) and mine.trained  # nobody's model
    assert set(mine.likelihood) == {"sWUGGY", "sBLIMP"} and mine.likelihood["sBLIMP"]["n"] == 2
    shown = lab("evaluate", "-o", "r.json", "--table", "2", "--figure", "1", "--figure", "5", "--agreement").stdout
    assert "four rows with both measures are needed" in shown
    assert (
        "| transformer+window (stories, 12 s) | here | 2 | 0.5 |" in shown and "Fig. 1." in shown and "Fig. 5." in shown
    )


def test_what_ships_is_printed_where_nothing_is_here(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Results(desk / "stored.json.gz", [row("griffin", temperature=0.5, samples=[sample("a", {})])])
    stored.save()
    before = stored.path.read_bytes()
    monkeypatch.setattr(report, "RESULTS", stored.path)
    for asked in (("--table", "2"), ("--figure", "1"), ("--findings",), ("--agreement",)):
        shown = lab("evaluate", *asked)
        assert shown.exit_code == 0 and f"no evaluation.json here, so this is of {stored.path}" in shown.stderr
    assert "| griffin (folder) | here |" in lab("evaluate", "--table", "2").stdout
    refused("there are no results in mine.json", "evaluate", "--table", "2", "-o", "mine.json")
    Results(Path("evaluation.json"), [row("mine", samples=[sample("a", {})])]).save()
    ours = lab("evaluate", "--table", "2")
    assert "| mine (folder) | here |" in ours.stdout and "griffin (folder)" not in ours.stdout and not ours.stderr
    assert stored.path.read_bytes() == before


def test_rows_that_are_there_are_judged_by_their_texts(
    desk: Path, ear: Ear, listens: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is spoken or heard again, and a run goes on as if nobody had judged."""
    results = Results.load(Path("r.json"))
    run.run(results, listens, of("a"), row("griffin", temperature=0.5))
    run.run(results, listens, of("a"), row("gslm+3s", temperature=0.4))
    ear.heard.clear()
    monkeypatch.setattr("lab.judges.load", lambda spec: ear)
    shown = lab("evaluate", "--judge", "likelihood:lm:x", "-o", "r.json", "--table", "2")
    assert shown.exit_code == 0, shown.output
    assert not ear.heard and len(ear.compared) == 2 * (1 + 2 + 1)  # the truth once, Griffin once, GSLM twice
    assert "Win%: by ear, against griffin at 0.5, the temperature of `lab story`, or the truth" in shown.stdout
    assert "| Win% by ear: griffin at 0.5 | 50" in shown.stdout
    kept = Results.load(Path("r.json"))
    assert not any(each.judges for each in kept.rows)
    assert kept.rows[-1].contest["ear: griffin at 0.5"] == {"judge": {"backend": "a test"}, "weights": {}}
    run.run(kept, listens, of("a", "b"), row("gslm+3s", temperature=0.4))
    assert [sorted(each.get("verdicts", {})) for each in kept.rows[-1].samples] == [
        ["ear: griffin at 0.5", f"ear: {TRUTH}"],
        [],
    ]


def test_what_the_command_refuses(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("there are no results in evaluation.json; give another -o, a folder, a manifest or --system", "evaluate")
    refused("there is no nowhere; give a folder", "evaluate", "nowhere")
    refused("both prompt.wav and --system griffin are given", "evaluate", "prompt.wav", "--system", "griffin")
    refused("there is no system 'owl'; there are gslm, twist, ", "evaluate", "--system", "owl")
    refused("codec+3s: the codec has no '3s' levels; it has 1, 2, 3", "evaluate", "--system", "codec+3s")
    refused("there is no judge 'owl:x'; kinds are", "evaluate", "--system", "griffin", "--ears", "owl:x")
    Path("r.json").write_text(json.dumps({"format": 1, "rows": []}))  # stays as it is: no file is made or changed
    refused("there is no judge 'owl'", "evaluate", "--system", "griffin", "--ears", "ctc,owl", "-o", "r.json")
    refused("there is no judge in ','", "evaluate", "--system", "griffin", "--ears", ",")
    refused("there are two judges called ctc", "evaluate", "--system", "griffin", "--ears", "ctc,ctc")
    monkeypatch.setattr("lab.judges.load", lambda spec: SimpleNamespace(name=spec, judge=None))
    refused("chat:x scores no speech: it has none of", "evaluate", "--system", "griffin", "--ears", "ctc,chat:x")
    refused("there are no results in evaluation.json", "evaluate", "--judge", "chat:x")
    Results(Path("alone.json"), [row("mine", samples=[sample("a", {})])]).save()
    refused(
        "alone.json has no row whose texts can be held against", "evaluate", "--judge", "chat:x", "-o", "alone.json"
    )
    monkeypatch.setattr("lab.judges.load", lambda spec: SimpleNamespace(name=spec))
    refused("ge2e:x does not tell who wins; give chat:", "evaluate", "--judge", "ge2e:x", "-o", "r.json")
    refused("the prompts of stories last 10 s", "evaluate", "--system", "griffin", "--minutes", "0.1")
