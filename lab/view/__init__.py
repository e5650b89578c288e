"""Every picture and every player: pure functions that notebooks call."""

from lab.view.figures import road, story, throughput
from lab.view.sound import listen

__all__ = ["listen", "road", "story", "throughput"]
