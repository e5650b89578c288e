"""Where speech to learn from comes from: the story world, synthetic narrators, LibriSpeech folders."""

from lab.corpora.utterance import Utterance

__all__ = ["Utterance"]
