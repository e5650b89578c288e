"""The story world: bedtime stories of any length, from a seeded grammar, and read back from transcripts.

A hero with a companion, a home, a keepsake and a promise travels through twelve places, a chapter a day; meets helpers
who stay where they live, carries things from one to the other, loses and finds. What holds is known after every
sentence (`Story.facts`), and `check` reads it back from a transcript: the ground truth of coherence.

Two in three stories have gaps: for one to three minutes, in one of four for some seconds, the hero is he or she alone,
or the companion, keepsake, promise or home goes unsaid; then the story asks for it, or says it again. `Story.recalls`
tells how long ago each fact was last said.

    world.py     words, and the map
    forms/       text files: what can be said and when, one line a form; the place to add to
    grammar.py   forms read from their lines; `parse`, from a sentence back to its form
    gaps.py      when a story leaves what unsaid, and what it says again
    generator.py `story` of so many sentences, `sentences` without an end
    checker.py   `check`

550 forms and 349 of them without the name, 582 words, 8.2 words a sentence; 24 sentences last a minute. Each sentence
leaves 3.9 bits to chance (0.48 a word) once the cast and the gaps are known: the mean of -log2 p over the choices made,
in 20 stories of 400 sentences. That is the least a language model can lose, if no sentence comes about in two ways.
12 sentences carry 66 bits, the likeliest of 1000 stories 63: of a million stories no two begin alike but with a chance
of 1e-7 (1e12 / 2 pairs, 2^-63 each).
"""

from __future__ import annotations

import numpy as np

from lab.extras import require

require("narrators")
from lab.corpora.storyworld.checker import Check, Span, check
from lab.corpora.storyworld.gaps import RECALLED, SENTENCES_A_MINUTE, Recall
from lab.corpora.storyworld.generator import Cast, Facts, Sentence, Story, sentences, story
from lab.corpora.storyworld.grammar import FORMS, VOCABULARY, Form, Parse, parse, speaks_of
from lab.corpora.storyworld.world import NAMING
from lab.corpora.utterance import normalize

__all__ = [
    "FORMS",
    "NAMING",
    "RECALLED",
    "SENTENCES_A_MINUTE",
    "VOCABULARY",
    "Cast",
    "Check",
    "Facts",
    "Form",
    "Parse",
    "Recall",
    "Sentence",
    "Span",
    "Story",
    "check",
    "nonsense",
    "normalize",
    "parse",
    "sentences",
    "speaks_of",
    "story",
]


def nonsense(rng: np.random.Generator, words: int) -> str:
    """Words of this world in no order: speech that has to be heard, since it cannot be guessed."""
    return " ".join(rng.choice(sorted(VOCABULARY), words))
