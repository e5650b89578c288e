"""Where speech to learn from comes from: the story world, synthetic narrators, recordings in files, shards."""

from lab.corpora.utterance import Utterance

__all__ = ["Utterance"]
