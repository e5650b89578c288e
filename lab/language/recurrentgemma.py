"""The weights of RecurrentGemma (arXiv 2404.07839) in Griffin: SpeechSSM is initialised from them (paper section 3.1).

SpeechSSM keeps the layers, drops RoPE and replaces the text embedding:
`load("google/recurrentgemma-2b-it", rope=False, vocabulary=32768)`. With its defaults `load` gives the text model.

Where the code that trained the weights (DeepMind's) and `transformers` differ, or we differ from both:

- Window. `attention_window_size` w is Griffin's `window`: a query attends to itself and w tokens before, as in
  DeepMind's code; in `transformers` to w tokens, itself included.
- Embedding scale. Both round sqrt(D) to bfloat16: for 2B 50.5 instead of 50.596, 0.19 % less than ours; for 9B 64 is
  exact. That is below the rounding of bfloat16 activations (up to 0.39 %), and does not matter to a new embedding.
- Gates. Ours are float32 whatever the weights are, and so is Lambda: bfloat16 rounds decays near 1 to 1.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import safetensors
import torch

from lab import hub
from lab.errors import LabError
from lab.language.config import PATTERN, GriffinConfig
from lab.language.griffin import Griffin

Layout = dict[str, dict[str, tuple[int, ...]]]

_SIZES = "vocab_size hidden_size num_hidden_layers num_attention_heads attention_window_size conv1d_width".split()


def load(
    source: str | Path,
    *,
    rope: bool = True,
    vocabulary: int | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    shapes: bool = False,
) -> Griffin:
    """Griffin with the weights at `source`, ready to be used or trained further.

    source: a folder in the layout of Hugging Face (config.json, and model.safetensors or shards with their index),
    or the name of such a model on its hub, "google/recurrentgemma-2b". rope: False drops the rotary embedding, as
    SpeechSSM does. vocabulary: the rows of a new embedding, drawn with `seed` from N(0, 1 / D), which is the output
    layer as well; None keeps that of the text. dtype: of all weights but Lambda; None is that of the checkpoint.
    shapes: check all and read nothing: the model is on the meta device.

    Tensors are mapped from the files and changed one by one: memory never holds the weights twice. Raises LabError
    for a model that cannot be fetched, files that are missing or damaged, a config that is not Griffin's, and tensors
    that are missing, unknown or of another shape. Only safetensors are read, never a pickle.
    """
    folder = Path(source) if Path(source).is_dir() else hub.fetch(str(source), ["config.json", "model*.safetensors*"])
    config = _config(folder / "config.json", rope)
    layout = _layout(config)
    if vocabulary is not None:
        config = replace(config, vocabulary=vocabulary)
    with torch.device("meta"):
        model = Griffin(config)
    stored = _tensors(folder)
    _check(folder, stored, layout)
    text = "model.embed_tokens.weight"
    if dtype is None:
        dtype = stored[text].get_slice(text)[:0].dtype
    state = {}
    for ours, parameter in model.named_parameters():
        kept = torch.float32 if ours.endswith("lambda_") else dtype
        if shapes:
            state[ours] = parameter.to(kept)
            continue
        if ours == "embedding" and vocabulary is not None:
            generator = torch.Generator().manual_seed(seed)
            state[ours] = (torch.randn(parameter.shape, generator=generator) / math.sqrt(config.width)).to(dtype)
            continue
        parts = [stored[theirs].get_tensor(theirs).to(kept) for theirs in layout[ours]]
        state[ours] = (parts[0] if len(parts) == 1 else torch.cat(parts)).view(parameter.shape)
    model.load_state_dict(state, assign=True)
    return model.eval()


def _config(path: Path, rope: bool) -> GriffinConfig:
    try:
        raw = json.loads(path.read_text())
        raw = raw | (raw.get("rope_parameters") or {})  # inside of it since transformers 5, beside it before
    except FileNotFoundError:
        raise LabError(f"{path} is missing; give a folder in the layout of Hugging Face") from None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise LabError(f"{path} is damaged ({error}); fetch it again") from None
    if raw.get("model_type") != "recurrent_gemma":
        raise LabError(f"{path}: model_type is {raw.get('model_type')!r}, not 'recurrent_gemma'; give one of those")
    for key in (*_SIZES, "intermediate_size"):
        if type(raw.get(key)) is not int or raw[key] < 1:
            raise LabError(f"{path}: {key} must be a whole number of 1 or more, not {raw.get(key)!r}")
    width, heads, layers = raw["hidden_size"], raw["num_attention_heads"], raw["num_hidden_layers"]
    only: dict[str, Any] = {  # fixed in Griffin here
        "num_key_value_heads": 1,
        "lru_width": width,
        "head_dim": width // heads,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-6,
    }
    if rope:
        only |= {"rope_type": "default", "rope_theta": 10_000, "partial_rotary_factor": 0.5}
    # Where config.json is silent, `transformers` takes these values too, but for the number of key and value heads.
    raw = only | {"num_key_value_heads": None} | {key: value for key, value in raw.items() if value is not None}
    for key, wanted in only.items():
        if raw[key] != wanted:
            raise LabError(f"{path}: {key} is {raw[key]!r}, and Griffin here can only be {wanted!r}")
    if raw["intermediate_size"] % (2 * width):
        raise LabError(
            f"{path}: intermediate_size {raw['intermediate_size']} must be a multiple of {2 * width}, twice the width"
        )
    if not isinstance(cap := raw.get("logits_soft_cap"), (int, float)) or cap <= 0:
        raise LabError(f"{path}: logits_soft_cap must be a number above 0, not {cap!r}")
    config = GriffinConfig(
        vocabulary=raw["vocab_size"],
        width=width,
        layers=layers,
        heads=heads,
        head_dim=width // heads,
        window=raw["attention_window_size"],
        conv_width=raw["conv1d_width"],
        mlp_expansion=raw["intermediate_size"] // (2 * width),  # the size is of both branches
        soft_cap=float(cap),
        rope=rope,
        lambda_init="recurrentgemma",
    )
    pattern = raw.get("block_types") or raw.get("_block_types") or PATTERN  # older files have the underscore
    if tuple(islice(cycle(pattern), layers)) != config.blocks:
        raise LabError(f"{path}: block_types is {', '.join(pattern)}, and Griffin here repeats {', '.join(PATTERN)}")
    return config


def _layout(config: GriffinConfig) -> Layout:
    """Each parameter of Griffin: the tensors of the checkpoint that lie in it end to end, and their shapes."""
    D, H, W, M = config.width, config.heads, config.conv_width, config.mlp_expansion * config.width
    inner, block = H * config.head_dim, D // H

    def linear(ours: str, theirs: str, rows: int, columns: int) -> Layout:
        return {f"{ours}.weight": {f"{theirs}.weight": (rows, columns)}, f"{ours}.bias": {f"{theirs}.bias": (rows,)}}

    mlp: Layout = {
        "mix_norm.scale": {"temporal_pre_norm.weight": (D,)},  # theirs too is multiplied as 1 + weight
        "mlp_norm.scale": {"channel_pre_norm.weight": (D,)},
        "mlp.up.weight": {"mlp_block.gate_proj.weight": (M, D), "mlp_block.up_proj.weight": (M, D)},
        "mlp.up.bias": {"mlp_block.gate_proj.bias": (M,), "mlp_block.up_proj.bias": (M,)},
        **linear("mlp.down", "mlp_block.down_proj", D, M),
    }
    recurrent: Layout = {
        **linear("mix.y", "linear_y", D, D),
        **linear("mix.x", "linear_x", D, D),
        **linear("mix.out", "linear_out", D, D),
        "mix.conv_weight": {"conv_1d.weight": (D, 1, W)},  # the last column for the newest token, as ours
        "mix.conv_bias": {"conv_1d.bias": (D,)},
        "mix.gates.weight": {  # from the second axis to the third, as ours
            "rg_lru.input_gate_weight": (H, block, block),
            "rg_lru.recurrent_gate_weight": (H, block, block),
        },
        "mix.gates.bias": {"rg_lru.input_gate_bias": (H, block), "rg_lru.recurrent_gate_bias": (H, block)},
        "mix.lambda_": {"rg_lru.recurrent_param": (D,)},
    }
    attention: Layout = {
        "mix.qkv.weight": {
            "q_proj.weight": (inner, D),
            "k_proj.weight": (config.head_dim, D),
            "v_proj.weight": (config.head_dim, D),
        },
        **linear("mix.out", "o_proj", D, inner),
    }
    layout: Layout = {
        "embedding": {"model.embed_tokens.weight": (config.vocabulary, D)},
        "norm.scale": {"model.final_norm.weight": (D,)},
    }
    for i, kind in enumerate(config.blocks):
        mixing = recurrent if kind == "recurrent" else attention
        for place, entries in (("", mlp), ("temporal_block.", mixing)):
            for ours, parts in entries.items():
                layout[f"blocks.{i}.{ours}"] = {f"model.layers.{i}.{place}{k}": shape for k, shape in parts.items()}
    return layout


def _tensors(folder: Path) -> dict[str, Any]:
    """The name of each tensor in the folder, and the open file that holds it."""
    index = folder / "model.safetensors.index.json"
    try:
        names = ["model.safetensors"]
        if index.exists():
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        files = [safetensors.safe_open(folder / name, "pt") for name in names]
        return {tensor: file for file in files for tensor in file.keys()}
    except FileNotFoundError as error:
        raise LabError(
            f"{folder} lacks safetensors ({error}); fetch them again; weights in pickles (*.bin, *.pt) are never "
            "loaded, so convert those with `save_pretrained` of transformers"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise LabError(f"the weights in {folder} are damaged ({error}); fetch them again") from None


def _check(folder: Path, stored: dict[str, Any], layout: Layout) -> None:
    """Raise LabError unless the checkpoint has the tensors of the layout, all of them and no others."""
    wanted = {theirs: (ours, shape) for ours, parts in layout.items() for theirs, shape in parts.items()}
    missing, unknown = sorted(set(wanted) - set(stored)), sorted(set(stored) - set(wanted))
    if missing or unknown:
        lacks = [f"Griffin's {wanted[missing[0]][0]} needs {missing[0]}, which is missing"] if missing else []
        extra = [f"the checkpoint's {unknown[0]} has no place in Griffin"] if unknown else []
        count = f"{len(missing)} tensors missing and {len(unknown)} unknown"
        raise LabError(f"{folder} does not fit its config.json: {'; '.join(lacks + extra)} ({count})")
    for theirs, (ours, shape) in wanted.items():
        held = stored[theirs].get_slice(theirs)
        found, kind = tuple(held.get_shape()), held.get_dtype()
        if found != shape or kind not in ("F32", "F16", "BF16"):
            raise LabError(f"{folder}: {theirs} is {found} {kind}, and Griffin's {ours} needs {shape} F32, F16 or BF16")
