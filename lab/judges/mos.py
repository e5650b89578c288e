"""How people would rate the sound, 1 to 5, without a reference. Long waveforms are judged in pieces, the mean told."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from lab.errors import LabError
from lab.judges.checkpoints import provenance
from lab.judges.waveforms import audible

_LEAST = 0.5  # seconds
_INSTALL = "`pip install --no-deps distillmos xls-r-sqa==0.1.0` does it without the torchaudio that breaks transformers"


def _pieces(waveform: np.ndarray, length: int, rest: int) -> list[np.ndarray]:
    """Pieces of `length` samples; of what is left at the end, more than `rest` samples, or all there is."""
    return [waveform[start : start + length] for start in range(0, max(1, len(waveform) - rest), length)]


class DNSMOS:
    """DNSMOS P.808 (Reddy et al. 2010.15258), whose weights are in the package speechmos, in pieces of 9.01 s."""

    name = "dnsmos"

    def __init__(self, checkpoint: str = ""):
        """Raises LabError for a checkpoint: there is one, in the package."""
        from speechmos import dnsmos

        if checkpoint:
            raise LabError(f"speechmos brings its weights along; give dnsmos without {checkpoint!r}")
        self._dnsmos = dnsmos

    def provenance(self) -> dict[str, str]:
        weights = Path(self._dnsmos.__file__).parent / "dnsmos_models" / "model_v8.onnx"
        return provenance("speechmos", weights.name, weights, score="P.808")

    def predict_mos(self, waveform: np.ndarray) -> float:
        """Raises LabError for silence and less than 0.5 s."""
        length = round(self._dnsmos.INPUT_LENGTH * self._dnsmos.SR)
        pieces = _pieces(np.clip(audible(waveform, _LEAST), -1, 1), length, length // 2)
        found = [self._dnsmos.run(np.resize(piece, length), self._dnsmos.SR)["p808_mos"] for piece in pieces]
        return float(np.mean(found))


class DistillMOS:
    """DistillMOS (Stahl and Gamper 2502.05356), in pieces of 8 s: it makes a batch of all windows of a waveform."""

    name = "distillmos"

    def __init__(self, checkpoint: str = ""):
        """checkpoint: weights to take instead of those in the package. Raises LabError for what is none of its."""
        sqa = _distillmos()
        path = Path(checkpoint or sqa.DEFAULT_WEIGHTS_CHKPT)
        self._model = sqa.ConvTransformerSQAModel(load_weights=False)
        try:
            self._model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
        except Exception as error:  # whatever unpickling another file runs into
            reason = " ".join(str(error).split())[:200]
            raise LabError(f"{str(path)!r} holds no weights of DistillMOS: {reason}") from error
        self._model.eval().requires_grad_(False)
        self._path = path

    def provenance(self) -> dict[str, str]:
        return provenance("distillmos", self._path.name, self._path)

    @torch.inference_mode()
    def predict_mos(self, waveform: np.ndarray) -> float:
        """Raises LabError for silence and less than 0.5 s."""
        pieces = _pieces(audible(waveform, _LEAST), 128_000, 48_000)
        return float(np.mean([self._model(torch.from_numpy(piece)[None]).item() for piece in pieces]))


def _distillmos() -> ModuleType:
    """Its module. It imports torchaudio for its command line alone, and no build of that may suit torch's."""
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        sys.modules["torchaudio"] = ModuleType("torchaudio")
    try:
        from distillmos import sqa
    except ImportError:
        raise LabError(f"distillmos is not installed; {_INSTALL}") from None
    finally:
        if getattr(sys.modules.get("torchaudio"), "__file__", None) is None:
            sys.modules.pop("torchaudio", None)
    return sqa
