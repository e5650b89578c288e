"""ABX (Schatz et al. 2013): are two readings of one phone closer to each other than to another phone between the same?

The phones of read syllables by held-out narrators, or those of aligned speech in triphones. Distances are of dynamic
time warping, the mean along the path of least sum, over angles between features or over tokens that differ. Errors are
averaged over contexts, then over speakers, then over pairs of phones, as in the ZeroSpeech Challenge. Chance is 0.5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch

from lab import protocols
from lab.audio import Waveform
from lab.corpora import Utterance, narrators
from lab.corpora.narrators import Narrator
from lab.corpora.phones import SILENCE, UNKNOWN, Phone
from lab.errors import LabError
from lab.measure import statistics
from lab.measure.statistics import Estimate
from lab.recurrence.compiled import jit
from lab.tokens import TOKEN_HOP, Tokenizer

SYLLABLES = {  # context -> phone -> how it is spelt
    "b_t": {"a": "bat", "e": "bet", "i": "bit", "ee": "beat", "ay": "bait", "oh": "boat", "oo": "boot", "eye": "bite"},
    "p_k": {"a": "pack", "e": "peck", "i": "pick", "ee": "peak", "oh": "poke", "eye": "pike", "u": "puck"},
    "_at": {"b": "bat", "k": "cat", "f": "fat", "h": "hat", "m": "mat", "p": "pat", "r": "rat", "s": "sat", "v": "vat"},
    "_eel": {"d": "deal", "f": "feel", "h": "heal", "k": "keel", "m": "meal", "p": "peel", "s": "seal", "w": "wheel"},
}
_TAKES = ((1.0, 0), (0.9, -5), (1.12, 5))  # of the narrator's rate, and steps of pitch: no two readings are alike
_MOST = 10  # readings of one phone in one context by one speaker

Represent = Callable[[Waveform], np.ndarray]  # (N,) -> tokens (T,) or features (T, D)


class Item(NamedTuple):
    frames: np.ndarray  # tokens (T,) or features (T, D)
    phone: str
    context: str
    speaker: str


def syllables(represent: Represent, among: Sequence[Narrator] = narrators.HELD_OUT) -> Iterator[Item]:
    """Each syllable by each narrator three times, slower, faster, lower and higher."""
    for narrator in among:
        for rate, pitch in _TAKES:
            take = replace(narrator, rate=round(rate * narrator.rate), pitch=narrator.pitch + pitch)
            for context, phones in SYLLABLES.items():
                for phone, spelt in phones.items():
                    yield Item(represent(take.read(spelt)), phone, context, narrator.name)


def triphones(
    represent: Represent, aligned: Iterable[tuple[Utterance, Sequence[Phone]]], rate: float
) -> Iterator[Item]:
    """Three phones in a row, the middle one to be told apart: frames of utterances, `rate` a second, cut where the
    aligner says; none with silence or with what the aligner does not know.
    """
    for utterance, phones in aligned:
        frames = represent(utterance.samples())
        middles = (np.arange(len(frames)) + 0.5) / rate
        for before, phone, after in zip(phones, phones[1:], phones[2:], strict=False):
            cut = frames[(middles >= before.start) & (middles < after.stop)]
            if len(cut) and not {before.label, phone.label, after.label} & {SILENCE, UNKNOWN}:
                yield Item(cut, phone.label, f"{before.label}_{after.label}", utterance.narrator)


def error(items: Iterable[Item], *, across: bool, seed: int = 0) -> Estimate:
    """How often X is closer to B than to A, which is of its phone; half where it is as close to both.

    A and B are by one speaker, X by the same (another reading than A) or, across, by each other one. Of more than ten
    readings of a phone in a context by a speaker ten are drawn. n: pairs of phones. Raises LabError for nothing to
    compare.
    """
    rng = np.random.default_rng(seed)
    contexts: dict[str, dict[str, dict[str, list[np.ndarray]]]] = {}
    for frames, phone, context, speaker in items:
        contexts.setdefault(context, {}).setdefault(speaker, {}).setdefault(phone, []).append(frames)
    errors: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for speakers in contexts.values():
        for phones in speakers.values():
            phones.update({phone: _drawn(found, rng) for phone, found in phones.items()})
        for one, other in permutations(speakers, 2) if across else zip(speakers, speakers, strict=True):
            for phone, of_a in speakers[one].items():
                xs = speakers[other].get(phone, [])
                near = [[distance(a, x) for a in of_a if a is not x] for x in xs]
                for different, of_b in speakers[one].items():
                    if different != phone and any(near):
                        far = [[distance(b, x) for b in of_b] for x in xs]
                        errors[phone, different][one, other].append(_missed(near, far))
    pairs: dict[frozenset[str], list[float]] = defaultdict(list)
    for pair, by_speakers in errors.items():
        pairs[frozenset(pair)].append(float(np.mean([np.mean(found) for found in by_speakers.values()])))
    if not pairs:
        who = "by two speakers" if across else "twice by one speaker"
        raise LabError(f"no two phones can be compared; give readings of one context, each phone {who}")
    return statistics.mean([float(np.mean(both)) for both in pairs.values()], seed)


def _drawn(found: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    return found if len(found) <= _MOST else [found[at] for at in rng.choice(len(found), _MOST, replace=False)]


def _missed(near: list[list[float]], far: list[list[float]]) -> float:
    """Distances of each X to all A, and to all B -> the share of triples in which B is nearer."""
    return float(np.mean([(a > b) + 0.5 * (a == b) for ax, bx in zip(near, far, strict=True) for a in ax for b in bx]))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Tokens (T,) and (S,), or features (T, D) and (S, D): 0 to 1. Raises LabError for a reading without frames."""
    if not len(one) or not len(other):
        raise LabError("a reading without a frame has no distance; leave it out")
    if one.ndim == 1:
        return float(_warped((one[:, None] != other).astype(np.float64)))
    unit, others = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in (one, other))
    return float(_warped(np.arccos(np.clip(unit @ others.T, -1, 1).astype(np.float64)) / np.pi))


@jit(nogil=True)
def _warped(cost: np.ndarray) -> float:
    """Cost of frames (T, S) -> the mean along the path of least sum, one step in either or both at a time."""
    rows, columns = cost.shape
    total, steps = np.empty((rows, columns)), np.empty((rows, columns))
    for i in range(rows):
        for j in range(columns):
            least, length = 0.0, 0.0
            if i and j:
                least, length = total[i - 1, j - 1], steps[i - 1, j - 1]
            elif i or j:
                least = np.inf
            if i and total[i - 1, j] < least:
                least, length = total[i - 1, j], steps[i - 1, j]
            if j and total[i, j - 1] < least:
                least, length = total[i, j - 1], steps[i, j - 1]
            total[i, j], steps[i, j] = least + cost[i, j], length + 1
    return total[-1, -1] / steps[-1, -1]


def of_tokenizer(
    tokenizer: protocols.Tokenizer, items: Callable[[Represent], Iterable[Item]] = syllables
) -> dict[str, Estimate]:
    """Errors within and across speakers: of the tokens and, of a tokenizer of ours, of what is quantized and of the
    log-mel spectrum."""
    kinds: dict[str, Represent] = {"tokens": lambda waveform: tokenizer.encode(waveform).cpu().numpy()}
    if isinstance(tokenizer, Tokenizer):
        ours = tokenizer
        kinds["before the quantizer"] = lambda waveform: _features(ours, waveform)[0]
        kinds["log-mel"] = lambda waveform: _features(ours, waveform)[1]
    found = {}
    for name, represent in kinds.items():
        readings = list(items(represent))
        for where, across in (("within", False), ("across", True)):
            found[f"{name}, {where} speakers"] = error(readings, across=across)
    return found


@torch.inference_mode()
def _features(tokenizer: Tokenizer, waveform: Waveform) -> tuple[np.ndarray, np.ndarray]:
    """Waveform (N,) of some seconds -> what is quantized, (T, D), and four frames of log-mel in each row, (T, 320)."""
    tokens = -(-len(waveform) // TOKEN_HOP)
    padded = np.resize(waveform, TOKEN_HOP * (tokens + tokenizer.reach))  # as `encode` does
    frames = tokenizer.mel(torch.from_numpy(padded)[None].to(tokenizer.device))
    quantized = tokenizer.narrow(tokenizer.features(frames))[0, :tokens]
    return quantized.cpu().numpy(), frames[0, : 4 * tokens].reshape(tokens, -1).cpu().numpy()
