"""A set of trained models on disk: one safetensors file a model, and bundle.json with configs and model cards.

Matrices are kept in half precision, vectors (norms, biases, decays, statistics) in single: `a` of the recurrence is
close to 1 and half precision would round its distance to 1 away. Of the language models that are there to be compared
with, matrices are int8 with a scale a row, which costs nothing that can be measured (`lab bench step`) and halves them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from lab.errors import LabError
from lab.files import replacing
from lab.language import Griffin, GriffinConfig, SpeechTransformer, TransformerConfig
from lab.language.packed import rounded
from lab.paths import data_folder
from lab.tokens import Tokenizer, TokenizerConfig
from lab.voice import Codec, CodecConfig, SoundStorm, SoundStormConfig

KINDS: dict[str, tuple[Callable[..., nn.Module], Callable[..., Any]]] = {
    "tokenizer": (Tokenizer, TokenizerConfig),
    "griffin": (Griffin, GriffinConfig),
    "griffin30": (Griffin, GriffinConfig),  # learnt from segments of 30 s
    "transformer": (SpeechTransformer, TransformerConfig),
    "soundstorm": (SoundStorm, SoundStormConfig),
    "codec": (Codec, CodecConfig),
}
# Running averages of codebooks: training needs them, a bundle does not.
_TRAINING_ONLY = ("usage", "sums", "started")
_ROUNDED, _SCALES = ("griffin30", "transformer"), ".scales"


def folder() -> Path:
    """The bundle in use: LAB_BUNDLE if set, else the one that ships in data/."""
    return Path(os.environ.get("LAB_BUNDLE") or data_folder() / "bundle")


def index(root: Path) -> dict[str, Any]:
    """bundle.json: for each model its config and its card. Raises LabError where there is none or none to be read."""
    path = root / "bundle.json"
    try:
        entries = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise LabError(f"there is no bundle in {root}; train one with `lab train all` or set LAB_BUNDLE") from None
    except (OSError, ValueError) as error:
        raise LabError(f"{path} is damaged ({error}); restore it from the repository") from None
    for name, entry in entries.items() if isinstance(entries, dict) else [("it", None)]:
        if name not in KINDS or not isinstance(entry, dict) or not {"config", "card"} <= set(entry):
            raise LabError(f"{path} is damaged ({name} is no model with its config and card); restore it")
    return entries


def write_index(root: Path, entries: dict[str, Any]) -> None:
    """bundle.json in place of the one there is, whole or not at all."""
    with replacing(root / "bundle.json") as part:
        part.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")


def save(
    root: Path, name: str, model: nn.Module, card: dict[str, Any], weights: Mapping[str, Tensor] | None = None
) -> None:
    """Put one model into the bundle at `root`, in place of the one of that name. Raises LabError if it cannot.

    `weights` in place of its own, for a model that several processes share.
    """
    entries = index(root) if (root / "bundle.json").exists() else {}
    path = root / f"{name}.safetensors"
    tensors = {}
    for key, value in (model.state_dict() if weights is None else weights).items():
        if key.rsplit(".", 1)[-1] in _TRAINING_ONLY:
            continue
        if name in _ROUNDED and value.ndim == 2:
            array, scales = rounded(value.float().cpu().numpy())
            value, tensors[key + _SCALES] = torch.from_numpy(array), torch.from_numpy(scales)
        elif value.ndim > 1 and value.is_floating_point():
            value = value.half()
        tensors[key] = value.contiguous()
    with replacing(path) as part:
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            safetensors.torch.save_file(tensors, part)
        except safetensors.SafetensorError as error:  # how it tells of a full disk
            raise OSError(str(error)) from error
    entries[name] = {"config": asdict(model.config), "card": card}  # type: ignore[call-overload]
    write_index(root, entries)


def load(root: Path, name: str) -> nn.Module:
    """One model of the bundle at `root`, in single precision, ready to be used.

    Raises LabError for a missing bundle, model or file, a truncated file, and weights of other shapes than the
    config's.
    """
    entries = index(root)
    if name not in entries:
        raise LabError(
            f"the bundle in {root} has no {name}; it has {', '.join(entries)}; train it with `lab train {name}`"
        )
    model = _model(name, entries[name])
    path = root / f"{name}.safetensors"
    try:
        weights = safetensors.torch.load_file(path)
        for key in [key for key in weights if key + _SCALES in weights]:
            weights[key] = weights[key] * weights.pop(key + _SCALES)[:, None]
        wanted = {key for key in model.state_dict() if key.rsplit(".", 1)[-1] not in _TRAINING_ONLY}
        if odd := sorted(wanted ^ set(weights)):
            raise LabError(f"{path} does not fit bundle.json: {odd[0]} and {len(odd) - 1} more are in only one of them")
        model.load_state_dict(weights, strict=False)
    except FileNotFoundError:
        raise LabError(f"{path} is missing, though bundle.json names it; restore it or train it again") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise LabError(f"{path} is damaged ({error}); restore it or train it again") from None
    except RuntimeError as error:
        raise LabError(f"{path} does not fit the config in bundle.json: {_brief(error)}") from None
    return model.float().eval().requires_grad_(False)


def _model(name: str, entry: dict[str, Any]) -> nn.Module:
    make, configure = KINDS[name]
    try:
        return make(configure(**entry["config"]))
    except Exception as error:  # whatever an edited config makes of the layers
        raise LabError(f"bundle.json: {name} cannot be built from its config: {_brief(error)}; restore it") from error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def fingerprint(model: nn.Module) -> str:
    """12 hexadecimal digits that a model's config and weights decide: what was made by another one can be told.

    Of a tokenizer those that decide its tokens: one that reads them better makes no others. Of a codec its codes.
    """
    config: Any = model.config
    apart: tuple[str, ...] = ()
    if isinstance(model, Tokenizer):
        config, apart = replace(model.config, blocks_after=0), Tokenizer.READER
    elif isinstance(model, Codec):
        config, apart = replace(model.config, decoder_layers=0, fine_decoder_layers=0), Codec.DECODER
    digest = hashlib.sha256(repr(config).encode())
    for key, value in sorted(model.state_dict().items()):
        if key.rsplit(".", 1)[-1] not in _TRAINING_ONLY and key.partition(".")[0] not in apart:
            digest.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def size(root: Path) -> int:
    """Bytes of all weight files."""
    return sum(path.stat().st_size for path in root.glob("*.safetensors"))


def describe(entries: dict[str, Any]) -> list[tuple[str, int, str]]:
    """(model, parameters, how it was trained) for every entry of `index`."""
    rows = []
    for name, entry in entries.items():
        with torch.device("meta"):
            model = _model(name, entry)
        card = entry["card"]
        rows.append((name, sum(p.numel() for p in model.parameters()), card.get("data", "")))
    return rows


def steps(card: dict[str, Any]) -> int:
    """Steps of training that a card tells of, with all that went before."""
    return int(card.get("steps", 0)) + (steps(card["before"]) if "before" in card else 0)


def table(entries: dict[str, Any]) -> str:
    """The figures in the cards of `index`, and the steps of training in all, as a table in markdown."""
    lines = [
        "| model | figure, on held-out stories and narrators | value | command |",
        "| --- | --- | --- | --- |",
    ]
    for name, entry in entries.items():
        if "command" in entry["card"]:
            lines.append(f"| {name} | steps of training | {steps(entry['card']):,} | `{entry['card']['command']}` |")
        for figure, told in entry["card"].get("figures", {}).items():
            lines.append(f"| {name} | {figure} | {told['value']:g} | `{told['command']}` |")
    return "\n".join(lines)
