"""lab.train.tokenizer and what it hears: its losses and batches (its parts have tests of their own)."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lab.corpora import Utterance, narration, narrators
from lab.corpora.utterance import int16
from lab.tokens import TOKEN_HOP, Tokenizer, TokenizerConfig
from lab.train import alignment, augment, ctc_head, tokenizer
from lab.train.augment import augmented, in_voices
from lab.train.loop import Compute, Losses, Schedule, fit


def said(text: str, narrator: int = 0) -> Utterance:
    return narration.utterance(text, narrators.NAMED[narrator])


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Utterance, Utterance]]:
    """Two texts, by two voices and twice by one."""
    owl, sea = said("the owl sang.", 0), said("a cold wind was blowing.", 2)
    return [(owl, said("the owl sang.", 1)), (sea, sea)]


def test_a_batch_holds_what_was_said(pairs: list[tuple[Utterance, Utterance]]) -> None:
    rows = [utterance for pair in pairs for utterance in pair]
    batch = tokenizer.collate(rows, agreement=0.5)
    assert batch.tokens.tolist() == [len(row.waveform) // TOKEN_HOP for row in rows]
    assert batch.waveform.shape == (4, TOKEN_HOP * int(batch.tokens.max()))
    for row, utterance in zip(batch.waveform, rows, strict=True):
        kept = min(len(row), len(utterance.waveform))
        np.testing.assert_array_equal(row[:kept], utterance.samples()[:kept])
        assert not row[kept:].any()
    assert batch.text_lengths.tolist() == [len(row.text) for row in rows]
    assert len(batch.text) == batch.text_lengths.sum()
    assert batch.agreement == 0.5
    late = tokenizer.collate(rows, late=np.array([0, TOKEN_HOP, 5, TOKEN_HOP - 1]))
    for row, utterance, start in zip(late.waveform, rows, (0, TOKEN_HOP, 5, TOKEN_HOP - 1), strict=True):
        np.testing.assert_array_equal(row[:TOKEN_HOP], utterance.samples()[start : start + TOKEN_HOP])
    assert (late.tokens - batch.tokens).tolist()[:2] == [0, -1]


def test_tokens_of_two_readings_are_matched_in_time() -> None:
    """The second reading holds each sound twice as long, and is of other speech in rows that are not to be matched."""
    sounds = F.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    said = [sounds, sounds.repeat_interleave(2, 0), sounds, -sounds]
    rows = torch.nn.utils.rnn.pad_sequence([*said, sounds, sounds], batch_first=True)  # (6, 12, 8)
    lengths = torch.tensor([6, 12, 6, 6, 6, 6])
    mine, other = alignment.aligned(rows, lengths, torch.tensor([True, True, True, False, True, True]))
    found = set(zip(mine.tolist(), other.tolist(), strict=True))
    doubled = {(n // 2, 12 + n) for n in range(12)}
    assert found == doubled | {(48 + n, 60 + n) for n in range(6)}
    nothing, _ = alignment.aligned(rows, lengths, torch.zeros(6, dtype=torch.bool))
    assert nothing.shape == (0,)


def test_readings_match_near_an_even_tempo_where_sounds_do_not_say() -> None:
    rows = torch.ones(2, 40, 4) / 2  # one sound throughout
    mine, other = alignment.aligned(rows, torch.tensor([40, 40]), torch.tensor([True, True]))
    assert torch.equal(other - 40, mine) and len(mine) == 40


def test_every_parameter_of_the_tokenizer_learns(pairs: list[tuple[Utterance, Utterance]]) -> None:
    torch.manual_seed(0)
    learner = tokenizer.Learner(Tokenizer(TokenizerConfig.preset("tiny")))
    batch = tokenizer.collate([utterance for pair in pairs * 6 for utterance in pair], agreement=0.5)
    loss, logs = ctc_head.loss_of(learner, batch)
    assert logs.keys() == {"ctc", "masked", "agreement", "same", "used"}
    assert all(torch.isfinite(value) and value > 0 for name, value in logs.items() if name != "same")
    torch.testing.assert_close(loss, logs["ctc"] + 0.15 * logs["masked"] + 0.5 * logs["agreement"])
    first = learner.tokenizer.down[0].weight
    for name in ("ctc", "masked", "agreement"):
        (gradient,) = torch.autograd.grad(logs[name], first, retain_graph=True)
        assert gradient.abs().max() > 0, name
    loss.backward()
    for name, parameter in learner.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_a_batch_that_is_not_finite_is_skipped_whole(pairs: list[tuple[Utterance, Utterance]], tmp_path: Path) -> None:
    torch.manual_seed(0)
    learner, states = tokenizer.Learner(Tokenizer(TokenizerConfig.preset("tiny"))), []

    def batches(step: int) -> tokenizer.Batch:
        batch = tokenizer.collate([utterance for pair in pairs for utterance in pair], agreement=0.5)
        batch.waveform[0, 500] = math.nan if step == 1 else 0.0
        return batch

    def loss_of(model: nn.Module, batch: tokenizer.Batch) -> Losses:
        states.append({name: value.clone() for name, value in learner.state_dict().items()})
        return ctc_head.loss_of(model, batch)

    fit(learner, loss_of, batches, schedule=Schedule(3, warmup=1), folder=tmp_path, compute=Compute(progress=False))
    assert all(torch.equal(value, states[2][name]) for name, value in states[1].items())
    assert learner.tokenizer.quantizer.started == 2
    assert all(value.isfinite().all() for value in learner.state_dict().values())


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_agreement_counts_for_what_it_weighs(pairs: list[tuple[Utterance, Utterance]], weight: float) -> None:
    torch.manual_seed(0)
    learner = tokenizer.Learner(Tokenizer(TokenizerConfig.preset("tiny")))
    loss, logs = ctc_head.loss_of(learner, tokenizer.collate([u for pair in pairs * 4 for u in pair], weight))
    torch.testing.assert_close(loss - weight * logs["agreement"], logs["ctc"] + 0.15 * logs["masked"])


def test_random_projection_targets_are_frozen_and_told_apart(pairs: list[tuple[Utterance, Utterance]]) -> None:
    one, other = (tokenizer.Learner(Tokenizer(TokenizerConfig.preset("tiny"))) for _ in range(2))
    frames = one.tokenizer.mel(tokenizer.collate(list(pairs[0])).waveform)
    codes = one.random_projection_codes(frames)
    assert codes.shape == (2, frames.shape[1] // 4)
    assert torch.equal(codes, other.random_projection_codes(frames))
    assert len(codes.unique()) > 8
    assert not {"projection", "targets"} & {name for name, _ in one.named_parameters()}


def test_perturbed_speech_is_in_step_and_another(pairs: list[tuple[Utterance, Utterance]]) -> None:
    torch.manual_seed(0)
    learner = tokenizer.Learner(Tokenizer(TokenizerConfig.preset("tiny")))
    frames = learner.tokenizer.mel(tokenizer.collate(list(pairs[1])).waveform)
    loud = frames.clone()
    loud[:, 20:] -= 6.0  # speech, then near silence
    varied = augment.perturb(loud)
    assert varied.shape == frames.shape and torch.isfinite(varied).all()
    assert (varied[0] - varied[1]).abs().mean() > 0.1  # every row is another room
    assert (varied[:, :20].mean((1, 2)) - varied[:, 20:].mean((1, 2)) > 0.2).all()
    energy = varied.mean(-1)
    step = (energy[:, 1:] - energy[:, :-1]).argmin(1)
    assert (abs(step - 19) <= 1).all()  # the fall is where it was


def noise_pairs(count: int) -> list[tuple[Utterance, Utterance]]:
    made = [
        Utterance(int16(np.full(TOKEN_HOP * (n + 2), 0.1, np.float32)), "owl", str(n), "narrated") for n in range(count)
    ]
    return [(utterance, utterance) for utterance in made]


def test_batches_are_of_one_length_and_reach_every_pair() -> None:
    corpus = noise_pairs(9)
    person = Utterance(np.full(16_000 * 30, 1000, np.int16), "hello", "7", "librispeech")
    batch = tokenizer.batches([*corpus[::-1], *[(person, corpus[0][0])] * 5], 4, seed=0, agreement=lambda step: 0.25)
    read, narrated = ([batch(step) for step in range(first, 240, 2)] for first in (0, 1))  # sources in turn
    assert all(int(made.tokens.max() - made.tokens.min()) <= 4 for made in narrated)
    assert {int(tokens) for made in narrated for tokens in made.tokens} >= set(range(1, 10))
    assert {len(made.tokens) for made in read} == {6}  # of 30 s each no more than 100 s
    seconds = {int(made.tokens[0]) // 25 for made in read}
    assert min(seconds) < 28 and max(seconds) > 31  # at another speed, the narrator's as it is
    assert {int(made.tokens[1]) for made in read} <= {1, 2}
    assert batch(3).agreement == 0.25
    few = tokenizer.batches(corpus[:2], size=4, seed=0, agreement=lambda step: 0.0)
    assert few(0).tokens.tolist() == [1, 1, 2, 2]


def test_augmented_speech_is_as_loud_and_another() -> None:
    speech = 0.1 * np.sin(np.arange(32_000) / 16_000 * 2 * np.pi * 440).astype(np.float32)
    made = [augmented(speech, np.random.default_rng(seed)) for seed in range(60)]
    assert all(each.dtype == np.float32 and np.isfinite(each).all() for each in made)
    lengths = np.array([len(each) for each in made]) / 32_000
    assert lengths.min() < 0.93 and lengths.max() > 1.08 and 0.2 < (lengths == 1).mean() < 0.6
    assert lengths.min() > 1 / 1.15 and lengths.max() < 1 / 0.87
    levels = np.array([np.sqrt(np.square(each).mean()) for each in made])
    assert (levels > 0.01).all() and (levels < 0.3).all()  # a room adds to a lasting tone, or takes from it
    pitch = [len(each) and np.abs(np.fft.rfft(each, 32_000)).argmax() / 2 for each in made]
    np.testing.assert_allclose(np.array(pitch) * lengths, 440, rtol=0.01)  # pitch and tempo together
    assert np.array_equal(made[3], augmented(speech, np.random.default_rng(3)))


def test_an_utterance_is_heard_in_other_voices() -> None:
    time = np.arange(32000) / 16000
    hum = Utterance((8000 * np.sin(2 * np.pi * 200 * time)).astype(np.int16), "hm", "anna", "kokoro")
    as_is, slow, fast = in_voices([hum])
    assert as_is is hum and len({each.narrator for each in (as_is, slow, fast)}) == 3
    for each, speed in ((slow, 0.88), (fast, 1.13)):
        assert abs(len(each.waveform) - 32000 / speed) < 2 and each.text == "hm" and each.source == "kokoro"
        middle = each.samples()[4000:20000]  # 1 s
        assert abs(np.abs(np.fft.rfft(middle)).argmax() - 200 * speed) <= 1 and abs(middle.max() - 8000 / 32768) < 0.01


def test_tokenizer_recipe(tmp_path: Path) -> None:
    corpus = noise_pairs(4)
    options: dict[str, Any] = {"preset": "tiny", "steps": 5, "size": 2}
    made, figures = tokenizer.train(corpus, tmp_path, evaluate=lambda judged: {"cer": 0.5}, **options)
    assert isinstance(made, Tokenizer) and made.quantizer.started and not made.training
    assert figures["cer"] == 0.5 and figures["steps"] == 5
    asked = {path.parent.name: tomllib.loads(path.read_text())["steps"] for path in tmp_path.glob("*/run.toml")}
    assert asked == {"whole": 5, "encoder": 4, "ctc-head": 2}  # of 8,000, 5,000 and 3,000
