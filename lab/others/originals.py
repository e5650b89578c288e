"""Checkpoints of the originals, by transformers: HuBERT's units, EnCodec, DAC and Mimi as codecs, a unit HiFi-GAN.

    HubertUnits("facebook/hubert-base-ls960", 6, "kmeans.npy")     GSLM's features; centres (k, 768)
    HubertUnits("slprl/mhubert-base-25hz", 11, "kmeans.npy")       TWIST's and Spirit LM's
    twist.from_text("facebook/opt-125m", units=500)                TWIST's warm start, any causal language model
    twist.from_units("TWIST-350M", units=500)                      its own weights, in a folder
    UnitHifiGan("hifigan")                                         in the place of our one voice and its codec
    HubCodec("kyutai/mimi")                                        also facebook/encodec_24khz, descript/dac_16khz

The quantizers of textless and Spirit LM (joblib, torch.save) and the unit HiFi-GANs of textless are published as
pickles, which are never loaded here: `numpy.save` the quantizer's cluster centres once, with the package that made it,
and save what `hifigan` makes of the vocoder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lab import audio, windows
from lab.audio import SAMPLE_RATE, Waveform
from lab.errors import LabError
from lab.extras import require
from lab.nn.indices import as_indices
from lab.others.one_voice import OneVoiceConfig, durations, joined
from lab.tokens.windowed import in_windows
from lab.windows import TOKEN_HOP, TOKEN_RATE

require("judges")
from transformers import (  # noqa: E402
    AutoConfig,
    DacModel,
    EncodecModel,
    HubertModel,
    MimiModel,
    SeamlessM4TCodeHifiGan,
    SeamlessM4TConfig,
)

from lab.judges.hub import loading, pretrained  # noqa: E402


class HubertUnits:
    """Features of a layer of HuBERT and their nearest centres: what `GSLM` needs of units."""

    def __init__(self, checkpoint: str, layer: int, centres: Path | str | np.ndarray):
        """layer: 1 is the first. centres: (k, width), or a .npy file of them. Raises LabError for a checkpoint that
        cannot be loaded, a layer that it has not, and centres of another width."""
        with loading("HuBERT", checkpoint):
            self.model = pretrained(HubertModel, checkpoint)
        config = self.model.config
        self.layer, self.hop = layer, prod(config.conv_stride)
        found = _centres(centres)
        if not 1 <= layer <= config.num_hidden_layers:
            raise LabError(f"{checkpoint} has layers 1 to {config.num_hidden_layers}, and none {layer}")
        if found.ndim != 2 or found.shape[1] != config.hidden_size:
            raise LabError(
                f"the centres are {tuple(found.shape)}, and the features of {checkpoint} {config.hidden_size} wide; "
                f"give (k, {config.hidden_size})"
            )
        self.centres, self.vocabulary = found.to(self.model.device), len(found)
        self.rate = SAMPLE_RATE // self.hop
        sees, step = 1, 1
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            sees, step = sees + (kernel - 1) * step, step * stride
        self._margin = sees - self.hop  # of samples that N / hop frames need beside N

    @torch.inference_mode()
    def tokenize(self, waveform: Tensor) -> Tensor:
        """One window: (B, N), N a multiple of `hop` -> units (B, N / hop)."""
        waveform = waveform.to(self.model.device)
        if self.model.config.feat_extract_norm == "layer":  # the large ones learnt from speech of unit variance
            waveform = F.layer_norm(waveform, waveform.shape[-1:])
        padded = F.pad(waveform, (self._margin // 2, self._margin - self._margin // 2))
        features = self.model(padded, output_hidden_states=True).hidden_states[self.layer]
        return torch.cdist(features, self.centres).argmin(-1)

    def encode(self, waveform: np.ndarray) -> Tensor:
        """Waveform (N,) float32 at 16 kHz -> units (ceil(N / hop),), in windows of 30 s that overlap by 4 s."""
        window, overlap = (self.rate * size // TOKEN_RATE for size in windows.TOKENIZATION)
        return in_windows(self.tokenize, waveform, self.hop, window, window, overlap)


def _centres(source: Path | str | np.ndarray) -> Tensor:
    try:
        array = source if isinstance(source, np.ndarray) else np.load(source, allow_pickle=False)
        return torch.from_numpy(np.asarray(array, np.float32))
    except (OSError, ValueError, EOFError) as error:
        raise LabError(f"{source} holds no cluster centres: {error}; give an array (k, width) of numpy.save") from None


class UnitHifiGan:
    """A unit HiFi-GAN, which needs no codec, in the place of `OneVoice`; of several speakers the first."""

    def __init__(self, checkpoint: str):
        """checkpoint: of a SeamlessM4TCodeHifiGan. Raises LabError for one that cannot be loaded, or does not make
        16 kHz of units at 25 or 50 Hz."""
        with loading("unit HiFi-GAN", checkpoint):
            self.model = pretrained(SeamlessM4TCodeHifiGan, checkpoint)
        own, hop = self.model.config, prod(self.model.config.upsample_rates)
        if own.sampling_rate != SAMPLE_RATE or hop not in (TOKEN_HOP, TOKEN_HOP // 2):
            raise LabError(
                f"{checkpoint} makes {hop} samples of a unit, at {own.sampling_rate} Hz; give one that makes "
                f"{TOKEN_HOP} or {TOKEN_HOP // 2}, at {SAMPLE_RATE}"
            )
        rate, self.stack = SAMPLE_RATE // hop, TOKEN_HOP // hop
        # It does not tell its pace; without repeats units are `rate` at most, so that no context is too short for them.
        self.config = OneVoiceConfig(own.unit_hifi_gan_vocab_size, rate, code_width=0, timbre=0, pace=rate)

    @torch.inference_mode()
    def durations(self, units: Tensor) -> Tensor:
        """As `OneVoice.durations`."""
        embedded = self.model.unit_embedding(units[None].to(self.model.device))
        return durations(self.model.dur_predictor(embedded)[0], self.config.rate)

    @torch.inference_mode()
    def speak(self, units: Tensor, codec: None = None) -> Waveform:
        """As `OneVoice.speak`."""
        frames, model = ceil(len(units) / self.stack), self.model
        if not frames:
            return np.zeros(0, np.float32)
        units = torch.cat([units, units[-1:].expand(frames * self.stack - len(units))]).to(model.device)

        def sound(start: int, stop: int) -> Tensor:
            said = model.unit_embedding(units[start * self.stack : stop * self.stack])
            language, speaker = (
                table.weight[:1].expand(len(said), -1) for table in (model.language_embedding, model.speaker_embedding)
            )
            return model.hifi_gan(torch.cat([language, said, speaker], 1).T[None])[0]

        return joined(frames, sound)


# What textless calls its weights, and SeamlessM4TCodeHifiGan
_HIFIGAN = {
    "^dict": "unit_embedding",
    "^ups": "hifi_gan.upsampler",
    "^(conv_|resblocks)": r"hifi_gan.\1",
    r"^(dur_predictor.conv.)\.0": r"\1",
}


def hifigan(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> SeamlessM4TCodeHifiGan:
    """textless's CodeHiFiGANVocoder of one speaker as a model of transformers, to be saved for `UnitHifiGan`.

    Its `cfg`, and the state_dict of its `model`. Raises LabError for other weights, as of pitch, speakers or styles.
    """
    with loading("unit HiFi-GAN of one speaker", "of textless"):
        own = SeamlessM4TConfig(
            unit_hifi_gan_vocab_size=config["num_embeddings"],
            unit_embed_dim=config["embedding_dim"],
            variance_predictor_kernel_size=config["dur_predictor_params"]["var_pred_kernel_size"],
            lang_embed_dim=0,
            spkr_embed_dim=0,
            vocoder_num_langs=1,
            vocoder_num_spkrs=1,
            **{key: config[key] for key in config if key.startswith(("upsample_", "resblock_", "sampling_rate"))},
        )
        model = SeamlessM4TCodeHifiGan(own)
        named = {key: value for key, value in model.state_dict().items() if not value.numel()}
        for key, value in weights.items():
            for theirs, ours in _HIFIGAN.items():
                key = re.sub(theirs, ours, key)
            named[key] = value
        model.load_state_dict(named)
    return model


class HubCodec:
    """EnCodec, DAC or Mimi as a `protocols.Codec` of 25 frames a second, without timbre.

    Where it has k frames to one of 25 Hz, each of its levels is k of ours, one for each; Mimi's frames of 12.5 Hz are
    given twice. So EnCodec of 75 Hz with 2 levels is a codec of 6, and the coarsest still come first.
    """

    kinds = {"encodec": EncodecModel, "dac": DacModel, "mimi": MimiModel}
    guessed = None  # a voice guesses all the levels that it speaks
    receptive_field = SAMPLE_RATE  # samples; EnCodec's LSTM and Mimi's attention have none that is sharp

    def __init__(self, checkpoint: str, levels: int | None = None):
        """levels: of the checkpoint's own, the first so many; by default all. Raises LabError for one that cannot be
        loaded, or whose rate is no multiple of 12.5 Hz."""
        with loading("codec of transformers", checkpoint):
            kind = AutoConfig.from_pretrained(checkpoint).model_type
            if kind not in self.kinds:
                raise ValueError(f"it is a {kind}; there are {', '.join(self.kinds)}")
            self.model: Any = pretrained(self.kinds[kind], checkpoint)
        config = self.model.config
        self.kind, self.sample_rate, self.codes = kind, config.sampling_rate, config.codebook_size
        rate = config.sampling_rate / config.hop_length if kind == "dac" else float(config.frame_rate)
        if rate not in (TOKEN_RATE / 2, *(TOKEN_RATE * k for k in range(1, 5))):
            raise LabError(f"{checkpoint} has {rate:g} frames a second; give one of 12.5, 25, 50, 75 or 100")
        own = config.n_codebooks if kind == "dac" else config.num_quantizers
        if levels is not None and not 1 <= levels <= own:
            raise LabError(f"{checkpoint} has {own} levels; give 1 to {own}, not {levels}")
        self.fold = max(1, int(rate / TOKEN_RATE))  # its frames in one of ours
        self.twice = rate < TOKEN_RATE
        self.levels = (levels or own) * self.fold

    @property
    def device(self) -> torch.device:
        return self.model.device

    def to(self, device: torch.device | str) -> HubCodec:
        self.model.to(device)
        return self

    @torch.inference_mode()
    def encode(self, waveform: Tensor) -> Tensor:
        """(B, N) at 16 kHz -> codes (B, ceil(N / 640), levels), the coarsest first."""
        frames = ceil(waveform.shape[-1] / TOKEN_HOP)
        padded = F.pad(
            waveform.cpu(), (0, (frames + 2) * TOKEN_HOP - waveform.shape[-1])
        )  # it may drop its last frames
        sound = _resampled(padded, SAMPLE_RATE, self.sample_rate)[:, None].to(self.device)
        options = {"bandwidth": max(self.model.config.target_bandwidths)} if self.kind == "encodec" else {}
        codes = self.model.encode(sound, **options).audio_codes
        codes = codes[0] if self.kind == "encodec" else codes  # (B, Q, its frames)
        codes = codes[:, : self.levels // self.fold]
        if self.twice:
            return codes.repeat_interleave(2, -1)[..., :frames].transpose(1, 2)
        return codes[..., : frames * self.fold].unflatten(-1, (frames, self.fold)).transpose(1, 2).flatten(2)

    def timbre(self, waveform: Tensor) -> Tensor:
        """Nothing: codes tell who speaks (B, 0)."""
        return waveform.new_zeros(len(waveform), 0)

    @torch.inference_mode()
    def decode(self, codes: Tensor, timbre: Tensor | None = None, tokens: Tensor | None = None) -> Tensor:
        """Codes (B, F, q), the first q levels -> (B, 640 F), whatever timbre and tokens. Raises LabError for levels
        that are no whole one of its own, and codes that it has not."""
        codes = as_indices(codes, self.codes, "code").to(self.device)
        if codes.shape[-1] % self.fold:
            raise LabError(f"{codes.shape[-1]} levels are no whole ones of the codec: give a multiple of {self.fold}")
        samples = TOKEN_HOP * codes.shape[1]
        own = (
            codes[:, ::2].transpose(1, 2)
            if self.twice
            else codes.unflatten(-1, (-1, self.fold)).transpose(1, 2).flatten(2)
        )
        if self.kind == "encodec":
            sound = self.model.decode(own[None], [None]).audio_values
        elif self.kind == "dac":
            sound = self.model.decode(audio_codes=own).audio_values
        else:
            sound = self.model.decode(own).audio_values
        sound = _resampled(sound.reshape(len(codes), -1).cpu(), self.sample_rate, SAMPLE_RATE)
        return F.pad(sound, (0, max(0, samples - sound.shape[-1])))[:, :samples].to(self.device)


def _resampled(waveform: Tensor, rate: int, to: int) -> Tensor:
    """(B, N) from one sampling rate to another."""
    return torch.stack([torch.from_numpy(audio.resample(row.numpy(), rate, to)) for row in waveform])
