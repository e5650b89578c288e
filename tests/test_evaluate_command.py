"""`lab evaluate` as it is typed: what it scores, judges, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab import bundle
from lab.cli.evaluate import _command
from lab.evaluate import ears, report, run
from lab.evaluate.examples import Examples
from lab.evaluate.results import Results
from lab.evaluate.systems import TRUTH
from tests.commands import lab, refused
from tests.test_evaluate import Ear, example, row, sample


def test_the_command_of_a_row_has_all_that_was_asked(tmp_path: Path) -> None:
    """Of a folder its own name: where it lies is this machine's affair."""
    given = None, "griffin", "narrated", 240.0, 16, "ctc", 1.0, 0, 50, tmp_path / "voices", "cpu"
    told = "--temperature 1 --seed 0 --pairs 50 --speech voices --device cpu --ears ctc"
    assert _command(*given) == f"lab evaluate --system griffin --set narrated --minutes 4 --count 16 {told}"


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


def test_rows_that_are_there_are_judged_by_their_texts(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is spoken or heard again, and a run goes on as if nobody had judged."""
    ear, results = Ear(), Results.load(Path("r.json"))
    listens, one = ears.of([ear]), Examples("folder", [example("a")])
    run.run(results, listens, one, row("griffin", temperature=0.5))
    run.run(results, listens, one, row("gslm+3s", temperature=0.4))
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
    run.run(kept, listens, Examples("folder", [example("a"), example("b")]), row("gslm+3s", temperature=0.4))
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
