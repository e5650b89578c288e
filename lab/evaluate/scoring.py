"""One sample's values: of the whole, by minute, and by spans of 100 words.

Minutes are those of prompt and continuation together, as in the paper, so that the first lacks the prompt. They are cut
where it is quietest within 1 s of the mark, so that no word is, and each is heard alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
from pystoi import stoi
from rapidfuzz.distance import Levenshtein

from lab import audio
from lab.audio import SAMPLE_RATE, Waveform
from lab.console import console
from lab.corpora import storyworld
from lab.errors import LabError
from lab.evaluate.ears import Ears
from lab.evaluate.examples import Example, Sound, fingerprint, silent
from lab.measure.listening import moment
from lab.measure.minutes import by_minute, hero_kept
from lab.measure.recall import Recalled, going_on
from lab.measure.text import auto_bleu, log_perplexity, similarity, span_likeness

SPAN_SECONDS = 5.0  # of each minute a predictor of MOS hears one such span: the paper's N-MOS-T
_MINUTE = 60 * SAMPLE_RATE
_REST = 15.0  # seconds: less at the end belongs to the minute before
_REACH, _QUIET = SAMPLE_RATE, SAMPLE_RATE // 50  # samples: how far a cut may move, and what it looks for

Values = dict[str, float]


def score(
    ears: Ears, example: Example, sound: Sound, spoken: Waveform, truth: Mapping[str, Any] | None, *, respoken: bool
) -> dict[str, Any]:
    """What `spoken` (N,), which follows the prompt of `sound`, is like, for JSON.

    truth: what this function found of the reference, None for the reference itself, or where there is none. respoken:
    `spoken` says what the reference says, so that its words can be counted wrong.
    """
    pieces = minutes(spoken, len(sound.prompt))
    heard = {each.name: [_hear(each.transcribe, piece) for piece in pieces] for each in ears.recognizers}
    texts = next(iter(heard.values()), [""] * len(pieces))
    prompt_text = truth["prompt_text"] if truth else ""
    if heard and not truth:
        prompt_text = _hear(ears.recognizers[0].transcribe, sound.prompt)
    spans = mos_spans(example.name, spoken, len(sound.prompt), sound.reference)
    by_minute = [
        _speakers(ears, sound.prompt, piece) | _mos(ears, span) | (_of_text(ears, text) if heard else {})
        for piece, span, text in zip(pieces, spans, texts, strict=True)
    ]
    whole = _speakers(ears, sound.prompt, spoken) | (_of_text(ears, " ".join(texts)) if heard else {})
    for each in ears.mos:
        key = f"MOS ({each.name})"
        whole[key] = float(np.mean([minute[key] for minute in by_minute]))
    recalled: list[Recalled] = []
    if heard and example.cast:
        for values, more in zip(by_minute, _of_story(texts, example.cast), strict=True):
            values |= more
        recalled = going_on(_timed([prompt_text, *texts], [sound.prompt, *pieces]))
    if heard and truth:
        told = truth["texts"][ears.recognizers[0].name]
        whole |= _similar(ears, " ".join(texts), " ".join(told))
        for values, text, of in zip(by_minute, texts, told, strict=False):  # no longer than the reference
            values |= _similar(ears, text, of)
    record: dict[str, Any] = {"name": example.name, "seed": example.seed, "seconds": len(spoken) / SAMPLE_RATE}
    record |= {"prompt": fingerprint(sound.prompt), "prompt_text": prompt_text, "texts": heard}
    if heard and example.text and respoken:
        record["said"] = truth["said"] if truth else part(example.text, prompt_text, " ".join(texts))
        if record["said"]:
            whole |= {f"words wrong ({name})": words_wrong(record["said"], " ".join(of)) for name, of in heard.items()}
        elif not truth:
            console.print(f"warning: the text of {example.name} ends with its prompt: no words of it can be wrong")
    if respoken and truth and sound.reference is not None:
        whole["STOI"] = float(stoi(sound.reference, spoken, SAMPLE_RATE))
    likeness = {f"SC-L ({each.name})": span_likeness(each, prompt_text, " ".join(texts)) for each in ears.encoders}
    whole |= {key: float(np.mean(cosines)) for key, cosines in likeness.items() if cosines}
    return record | {"values": whole, "minutes": by_minute, "spans": likeness, "recalled": recalled}


def minutes(spoken: Waveform, before: int) -> list[Waveform]:
    """Pieces of a waveform (N,) that follows `before` samples, cut near the full minutes of both."""
    return np.split(spoken, [_quietest(spoken, mark) for mark in _marks(spoken, before)])


def _marks(spoken: Waveform, before: int) -> list[int]:
    marks = range(_MINUTE - before % _MINUTE, len(spoken), _MINUTE)
    return [mark for mark in marks if len(spoken) - mark >= _REST * SAMPLE_RATE]


def _quietest(spoken: Waveform, mark: int) -> int:
    """The middle of the quietest 20 ms within 1 s of a mark."""
    start = max(0, mark - _REACH)
    power = audio.levels.frame_power(spoken[start : mark + _REACH])
    return start + int(power.argmin()) * _QUIET + _QUIET // 2


def mos_spans(name: str, spoken: Waveform, before: int, reference: Waveform | None) -> list[Waveform]:
    """5 s of each minute of a waveform (N,) that follows `before` samples; the whole where it is under 15 s.

    Where, is decided by the name of the sample, the minute and the length of the reference: the same for all systems.
    """
    total, length = before + len(spoken), round(SPAN_SECONDS * SAMPLE_RATE)
    if len(spoken) < _REST * SAMPLE_RATE:
        return [spoken]
    edges = [before, *(before + mark for mark in _marks(spoken, before)), total]
    spans = []
    for number, (low, high) in enumerate(pairwise(edges)):
        known = before + len(reference) if reference is not None else 0
        high = min(high, known) if known >= low + length else high
        start = low - before + round(moment(name, number) * max(0, high - low - length))
        spans.append(spoken[start : start + length])
    return spans


def _hear(transcribe: Any, waveform: Waveform) -> str:
    return "" if silent(waveform) else " ".join(transcribe(waveform).split())


def _mos(ears: Ears, span: Waveform) -> Values:
    """Silence is as bad as can be."""
    return {f"MOS ({each.name})": 1.0 if silent(span) else float(each.predict_mos(span)) for each in ears.mos}


def _speakers(ears: Ears, prompt: Waveform, spoken: Waveform) -> Values:
    """Silence is like nobody."""

    def alike(embed: Any) -> float:
        return 0.0 if silent(spoken) else float(embed(prompt) @ embed(spoken))

    return {f"SpkrSim ({each.name})": alike(each.embed_speaker) for each in ears.speakers}


def _similar(ears: Ears, text: str, reference: str) -> Values:
    return {f"similarity ({each.name})": similarity(each, text, reference) for each in ears.encoders}


def _of_text(ears: Ears, text: str) -> Values:
    said = words(text)
    found = {"words": float(len(said)), "auto-BLEU": auto_bleu(said)}
    for each in ears.language_models:
        with suppress(LabError):  # of a text without a word: `words` tells of it
            found[f"ASR-PPL ({each.name})"] = log_perplexity(each, text)
    return found


def _of_story(texts: Sequence[str], cast: storyworld.Cast) -> list[Values]:
    """What each minute of a story keeps; one that makes no sense keeps nothing."""
    times = [(60.0 * number, 60.0 * number + 1, word) for number, text in enumerate(texts) for word in words(text)]
    minutes = by_minute(times, cast, len(texts), prompt_seconds=0)
    return [
        {
            "words that exist": minute.existing / max(1, minute.words),
            "words that parse": minute.parsed / max(1, minute.words),
            "mentions": float(minute.hero_named),
            "hero right": kept,
        }
        for minute, kept in zip(minutes, hero_kept(minutes), strict=True)
    ]


def _timed(texts: Sequence[str], pieces: Sequence[Waveform]) -> list[tuple[float, float, str]]:
    """Words with when they begin and end, in seconds, as if all words of a piece took as long."""
    found, start = [], 0.0
    for text, piece in zip(texts, pieces, strict=True):
        said, lasts = words(text), len(piece) / SAMPLE_RATE
        each = lasts / max(1, len(said))
        found += [(start + at * each, start + (at + 1) * each, word) for at, word in enumerate(said)]
        start += lasts
    return found


def words(text: str) -> list[str]:
    return storyworld.normalize(text).split()


def words_wrong(text: str, heard: str) -> float:
    """Word error rate: words changed, left out and put in, over those of the text."""
    told = words(text)
    if not told:
        raise LabError("a text without a word has no words wrong")
    return Levenshtein.distance(told, words(heard)) / len(told)


def part(text: str, prompt: str, heard: str) -> str:
    """What a text says after the prompt, up to where a recording of it was cut, by what was heard of both."""
    told, first = words(text), words(prompt)
    both = [*first, *words(heard)]
    blocks = Levenshtein.opcodes(both, told)

    def place(at: int) -> int:
        """The word of the text at which the heard word `at` stands; those left out count to what comes after."""
        block = next((each for each in blocks if each.src_start <= at < each.src_end), None)
        return len(told) if block is None else min(block.dest_start + at - block.src_start, block.dest_end)

    equal = [block for block in blocks if block.tag == "equal"]
    end = min(len(told), equal[-1].dest_end + len(both) - equal[-1].src_end) if equal else len(told)
    return " ".join(told[place(len(first)) : max(end, place(len(first)) + 1)])
