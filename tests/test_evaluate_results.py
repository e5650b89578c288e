"""lab.evaluate, from samples to a file of rows: nothing is lost, mixed or judged twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.errors import LabError
from lab.evaluate import ears, run
from lab.evaluate.ears import Ears
from lab.evaluate.examples import Examples, Sound, fingerprint
from lab.evaluate.results import Results
from lab.evaluate.systems import TRUTH, System
from tests.test_evaluate import Ear, example, noise, row


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def listens(ear: Ear) -> Ears:
    return ears.of([ear])


def of(*names: str) -> Examples:
    return Examples("folder", [example(name) for name in names])


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
