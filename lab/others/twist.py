"""TWIST (Hassid et al. 2305.13009): GSLM with coarser units, and a language model that was one of text.

500 units at 25 Hz; all layers of the text model go on, and its embedding is drawn anew, since letters say nothing of
units. `lab train twist` begins with a SpeechTransformer that learnt the story world's texts (`text-transformer`);
`from_text` with any causal language model of transformers, OPT and Llama among them, as the originals did. The demo
script samples at 0.8.
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
    """A causal language model of transformers as a `protocols.LanguageModel`, one document at a time.

    Its cache grows in place: of the state after some tokens, go on from the newest alone.
    """

    def __init__(self, model: Any, context: int | None = None):
        """context: in tokens; by default as many positions as the model has."""
        super().__init__()
        self.model, self.config = model, model.config
        self.vocabulary: int = model.get_input_embeddings().num_embeddings
        self.context = context or int(model.config.max_position_embeddings)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def forward(
        self, tokens: Tensor, state: PretrainedState | None = None, reset: Tensor | None = None, last: bool = False
    ) -> tuple[Tensor, PretrainedState]:
        """As `protocols.LanguageModel`. Raises LabError for a reset inside of the tokens."""
        check_tokens(tokens, reset, None, self.vocabulary, self.device)
        if reset is not None and (reset[:, 1:].any() or (state is not None and reset.any())):
            raise LabError("a model of transformers reads one document at a time; give each alone")
        found = self.model(
            input_ids=tokens,
            past_key_values=None if state is None else state.cache,
            use_cache=True,
            logits_to_keep=1 if last else 0,
        )
        return found.logits, PretrainedState(found.past_key_values, tokens.shape[1] + (state.size if state else 0))


def from_text(checkpoint: str, units: int | None = None, *, context: int | None = None, seed: int = 0) -> Pretrained:
    """A causal language model of transformers at `checkpoint`, an id of the hub or a folder with safetensors.

    units: a new embedding, and output layer, of so many, drawn with `seed` as wide as the text's is: TWIST's warm
    start. None leaves the vocabulary as it is: TWIST's own weights. Raises LabError for one that cannot be loaded.
    """
    require("judges")
    from transformers import AutoModelForCausalLM

    from lab.judges.hub import loading, pretrained

    with loading("causal language model", checkpoint):
        model = pretrained(AutoModelForCausalLM, checkpoint)
    if units is not None:
        spread = float(model.get_input_embeddings().weight.detach().std())
        model.resize_token_embeddings(units, mean_resizing=False)
        generator = torch.Generator().manual_seed(seed)
        for layer in {model.get_input_embeddings(), model.get_output_embeddings()}:
            layer.weight.data = spread * torch.randn(layer.weight.shape, generator=generator).to(layer.weight)
    return Pretrained(model.eval(), context)
