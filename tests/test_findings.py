"""lab.evaluate.findings: what the paper found holds here, does not, or is not measured; Fig. 1 and the order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.evaluate import findings
from lab.evaluate.results import Results, Row
from lab.evaluate.summary import summarize_all
from lab.evaluate.systems import usual
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
    options: dict[str, Any] = dict(set="stories", seed=0, weights={}, judges={}, command="lab")
    options["temperature"] = usual(system)
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


def test_likelihoods_of_more_and_fewer_pairs_are_not_compared() -> None:
    fewer = likelier("griffin", 0.6)
    fewer.likelihood["sWUGGY"]["n"] = 20
    found = told(likelier("gslm", 0.8), fewer)["a"]
    assert "Not measured yet: gslm was asked 90 pairs and griffin 20; give both the same --pairs." in found


SHORT = ("griffin", "audiolm-refined", "gslm", "twist", "spiritlm")
RESTARTED = ("gslm+3s", "twist+3s", "spiritlm+3s")
FLAT, FALLING = [0.5] * 12, [0.5 - 0.02 * number for number in range(12)]
FADING: list[dict[str, float]] = [{"MOS (m)": 3.0}, {}, {}, {"MOS (m)": 2.0}]


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
            [measured(name, 240, cosines=FALLING, minutes=FADING) for name in RESTARTED],
            [
                measured(name, 240, cosines=cosines, minutes=FADING)
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


def test_systems_are_compared_on_one_set_each_at_its_usual_temperature() -> None:
    """Rows of other prompts, and at the paper's temperature, stand before those that are to be compared."""
    hot = measured("griffin", 960, cosines=FALLING, temperature=1.0)
    other = measured("transformer", 960, cosines=FLAT, set="librispeech-long")
    rows = measured("griffin", 960, cosines=FLAT), measured("transformer", 960, cosines=FALLING)
    paragraph = told(hot, other, *rows)["b"]
    assert ". Agrees: " in paragraph and "(stories; each at the temperature of `lab story`" in paragraph
    assert paragraph.endswith("or its best on development prompts: griffin 0.5, transformer 0.5).")
    lacks = "it wants griffin at temperature 0.5 of 960 to 961 s"
    assert lacks in told(hot, rows[1])["b"]  # never one at 1 beside another at 0.5
    both = "it wants griffin at temperature 0.5 and transformer at temperature 0.5 on one set of 960 to 961 s"
    assert both in told(rows[0], other)["b"]


@pytest.mark.parametrize(("letter", "hot"), [("e", "gslm+3s"), ("e", "griffin"), ("f", "griffin"), ("f", "twist")])
def test_findings_do_not_mix_temperatures(letter: str, hot: str) -> None:
    values = {"SpkrSim (s)": 0.6, "words": 90.0}
    rows = [measured(name, 20, values) for name in SHORT]
    rows += [measured(name, 240, values, FLAT) for name in ("griffin", "audiolm-refined+3s", *RESTARTED)]
    assert "Not measured" not in told(*rows)[letter]
    for row in rows:
        row.temperature = 1.0 if row.system == hot else row.temperature
    assert f"Not measured yet: it wants {hot} at temperature {usual(hot):g}" in told(*rows)[letter]


def test_what_learnt_from_4_minutes_is_told_apart() -> None:
    transformer = measured("transformer", 960, cosines=FALLING, trained=240.0)
    long = measured("griffin", 960, cosines=FLAT, trained=960.0)
    short = measured("griffin-4min", 960, cosines=FALLING, trained=240.0)
    alone = told(long, transformer)["b"]
    assert "with griffin, which learnt from 960 s" in alone
    assert "what learnt from 4 minutes has no row: this griffin stands for SpeechSSM-X" in alone
    both = told(long, short, transformer)["b"]
    assert "Does not agree" in both and "with griffin-4min, which learnt from 240 s" in both
    assert "with transformer, which learnt from 240 s" in both and "SpeechSSM-X" not in both


def test_a_difference_within_its_interval_is_none() -> None:
    """Of three prompts GSLM is closer to two, by more on the whole: too few to tell."""
    rows = [
        measured("gslm+3s", 240, {"words": 20.0}, FLAT),
        measured("twist+3s", 240, {"words": 30.0}, FLAT),
        measured("griffin", 240, {"words": 90.0}),
    ]
    for sample_of_gslm, more in zip(rows[0].samples, (0.02, 0.03, -0.03), strict=True):
        sample_of_gslm["spans"] = {"SC-L (gecko)": [value + more for value in FLAT]}
    paragraph = told(*rows)["e"]
    assert "Does not agree: of gslm+3s SC-L at word 400 less that of twist+3s" in paragraph
    assert "words less griffin's -70 [-70, -70], n = 3" in paragraph


def test_how_far_a_system_reaches_beyond_what_it_learnt_from() -> None:
    """By half of what parses where the voice speaks a true story."""
    good, fair, bad = ({"words that parse": share} for share in (0.9, 0.25, 0.15))
    rows = [
        measured("voice", 48, minutes=[{"words that parse": 0.4}], temperature=None),
        measured("griffin", 240, minutes=[fair] * 4, trained=82.0),
        measured("gslm+3s", 240, minutes=[good, fair, bad, good], trained=98.0),
        measured("twist+3s", 240, minutes=[{"MOS (m)": 3.0}] * 4, trained=98.0),
        measured("griffin", 240, minutes=[good] * 4, trained=82.0, set="librispeech-long"),
    ]
    rows[2].samples[0]["minutes"] = [good, bad]  # silent from then on
    results = Results(Path("r.json"), rows)
    summarize_all(results)
    lines = findings.reach(results).splitlines()
    assert "| griffin (stories, 240 s) | here | 3 | 0.5 | 82 | 240 (240 to 240) of 240 |" in lines
    assert "| gslm+3s (stories, 240 s) | here | 3 | 0.4 | 98 | 120 (60 to 120) of 240 |" in lines
    assert "| twist+3s (stories, 240 s) | here | 3 | 0.4 | 98 | not measured |" in lines
    assert "| griffin (librispeech-long, 240 s) | here | 3 | 0.5 | 82 | not measured |" in lines
    assert "| SpeechSSM | published |  |  | 240 | 960 |" in lines
    assert not any(line.startswith("| voice") for line in lines)
    assert "is 50% or more of that where our voice speaks true stories" in lines[-1]
    assert "; stories: 0.4 (0.4 to 0.4), n = 3." in lines[-1]


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
    order = (
        "Rank correlation with the published Table 3 (95 %): ASR-PPL 1.00 (-0.82 to 1.00) over 4 systems (stories; each"
    )
    assert findings.order(results).startswith(order)
    assert findings.order(results).endswith(": gslm+3s 0.4, twist+3s 0.4, griffin 0.5, transformer 0.5).")
    results.rows = [
        *(measured(name, 240, {"ASR-PPL (lm)": 9.0 - v}, temperature=1.0) for name, v in perplexities.items()),
        *results.rows,
    ]
    summarize_all(results)
    assert findings.order(results).startswith(order)  # at the usual temperature
    results.rows = results.rows[4:]
    long = measured("griffin", 240, {"ASR-PPL (lm)": 5.5}, trained=960.0)  # likelier published than that of 4 minutes
    results.rows = [row for row in results.rows if row.system != "griffin"] + [long]
    summarize_all(results)
    assert "ASR-PPL -0.20 (" in findings.order(results)
    for few in ([], results.rows[:3]):
        assert findings.order(Results(Path("r.json"), few)).endswith("not measured yet.")
