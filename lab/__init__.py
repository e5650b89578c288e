"""SpeechSSM, rebuilt from open parts: speech in, minutes or hours of new speech out.

What is named here is imported when it is first asked for, so that `import lab` costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# Read when torch loads its OpenMP. A thread without work looks out for it so often, some 70 us, before it sleeps; by
# default 300,000 times, in which it takes the core of whoever has work: beside another program 5 times the CPU time.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if TYPE_CHECKING:  # the table below, for type checkers and editors
    from lab.errors import LabError
    from lab.language import Griffin, GriffinConfig, SpeechTransformer, TransformerConfig, generate
    from lab.recurrence import causal_conv1d, rg_lru
    from lab.speech import Chunk, SpeechSSM, Story, Stream
    from lab.tokens import Tokenizer, TokenizerConfig
    from lab.voice import Codec, CodecConfig, SoundStorm, SoundStormConfig, Synthesizer

_ROOMS = {
    "errors": ("LabError",),
    "language": ("Griffin", "GriffinConfig", "SpeechTransformer", "TransformerConfig", "generate"),
    "recurrence": ("causal_conv1d", "rg_lru"),
    "speech": ("Chunk", "SpeechSSM", "Story", "Stream"),
    "tokens": ("Tokenizer", "TokenizerConfig"),
    "voice": ("Codec", "CodecConfig", "SoundStorm", "SoundStormConfig", "Synthesizer"),
}

__all__ = [
    "Chunk",
    "Codec",
    "CodecConfig",
    "Griffin",
    "GriffinConfig",
    "LabError",
    "SoundStorm",
    "SoundStormConfig",
    "SpeechSSM",
    "SpeechTransformer",
    "Story",
    "Stream",
    "Synthesizer",
    "Tokenizer",
    "TokenizerConfig",
    "TransformerConfig",
    "causal_conv1d",
    "generate",
    "rg_lru",
]


def __getattr__(name: str) -> Any:
    room = next((room for room, names in _ROOMS.items() if name in names), None)
    if room is None:
        raise AttributeError(f"module 'lab' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"lab.{room}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
