"""Semantic tokens to more of them: Griffin, the SpeechTransformer baseline, sampling."""

from lab.language import recurrentgemma
from lab.language.config import GriffinConfig, TransformerConfig
from lab.language.griffin import Griffin, GriffinState
from lab.language.sampling import Continuation, generate
from lab.language.tokens import state_bytes
from lab.language.transformer import SpeechTransformer, TransformerState
from lab.nn.sampling import sample

__all__ = [
    "Continuation",
    "Griffin",
    "GriffinConfig",
    "GriffinState",
    "SpeechTransformer",
    "TransformerConfig",
    "TransformerState",
    "generate",
    "recurrentgemma",
    "sample",
    "state_bytes",
]
