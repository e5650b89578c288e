"""lab.evaluate.findings: what the paper found holds here, does not, or is not measured; Fig. 1 and the order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.evaluate import findings
from lab.evaluate.results import Results, Row
from lab.evaluate.summary import summarize_all
from lab.measure.statistics import Estimate
from tests.test_evaluate import sample


def measured(
    system: str,
    seconds: float,
    values: dict[str, float] | None = None,
    cosines: list[float] | None = None,
    minutes: list[dict[str, float]] | None = None,
    trained: float | None = None,
    **more: Any,
) -> Row:
    """A row of three samples that differ by little."""
    samples = []
    for number in range(3):
        told = {key: value + 0.001 * number for key, value in (values or {}).items()}
        spans = {"SC-L (gecko)": [value + 0.001 * number for value in cosines or []]}
        found: dict[str, Any] = {"spans": spans, "minutes": minutes or [told]}
        samples.append(sample(f"{number}", told) | found)
    options: dict[str, Any] = dict(set="stories", temperature=1.0, seed=0, weights={}, judges={}, command="lab")
    return Row(system, seconds=seconds, trained=trained, samples=samples, **(options | more))


def likelier(system: str, share: float) -> Row:
    return measured(system, 240, likelihood={"sWUGGY": Estimate(share, share - 0.05, share + 0.05, 90)._asdict()})


def told(*rows: Row) -> dict[str, str]:
    results = Results(Path("r.json"), list(rows))
    summarize_all(results)
    paragraphs = findings.findings(results).split("\n\n")
    return {each[1]: each for each in paragraphs}


def test_what_has_no_rows_is_not_measured() -> None:
    found = told()
    assert list(found) == list("abcdef") and all("Not measured yet: it wants" in each for each in found.values())
    found = told(measured("griffin", 960), measured("transformer", 960))
    assert "Not measured yet: griffin has no SC-L at word 1000; give judges of it" in found["b"]


SHORT = ("griffin", "audiolm-refined", "gslm", "twist", "spiritlm")
RESTARTED = ("gslm+3s", "twist+3s", "spiritlm+3s")
FLAT, FALLING = [0.5] * 12, [0.5 - 0.02 * number for number in range(12)]


@pytest.mark.parametrize(
    ("letter", "rows", "otherwise"),
    [
        (
            "a",
            [likelier("gslm+3s", 0.8), likelier("griffin", 0.6)],
            [likelier("gslm+3s", 0.65), likelier("griffin", 0.6)],  # the intervals overlap
        ),
        (
            "b",
            [measured("griffin", 960, cosines=FLAT), measured("transformer", 960, cosines=FALLING)],
            [measured("griffin", 960, cosines=FALLING), measured("transformer", 960, cosines=FALLING)],
        ),
        (
            "c",
            [
                measured("griffin", 960, {"ASR-PPL (lm)": 4.0}, trained=960.0),
                measured("griffin-4min", 960, {"ASR-PPL (lm)": 4.0}, trained=240.0),
            ],
            [
                measured("griffin-16min", 960, {"ASR-PPL (lm)": 3.0}, trained=960.0),
                measured("griffin", 960, {"ASR-PPL (lm)": 4.0}, trained=82.0),
            ],
        ),
        (
            "d",
            [measured(name, 240, cosines=FALLING, minutes=[{"MOS (m)": 3.0}, {"MOS (m)": 2.0}]) for name in RESTARTED],
            [
                measured(name, 240, cosines=cosines, minutes=[{"MOS (m)": 3.0}, {"MOS (m)": 2.0}])
                for name, cosines in zip(RESTARTED, (FALLING, FALLING, FLAT), strict=True)
            ],
        ),
        (
            "e",
            [
                measured("gslm+3s", 240, {"words": 20.0}, FLAT),
                measured("twist+3s", 240, {"words": 30.0}, FALLING),
                measured("griffin", 240, {"words": 90.0}),
            ],
            [
                measured("gslm+3s", 240, {"words": 90.0}, FLAT),
                measured("twist+3s", 240, {"words": 30.0}, FALLING),
                measured("griffin", 240, {"words": 90.0}),
            ],
        ),
        (
            "f",
            [
                *(measured(name, 20, {"SpkrSim (s)": 0.6}) for name in SHORT),
                *(measured(name, 240, {"SpkrSim (s)": 0.7}) for name in ("griffin", "audiolm-refined+3s")),
                *(measured(name, 240, {"SpkrSim (s)": 0.5}) for name in RESTARTED),
            ],
            [
                *(measured(name, 20, {"SpkrSim (s)": 0.6}) for name in SHORT),
                *(measured(name, 240, {"SpkrSim (s)": 0.7}) for name in ("griffin", "audiolm-refined+3s", *RESTARTED)),
            ],
        ),
    ],
)
def test_a_finding_holds_or_not(letter: str, rows: list[Row], otherwise: list[Row]) -> None:
    assert ". Agrees: " in told(*rows)[letter]
    assert ". Does not agree: " in told(*otherwise)[letter]


def test_systems_are_compared_on_one_set_at_the_papers_temperature() -> None:
    """Rows of other prompts and other temperatures stand before those that are to be compared."""
    cold = measured("griffin", 960, cosines=FALLING, temperature=0.5)
    other = measured("transformer", 960, cosines=FLAT, set="librispeech-long")
    rows = measured("griffin", 960, cosines=FLAT), measured("transformer", 960, cosines=FALLING)
    assert ". Agrees: " in told(cold, other, *rows)["b"] and "(stories, temperature 1)" in told(*rows)["b"]
    assert "Does not agree: " in told(cold, rows[1])["b"] and "temperature 0.5 and 1)" in told(cold, rows[1])["b"]
    assert "it wants griffin and transformer on one set of 960 to 961 s" in told(rows[0], other)["b"]


def test_how_far_a_system_reaches_beyond_what_it_learnt_from() -> None:
    good, bad = {"words that parse": 0.9}, {"words that parse": 0.2}
    rows = [
        measured("griffin", 240, minutes=[good] * 4, trained=82.0),
        measured("gslm+3s", 240, minutes=[good, good, bad, good], trained=98.0),
        measured("voice", 240, minutes=[good] * 4),
    ]
    results = Results(Path("r.json"), rows)
    summarize_all(results)
    lines = findings.reach(results).splitlines()
    assert "| griffin (stories, 240 s) | here | 3 | 1 | 82 | 240 of 240 |" in lines
    assert "| gslm+3s (stories, 240 s) | here | 3 | 1 | 98 | 120 of 240 |" in lines
    assert "| SpeechSSM | published |  |  | 240 | 960 |" in lines and not any("voice" in line for line in lines)


def test_the_order_of_systems_beside_the_published_one() -> None:
    perplexities = {
        "gslm+3s": 4.0,
        "twist+3s": 5.0,
        "griffin": 3.0,
        "transformer": 3.5,
    }  # published 4.74, 4.93, 4.57, 4.71
    results = Results(
        Path("r.json"), [measured(*each) for each in ((n, 240, {"ASR-PPL (lm)": v}) for n, v in perplexities.items())]
    )
    summarize_all(results)
    assert findings.order(results) == "Rank correlation with the published Table 3: ASR-PPL 1.00 over 4 systems."
    results.rows += [
        measured(name, 240, {"ASR-PPL (lm)": 9.0 - v}, temperature=0.5) for name, v in perplexities.items()
    ]
    summarize_all(results)
    assert "ASR-PPL 1.00 over 4 systems" in findings.order(results)  # at the paper's temperature
    long = measured("griffin", 240, {"ASR-PPL (lm)": 5.5}, trained=960.0)  # likelier published than that of 4 minutes
    results.rows = [row for row in results.rows[:4] if row.system != "griffin"] + [long]
    summarize_all(results)
    assert "ASR-PPL -0.20 over 4 systems" in findings.order(results)
    for few in ([], results.rows[:3]):
        assert findings.order(Results(Path("r.json"), few)).endswith("not measured yet.")
