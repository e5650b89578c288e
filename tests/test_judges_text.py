"""Judges of text: likelihoods of tiny random models against whole passes, embeddings, and what cannot be had."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast  # noqa: E402

from lab import judges  # noqa: E402
from lab.errors import LabError  # noqa: E402
from lab.judges.causal_lm import TransformersLM  # noqa: E402
from lab.judges.likelihood import LikelihoodJudge  # noqa: E402

WORDS = "the fox met a bear at river and gave some honey".split()
REAL = Path(os.environ.get("LAB_JUDGES", "/nowhere"))


def saved(folder: Path, **changed: Any) -> Path:
    """A Gemma 3 of two layers, one of which sees 16 tokens, that knows eleven words and has learnt nothing."""
    torch.manual_seed(0)
    vocabulary = {word: k for k, word in enumerate(["<unk>", "<bos>", *WORDS])}
    shapes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    layers = {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
    tokens = {"vocab_size": len(vocabulary), "bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0, "head_dim": 8}
    config = Gemma3TextConfig(**{**shapes, **layers, **tokens, "max_position_embeddings": 4096} | changed)
    model = Gemma3ForCausalLM(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.5)  # as it is made it is all but certain that anything comes next
    model.save_pretrained(folder)
    reader = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    reader.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=reader, bos_token="<bos>", unk_token="<unk>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("gemma"))


@pytest.fixture(scope="module")
def lm(folder: Path) -> TransformersLM:
    return judges.load(f"lm:{folder}")


def likelihoods(folder: Path, words: list[str]) -> torch.Tensor:
    """Of each of the words after <bos>, in one pass without a cache: (T,)."""
    model = Gemma3ForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([[1, *(2 + WORDS.index(word) for word in words)]])
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0, :-1]
    return logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]


def some(count: int) -> list[str]:
    return np.random.default_rng(0).choice(WORDS, count).tolist()


def test_a_text_is_as_likely_as_its_words(folder: Path, lm: TransformersLM) -> None:
    said = some(40)
    nats, tokens = lm.log_likelihood(" ".join(said))
    assert tokens == 40 and nats == pytest.approx(float(likelihoods(folder, said).sum()), abs=1e-3)
    assert nats < -40  # far from certain
    assert lm.log_likelihood("") == lm.log_likelihood("  ", "the fox") == (0, 0)


def test_of_a_text_after_another_only_its_own_words_count(folder: Path, lm: TransformersLM) -> None:
    said = some(40)
    nats, tokens = lm.log_likelihood(" ".join(said[30:]), " ".join(said[:30]))
    assert tokens == 10 and nats == pytest.approx(float(likelihoods(folder, said)[30:].sum()), abs=1e-3)


@pytest.mark.parametrize("chunk", [1, 7, 39, 64])
def test_in_chunks_as_in_one(lm: TransformersLM, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    text = " ".join(some(60))  # the window of the first layer is 16
    whole = lm.log_likelihood(text)
    monkeypatch.setattr(lm, "_chunk", chunk)
    assert lm.log_likelihood(text) == (pytest.approx(whole[0], abs=1e-3), 60)


def test_a_text_beyond_the_context_is_read_in_windows(tmp_path: Path) -> None:
    """With a context of 8 the tokens 1 to 7 are read after the first; 8 to 11 after 4 to 7, and so on by fours."""
    folder = saved(tmp_path, max_position_embeddings=8)
    said = some(20)
    model = Gemma3ForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([1, *(2 + WORDS.index(word) for word in said)])
    expected, done = 0.0, 1
    for begin in (0, 4, 8, 12, 16):
        window = ids[begin : begin + 8]
        with torch.no_grad():
            logits = model(window[None], use_cache=False).logits[0, :-1]
        each = logits.log_softmax(-1).gather(1, window[1:, None])[:, 0]
        expected, done = expected + float(each[done - begin - 1 :].sum()), begin + len(window)
    assert done == 21
    assert judges.load(f"lm:{folder}").log_likelihood(" ".join(said)) == (pytest.approx(expected, abs=1e-3), 20)


def test_the_weights_are_told(folder: Path, lm: TransformersLM, tmp_path: Path) -> None:
    told = lm.provenance()
    assert lm.name == f"lm:{folder.name}" and told["checkpoint"] == folder.name and len(told["weights"]) == 12
    assert told["backend"].startswith("transformers 5")
    torch.manual_seed(1)
    other = judges.load(f"lm:{saved(tmp_path, hidden_size=32)}")
    assert other.provenance()["weights"] != told["weights"]


def test_no_pickle_is_loaded(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(LabError, match="no causal language model"):
        judges.load(f"lm:{tmp_path}")


@pytest.mark.parametrize("name", ["broken.gguf", "missing.gguf", "empty"])
def test_no_language_model(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabError, match=f"judge 'lm:.*{name}': there is no causal language model") as refused:
        judges.load(f"lm:{tmp_path / name}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("spec", ["", "gemma", "lms:x", ":x"])
def test_no_such_kind(spec: str) -> None:
    with pytest.raises(LabError, match="no judge .*kinds are .*lm"):
        judges.load(spec)


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(name: str) -> None:
        raise ImportError("No module named 'transformers'")

    monkeypatch.setattr(judges, "import_module", lacking)
    with pytest.raises(LabError, match=r"'lm:x' lacks a package .*transformers.*pip install speechssm-lab\[judges\]"):
        judges.load("lm:x")


# The likelier continuation


class Table:
    """A language model of few texts: nats of each after the prompt."""

    name = "lm:table"
    asked: list[str] = []

    def log_likelihood(self, text: str, context: str = "") -> tuple[float, int]:
        assert context == "once"
        self.asked.append(text)
        return {"likely": (-4.0, 2), "longer": (-5.0, 5), "also": (-8.0, 4), "": (0.0, 0)}[text]

    def provenance(self) -> dict[str, str]:
        return {"backend": "a table"}


def test_the_likelier_wins_by_nats_a_token() -> None:
    model = Table()
    judge = LikelihoodJudge(model)
    first = judge.judge("once", "likely", "longer")
    assert first.winner == "second" and "-2.0000 and -1.0000" in first.text and not first.strong
    assert judge.judge("once", "longer", "likely").winner == "first" and model.asked == ["likely", "longer"]
    assert judge.judge("once", "likely", "also").winner == "tie"
    with pytest.raises(LabError, match="without a word"):
        judge.judge("once", "", "also")
    assert judge.name == "likelihood:lm:table" and "likelihood" in judge.provenance()["judge"]


def test_a_likelihood_judge_by_its_spec(folder: Path) -> None:
    judge = judges.load(f"likelihood:lm:{folder}")
    assert judge.judge("the fox", "met a bear", "met a bear").winner == "tie"
    with pytest.raises(LabError, match="tells no likelihood"):
        judges.load("likelihood:minilm")


# Sentence embeddings


def test_embeddings_know_what_a_text_is_about() -> None:
    encoder = judges.load("minilm")
    texts = ["a fox ran to the river", "the fox went to the water", "stock prices rose in the second quarter", ""]
    vectors = encoder.embed_text(texts)
    assert vectors.shape == (4, 384) and np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    assert encoder.embed_text(texts[2:3])[0] == pytest.approx(vectors[2], abs=1e-5)  # whatever it is padded beside
    long = "the fox met a bear at the river and gave the bear some honey " * 8  # 104 words: more than a span
    one, other = encoder.embed_text([long + "zebra", long + "piano"])
    assert one @ other < 0.9999  # not cut off
    told = encoder.provenance()
    assert encoder.name == told["checkpoint"] == "all-MiniLM-L6-v2" and len(told["weights"]) == 12


def test_an_embedding_that_is_not_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="'sbert:.*nothing': there is no sentence-transformers model"):
        judges.load(f"sbert:{tmp_path / 'nothing'}")


# Real weights


@pytest.mark.skipif(not REAL.is_dir(), reason="LAB_JUDGES names no folder of checkpoints")
def test_gemma_finds_english_likelier_than_a_jumble() -> None:
    lm = judges.load(f"lm:{REAL / 'gemma' / 'gemma-3-270m-q4_k_m.gguf'}")
    english = "the fox walked to the river and met a small bear, who gave him some honey."
    jumble = " ".join(np.random.default_rng(0).permutation(english.split()))
    (nats, tokens), (worse, others) = map(lm.log_likelihood, (english, jumble))
    assert -nats / tokens == pytest.approx(4.606, abs=0.01)  # as transformers' own loss has it
    assert -worse / others > 6
    follows = lm.log_likelihood("paris is the capital of france", "where is paris, and what is it the capital of?")
    assert follows[0] > lm.log_likelihood("paris is the capital of france")[0]
    assert lm.provenance()["weights"] == "a5fd3b62230a"
