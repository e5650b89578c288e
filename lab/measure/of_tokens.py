"""`lab measure` of the tokenizer: what its tokens keep of the words, what they tell of who reads, what they cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from lab.corpora import librispeech, narration, narrators, phones, splits
from lab.corpora.librispeech import HELD_OUT_CHAPTER
from lab.measure import abx
from lab.measure import tokens as token_measures
from lab.measure.figure import Figure, estimated, unseen_chapter
from lab.speech import SpeechSSM
from lab.tokens import TOKEN_RATE


def of_tokens(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    stories = [narration.held_out_story(number) for number in range(count)]
    pairs = [
        tuple(narration.held_out_story(number, narrators.HELD_OUT[(number + shift) % 6]) for shift in (0, 1))
        for number in range(count)
    ]
    read = {"held-out stories": stories, "unseen LibriSpeech chapter": unseen_chapter(speech)}
    rows = [
        estimated("tokenizer", f"character error rate, {what}", token_measures.transcription(ssm.tokenizer, utterances))
        for what, utterances in read.items()
        if utterances
    ]
    between = token_measures.between_narrators(ssm.tokenizer, pairs)  # type: ignore[arg-type]
    figures = {
        "unit edit distance, two held-out narrators": between["unit_edit_distance"],
        "unit edit distance, repeats collapsed": between["unit_edit_distance_collapsed"],
        "share of codes used": token_measures.codes_used(ssm.tokenizer, stories),
    }
    return rows + [Figure("tokenizer", name, value) for name, value in figures.items()]


def of_abx(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Errors of ABX and, of `count` held-out stories, the bit rate; on triphones too where aligned speech is given."""
    stories = [ssm.tokenizer.encode(narration.held_out_story(number).samples()) for number in range(count)]
    rows = [Figure("tokenizer", "bits a second, by the entropy of tokens", token_measures.bit_rate(stories))]
    sets: dict[str, Callable[[abx.Represent], Iterable[abx.Item]]] = {"syllables, held-out narrators": abx.syllables}
    aligned = (
        [] if speech is None else [pair for folder in librispeech.chapters(speech) for pair in phones.aligned(folder)]
    )
    if aligned:
        sets["aligned LibriSpeech"] = lambda represent: abx.triphones(represent, aligned, TOKEN_RATE)
    for name, items in sets.items():
        for what, found in abx.of_tokenizer(ssm.tokenizer, items).items():
            rows.append(estimated("tokenizer", f"ABX error, chance 0.50, {what}, {name}", found))
    return rows


def of_narrator(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Who reads, by a linear probe: `count` held-out texts, each by the 24 named narrators, who are those of training.

    A third of the texts is for the test of the probe.
    """
    readings = (
        narration.held_out_story(splits.NARRATORS[number], narrator)
        for number in range(count)
        for narrator in narrators.NAMED
    )
    shares = token_measures.narrator_identified(ssm.tokenizer, readings)
    found = {f"from {name}": share for name, share in shares.items()} | {"by chance": 1 / len(narrators.NAMED)}
    among = f"narrator of training known from 10 s among {len(narrators.NAMED)}"
    return [Figure("tokenizer", f"{among}, {how}", share) for how, share in found.items()]


def of_phones(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Tokens against aligned phones: every aligned chapter, up to `count` utterances of each, and the unseen one alone.

    PNMI of tokens in random order is what so few frames (6800 of the unseen chapter) give to tokens that say nothing.
    """
    chapters = [] if speech is None else librispeech.chapters(speech)
    compared = {
        chapter.name: token_measures.phones_and_tokens(ssm.tokenizer, islice(phones.aligned(chapter), count))
        for chapter in chapters
    }
    groups = {
        "unseen LibriSpeech chapter": [pair for name, pair in compared.items() if name == HELD_OUT_CHAPTER],
        "all aligned LibriSpeech chapters": list(compared.values()),
    }
    rows = []
    for group, pairs in groups.items():
        if not sum(len(said) for said, _ in pairs):
            continue
        said, tokens = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        scores = token_measures.agreement(token_measures.joint_counts(said, tokens))
        nothing = token_measures.joint_counts(said, np.random.default_rng(0).permutation(tokens))
        scores["PNMI of shuffled tokens"] = token_measures.agreement(nothing)["PNMI"]
        rows += [Figure("tokenizer", f"{name}, {group}", value) for name, value in scores.items()]
    return rows


def of_making(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Stories of 96 sentences, about 4 minutes, as training takes them in: read aloud and tokenized by one process."""
    ssm.tokenizer.encode(narration.held_out_story(0, sentences=4).samples())
    began = time.perf_counter()
    stories = [narration.held_out_story(number, sentences=96) for number in range(count)]
    made = time.perf_counter()
    for utterance in stories:
        ssm.tokenizer.encode(utterance.samples())
    done = time.perf_counter()
    seconds = sum(utterance.seconds for utterance in stories)
    return [
        Figure("tokenizer", f"seconds of speech per second, {what} stories, one process", seconds / took)
        for what, took in {
            "narrating": made - began,
            "tokenizing": done - made,
            "narrating and tokenizing": done - began,
        }.items()
    ]
