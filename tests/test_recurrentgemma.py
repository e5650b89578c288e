"""lab.language.recurrentgemma: parity with transformers' own model, what can be chosen, what is refused."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import DynamicCache, RecurrentGemmaConfig, RecurrentGemmaForCausalLM

from lab.errors import LabError
from lab.language import GriffinConfig
from lab.language.recurrentgemma import load

WINDOW, PROMPT, STEPS = 16, 40, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small RecurrentGemma on disk, every tensor of it at random, with shapes that tell all axes apart."""
    config = RecurrentGemmaConfig(
        num_hidden_layers=5,
        vocab_size=96,
        hidden_size=64,  # its root is exact in bfloat16, to which transformers rounds it
        intermediate_size=2 * 192,
        num_attention_heads=4,
        num_key_value_heads=1,
        attention_window_size=WINDOW,
        logits_soft_cap=5.0,  # low enough to bend these logits
    )
    model = RecurrentGemmaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim > 1 and not name.endswith("gate_bias")
        fan_in = {"embed_tokens.weight": 64, "conv_1d.weight": 4}.get(".".join(name.split(".")[-2:]))
        axis = -2 if name.endswith("gate_weight") else -1
        std = (fan_in or parameter.shape[axis]) ** -0.5 if matrix else 0.3
        parameter.data.normal_(0, std, generator=generator)
        if name.endswith("recurrent_param"):
            parameter.data -= 3  # a around 0.95: the past counts for about as long as the window
    path = tmp_path_factory.mktemp("recurrentgemma")
    model.save_pretrained(path)
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def theirs_of(folder: Path) -> RecurrentGemmaForCausalLM:
    """transformers shows a query `attention_window_size` tokens with itself, DeepMind's code and ours one more."""
    return RecurrentGemmaForCausalLM.from_pretrained(folder, attention_window_size=WINDOW + 1).eval()


def tokens_of(T: int, vocabulary: int = 96) -> Tensor:
    return torch.randint(vocabulary, (2, T), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_prompt_and_cached_steps_are_those_of_transformers(folder: Path) -> None:
    """Six windows: the prompt at once, then 64 steps of one token, each model with its own cache."""
    ours, theirs = load(folder), theirs_of(folder)
    tokens = tokens_of(PROMPT + STEPS)
    whole = theirs(tokens, use_cache=False).logits
    torch.testing.assert_close(ours(tokens)[0], whole, atol=1e-4, rtol=0)

    cache = DynamicCache(config=theirs.config)
    wanted, state = theirs(tokens[:, :PROMPT], use_cache=True, past_key_values=cache).logits, None
    logits, state = ours(tokens[:, :PROMPT], state)
    torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=0)
    for t in range(PROMPT, PROMPT + STEPS):
        wanted = theirs(tokens[:, t : t + 1], use_cache=True, past_key_values=cache).logits
        logits, state = ours(tokens[:, t : t + 1], state)
        torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=0)
        torch.testing.assert_close(logits[:, 0], whole[:, t], atol=1e-4, rtol=0)
    assert whole.std() > 0.5 and (whole - whole[:, :1]).abs().max() > 1


@torch.inference_mode()
def test_without_rope_as_in_speechssm(folder: Path) -> None:
    ours, theirs = load(folder, rope=False), theirs_of(folder)
    tokens = tokens_of(3 * WINDOW)
    assert (ours(tokens)[0] - theirs(tokens).logits).abs().max() > 0.1
    for layer in theirs.model.layers:
        if hasattr(layer.temporal_block, "rotary_emb"):
            layer.temporal_block.rotary_emb.inv_freq.zero_()
    torch.testing.assert_close(ours(tokens)[0], theirs(tokens).logits, atol=1e-4, rtol=0)


def test_the_config_is_carried_over(folder: Path) -> None:
    assert load(folder).config == GriffinConfig(
        vocabulary=96,
        width=64,
        layers=5,
        heads=4,
        head_dim=16,
        window=WINDOW,
        conv_width=4,
        mlp_expansion=3,
        soft_cap=5.0,
        rope=True,
        lambda_init="recurrentgemma",
    )


def test_a_new_embedding_for_audio(folder: Path) -> None:
    text, audio = load(folder), load(folder, vocabulary=2000, rope=False)
    assert audio.config.vocabulary == 2000 and audio.embedding.shape == (2000, 64)
    assert audio.embedding.std().item() == pytest.approx(1 / math.sqrt(64), rel=0.02)
    for (name, a), b in zip(text.named_parameters(), audio.parameters(), strict=True):
        assert name == "embedding" or torch.equal(a, b), name
    assert torch.equal(audio.embedding, load(folder, vocabulary=2000).embedding)
    assert not torch.equal(audio.embedding, load(folder, vocabulary=2000, seed=1).embedding)
    logits, _ = audio(tokens_of(5, 2000))
    assert logits.shape == (2, 5, 2000)


def test_precision(folder: Path, tmp_path: Path) -> None:
    half = load(folder, dtype=torch.bfloat16)
    theirs = RecurrentGemmaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    theirs.save_pretrained(tmp_path)
    for model in (half, load(tmp_path)):  # asked for, and as it lies on disk
        kinds = {name: p.dtype for name, p in model.named_parameters()}
        assert {kinds.pop(name) for name in list(kinds) if name.endswith("lambda_")} == {torch.float32}
        assert set(kinds.values()) == {torch.bfloat16}
    assert torch.equal(half.blocks[0].mix.lambda_, load(folder).blocks[0].mix.lambda_)
    assert {p.dtype for p in load(tmp_path, dtype=torch.float32).parameters()} == {torch.float32}
    with torch.inference_mode():
        tokens = tokens_of(30)
        error = (half(tokens)[0].float() - load(folder)(tokens)[0]).abs()
    assert error.mean() < 0.05  # of logits with a deviation of 1.7


def test_shapes_are_those_of_the_model_without_its_memory(folder: Path) -> None:
    for vocabulary, dtype in ((None, None), (12, torch.bfloat16)):
        whole = load(folder, vocabulary=vocabulary, dtype=dtype).state_dict()
        shapes = load(folder, vocabulary=vocabulary, dtype=dtype, shapes=True).state_dict()
        assert all(value.is_meta for value in shapes.values()) and shapes.keys() == whole.keys()
        assert all(
            (value.shape, value.dtype) == (whole[name].shape, whole[name].dtype) for name, value in shapes.items()
        )


def test_shards_and_older_configs(folder: Path, tmp_path: Path) -> None:
    whole = load(folder)
    RecurrentGemmaForCausalLM.from_pretrained(folder).save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    raw = json.loads((tmp_path / "config.json").read_text())
    raw |= {"_block_types": raw.pop("block_types"), **raw.pop("rope_parameters")}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    shards = load(tmp_path)
    assert shards.config == whole.config
    assert all(torch.equal(a, b) for a, b in zip(shards.parameters(), whole.parameters(), strict=True))


def test_it_trains_and_leaves_the_files_alone(copy: Path) -> None:
    model, tokens = load(copy), tokens_of(20)
    before = [p.detach().clone() for p in model.parameters()]
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    logits, _ = model(tokens[:, :-1])
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    optimiser.step()
    assert not any(torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))
    assert all(torch.equal(p, was) for p, was in zip(load(copy).parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gemma"}, "model_type is 'gemma'"),
        ({"num_key_value_heads": 4}, "num_key_value_heads is 4, and Griffin here can only be 1"),
        ({"num_key_value_heads": None}, "num_key_value_heads is None"),
        ({"head_dim": 32}, "head_dim is 32, and Griffin here can only be 16"),
        ({"lru_width": 128}, "lru_width is 128, and Griffin here can only be 64"),
        ({"hidden_activation": "relu"}, "hidden_activation is 'relu'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps is 1e-05"),
        ({"rope_parameters": {"rope_theta": 5000.0}}, "rope_theta is 5000.0"),
        ({"rope_parameters": {"partial_rotary_factor": 1.0}}, "partial_rotary_factor is 1.0"),
        (
            {"block_types": ["recurrent", "attention"]},
            "block_types is recurrent, attention, and .* repeats recurrent, r",
        ),
        ({"intermediate_size": 200}, "intermediate_size 200 must be a multiple of 128"),
        ({"logits_soft_cap": None}, "logits_soft_cap must be a number above 0, not None"),
        ({"hidden_size": "64"}, "hidden_size must be a whole number of 1 or more, not '64'"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number"),
        ({"num_attention_heads": 3, "head_dim": 21}, "multiple of heads 3"),
        ({"num_hidden_layers": 4}, "model.layers.4.*no place in Griffin"),
    ],
)
def test_a_config_that_is_not_griffins(copy: Path, change: dict[str, Any], message: str) -> None:
    raw = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(raw | change))
    with pytest.raises(LabError, match=message):
        load(copy)


def test_without_rope_its_settings_do_not_matter(copy: Path) -> None:
    raw = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(raw | {"rope_parameters": {"rope_theta": 5000.0}}))
    assert not load(copy, rope=False).config.rope


def _rename(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.2.temporal_block.qkv.weight"] = tensors.pop("model.layers.2.temporal_block.q_proj.weight")


def _drop(tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.1.temporal_block.rg_lru.recurrent_gate_bias"]


def _transpose(tensors: dict[str, Tensor]) -> None:
    name = "model.layers.0.mlp_block.down_proj.weight"
    tensors[name] = tensors[name].T.contiguous()


def _quantize(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.0.mlp_block.down_proj.weight"] = torch.zeros(64, 192, dtype=torch.int8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rename, r"blocks.2.mix.qkv.weight needs .*q_proj.weight, which is missing; .*qkv.weight has no place"),
        (_drop, r"blocks.1.mix.gates.bias needs .*recurrent_gate_bias, which is missing \(1 tensors missing and 0"),
        (_transpose, r"down_proj.weight is \(192, 64\) F32, and Griffin's blocks.0.mlp.down.weight needs \(64, 192\)"),
        (_quantize, r"down_proj.weight is \(64, 192\) I8"),
    ],
)
def test_tensors_that_do_not_fit(copy: Path, change: Callable[[dict[str, Tensor]], None], message: str) -> None:
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(LabError, match=message):
        load(copy)


def test_files_that_are_missing_or_damaged(copy: Path) -> None:
    weights, config = copy / "model.safetensors", copy / "config.json"
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.final_norm.weight": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(LabError, match="lacks safetensors .*model-00001-of-00002"):
        load(copy)
    index.write_text("[]")
    with pytest.raises(LabError, match="are damaged"):
        load(copy)
    index.unlink()
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(LabError, match="are damaged"):
        load(copy)
    weights.unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(LabError, match="pickles .* are never loaded"):
        load(copy)
    for damage in ("{", "[]"):
        config.write_text(damage)
        with pytest.raises(LabError, match="config.json is damaged"):
            load(copy)
    config.unlink()
    with pytest.raises(LabError, match="config.json is missing"):
        load(copy)


def test_from_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load("google/recurrentgemma-2b-it").config.width == 64
    assert asked == [("google/recurrentgemma-2b-it", ["config.json", "model*.safetensors*"])]

    def no_network(name: str, allow_patterns: list[str]) -> str:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    with pytest.raises(LabError, match="google/x is no folder .*Name or service.*hf auth login.*give a folder"):
        load("google/x")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(LabError, match=r"pip install speechssm-lab\[hub\]"):
        load("google/x")
