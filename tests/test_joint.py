"""Refiner and decoder together: what a step sees, what it learns from, and what stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.corpora import Utterance
from lab.errors import LabError
from lab.tokens import TOKEN_HOP, Tokenizer, TokenizerConfig
from lab.train import joint as recipe
from lab.train import refiner as refiner_recipe
from lab.voice import Codec, CodecConfig, VoicePrompt


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    torch.manual_seed(1)
    return Tokenizer(TokenizerConfig.preset("tiny")).eval()


@pytest.fixture
def codec(tokenizer: Tokenizer) -> Codec:
    torch.manual_seed(0)
    made = Codec(CodecConfig.preset("tiny", refiner_layers=1, vocabulary=32))
    made(0.1 * torch.randn(1, 32000), torch.tensor([4]))  # starts the codebooks
    return refiner_recipe.with_refiner(made.eval(), tokenizer)


def numbered(frames: int, timbre: float) -> recipe.Example:
    """Whose samples, pitch, tokens and codes tell which frame they are of."""
    number = torch.arange(frames)
    waveform = np.repeat(number.numpy().astype(np.int16), TOKEN_HOP)
    said = VoicePrompt(number, number[:, None].expand(-1, 4), torch.full((8,), timbre))
    return recipe.Example(waveform, np.repeat(number.numpy(), 2).astype(np.int16), said)


def test_what_is_heard_is_what_the_refiner_reads_in_the_middle() -> None:
    corpus = [[numbered(400, float(speaker)) for _ in range(2)] for speaker in range(3)]
    batch = recipe.batches(corpus, 16, seed=0)(0)
    assert batch.tokens.shape == (16, recipe.LENGTH) and batch.waveform.shape == (16, recipe.CROP * TOKEN_HOP)
    assert len(set(batch.timbre[:, 0].tolist())) == 3 and 0 < batch.known.sum() < 16
    for row in range(16):
        middle = slice(int(batch.start[row]), int(batch.start[row]) + recipe.CROP)
        frames = batch.tokens[row, middle]
        assert torch.equal(batch.codes[row, middle, 0], frames)
        assert torch.equal(batch.pitch[row], frames.repeat_interleave(2))
        assert torch.equal(32768 * batch.waveform[row], frames.repeat_interleave(TOKEN_HOP).float())
    assert batch.start.min() >= recipe.EDGE and batch.start.max() <= recipe.LENGTH - recipe.CROP - recipe.EDGE
    assert torch.equal(recipe.batches(corpus, 16, seed=0)(0).tokens, batch.tokens)


def test_the_tokenizer_hears_a_difference_and_stays(tokenizer: Tokenizer) -> None:
    time = torch.arange(16000) / 16000
    vowel, other = (sum(torch.sin(6.283 * f * time) for f in tones)[None] / 20 for tones in ((200, 700), (200, 2400)))
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    heard, sound = recipe.Heard(tokenizer), vowel.clone().requires_grad_()
    assert heard(vowel, vowel).abs() < 1e-5
    assert heard(vowel, other) > 10 * heard(vowel, 1.02 * vowel)
    heard(sound, other).backward()
    assert sound.grad is not None and sound.grad.abs().sum() > 0
    assert all(value.equal(before[name]) for name, value in tokenizer.state_dict().items())


def test_refiner_and_decoder_learn_and_codes_stay(codec: Codec, tokenizer: Tokenizer, tmp_path) -> None:
    random = np.random.default_rng(0)
    speech = [random.integers(-3000, 3000, 7 * 16000).astype(np.int16) for _ in range(3)]
    utterances = [Utterance(each, "", who, "read") for each, who in zip(speech, ("anna", "anna", "bob"), strict=True)]
    utterances.append(Utterance(speech[0][:90_000], "", "short", "read"))
    corpus = recipe.examples(utterances, tokenizer, codec)
    assert [len(speaker) for speaker in corpus] == [2, 1]
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    figures = recipe.train(codec, corpus, tokenizer, tmp_path, steps=3, batch=2)
    assert {"log-mel", "heard", "vectors", "pitch"} < set(figures)
    changed = {name for name, value in codec.state_dict().items() if not value.equal(before[name])}
    assert {name.partition(".")[0] for name in changed} == set(recipe.LEARNING)
    assert not any(name.startswith(("refiner.context.embedding", "refiner.context.blocks")) for name in changed)
    assert all(parameter.requires_grad for parameter in codec.parameters())


def test_what_cannot_be_learnt_from_is_refused(codec: Codec, tokenizer: Tokenizer, tmp_path) -> None:
    with pytest.raises(LabError, match="no utterance lasts 6 s: nothing to train refiner and decoder on"):
        recipe.train(codec, [], tokenizer, tmp_path, steps=1)
    bare = Codec(CodecConfig.preset("tiny"))
    with pytest.raises(LabError, match="no refiner .* make one by `lab train refiner`"):
        recipe.train(bare, [[numbered(200, 0.0)]], tokenizer, tmp_path, steps=1)
