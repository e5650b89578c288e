"""What `lab bench` is asked for and what it writes: ratios, reports, the command, the tables made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lab import bench, cli
from lab.bench import Asked, Report, Row
from lab.bench.report import report, table
from lab.bench.timing import Spread, exactly
from lab.errors import LabError


@pytest.fixture(autouse=True)
def small(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle that is quick, and a malloc that is left to the other tests as it was."""
    monkeypatch.setenv("LAB_BUNDLE", str(tiny_bundle))
    monkeypatch.setattr("lab.machine.keep_freed_memory", lambda: False)


def test_ratio_and_what_was_asked() -> None:
    def row(ours: float, theirs: float, asked: Asked | None) -> Row:
        return Row("a", "ms", Spread(ours, ours, ours), "b", Spread(theirs, theirs, theirs), asked)

    least, most = Asked("at least", 0.5, 0.8), Asked("at most", 2.0, 1.3)
    assert [row(ours, 2, least).met for ours in (1.6, 1.0, 0.9)] == ["goal", "yes", "no"]
    assert [row(ours, 2, most).met for ours in (2.6, 4.0, 4.1)] == ["goal", "yes", "no"]
    assert row(3, 2, None).met == "" and row(3, 2, None).ratio == 1.5
    assert row(200, 2, Asked("at least", None, 125)).met == ""
    assert row(250, 2, Asked("at least", None, 125)).met == "goal"
    growth = Row("a", "MB", Spread(4, 4, 4), asked=Asked("at most", 5, 0))
    assert growth.met == "yes" and growth.ratio is None
    assert replace(row(1, 2, least), theirs=None).met == ""


def test_report_comes_back_from_its_file(tmp_path: Path) -> None:
    rows = [
        Row("a", "GB/s", Spread(1.5, 1.0, 2.0), "b", Spread(3.0, 2.0, 4.0), Asked("at least", None, 2), 1.0, "n"),
        Row("absent", "ms", None, "peer", None, note="not installed: pip install peer"),
    ]
    saved = report("scan", "lab bench scan", rows, malloc="as it comes")
    path = saved.save(tmp_path / "new")
    assert path.name.startswith("scan-") and path.suffix == ".json" and " " not in path.name
    assert Report.load(path) == saved
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert '"ratio": 0.5' in path.read_text() and saved.settings["threads"] >= 1
    assert {"chip", "cores", "memory_gb"} <= set(saved.machine) and {"python", "torch"} <= set(saved.versions)
    path.write_text("{}")
    with pytest.raises(LabError, match="no report of `lab bench`"):
        Report.load(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write"):
        saved.save(tmp_path / "file")
    assert "not installed: pip install peer" in "".join(map(str, table(saved).renderables))


def test_command_prints_a_table_and_saves_where_it_is_told(tmp_path: Path) -> None:
    called = CliRunner().invoke(cli.app, ["bench", "scan", "--quick", "-o", str(tmp_path)])
    assert called.exit_code == 0, called.output
    (path,) = tmp_path.iterdir()
    assert Report.load(path).bench == "scan" and "roofline" in called.output
    called = CliRunner().invoke(cli.app, ["bench", "scan", "--quick", "--no-save", "-o", str(tmp_path / "b")])
    assert called.exit_code == 0 and not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sacn"], "'sacn' is not one of 'flat', 'scan', "),
        (["scan", "--tokens", "9"], "scan has no --tokens"),
        (["scan", "--dry-run"], "scan has no --dry-run"),
        (["gpu", "--quick"], "gpu has no --quick"),
        (["latency", "--tokens", "3"], "3 tokens are too few"),
        (["scan", "--quick", "-o", __file__], "cannot write to "),
        (["scan", "--quick", "-o", "n" * 300], "cannot write to "),
        (["scan", "--quick", "-o", "/proc/none"], "cannot write to "),
    ],
)
def test_command_refuses_in_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.app(["bench", *arguments])
    said = capsys.readouterr().err
    assert exit_.value.code == 2 and told in said and said.count("\n") == 1


def test_all_is_everything_but_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr("lab.machine.keep_freed_memory", lambda: kept.append(True) or True)
    monkeypatch.setattr(bench, "BENCHES", {name: (lambda: [], {}) for name in bench.BENCHES})
    found = list(bench.run("all", quick=True))
    assert [report.bench for report in found] == [name for name in bench.BENCHES if name != "gpu"]
    assert found[0].bench == "flat" and found[0].settings["malloc"] == "as it comes"
    assert {report.settings["malloc"] for report in found[1:]} == {"keeps what is freed"}


def test_card_is_the_table_of_what_is_asked(tmp_path: Path) -> None:
    asked = Row("decode", "tokens/s", exactly(900), "generate", exactly(90), Asked("at least", 6, 15))
    alone, limit = Row("memory", "MB", exactly(2), asked=Asked("at most", 5, 0)), Row("limit", "GB/s", exactly(70))
    report("step", "lab bench step", [asked, alone, limit]).save(tmp_path)
    assert bench.card(tmp_path).splitlines()[2:] == [
        "| decode | 900 tokens/s | generate: 90 | 10 | at least 6, goal 15 | yes | `lab bench step` |",
        "| memory | 2 MB |  |  | at most 5, goal 0 | yes | `lab bench step` |",
    ]
    with pytest.raises(LabError, match="no reports in"):
        bench.card(tmp_path / "none")


def test_readme_shows_the_headlines_of_what_was_saved() -> None:
    readme, found = (Path(__file__).parents[1] / "README.md").read_text(), bench.card(bench.FOLDER, bench.HEADLINES)
    assert readme.split("<!-- lab bench headlines -->\n")[1].split("\n<!-- end -->")[0] == found
    assert all(f"| {row}" in found for row in bench.HEADLINES)


def test_all_that_was_saved_stands_beside_it() -> None:
    assert (bench.FOLDER / "FIGURES.md").read_text() == bench.card(bench.FOLDER) + "\n"
