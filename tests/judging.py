"""Judges for tests."""

from __future__ import annotations

from lab.judges.protocols import Verdict


class Recording:
    """A judge who keeps what it was shown; a subclass says who wins."""

    name = "ear"

    def __init__(self) -> None:
        self.compared: list[tuple[str, str, str]] = []

    def provenance(self) -> dict[str, str]:
        return {}

    def judge(self, prompt: str, first: str, second: str) -> Verdict:
        self.compared.append((prompt, first, second))
        return self.verdict(first, second)

    def verdict(self, first: str, second: str) -> Verdict:
        raise NotImplementedError
