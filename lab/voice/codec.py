"""The codec: SoundStream's role (2107.03312) at 16 kHz, 50 frames a second, 8 levels of 1024 codes (4 kbps).

SoundStream's outermost strided convolutions work on every sample; here a short-time Fourier transform takes
their place in the encoder and an inverse one in the decoder (Vocos, 2306.00814), and the layers between run
at 200 Hz and at 50 Hz, where convolutions of the waveform would spend most of theirs at its own rate.

Frame f stands for samples [320 f, 320 (f + 1)), so that semantic token t is spoken in frames 2 t and 2 t + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab import audio
from lab.errors import LabError
from lab.nn import ResidualVectorQuantizer, RMSNorm
from lab.nn.convnext import convnext_blocks
from lab.nn.stft import STFT
from lab.presets import Presets

FRAME_HOP = 320  # samples of a frame, at 16 kHz: two frames a semantic token

_LAYERS = ("encoder_layers", "decoder_layers", "fine_encoder_layers", "fine_decoder_layers")


@dataclass(frozen=True)
class CodecConfig(Presets):
    """Shapes: `hop` samples a frame, of `patch` Fourier transforms of `window` samples each, hop / patch apart.

    Transforms of 20 ms locate a sound by which of them holds it; one of 80 ms a frame by phase alone, which is much
    harder to learn. The `fine` layers, of half the width, run at the rate of the transforms: a layer costs what one at
    the rate of frames does, and neighbouring phases can be made to agree. `kernel` of all convolutions, odd.
    Quantizer: `levels` Q of `codes` vectors of `code_width`. Presets: "lab" is trained here, "tiny" for tests, "paper"
    AudioLM's 12 levels x 1024, and wider.
    """

    hop: int = FRAME_HOP
    window: int = 320
    patch: int = 4
    width: int = 224
    kernel: int = 7
    encoder_layers: int = 3
    decoder_layers: int = 4
    fine_width: int = 112
    fine_encoder_layers: int = 3
    fine_decoder_layers: int = 4
    levels: int = 8
    codes: int = 1024
    code_width: int = 64

    PRESETS = {
        "lab": {},
        "tiny": dict(width=32, fine_width=16, levels=4, codes=16, code_width=16, **dict.fromkeys(_LAYERS, 1)),
        "paper": dict(width=512, fine_width=256, levels=12, code_width=128, **dict.fromkeys(_LAYERS, 6)),
    }


class Codec(nn.Module):
    """Waveform (B, N) in [-1, 1] at 16 kHz <-> codes (B, F, Q), F = ceil(N / hop)."""

    DECODER = ("widen", "decoder", "split", "fine_decoder", "head")  # the layers after the quantizer

    def __init__(self, config: CodecConfig):
        super().__init__()
        self.config, self.levels, self.codes = config, config.levels, config.codes
        bins = config.window // 2 + 1
        width, fine, kernel = config.width, config.fine_width, config.kernel
        self.spectrum = STFT(config.window, config.hop // config.patch, centred=True)
        self.embed = nn.Sequential(nn.Linear(3 * bins, fine), RMSNorm(fine))
        self.fine_encoder = convnext_blocks(config.fine_encoder_layers, fine, kernel)
        self.join = nn.Sequential(RMSNorm(config.patch * fine), nn.Linear(config.patch * fine, width))
        self.encoder = convnext_blocks(config.encoder_layers, width, kernel)
        self.narrow = nn.Sequential(RMSNorm(width), nn.Linear(width, config.code_width))
        self.quantizer = ResidualVectorQuantizer(config.levels, config.codes, config.code_width)
        self.widen = nn.Linear(config.code_width, width)
        self.decoder = convnext_blocks(config.decoder_layers, width, kernel)
        self.split = nn.Sequential(RMSNorm(width), nn.Linear(width, config.patch * fine))
        self.fine_decoder = convnext_blocks(config.fine_decoder_layers, fine, kernel)
        spectrum = nn.Linear(fine, 2 * bins)
        # Speech has about exp(-5) a bin; exp(0) would be far too loud.
        nn.init.constant_(spectrum.bias[:bins], -5.0)
        self.head = nn.Sequential(RMSNorm(fine), spectrum)

    def forward(self, waveform: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For training: waveform (B, N), N a multiple of hop; depth (B,) levels to use (quantizer dropout).

        A depth of 0 leaves the latent as it is: the first steps train without the quantizer.
        Returns the reconstruction (B, N), the commitment loss () and the codes (B, F, Q).
        """
        latent = self.latent(waveform)
        quantized, codes, commitment = self.quantizer(latent, depth)
        quantized = torch.where((depth > 0)[:, None, None], quantized, latent)
        return self.synthesize(quantized), commitment, codes

    def latent(self, waveform: Tensor) -> Tensor:
        """(B, N) -> what the quantizer sees (B, F, code_width)."""
        frames = self.spectrum(F.pad(waveform, (0, -waveform.shape[-1] % self.config.hop)))  # (B, F * patch, bins)
        size = frames.abs() + 1e-4  # some 70 dB under speech: phases of less are noise and vanish
        features = torch.cat([size.log(), frames.real / size, frames.imag / size], -1)
        fine = self.fine_encoder(self.embed(features))  # (B, F * patch, fine_width)
        joined = self.join(fine.unflatten(1, (-1, self.config.patch)).flatten(2))  # (B, F, width)
        return self.narrow(self.encoder(joined)).float()

    def synthesize(self, quantized: Tensor) -> Tensor:
        """(B, F, code_width) -> (B, F * hop)."""
        coarse = self.split(self.decoder(self.widen(quantized)))  # (B, F, patch * fine_width)
        fine = coarse.unflatten(-1, (self.config.patch, -1)).flatten(1, 2)
        size, phase = self.head(self.fine_decoder(fine)).float().chunk(2, -1)  # (B, F * patch, bins)
        return self.spectrum.inverse(torch.polar(size.clamp(max=5.0).exp(), phase))

    @torch.no_grad()
    def encode(self, waveform: Tensor) -> Tensor:
        """(B, N) -> codes (B, ceil(N / hop), Q); a last frame that is not full is completed with silence.

        Raises LabError unless that is a tensor of finite floats, N >= 1.
        """
        if not isinstance(waveform, Tensor) or waveform.ndim != 2 or not waveform.numel():
            found = tuple(waveform.shape) if isinstance(waveform, Tensor) else type(waveform).__name__
            raise LabError(f"the codec encodes tensors (B, N) of 1 sample or more, not {found}")
        for row in waveform:
            audio.as_waveform(row)
        return self.quantizer.encode(self.latent(waveform.float()))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, F, q), the first q <= Q levels -> (B, F * hop). Raises LabError for codes that it has not."""
        vectors = self.quantizer.decode(codes)
        if vectors.ndim != 3:
            raise LabError(f"codes must be (B, F, q), not of {vectors.ndim} dimensions")
        return self.synthesize(vectors)

    @property
    def device(self) -> torch.device:
        return self.widen.weight.device

    @property
    def receptive_field(self) -> int:
        """Samples of input that one sample of output depends on, encoder and decoder together."""
        config, reach = self.config, self.config.kernel - 1
        step = config.hop // config.patch
        overlapping = config.window // step  # transforms that write one sample
        written = overlapping - 1 + config.fine_decoder_layers * reach
        frames = 1 + -(-written // config.patch) + (config.encoder_layers + config.decoder_layers) * reach
        read = frames * config.patch + config.fine_encoder_layers * reach  # transforms
        return read * step + config.window - step
