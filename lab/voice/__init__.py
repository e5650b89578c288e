"""Semantic tokens and 3 s of a speaker -> waveform."""

from lab.voice.codec import Codec, CodecConfig
from lab.voice.soundstorm import SoundStorm, SoundStormConfig, VoicePrompt
from lab.voice.synthesis import Synthesizer

__all__ = ["Codec", "CodecConfig", "SoundStorm", "SoundStormConfig", "Synthesizer", "VoicePrompt"]
