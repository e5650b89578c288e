"""How likely a text is to a language model: any causal one of transformers, or a GGUF file of one."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_outputs import CausalLMOutputWithPast

from lab.judges.checkpoints import provenance
from lab.judges.hub import loading, pretrained

_CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"  # until 5.24
_LOGITS = 1 << 26  # float32 at a time, 256 MB: 256 tokens of Gemma's vocabulary of 262144


class TransformersLM:
    """In float32, on the GPU where there is one. A text longer than the model's context is read in windows that
    overlap by half, so that every token has at least half a context before it.
    """

    def __init__(self, checkpoint: str):
        """checkpoint: an id of the hub, a folder, or a GGUF file. Raises LabError for one that cannot be loaded."""
        path = Path(checkpoint)
        source: str = checkpoint
        options: dict[str, Any] = {}
        if path.suffix == ".gguf":
            source, options = str(path.parent), {"gguf_file": path.name}
        with loading("causal language model", checkpoint):
            self._tokenizer = AutoTokenizer.from_pretrained(source, **options)
            self._model = pretrained(AutoModelForCausalLM, source, **options)
        config = self._model.config.get_text_config()
        self._context: int | None = getattr(config, "max_position_embeddings", None)
        self._chunk = max(1, _LOGITS // config.vocab_size)
        first = (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id)
        self._start = [token for token in first if token is not None][:1]
        self._revision = getattr(self._model.config, "_commit_hash", None)
        self._checkpoint, self._weights = checkpoint, path if path.exists() else None
        self.name = f"lm:{path.name if self._weights else checkpoint}"

    def provenance(self) -> dict[str, str]:
        revision = {"revision": self._revision} if self._revision else {}
        return provenance("transformers", self._checkpoint, self._weights, **revision)

    def log_likelihood(self, text: str, context: str = "") -> tuple[float, int]:
        """The text follows the context after a space. Without a token to begin with, the first is not scored."""
        before, text = self._ids(context.strip()), text.strip()
        if not text:
            return 0.0, 0
        whole = self._ids(f"{context.strip()} {text}".strip())
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, whole, strict=False)))
        ids = torch.tensor(self._start + whole)
        first = max(1, len(self._start) + same)
        return self._nats(ids, first), max(0, len(ids) - first)

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False).input_ids if text else []

    def _nats(self, ids: torch.Tensor, first: int) -> float:
        """Of the tokens from `first` on, 1 or more, given those before."""
        total, context = 0.0, self._context or len(ids)
        while first < len(ids):
            begin = 0 if len(ids) <= context else max(0, first - context // 2)
            scored = self._log_probabilities(ids[begin : begin + context])
            total += float(scored[first - begin - 1 :].sum(dtype=torch.float64))
            first = begin + len(scored) + 1
        return total

    @torch.inference_mode()
    def _log_probabilities(self, ids: torch.Tensor) -> torch.Tensor:
        """Of each token (T,) but the first, given those before: (T - 1,). In chunks, since logits are large."""
        ids = ids.to(self._model.device)
        cache, found = None, []
        for read, wanted in zip(ids[:-1].split(self._chunk), ids[1:].split(self._chunk), strict=True):
            out = self._model(read[None], **{_CACHE: cache}, use_cache=True)
            cache = out[_CACHE]
            found.append(out.logits[0].float().log_softmax(-1).gather(1, wanted[:, None])[:, 0].cpu())
        return torch.cat(found)
