"""lab.evaluate.contest: who wins against whom, of the whole and of every minute, and what was judged stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from lab.evaluate import contest, summary, tables
from lab.evaluate.results import Results, Row
from lab.evaluate.systems import TRUTH
from lab.judges.chat import ChatJudge
from lab.judges.likelihood import LikelihoodJudge
from lab.judges.protocols import Verdict
from tests.judging import Recording
from tests.test_chat_judge import Server, says
from tests.test_evaluate import Ear, row, sample


@pytest.fixture
def ear() -> Ear:
    return Ear()


# Of the whole


def two_rows(tmp_path: Path, ours: str = "one two three", theirs: str = "four five") -> tuple[Results, Row]:
    results = Results(tmp_path / "r.json")
    truth, mine = results.row(row(TRUTH)), results.row(row())
    truth.samples = [sample(name, {}, theirs) for name in "ab"]
    mine.samples = [sample(name, {}, ours) for name in "abc"]  # nobody to compare c with
    return results, mine


def wins(mine: Row) -> dict[str, Any]:
    return summary.summarize(mine)["wins"][f"ear: {TRUTH}"]


def test_both_orders_are_judged_of_texts_cut_to_the_shorter(tmp_path: Path, ear: Ear) -> None:
    results, mine = two_rows(tmp_path)
    contest.hold(results, mine, ear)
    assert ear.compared == [("a fox", "one two", "four five"), ("a fox", "four five", "one two")] * 2
    rate = wins(mine)["rate"]  # who always names the first favours nobody
    assert (rate["value"], rate["n"], wins(mine)["unreadable"], wins(mine)["contradicted"]) == (0.5, 2, 0, 2)
    (told,) = Results.load(results.path).rows[1].samples[0]["verdicts"].values()
    assert told == [["first", "[[first]]", False]] * 2
    contest.hold(results, mine, ear)
    assert len(ear.compared) == 4  # not judged twice


@pytest.mark.parametrize(
    "answers, value, unreadable",
    [
        (["first", "second"] * 2, 1.0, 0),
        (["second", "first"] * 2, 0.0, 0),
        (["tie"] * 4, 0.5, 0),
        (["first", "tie", "tie", "tie"], 0.625, 0),
        (["first", None, "second", "first"], pytest.approx(1 / 3), 1),  # an answer in another form is nobody's
        ([None] * 4, None, 4),
    ],
)
def test_win_rates(tmp_path: Path, ear: Ear, answers: list[Any], value: float | None, unreadable: int) -> None:
    results, mine = two_rows(tmp_path)
    ear.answers = answers
    contest.hold(results, mine, ear)
    assert (wins(mine)["rate"]["value"], wins(mine)["unreadable"]) == (value, unreadable)


def test_who_says_nothing_loses_unasked(tmp_path: Path, ear: Ear) -> None:
    results, mine = two_rows(tmp_path, ours="")
    contest.hold(results, mine, ear)
    assert wins(mine)["rate"]["value"] == 0 and not ear.compared


def test_a_judge_that_is_down_keeps_what_it_said(tmp_path: Path, ear: Ear, capsys: pytest.CaptureFixture[str]) -> None:
    results, mine = two_rows(tmp_path)
    ear.answers = ["first", "second", LabError("http://localhost does not answer; start it")]
    contest.hold(results, mine, ear)
    assert "ear is asked no more: http://localhost does not answer" in capsys.readouterr().err
    assert wins(mine)["rate"]["n"] == 1
    contest.hold(results, mine, ear)
    assert wins(mine)["rate"]["n"] == 2


# Of which rows


@pytest.fixture
def field(tmp_path: Path) -> Results:
    """Griffin at the paper's temperature and its usual one, and GSLM at its own."""
    results = Results(tmp_path / "r.json")
    for name, drawn in (("griffin", 1.0), ("griffin", 0.5), ("gslm+3s", 0.4)):
        text = f"by {name} at {drawn:g}"
        results.row(row(name, temperature=drawn, weights={name: "1"}, samples=[sample("a", {}, text)]))
    return results


def test_all_are_held_against_griffin_at_its_usual_temperature(field: Results, ear: Ear) -> None:
    for each in field.rows:
        contest.hold(field, each, ear)
    theirs = "by griffin at 0.5"
    assert [each[1:] for each in ear.compared[::2]] == [("by griffin at 1", theirs), ("by gslm+3s at 0.4", theirs)]
    summary.summarize_all(field)
    against = "ear: griffin at 0.5"
    assert [list(each.summary["wins"]) for each in field.rows] == [[against], [], [against]]
    shown = tables.table(field, "3")
    assert "| Win% vs griffin at 0.5 |" in shown and "against griffin at 0.5, the temperature of `lab story`" in shown
    for each in field.rows:
        each.seconds = 240.0  # of Table 3
    hot, usual, gslm = (line for line in tables.table(field, "3").splitlines() if "| here |" in line)
    assert "| 50, itself |" in usual and "| 50 |" in hot and "| 50 |" in gslm
    for each in field.rows:
        each.contest, each.summary["wins"] = {}, {}
    unjudged = tables.table(field, "3")
    assert unjudged.count("| 50, itself |") == 1 and "Win%: nobody has judged yet" in unjudged


def test_texts_that_nobody_else_heard_are_not_compared(field: Results, ear: Ear) -> None:
    field.rows[1].samples[0]["texts"] = {"another": ["by griffin"]}
    field.rows[0].samples[0]["texts"] = {}
    assert not any(contest.opponents(field, each) for each in field.rows)


def test_verdicts_of_other_weights_are_asked_for_anew_and_not_shown(field: Results, ear: Ear) -> None:
    _, griffin, gslm = field.rows
    contest.hold(field, gslm, ear)
    contest.hold(field, gslm, ear)
    assert len(ear.compared) == 2 and gslm.contest["ear: griffin at 0.5"]["weights"] == {"griffin": "1"}
    griffin.weights = {"griffin": "2"}
    again = Results.load(field.path)
    again.rows[1].weights = griffin.weights
    summary.summarize_all(again)
    assert not again.rows[2].summary["wins"] and not again.rows[2].contest
    contest.hold(field, gslm, ear)
    assert len(ear.compared) == 4 and gslm.contest["ear: griffin at 0.5"]["weights"] == {"griffin": "2"}
    ear.provenance = lambda: {"backend": "another"}  # type: ignore[method-assign]
    contest.hold(field, gslm, ear)
    assert len(ear.compared) == 6
    field.rows.remove(griffin)
    summary.summarize_all(field)
    assert not gslm.summary["wins"]


# By minute


def four_minutes(tmp_path: Path, count: int = 16) -> tuple[Results, Row]:
    """Of ours two minutes are the truth's, one is of other words, one of silence; the third sample has three minutes,
    all of them the truth's."""
    results = Results(tmp_path / "r.json")
    truth, mine = results.row(row(TRUTH)), results.row(row())
    for name in map(str, range(count)):
        truth.samples.append(sample(name, {}, texts={"ear": ["one", "two", "three three", "four"]}))
        said = ["one", "two", "three three"] if name == "2" else ["one", "two", "odd", ""]
        mine.samples.append(sample(name, {}, texts={"ear": said}))
        for each in (truth, mine):
            each.samples[-1]["minutes"] = [{}] * len(each.samples[-1]["texts"]["ear"])
    return results, mine


class Same(Recording):
    """A judge who finds the texts as good where they are alike, and the one with "three" in it better where not."""

    def verdict(self, first: str, second: str) -> Verdict:
        return Verdict("tie" if first == second else "first" if "three" in first else "second", "")


def test_every_minute_is_judged_by_itself_in_both_orders(tmp_path: Path) -> None:
    """After the prompt, and a mark for what is left out; the wholes come before the minutes."""
    results, mine = four_minutes(tmp_path, 3)
    contest.hold(results, mine, judge := Same())
    assert judge.compared[:2] == [("a fox", "one two odd", "one two three"), ("a fox", "one two three", "one two odd")]
    assert judge.compared[6:12] == [
        ("a fox", "one", "one"),
        ("a fox", "one", "one"),
        ("a fox [...]", "two", "two"),
        ("a fox [...]", "two", "two"),
        ("a fox [...]", "odd", "three"),
        ("a fox [...]", "three", "odd"),
    ]
    assert len(judge.compared) == 3 * (2 + 3 * 2)  # silence is not asked about
    contest.hold(Results.load(results.path), Results.load(results.path).rows[1], judge)
    assert len(judge.compared) == 3 * (2 + 3 * 2)  # nor is anything twice


def test_win_rates_by_minute_and_that_they_decay(tmp_path: Path) -> None:
    results, mine = four_minutes(tmp_path)
    contest.hold(results, mine, Same())
    found = summary.summarize(mine)
    minutes = found["minute_wins"][f"ear: {TRUTH}"]
    assert [each["rate"]["value"] for each in minutes] == [0.5, 0.5, 0.5 / 16, 0.0]
    assert [each["rate"]["n"] for each in minutes] == [16, 16, 16, 15] and minutes[2]["rate"]["high"] < 0.25
    assert found["decay"] == [f"decays: Win% by ear: {TRUTH} 50 -> 0 (-50 to -50)", "holds: nothing"]
    mine.summary = found
    shown = tables.by_minute(mine).splitlines()
    (line,) = (each for each in shown if each.startswith("| Win%"))
    assert line.count("|") == 7 and "| 50 (" in line and line.endswith(", n = 15 |")
    kept = Results.load(results.path).rows[1]
    assert summary.summarize(kept)["minute_wins"] == found["minute_wins"]


def test_a_judge_that_is_down_goes_on_with_the_minute_that_lacks(tmp_path: Path, ear: Ear) -> None:
    results, mine = four_minutes(tmp_path, 1)
    ear.answers = ["first", "second", "first", "second", "first", LabError("it is down; start it")]
    contest.hold(results, mine, ear)
    (told,) = contest.minute_matches(mine.samples[0]).values()
    assert len(told) == 1 and len(ear.compared) == 6
    contest.hold(results, mine, ear)
    assert ear.compared[6:8] == [("a fox [...]", "two", "two")] * 2
    (told,) = contest.minute_matches(mine.samples[0]).values()
    assert len(told) == 4 and told[3].straight.winner == "second"  # silence


def test_the_likelihood_judge_by_minute(tmp_path: Path) -> None:
    """The minute that is likelier a token after the prompt wins; which is asked first makes no difference to it."""
    results, mine = four_minutes(tmp_path, 2)

    class Model:
        name = "lm:table"

        def log_likelihood(self, text: str, context: str = "") -> tuple[float, int]:
            assert context == ("a fox" if text.startswith("one") else "a fox [...]")
            said = text.split()
            return sum(-1.0 if word == "odd" else -2.0 for word in said), len(said)

        def provenance(self) -> dict[str, str]:
            return {}

    contest.hold(results, mine, LikelihoodJudge(Model()))
    (minutes,) = summary.summarize(mine)["minute_wins"].values()
    assert [each["rate"]["value"] for each in minutes] == [0.5, 0.5, 1.0, 0.0]
    assert all(each["contradicted"] == each["unreadable"] == 0 for each in minutes)


def test_the_chat_judge_by_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both orders of the whole and of each minute that is not silent, as was told before; it reads what [...] means."""
    monkeypatch.setenv("LAB_CHAT_RATE", "1e12")
    results, mine = four_minutes(tmp_path, 1)
    server = Server()
    try:
        server.will(
            *map(says, ["[[A>>B]]", "[[B>A]]", "[[A=B]]", "[[A=B]]", "[[A>B]]", "no label", "[[A>B]]", "[[A>B]]"])
        )
        contest.hold(results, mine, judge := ChatJudge(f"model@{server.url}"))
    finally:
        server.close()
    asked = [each["body"]["messages"][0]["content"] for each in server.requests]
    assert len(asked) == 8 and "8 requests" in capsys.readouterr().err  # silence would be two more
    assert all("Where [...] follows it, as much of each recording is left out" in each for each in asked)
    assert "a fox one\n" in asked[2] and "a fox [...] odd\n\n## Text B\n\na fox [...] three\n" in asked[6]
    minutes = summary.summarize(mine)["minute_wins"][f"{judge.name}: {TRUTH}"]
    assert [each["rate"]["value"] for each in minutes] == [0.5, 1.0, 0.5, 0.0]
    assert [each["unreadable"] for each in minutes] == [0, 1, 0, 0]
    assert [each["contradicted"] for each in minutes] == [0, 0, 1, 0]
