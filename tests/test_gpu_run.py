"""tests.gpu.run, without a GPU: who learns from whom, and what comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.train.plan import WHOLE
from tests.gpu import run


def test_each_model_learns_from_those_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle here is a list of what went on; the real commands are tests/test_recipes.py's."""

    def trained(session: run.Session, name: str, words: list[str], limit: float) -> bool:
        options = dict(zip(words[4::2], words[5::2], strict=True))  # behind lab train MODEL --warm
        into, work, model = Path(options["--into"]), Path(options["--work"]), words[2]
        source = into if into.exists() else Path(options["--bundle"]) if "--bundle" in options else None
        before = (source / "bundle.json").read_text() if source else ""
        assert before.split() == models[: models.index(model)], "the trial, too, goes on from those before"
        into.mkdir(parents=True, exist_ok=True)
        (work / model).mkdir(parents=True, exist_ok=True)
        (into / "bundle.json").write_text(f"{before}{model} ")
        (into / f"{run.MODELS[model]}.safetensors").write_text(f"{before}{model} " * 3)
        every = int(options.get("--set", "log_every=20").removeprefix("log_every="))
        lines = [f"{step},{9 + step / 10},loss,1\n" for step in range(every, int(options["--steps"]) + 1, every)]
        if lines:  # as a run has it
            (work / model / "log.csv").write_text("".join(lines))
        return True

    models = [*run.MODELS]
    monkeypatch.setattr(run.Session, "run", trained)
    monkeypatch.setattr(run, "PART", 20)
    session = run.Session(tmp_path / "out")
    for model in run.MODELS:
        session.train(model, tmp_path / "work", [], 1, 4)
    assert (tmp_path / "work" / "bundle" / "bundle.json").read_text() == "codec soundstorm refiner joint "
    parts = sorted(path for path in (tmp_path / "out").iterdir() if path.name.startswith("codec."))
    assert len(parts) > 1 and "".join(part.read_text() for part in parts) == "codec soundstorm refiner joint " * 3
    paces = [found["seconds_a_step"] for found in json.loads((tmp_path / "out" / "summary.json").read_text())["runs"]]
    assert paces == [0.1] * 4
    assert set(run.MODELS) <= set(WHOLE)


@pytest.mark.parametrize("carried", [True, False])
def test_kernels_are_built_or_it_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carried: bool) -> None:
    ran: list[tuple[str, float]] = []
    monkeypatch.setattr(run.Session, "run", lambda session, name, words, limit: ran.append((words[0], limit)))
    monkeypatch.setattr(run.Session, "train", lambda session, model, *given: ran.append((model, 0)))
    sources = ["--sources", str(tmp_path)] if carried else []
    monkeypatch.setattr("sys.argv", ["run", str(tmp_path / "out"), "--dry-run", *sources])
    run.main()
    first = ["lab.recurrence.install"] if carried else []
    assert [name for name, _ in ran] == [*first, "pytest", "lab", *run.MODELS]
    assert sum(limit for _, limit in ran) <= 480
    for part, names in (("checks", [*first, "pytest", "lab"]), ("training", [*run.MODELS])):
        ran.clear()
        monkeypatch.setattr("sys.argv", ["run", str(tmp_path / part), "--part", part, "--dry-run", *sources])
        run.main()
        assert [name for name, _ in ran] == names
    if not carried:
        (told,) = json.loads((tmp_path / "out" / "summary.json").read_text())["runs"]
        assert told["name"] == "build" and "no --sources" in told["skipped"]
