"""lab.evaluate.findings: what the paper found holds here, does not, or is not measured; Fig. 1 and the order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.evaluate import findings
from lab.evaluate.results import Results, Row
from lab.evaluate.summary import summarize_all
from lab.measure import statistics
from tests.test_evaluate import sample


def measured(
    system: str,
    seconds: float,
    values: dict[str, float] | None = None,
    cosines: list[float] | None = None,
    minutes: list[dict[str, float]] | None = None,
    trained: float | None = None,
    likelihood: float | None = None,
) -> Row:
    """A row of three samples that differ by little."""
    samples = []
    for number in range(3):
        told = {key: value + 0.001 * number for key, value in (values or {}).items()}
        spans = {"SC-L (gecko)": [value + 0.001 * number for value in cosines or []]}
        found: dict[str, Any] = {"spans": spans, "minutes": minutes or [told]}
        samples.append(sample(f"{number}", told) | found)
    options: dict[str, Any] = dict(temperature=1.0, seed=0, weights={}, judges={}, command="lab evaluate")
    asked = (
        {} if likelihood is None else {"sWUGGY (story world)": statistics.share([likelihood] * 9, [1.0] * 9)._asdict()}
    )
    return Row(system, "stories", seconds, trained=trained, samples=samples, likelihood=asked, **options)


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
    found = told(measured("griffin", 240), measured("gslm+3s", 240))
    assert "Not measured yet: gslm+3s has no sWUGGY; give --likelihood" in found["a"]


FLAT, FALLING = [0.5] * 12, [0.5 - 0.02 * number for number in range(12)]


@pytest.mark.parametrize(
    ("letter", "rows", "otherwise"),
    [
        (
            "a",
            [measured("gslm+3s", 240, likelihood=0.8), measured("griffin", 240, likelihood=0.6)],
            [measured("gslm+3s", 240, likelihood=0.5), measured("griffin", 240, likelihood=0.6)],
        ),
        (
            "b",
            [measured("griffin", 960, cosines=FLAT), measured("transformer", 960, cosines=FALLING)],
            [measured("griffin", 960, cosines=FALLING), measured("transformer", 960, cosines=FALLING)],
        ),
        (
            "c",
            [measured("griffin-16min", 960, {"ASR-PPL (lm)": 4.0}), measured("griffin", 960, {"ASR-PPL (lm)": 4.0})],
            [measured("griffin-16min", 960, {"ASR-PPL (lm)": 3.0}), measured("griffin", 960, {"ASR-PPL (lm)": 4.0})],
        ),
        (
            "d",
            [measured("twist+3s", 240, cosines=FALLING, minutes=[{"MOS (m)": 3.0}, {"MOS (m)": 2.0}])],
            [measured("twist+3s", 240, cosines=FLAT, minutes=[{"MOS (m)": 3.0}, {"MOS (m)": 2.0}])],
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
                *(measured(name, 20, {"SpkrSim (s)": 0.6}) for name in ("griffin", "audiolm", "gslm", "twist")),
                *(measured(name, 240, {"SpkrSim (s)": 0.7}) for name in ("griffin", "audiolm+3s")),
                *(measured(name, 240, {"SpkrSim (s)": 0.5}) for name in ("gslm+3s", "twist+3s")),
            ],
            [
                *(measured(name, 20, {"SpkrSim (s)": 0.6}) for name in ("griffin", "audiolm", "gslm", "twist")),
                *(
                    measured(name, 240, {"SpkrSim (s)": 0.7})
                    for name in ("griffin", "audiolm+3s", "gslm+3s", "twist+3s")
                ),
            ],
        ),
    ],
)
def test_a_finding_holds_or_not(letter: str, rows: list[Row], otherwise: list[Row]) -> None:
    assert ". Agrees: " in told(*rows)[letter]
    assert ". Does not agree: " in told(*otherwise)[letter]


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
    assert "| griffin | here | 82 | 240 of 240 |" in lines and "| gslm+3s | here | 98 | 120 of 240 |" in lines
    assert "| SpeechSSM | published | 240 | 960 |" in lines and not any("voice" in line for line in lines)


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
    assert findings.order(Results(Path("r.json"))).endswith("not measured yet.")
