"""lab.train.encoder: the encoder of the tokenizer, alone."""

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
from lab.train import encoder as recipe


@pytest.fixture
def judged() -> Tokenizer:
    """As it would be loaded: its codebook and its centre stand."""
    torch.manual_seed(0)
    made = Tokenizer(TokenizerConfig.preset("tiny"))
    made.quantizer.codebook.copy_(F.normalize(torch.randn(32, made.config.code_width), dim=-1))
    return made.eval()


def test_an_encoder_learns_words_and_keeps_what_it_gives_narrators(judged: Tokenizer, tmp_path: Path) -> None:
    narrated, other = narration.pair(0)
    person = Utterance(int16(0.5 * other.samples()[::-1]), "a small dog", "7", "librispeech")
    before, print_before = copy.deepcopy(judged.state_dict()), bundle.fingerprint(judged)
    known = [recipe.labelled(judged, each) for each in (narrated, person)]
    tokens = known[0][1]
    assert tokens is not None and known[1][1] is None
    at_first = recipe.Learner(judged)(recipe.batches(known, 20, 0)(0))[1]["ctc"]
    figures = recipe.train(
        judged, [narrated, person], tmp_path, steps=150, seconds=20, seed=0, evaluate=lambda t: {"cer": 0.5}
    )
    now = judged.tokenize(torch.from_numpy(narrated.samples()[: TOKEN_HOP * len(tokens)])[None])[0]
    assert (now == tokens).float().mean() > 0.7
    assert figures["cer"] == 0.5 and figures["ctc"] < 0.6 * at_first
    after = judged.state_dict()
    changed = {name.partition(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {*Tokenizer.ENCODER, *Tokenizer.CTC_HEAD}
    assert bundle.fingerprint(judged) != print_before
    assert all(parameter.requires_grad for parameter in judged.parameters())


def test_batches_keep_speech_and_tokens_in_step() -> None:
    """Each sample tells the number of its token."""
    long = [Utterance(np.repeat(np.arange(n, dtype=np.int16), TOKEN_HOP), "la", "Ada", "narrated") for n in (9, 10, 11)]
    people = [Utterance(np.full(40 * TOKEN_HOP, 99, np.int16), "lala", "7", "librispeech")] * 3
    labelled = [(u, torch.arange(len(u.waveform) // TOKEN_HOP)) for u in long]
    made = recipe.batches([*labelled, *((u, None) for u in people)], seconds=2, seed=0)
    lengths, through = set(), []
    for step in range(1, 24, 2):  # sources in turn
        batch = made(step)
        kept = batch.kept >= 0
        rows = len(batch.tokens)
        assert rows >= 2 and batch.waveform.shape == (rows, TOKEN_HOP * int(batch.tokens.max()))
        middles = (batch.waveform.unflatten(1, (-1, TOKEN_HOP)) * 32768).round()[..., TOKEN_HOP // 2].long()
        assert (middles[kept] - batch.kept[kept]).abs().max() <= 1  # up to half a token early or late
        assert (kept.sum(1) - batch.tokens).abs().max() <= 1
        lengths |= set(batch.tokens.tolist())
        through.append(batch.through)
    assert lengths == {8, 9, 10} and set(through) == {True, False}
    batch = made(8)
    assert batch.text_lengths.tolist() == [4] * len(batch.tokens) and not (batch.kept >= 0).any()


def test_a_widened_tokenizer_gives_the_same_tokens() -> None:
    torch.manual_seed(0)
    narrow = Tokenizer(TokenizerConfig.preset("lab", expansion=3, blocks=2, blocks_after=1)).eval()
    narrow.quantizer.codebook.copy_(F.normalize(torch.randn(512, 16), dim=-1))
    wide = recipe.widened(narrow).eval()
    assert wide.config.expansion == TokenizerConfig.preset("lab").expansion
    frames = torch.randn(1, 400, 80)
    torch.testing.assert_close(wide.features(frames), narrow.features(frames), atol=1e-4, rtol=1e-4)
    assert recipe.widened(wide) is wide
    tiny = Tokenizer(TokenizerConfig.preset("tiny"))
    assert recipe.widened(tiny) is tiny
