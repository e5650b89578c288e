"""A judge for where no endpoint can be reached: the continuation that a language model finds likelier wins.

It is no LLM-as-a-judge and is labelled as what it is: likelihood likes what is common, and what repeats itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

from lab import judges
from lab.errors import LabError
from lab.judges.protocols import CausalLM, Verdict

_TIE = 1e-4  # nats a token: rounding of float32


class LikelihoodJudge:
    def __init__(self, spec: str | CausalLM):
        """spec: of a causal language model, `lm:...`, or one itself."""
        model = judges.load(spec) if isinstance(spec, str) else spec
        if not hasattr(model, "log_likelihood"):
            raise LabError(f"{model.name} tells no likelihood; give likelihood:lm:CHECKPOINT")
        self._model = cast(CausalLM, model)
        self.name = f"likelihood:{self._model.name}"
        self._nats = lru_cache(4)(self._read)  # both orders are asked for, one after the other

    def provenance(self) -> dict[str, str]:
        return self._model.provenance() | {"judge": "mean log-likelihood a token of the continuation given the prompt"}

    def judge(self, prompt: str, first: str, second: str) -> Verdict:
        one, other = self._nats(prompt, first), self._nats(prompt, second)
        winner = "tie" if abs(one - other) <= _TIE else "first" if one > other else "second"
        return Verdict(winner, f"{one:.4f} and {other:.4f} nats a token: the likelier wins")  # type: ignore[arg-type]

    def _read(self, prompt: str, text: str) -> float:
        nats, tokens = self._model.log_likelihood(text, prompt)
        if not tokens:
            raise LabError("a text without a word has no likelihood; a judge cannot compare it")
        return nats / tokens
