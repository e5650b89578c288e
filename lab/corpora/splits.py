"""Which stories are for what. No story is for two things, and none has the number of another.

Training has the stories of even seeds (`narration.training_seed`), as many as it takes; all else the odd ones
(`narration.held_out_seed`), by the numbers here. Whatever is chosen (temperature, top-p, noise, steps) is chosen on
DEVELOPMENT, and no figure is measured there. A figure on the stories of another figure's is one of the same stories.
"""

from __future__ import annotations

STORIES = range(0, 500)  # read, continued, asked and judged: what figures are of, unless they say otherwise
PROMPTS = range(500, 1000)  # in data/prompts
SPEAKERS = range(1000, 2000)  # texts that a voice is prompted with
NARRATORS = range(2000, 3000)  # texts by which narrators are told apart
ENROLLED = range(3000, 4000)  # texts that speakers are enrolled with
NATURAL = range(4000, 5000)  # texts that their natural speech is known by
PROBED = range(6000, 7000)  # for the probes of a state
SENTENCES = range(7000, 7500)  # for pairs of sentences
CONTEXTS = range(7500, 9000)  # for stories and two endings
OPENINGS = range(9000, 9008)  # what a continuation could be like, were it of another story
FIGURES = (STORIES, PROMPTS, SPEAKERS, NARRATORS, ENROLLED, NATURAL, PROBED, SENTENCES, CONTEXTS, OPENINGS)

DEVELOPMENT = range(1_000_000, 2_000_000)
WATCHED = 100  # the first of them, on which training is watched; what is told for a choice comes after
