"""lab.train.tokenizer: the encoder and the CTC head, each alone."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lab import bundle
from lab.corpora import Utterance, narration
from lab.corpora.utterance import int16
from lab.tokens import TOKEN_HOP, Tokenizer, TokenizerConfig
from lab.train import tokenizer as recipe


@pytest.fixture
def judged() -> Tokenizer:
    """As it would be loaded: its codebook and its centre stand."""
    torch.manual_seed(0)
    made = Tokenizer(TokenizerConfig.preset("tiny"))
    made.quantizer.codebook.copy_(F.normalize(torch.randn(32, made.config.code_width), dim=-1))
    return made.eval()


def changed(model: Tokenizer, before: dict[str, torch.Tensor]) -> set[str]:
    return {
        name.partition(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }


def test_an_encoder_comes_to_hear_the_reference_in_another_reading(judged: Tokenizer, tmp_path: Path) -> None:
    one, reference = narration.beside_reference(0)
    before, print_before = copy.deepcopy(judged.state_dict()), bundle.fingerprint(judged)
    asked = recipe.pseudo_labels(judged, one, reference)

    def agree() -> float:
        heard = judged.tokenize(torch.from_numpy(one.samples()[: TOKEN_HOP * len(asked)])[None])[0]
        return float((heard == asked).float().mean())

    at_first = agree()
    figures = recipe.train_encoder(
        judged, [(one, reference)] * 4, tmp_path, steps=60, size=4, seed=0, evaluate=lambda t: {"cer": 0.5}
    )
    assert figures["cer"] == 0.5 and agree() > at_first + 0.2
    assert changed(judged, before) == set(Tokenizer.ENCODER)
    assert bundle.fingerprint(judged) != print_before
    assert all(parameter.requires_grad for parameter in judged.parameters())


def test_the_reference_is_asked_in_the_time_of_the_reading(judged: Tokenizer) -> None:
    """Said at half the tempo the same tokens last twice as long; of the reading itself they are its own."""
    notes = np.random.default_rng(0).choice(np.arange(300, 3000, 100), 12, replace=False)

    def sung(tokens: int) -> Utterance:
        time = np.arange(TOKEN_HOP * tokens) / 16_000
        tones = np.concatenate([0.3 * np.sin(2 * np.pi * note * time) for note in notes])
        return Utterance(int16(tones.astype(np.float32)), "la", "Ada", "narrated")

    quick, slow = sung(6), sung(12)
    own = judged.tokenize(torch.from_numpy(slow.samples())[None])[0]
    assert torch.equal(recipe.pseudo_labels(judged, slow, slow), own)
    asked = recipe.pseudo_labels(judged, slow, quick)
    assert asked.shape == (144,) and set(asked.tolist()) <= set(
        judged.tokenize(torch.from_numpy(quick.samples())[None])[0].tolist()
    )
    middles = torch.arange(6, 144, 12)
    assert (asked[middles] == own[middles]).float().mean() > 0.7


def test_batches_keep_speech_and_tokens_in_step() -> None:
    """Each sample tells the number of its token."""
    long = [Utterance(np.repeat(np.arange(n, dtype=np.int16), TOKEN_HOP), "la", "Ada", "narrated") for n in (9, 10, 11)]
    people = [Utterance(np.full(40 * TOKEN_HOP, 99, np.int16), "la", "7", "librispeech")] * 3
    labelled = [(u, torch.arange(len(u.waveform) // TOKEN_HOP)) for u in long]
    labelled += [(u, torch.full((40,), 5)) for u in people]
    made = recipe.encoder_batches(labelled, size=3, seed=0)
    lengths = set()
    for step in range(1, 16, 2):  # sources in turn
        batch = made(step)
        speech = batch.tokens >= 0
        assert batch.waveform.shape == (3, TOKEN_HOP * batch.tokens.shape[1])
        middles = (batch.waveform.unflatten(1, (-1, TOKEN_HOP)) * 32768).round()[..., TOKEN_HOP // 2].long()
        assert (middles[speech] - batch.tokens[speech]).abs().max() <= 1  # up to half a token early or late
        assert not batch.waveform.unflatten(1, (-1, TOKEN_HOP))[~speech].any()
        lengths |= set(speech.sum(1).tolist())
    assert lengths == {8, 9, 10}
    assert made(8).tokens.shape == (3, 39) and (made(8).tokens == 5).all()


def test_a_head_learns_and_the_tokens_stay(tmp_path: Path, monkeypatch) -> None:
    """A tokenizer of two codes, of speech that says one letter or the other."""
    monkeypatch.setattr(recipe, "_REPLACED", 0.0)  # with two codes the nearest other one says the other letter
    torch.manual_seed(0)
    judged = Tokenizer(TokenizerConfig.preset("tiny", codes=2))
    judged.quantizer.codebook.copy_(F.normalize(torch.randn(2, judged.config.code_width)))
    judged.encode = lambda waveform: torch.from_numpy(waveform[::TOKEN_HOP] > 0).long()
    heard = [
        Utterance(np.full(TOKEN_HOP * 8, sign * 9000, np.int16), text, "7", "narrated")
        for sign, text in ((1, "a"), (-1, "b"))
    ]
    before, print_before = copy.deepcopy(judged.state_dict()), bundle.fingerprint(judged)
    figures = recipe.train_ctc_head(
        judged, heard * 8, tmp_path, steps=400, size=8, seed=0, evaluate=lambda t: {"cer": 0.5}
    )
    assert figures["ctc"] < 1.5 and figures["cer"] == 0.5  # 18 at first
    changed = {name for name, value in judged.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in changed} == set(Tokenizer.CTC_HEAD)
    assert bundle.fingerprint(judged) == print_before
    assert all(parameter.requires_grad for parameter in judged.parameters())


def test_a_head_meets_near_tokens_now_and_then(monkeypatch) -> None:
    judged = Tokenizer(TokenizerConfig.preset("tiny"))
    judged.quantizer.codebook.copy_(F.normalize(torch.randn(32, judged.config.code_width)))
    head = recipe.CTCHead(judged)
    assert head.nearest.shape == (32, 8) and (head.nearest[:, 0] == torch.arange(32)).all()
    seen = []
    monkeypatch.setattr(
        judged.ctc_head, "forward", lambda vectors: seen.append(vectors) or torch.zeros(*vectors.shape[:2], 29)
    )
    tokens = torch.randint(0, 32, (4, 2000), generator=torch.Generator().manual_seed(0))
    ones = torch.ones(4, dtype=torch.int64)
    head(recipe.CTCBatch(tokens, 2000 * ones, ones, ones))
    found = judged.quantizer.scores(seen[0]).argmax(-1)
    assert 0.03 < float((found != tokens).float().mean()) < 0.08
    assert all(int(heard) in head.nearest[told] for heard, told in zip(found.flatten(), tokens.flatten(), strict=True))
