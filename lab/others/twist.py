"""TWIST (Hassid et al. 2305.13009): GSLM with coarser units, and a language model that was one of text.

500 units at 25 Hz; all layers of the text model go on, and its embedding is drawn anew, since letters say nothing of
units. `lab train twist` begins with a SpeechTransformer that learnt the story world's texts (`text-transformer`);
`from_text` with any causal language model of transformers, OPT and Llama among them, as the originals did; `from_units`
takes what these learnt. The demo script samples at 0.8.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lab.errors import LabError
from lab.extras import require
from lab.language.tokens import check_tokens
from lab.others.gslm import GSLM


class TWIST(GSLM):
    temperature = 0.8


class PretrainedState(NamedTuple):
    """What transformers keeps of the tokens so far, and how many they were."""

    cache: Any
    size: int


class Pretrained(nn.Module):
    """A causal language model of transformers as a `protocols.LanguageModel` of units, one document at a time.

    Its cache grows in place: of the state after some tokens, go on from the newest alone.
    """

    def __init__(self, model: Any, units: int, offset: int = 0, context: int | None = None):
        """units: the vocabulary; the model's own tokens for them begin at `offset`, and no others are read or drawn.
        context: in tokens; by default as many positions as the model has. Raises LabError for a model of fewer tokens.
        """
        super().__init__()
        self.model, self.config = model, model.config
        self.vocabulary, self.offset = units, offset
        self.positions = int(model.config.max_position_embeddings)
        self.context = context or self.positions
        if not 0 <= offset < offset + units <= (known := model.get_input_embeddings().num_embeddings):
            raise LabError(f"the model has {known} tokens, and {units} units from {offset} on are not among them")

    @property
    def device(self) -> torch.device:
        return self.model.device

    def forward(
        self, tokens: Tensor, state: PretrainedState | None = None, reset: Tensor | None = None, last: bool = False
    ) -> tuple[Tensor, PretrainedState]:
        """As `protocols.LanguageModel`. Raises LabError for a reset inside of the tokens, and for more than it has
        positions."""
        check_tokens(tokens, reset, None, self.vocabulary, self.device)
        if reset is not None and (reset[:, 1:].any() or (state is not None and reset.any())):
            raise LabError("a model of transformers reads one document at a time; give each alone")
        size = tokens.shape[1] + (state.size if state else 0)
        if size > self.positions:
            raise LabError(
                f"the model has {self.positions} positions and {size} tokens were given; give fewer, or slide"
            )
        found = self.model(
            input_ids=tokens + self.offset,
            past_key_values=None if state is None else state.cache,
            use_cache=True,
            logits_to_keep=1 if last else 0,
        )
        logits = found.logits[..., self.offset : self.offset + self.vocabulary]
        return logits, PretrainedState(found.past_key_values, size)


def from_text(checkpoint: str, units: int, *, context: int | None = None, seed: int = 0) -> Pretrained:
    """TWIST's warm start: a causal language model of transformers at `checkpoint`, an id of the hub or a folder with
    safetensors, with a new embedding and output layer of so many `units`, drawn with `seed` as wide as the text's are.

    Raises LabError for one that cannot be loaded.
    """
    model = _causal(checkpoint)
    spread = float(model.get_input_embeddings().weight.detach().std())
    model.resize_token_embeddings(units, mean_resizing=False)
    generator = torch.Generator().manual_seed(seed)
    for layer in {model.get_input_embeddings(), model.get_output_embeddings()}:
        layer.weight.data = spread * torch.randn(layer.weight.shape, generator=generator).to(layer.weight)
    return Pretrained(model, units, context=context)


def from_units(checkpoint: str, units: int, *, context: int | None = None) -> Pretrained:
    """TWIST's own weights at `checkpoint`, as `from_text`: unit u is token u + the `offset` of its config, 0 if it
    tells none.

    Raises LabError for one that cannot be loaded, or has fewer tokens.
    """
    model = _causal(checkpoint)
    return Pretrained(model, units, getattr(model.config, "offset", 0), context)


def _causal(checkpoint: str) -> Any:
    require("judges")
    from transformers import AutoModelForCausalLM

    from lab.judges.hub import loading, pretrained

    with loading("causal language model", checkpoint):
        return pretrained(AutoModelForCausalLM, checkpoint)
