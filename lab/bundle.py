"""A set of trained models on disk: one safetensors file a model, and bundle.json with configs and model cards.

Matrices are kept in half precision, vectors (norms, biases, decays, statistics) in single: `a` of the recurrence is
close to 1 and half precision would round its distance to 1 away. A model may be kept in int8 with a scale a row,
which halves it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from lab import hub
from lab.errors import LabError
from lab.files import locked, made, replacing
from lab.language import Griffin, GriffinConfig, SpeechTransformer, TransformerConfig
from lab.language.packed import rounded
from lab.others.one_voice import OneVoice, OneVoiceConfig
from lab.others.units import Units, UnitsConfig
from lab.paths import data_folder
from lab.tokens import Tokenizer, TokenizerConfig
from lab.voice import Codec, CodecConfig, SoundStorm, SoundStormConfig

KINDS: dict[str, tuple[Callable[..., nn.Module], Callable[..., Any]]] = {
    "tokenizer": (Tokenizer, TokenizerConfig),
    "griffin": (Griffin, GriffinConfig),
    "transformer": (SpeechTransformer, TransformerConfig),
    "soundstorm": (SoundStorm, SoundStormConfig),
    "codec": (Codec, CodecConfig),
    "units": (Units, UnitsConfig),
    "one-voice": (OneVoice, OneVoiceConfig),
}
# Running averages of codebooks: training needs them, a bundle does not.
_TRAINING_ONLY = ("usage", "sums", "started")
DIGESTS = "digests.json"  # beside a bundle on the hub: those of its models when it was offered
_SCALES = ".scales"  # beside a matrix of int8: float32, one a row


def folder() -> Path:
    """The bundle in use: LAB_BUNDLE if set, else the one that ships in data/."""
    return located(os.environ.get("LAB_BUNDLE") or data_folder() / "bundle")


def located(root: Path | str) -> Path:
    """A folder, or the one into which hf://user/name is fetched. Raises LabError where it cannot be."""
    found = re.fullmatch(r"hf:/+(.+)", str(root))  # a Path makes one slash of two
    return _fetched(found[1]) if found else Path(root)


@cache
def _fetched(name: str) -> Path:
    root = hub.fetch(name, ["bundle.json", DIGESTS, "*.safetensors"])
    try:
        told = json.loads((root / DIGESTS).read_text())
    except (OSError, ValueError) as error:
        raise LabError(f"hf://{name} is no bundle: its {DIGESTS} cannot be read ({error}); offer it again") from None
    for model, digest in digests(root).items():
        if told.get(model) != digest:
            raise LabError(f"{model} of hf://{name} is not what was offered; delete {root} and fetch it again")
    return root


def offer(root: Path, name: str, card: str, private: bool = False) -> str:
    """Puts the bundle at `root` on the Hugging Face hub as user/name, with its card: the address."""
    files: dict[str, Path | bytes] = {f"{model}.safetensors": root / f"{model}.safetensors" for model in index(root)}
    files |= {"bundle.json": root / "bundle.json", "README.md": card.encode()}
    return hub.push(name, files | {DIGESTS: json.dumps(digests(root), indent=1).encode()}, private)


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
        if not isinstance(entry, dict) or not {"config", "card"} <= set(entry):
            raise LabError(f"{path} is damaged ({name} is no model with its config and card); restore it")
        kind = entry.setdefault("kind", name.rstrip("0123456789"))  # older bundles name models by their kind
        if kind not in KINDS:
            raise LabError(f"{path} is damaged ({name} is a {kind!r}; there are {', '.join(KINDS)}); restore it")
    return entries


@contextmanager
def changing(root: Path) -> Iterator[dict[str, Any]]:
    """The entries of bundle.json, empty where there is none, to be changed by one process at a time.

    At the end they take the place of the ones there are, whole or not at all. Raises LabError if they cannot.
    """
    with locked(made(root)):
        entries = index(root) if (root / "bundle.json").exists() else {}
        yield entries
        with replacing(root / "bundle.json") as part:
            part.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")


def save(
    root: Path,
    name: str,
    model: nn.Module,
    card: dict[str, Any],
    weights: Mapping[str, Tensor] | None = None,
    *,
    int8: bool = False,
) -> None:
    """Put one model into the bundle at `root`, in place of the one of that name.

    `weights` in place of its own, for a model that several processes share. `int8`: matrices are rounded to 8 bits.
    Raises LabError if it cannot be written, or for weights that are not finite: the old model stays.
    """
    if not name or Path(name).name != name:
        raise LabError(f"a model cannot be called {name!r}; give a name without folders")
    kind = next(kind for kind, (make, _) in KINDS.items() if isinstance(model, make))  # type: ignore[arg-type]
    tensors = {}
    for key, value in (model.state_dict() if weights is None else weights).items():
        if key.rsplit(".", 1)[-1] in _TRAINING_ONLY:
            continue
        if int8 and value.ndim == 2 and value.isfinite().all():
            array, scales = rounded(value.float().cpu().numpy())
            value, tensors[key + _SCALES] = torch.from_numpy(array), torch.from_numpy(scales)
        elif value.ndim > 1 and value.is_floating_point():
            value = value.half()
        if not value.isfinite().all():
            raise LabError(f"{name} is not saved: {key} holds values that are not finite; go on from a checkpoint")
        tensors[key] = value.contiguous()
    with changing(root) as entries:
        with replacing(root / f"{name}.safetensors") as part:
            try:
                safetensors.torch.save_file(tensors, part)
            except safetensors.SafetensorError as error:  # how it tells of a full disk
                raise OSError(str(error)) from error
        entries[name] = {"kind": kind, "config": asdict(model.config), "card": card}  # type: ignore[call-overload]


def load(root: Path, name: str, shapes: bool = False) -> nn.Module:
    """One model of the bundle at `root`, in single precision, ready to be used; of a language model the `shapes` alone,
    on the meta device.

    Raises LabError for a missing bundle, model or file, a truncated file, and weights of other shapes than the
    config's.
    """
    entries = index(root)
    if name not in entries:
        raise LabError(
            f"the bundle in {root} has no {name}; it has {', '.join(entries)}; train it with `lab train {name}`"
        )
    with torch.device("meta") if shapes else nullcontext():
        model = build(name, entries[name])
    if shapes:
        return model
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


def build(name: str, entry: dict[str, Any]) -> nn.Module:
    """The model that an entry of `index` describes, untrained. Raises LabError for a config that makes none."""
    make, configure = KINDS[entry["kind"]]
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
        config, apart = replace(model.config, blocks_after=0), Tokenizer.CTC_HEAD
    elif isinstance(model, Codec):
        apart = *Codec.DECODER, "refiner"
        shapes: tuple[str, ...] = ("decoder_layers", "fine_layers", "refiner_layers", "refiner_kernel", "vocabulary")
        shapes += "context_layers", "context_width", "context_kernel"
        config = replace(model.config, **dict.fromkeys(shapes, 0))
    digest = hashlib.sha256(repr(config).encode())
    for key, value in sorted(model.state_dict().items()):
        if key.rsplit(".", 1)[-1] not in _TRAINING_ONLY and key.partition(".")[0] not in apart:
            digest.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def digests(root: Path) -> dict[str, str]:
    """For each model of the bundle 12 hexadecimal digits that its config and its whole file of weights decide.

    A figure keeps those of the models that it was measured with. Raises LabError for a file that cannot be read.
    """
    found = {}
    for name, entry in index(root).items():
        digest = hashlib.sha256(json.dumps([entry["kind"], entry["config"]], sort_keys=True).encode())
        try:
            digest.update((root / f"{name}.safetensors").read_bytes())
        except OSError as error:
            raise LabError(f"{name}.safetensors in {root} cannot be read: {error.strerror}; restore it") from error
        found[name] = digest.hexdigest()[:12]
    return found


def size(root: Path) -> int:
    """Bytes of all weight files."""
    return sum(path.stat().st_size for path in root.glob("*.safetensors"))
