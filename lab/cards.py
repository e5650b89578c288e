"""Model cards: what a bundle's models are, what they learnt from and what was measured on them."""

from __future__ import annotations

from typing import Any

import torch

from lab.bundle import build


def describe(entries: dict[str, Any]) -> list[tuple[str, int, str]]:
    """(model, parameters, how it was trained) for every entry of `index`."""
    rows = []
    for name, entry in entries.items():
        with torch.device("meta"):
            model = build(name, entry)
        card = entry["card"]
        rows.append((name, sum(p.numel() for p in model.parameters()), card.get("data", "")))
    return rows


def steps(card: dict[str, Any]) -> int:
    """Steps of training that a card tells of, with all that went before."""
    return int(card.get("steps", 0)) + (steps(card["before"]) if "before" in card else 0)


def table(entries: dict[str, Any]) -> str:
    """The figures in the cards of `index`, and the steps of training in all, as a table in markdown."""
    lines = [
        "| model | figure, on held-out stories and narrators | value | command |",
        "| --- | --- | --- | --- |",
    ]
    for name, entry in entries.items():
        if "command" in entry["card"]:
            lines.append(f"| {name} | steps of training | {steps(entry['card']):,} | `{entry['card']['command']}` |")
        for figure, measured in entry["card"].get("figures", {}).items():
            lines.append(f"| {name} | {figure} | {measured['value']:g} | `{measured['command']}` |")
    return "\n".join(lines)
