"""Model cards: what a bundle's models are, what they learnt from and what was measured on them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from lab.bundle import build, digests, index
from lab.paths import data_folder


def describe(entries: dict[str, Any]) -> list[tuple[str, int, str]]:
    """(model, parameters, how it was trained) for every entry of `index`."""
    rows = []
    for name, entry in entries.items():
        with torch.device("meta"):
            model = build(name, entry)
        card = entry["card"]
        rows.append((name, sum(p.numel() for p in model.parameters()), card.get("data", "")))
    return rows


def page(name: str, root: Path) -> str:
    """The card of the bundle at `root` on the Hugging Face hub, in markdown."""
    entries, found = index(root), digests(root)
    rows = [f"| {model} | {count:,} | {data} |" for model, count, data in describe(entries)]
    return "\n".join(
        [
            "---",
            f"license: {licence(found)}",
            "library_name: speechssm-lab",
            "pipeline_tag: audio-to-audio",
            "tags: [speech, text-free, state-space-model]",
            "---",
            f"# {name.rpartition('/')[2]}",
            "",
            "Speech in, minutes of new speech out, without text (SpeechSSM, arXiv 2412.18603).",
            "",
            f'    SpeechSSM.load("hf://{name}").generate("prompt.wav", seconds=60)',
            "",
            "| model | parameters | what it learnt from |",
            "| --- | --- | --- |",
            *rows,
            "",
            table(checked(entries, found)),
            "",
        ]
    )


def licence(found: Mapping[str, str]) -> str:
    """What the hub calls the licence of models with these `bundle.digests`: the lab's own of those that ship with it.
    Of others it depends on what they learnt from, and only who trained them knows."""
    return "apache-2.0" if found.items() <= digests(data_folder() / "bundle").items() else "unknown"


def steps(card: dict[str, Any]) -> int:
    """Steps of training that a card tells of, with all that went before."""
    return int(card.get("steps", 0)) + (steps(card["before"]) if "before" in card else 0)


def checked(entries: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """`index` without the values of figures that were measured with other weights than the bundle has.

    digests: of `bundle.digests`. A figure says `verified`, false where it does not tell with which weights it was
    measured, or `changed`: the models that are no longer those.
    """
    told = deepcopy(dict(entries))
    for entry in told.values():
        for figure in entry["card"].get("figures", {}).values():
            weights = figure.get("weights", {})
            if changed := [name for name, digest in weights.items() if digests.get(name) != digest]:
                figure["changed"] = changed
                for key in ("value", "low", "high"):
                    figure.pop(key, None)
            else:
                figure["verified"] = bool(weights)
    return told


def whose(model: str, entry: Mapping[str, Any], command: str) -> str:
    """How a figure names its model: stories of `coherence.continued` are longer than SpeechTransformer goes on by
    itself, as it does in `lab evaluate`."""
    restarted = entry.get("kind") == "transformer" and command.startswith("lab measure coherence")
    return f"{model}, slide-and-prompt" if restarted else model


def table(entries: Mapping[str, Any]) -> str:
    """The figures in the cards of `checked` entries, and the steps of training in all, as a table in markdown."""
    lines = [
        "| model | figure, on held-out stories and narrators | value, 95 % interval | n | command |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, entry in entries.items():
        if "command" in entry["card"]:
            lines.append(f"| {name} | steps of training | {steps(entry['card']):,} | | `{entry['card']['command']}` |")
        for figure, measured in entry["card"].get("figures", {}).items():
            drawn = f", temperature {measured['temperature']:g}" if "temperature" in measured else ""
            counted = measured.get("n", "")
            model = whose(name, entry, measured["command"])
            lines.append(f"| {model} | {figure}{drawn} | {value(measured)} | {counted} | `{measured['command']}` |")
    return "\n".join(lines)


def value(measured: Mapping[str, Any]) -> str:
    """A figure of `checked` entries with its interval, or why there is none."""
    if "changed" in measured:
        return f"measure it again: {', '.join(measured['changed'])} changed since"
    interval = f" ({measured['low']:.3g} to {measured['high']:.3g})" if "low" in measured else ""
    return f"{measured['value']:g}{interval}" + ("" if measured["verified"] else ", not verified")
