"""What the tokens keep (the words) and what they should not (the narrator)."""

from __future__ import annotations

from collections.abc import Sequence

import jiwer
import numpy as np
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from lab.corpora import Utterance
from lab.tokens import Tokenizer


def character_error_rate(truth: Sequence[str], heard: Sequence[str]) -> float:
    """Edits over characters of the truth, all texts taken together."""
    return float(jiwer.cer(list(truth), list(heard)))


def transcription(tokenizer: Tokenizer, utterances: Sequence[Utterance]) -> float:
    """Character error rate of waveform -> tokens -> text."""
    heard = [tokenizer.transcribe(tokenizer.encode(utterance.samples())) for utterance in utterances]
    return character_error_rate([utterance.text for utterance in utterances], heard)


def unit_edit_distance(first: Tensor, second: Tensor) -> float:
    """Edits between two token sequences of one text, over the mean length; 0 would be no trace of the speaker."""
    return Levenshtein.distance(first.tolist(), second.tolist()) / (0.5 * (len(first) + len(second)))


def between_narrators(tokenizer: Tokenizer, pairs: Sequence[tuple[Utterance, Utterance]]) -> dict[str, float]:
    """Mean unit edit distance of two readings of one text, with tokens as they are and with repeats collapsed."""
    plain, collapsed = [], []
    for pair in pairs:
        tokens = [tokenizer.encode(utterance.samples()) for utterance in pair]
        plain.append(unit_edit_distance(*tokens))
        collapsed.append(unit_edit_distance(*(sequence.unique_consecutive() for sequence in tokens)))
    return {
        "unit_edit_distance": float(np.mean(plain)),
        "unit_edit_distance_collapsed": float(np.mean(collapsed)),
    }


def codes_used(tokenizer: Tokenizer, utterances: Sequence[Utterance]) -> float:
    """Share of the codebook that the utterances make use of."""
    used = {code for utterance in utterances for code in tokenizer.encode(utterance.samples()).tolist()}
    return len(used) / tokenizer.config.codes


def words_that_exist(transcript: str, vocabulary: frozenset[str]) -> float:
    """Share of a transcript's words that are in the vocabulary; 0 for a transcript without words."""
    words = transcript.split()
    return sum(word in vocabulary for word in words) / len(words) if words else 0.0
