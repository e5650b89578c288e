"""Figures for readers, in markdown: some rows that matter for the README, and a page with all there are.

The results are those of data/measured/evaluation.json.gz. A row whose weights are no longer the bundle's is not
printed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lab import cards
from lab.evaluate import findings, tables
from lab.evaluate.results import Results, Row
from lab.evaluate.summary import agreements
from lab.evaluate.systems import TRUTH
from lab.measure import coherence
from lab.measure.statistics import Estimate
from lab.speech import TEMPERATURE
from lab.tokens import TOKEN_RATE

RESULTS, PAGE = coherence.FOLDER / "evaluation.json.gz", coherence.FOLDER / "FIGURES.md"
_SET, _SECONDS = "narrated", 240.0
_SYSTEMS = (TRUTH, "griffin", "transformer")
_PUBLISHED = ("ground truth", "SpeechSSM-2B", "Transformer")
_HEARD = ("words wrong", "MOS", "SpkrSim")
_ROWS = {  # what is shown: the measure, and of which minute or 100 words, None for the whole
    "ASR-PPL, nats a token": ("ASR-PPL", None),
    "SpkrSim, prompt and continuation": ("SpkrSim", None),
    "MOS, minute 1": ("MOS", 0),
    "MOS, minute 4": ("MOS", 3),
    "SC-L, first 100 words": ("SC-L", 0),
    "SC-L, 100 words from the 400th on": ("SC-L", 4),
    "words of the story world that parse, minute 4": ("words that parse", 3),
    f"{tables.named('hero right')}, minute 4": ("hero right", 3),
}


def fresh(results: Results, digests: Mapping[str, str]) -> tuple[Results, list[str]]:
    """The rows whose weights are those of `bundle.digests`, and a line about each of the others, and about each of a
    system that the bundle has not: who trains it has other weights than those that it was measured with."""
    kept, lines = Results(results.path), []
    for row in results.rows:
        if changed := [name for name, digest in row.weights.items() if digests.get(name, digest) != digest]:
            lines.append(f"{row.system} on {row.set}: measure it again, {', '.join(changed)} changed since")
            continue
        kept.rows.append(row)
        if absent := [f"{name} {digest[:12]}" for name, digest in row.weights.items() if name not in digests]:
            lines.append(
                f"{row.system} on {row.set}: measured with models that are not in the bundle, {', '.join(absent)}"
            )
    return kept, lines


def headlines(results: Results) -> str:
    """Eight rows that matter of 4-minute stories, the paper's values of its 4-minute readings beside them."""
    rows = [row for row in results.rows if (row.set, row.seconds) == (_SET, _SECONDS) and row.system in _SYSTEMS]
    rows.sort(key=lambda row: (_SYSTEMS.index(row.system), -(row.temperature or 0)))
    head = ["stories of 4 minutes, mean (95 %)", *map(_title, rows), *(f"{name}, published" for name in _PUBLISHED)]
    body = [
        [label, *(_ours(row, *asked) for row in rows), *(_theirs(name, *asked) for name in _PUBLISHED)]
        for label, asked in _ROWS.items()
    ]
    return "\n".join(tables.markdown(head, body))


def stages(results: Results) -> str:
    """Where words are lost: what judges hear of held-out stories by human-like voices, a row for each stage."""
    lasts = next((row.seconds for row in results.rows if (row.set, row.system) == (_SET, "voice")), None)
    rows = [row for row in results.rows if (row.set, row.seconds, row.temperature) == (_SET, lasts, None)]
    rows.sort(key=lambda row: (row.system != TRUTH, row.system))
    keys = dict.fromkeys(key for row in rows for key in row.summary["values"] if key.partition(" (")[0] in _HEARD)
    body = [
        [f"{row.system}, n = {len(row.samples)}"]
        + [tables.estimate(row.summary["values"].get(key), len(row.samples)) for key in keys]
        for row in rows
    ]
    return "\n".join(tables.markdown(["speech of a held-out voice, mean (95 %)", *keys], body))


def page(entries: Mapping[str, Any], results: Results, stale: list[str], passes: str = "") -> str:
    """All figures: the evaluation by table and by minute, `passes.page`, then those in the cards of `cards.checked`
    entries."""
    parts = ["# Figures", _HOW, *_evaluation(results), *stale]
    parts += ["## Passes of the voice", passes] if passes else []
    parts += ["## By `lab measure`", cards.table(entries)]
    return "\n\n".join(parts)


_HOW = (
    "Written by `lab card page`. Figures of other weights than the bundle's are left out, those that do not tell of "
    "their weights are not verified. What is called published is the paper's, by other judges and on other prompts. "
    "What `lab evaluate` tells was spoken before the codec sharpened what it decodes (`CONTRAST` in "
    "`lab/voice/codec.py`), by all systems alike, and sounds worse than the bundle does now."
)


def differences(entries: dict[str, Any]) -> str:
    """How the models of `index` differ from the paper's: sizes by their configs, corpora by their cards."""
    config = {name: entry["config"] for name, entry in entries.items()}
    size = {name: f"{parameters / 1e6:.1f} M parameters" for name, parameters, _ in cards.describe(entries)}
    codec, voice = config["codec"], config["soundstorm"]
    window, length = config["griffin"]["window"] / TOKEN_RATE, config["transformer"]["context"] / TOKEN_RATE
    refined = ", the others estimated" if codec.get("refiner_layers") else ""
    told = f"{voice['levels']} guessed by the voice{refined}"
    rows = {
        "semantic codes, 25 Hz": ("32k", str(config["tokenizer"]["codes"])),
        "tokenizer": (
            "USM-v2, 2B: BEST-RQ on untranscribed speech, then an auxiliary loss of recognition",
            f"{size['tokenizer']}; supervised by text alone: CTC, and two readings of the same words",
        ),
        "language model": (
            "Griffin of 2B and 9B, attention to 82 s, begun from RecurrentGemma",
            f"Griffin of {size['griffin']}, attention to {window:.0f} s, begun from nothing",
        ),
        "segments it learns from": (
            "30 s, 4 min (default), 16 min",
            f"griffin: {_segments(entries['griffin']['card'])}; transformer: up to {length:.0f} s; griffin30: 30 s",
        ),
        "temperature": ("1", f"{TEMPERATURE:g} by default; figures at 1, too"),
        "voice": ("SoundStorm, 24 layers, 600 M", f"SoundStorm, {voice['layers']} layers, {size['soundstorm']}"),
        "codec": (
            "SoundStream, 50 Hz, 12 levels of 1024 codes",
            f"25 Hz, {codec['levels']} levels of {codec['codes']} codes, {told}; {size['codec']}",
        ),
        "seams": ("a cut", "an equal-power cross-fade of 20 ms"),
        **{
            f"corpus of {name}": (theirs, entries[name]["card"].get("data", ""))
            for name, theirs in (
                ("tokenizer", "12M h in 300 languages"),
                ("griffin", "LibriLight, 60k h"),
                ("soundstorm", "Common Voice, Multilingual LibriSpeech, VoxPopuli"),
            )
        },
        "prompts of the figures": (
            "LibriSpeech and LibriSpeech-Long, test-clean",
            "held-out stories by held-out narrators",
        ),
        "judges": ("Gemini 2.0 Flash, Gemma-2B, people", "named in each figure; MOS is predicted"),
    }
    return "\n".join(tables.markdown(["", "the paper", "this bundle"], [[name, *both] for name, both in rows.items()]))


def _segments(card: dict[str, Any] | None) -> str:
    """The lengths of what a model learnt from, in order, with the steps of each, by its card and those before."""
    steps: dict[str, int] = {}
    trainings = []
    while card:
        trainings.append(card)
        card = card.get("before")
    for each in reversed(trainings):
        asked = re.search(r"--length (\d+)", each.get("command", ""))
        length = f"{asked[1]} min" if asked else "82 s"
        steps[length] = steps.get(length, 0) + each.get("steps", 0)
    return ", then ".join(f"{length} ({count:,} steps)" for length, count in steps.items())


def _evaluation(results: Results) -> Iterator[str]:
    if results.rows:
        yield "## The paper's tables"
        yield from (tables.table(results, number) for number in tables.TABLES)
        yield tables.figure(results)
        yield findings.reach(results)
        yield "## What the paper found"
        yield findings.findings(results)
        yield findings.order(results)
        yield "## By minute"
        for row in results.rows:
            yield tables.by_minute(row)
            yield f"`{row.command}`, {row.machine}, {row.date}"
    if shown := agreement(results.rows):
        yield "## Do cheap measures rank systems as outside ones do?"
        yield shown


_ONE_EACH = (
    "Of each system, restarted or not, and stage one row that has both measures: of the set that most of them are of, "
    "where something is sampled at the system's usual temperature, the longest."
)


def agreement(rows: Sequence[Row]) -> str:
    """Rank correlations of cheap measures with outside ones, as a table; empty where no row has both of any."""
    shown = [[pair, _correlation(rho), str(rho.n)] for pair, rho in agreements(rows).items()]
    head = ["measures", "Spearman's rank correlation (95 %)", "n, systems and stages"]
    return "\n".join([*tables.markdown(head, shown), "", _ONE_EACH]) if shown else ""


def _correlation(rho: Estimate) -> str:
    if math.isnan(rho.value):
        return "fewer than four are left" if rho.n < 4 else "all are alike"
    return f"{rho.value:.2f} ({rho.low:.2f} to {rho.high:.2f})"


def _title(row: Row) -> str:
    drawn = "" if row.temperature is None else f", temperature {row.temperature:g}"
    return f"{row.system}{drawn}, n = {len(row.samples)}"


def _ours(row: Row, measure: str, at: int | None) -> str:
    if measure == "SC-L":
        means: list[Any] = next((means for key, means in row.summary["spans"].items() if key.startswith(measure)), [])
        return tables.estimate(means[at], len(row.samples)) if at is not None and at < len(means) else ""
    minutes = row.summary["minutes"]
    values = row.summary["values"] if at is None else minutes[at] if at < len(minutes) else {}
    return tables.first(values, measure, len(row.samples))


def _theirs(name: str, measure: str, at: int | None) -> str:
    if measure == "SC-L":
        return f"{coherence.published()[name][100 * (at or 0)]:g}"
    row = next(row for row in tables.published()["tables"]["3"]["rows"] if row["system"] == name)
    if measure == "MOS":
        value, half = row["MOS by minute"][at]
        return f"{value} +- {half}"
    return str(row.get(measure, ""))
