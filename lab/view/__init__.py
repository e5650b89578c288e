"""Figures, players and explorers, for notebooks."""

from lab.extras import require

require("notebooks")

from lab.view.architecture import road
from lab.view.coherence import coherence_decay, coherence_fits, coherence_map, coherence_published, recalled
from lab.view.explore import explore
from lab.view.figures import timeline
from lab.view.player import Player
from lab.view.profile import pick, start
from lab.view.sound import listen
from lab.view.tracks import Causes, Curve, Heat, Marks, Ribbon, Trajectory, Words
from lab.view.voice import codec_levels, confidence_map, decoding, passes_heard, prompt_swap, speaker_similarity

__all__ = [
    "Causes",
    "Curve",
    "Heat",
    "Marks",
    "Player",
    "Ribbon",
    "Trajectory",
    "Words",
    "codec_levels",
    "coherence_decay",
    "coherence_fits",
    "coherence_map",
    "coherence_published",
    "confidence_map",
    "decoding",
    "explore",
    "listen",
    "passes_heard",
    "pick",
    "prompt_swap",
    "recalled",
    "road",
    "speaker_similarity",
    "start",
    "timeline",
]
