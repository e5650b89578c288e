"""lab.train.ctc_head: the CTC head of the tokenizer, alone."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from lab import bundle
from lab.corpora import Utterance
from lab.tokens import TOKEN_HOP, Tokenizer, TokenizerConfig
from lab.train import ctc_head as recipe


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
    figures = recipe.train(judged, heard * 8, tmp_path, steps=400, size=8, seed=0, evaluate=lambda t: {"cer": 0.5})
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
    head(recipe.Batch(tokens, 2000 * ones, ones, ones))
    found = judged.quantizer.scores(seen[0]).argmax(-1)
    assert 0.03 < float((found != tokens).float().mean()) < 0.08
    assert all(int(heard) in head.nearest[told] for heard, told in zip(found.flatten(), tokens.flatten(), strict=True))
