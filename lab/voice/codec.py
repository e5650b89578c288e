"""The codec: SoundStream's role (2107.03312) at 16 kHz, 25 frames a second, 6 levels of 1024 codes (1.5 kbps).

    log magnitudes 50 Hz -> blocks -> pairs joined, 25 Hz -> residual vector quantizer -> codes
    codes, timbre -> blocks 50 Hz -> pitch, and blocks 200 Hz -> filters of pulses and of noise -> waveform
    tokens, codes of level 1, timbre -> refiner -> what codes of all levels would add up to, for a voice that guesses

Codes cannot tell phase, since the encoder hears magnitudes alone: a sound and its negative have the same codes, and
whoever predicts codes from tokens has no phase to guess. The decoder makes phase up: it filters pulses at the pitch
that it reads in the codes, and noise (`excitation`), in the domain of a short-time Fourier transform. Who speaks is in
a timbre vector of some seconds of speech, beside the codes, which are left to say what changes.

Frame f stands for samples [640 f, 640 (f + 1)): it has the rate of the semantic tokens, and token t is spoken in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab import audio
from lab.audio import SAMPLE_RATE
from lab.errors import LabError
from lab.nn import ResidualVectorQuantizer, RMSNorm
from lab.nn.convnext import ConvNeXt
from lab.nn.indices import as_indices
from lab.nn.mel import mel_bands
from lab.nn.sampling import generator_of
from lab.nn.stft import STFT
from lab.presets import Presets
from lab.voice import excitation
from lab.voice.refiner import Refiner

FRAME_HOP = 640  # samples of a frame, at 16 kHz: as many as a semantic token has
HALF = FRAME_HOP // 2  # of what the layers between the codes and the fine ones see, 50 Hz
PATCH, WINDOW = 4, 320  # Fourier transforms of 20 ms a half frame, 5 ms apart
# Decoder and refiner tell means, with spectra flatter than those of speech: what a band has more or less than those
# around it, 31 of 50 Hz, is heard half as much again. Chosen on development stories, no figure is of those.
CONTRAST, AROUND = 0.5, 31

_LAYERS = ("encoder_layers", "decoder_layers", "fine_layers")


@dataclass(frozen=True)
class CodecConfig(Presets):
    """Shapes: `width` of the layers at 50 Hz, `fine_width` of those at 200 Hz, `kernel` of all convolutions, odd.

    Quantizer: `levels` Q of `codes` vectors of `code_width`. `timbre`: size of the vector of who speaks.
    `semantic`: of the tokenizer's vectors, which the first level is to tell. `refiner_layers`, `refiner_kernel`: of the
    refiner, with which a voice guesses one level alone, of `vocabulary` semantic tokens; 0 layers: there is none, and a
    voice guesses as many levels as it likes. `context_layers`, `context_width`, `context_kernel`: of the tokenizer's
    CTC head, by which the refiner reads them (`lab.voice.context`); 0 layers: it does not. Presets: "lab" is trained
    here, "tiny" for tests, "paper" AudioLM's 12 levels x 1024, and wider.
    """

    width: int = 256
    fine_width: int = 128
    kernel: int = 7
    encoder_layers: int = 4
    decoder_layers: int = 5
    fine_layers: int = 4
    levels: int = 6
    codes: int = 1024
    code_width: int = 64
    timbre: int = 64
    semantic: int = 16
    refiner_layers: int = 0
    refiner_kernel: int = 11
    vocabulary: int = 512
    context_layers: int = 0
    context_width: int = 192
    context_kernel: int = 15

    PRESETS = {
        "lab": dict(refiner_layers=4),
        "tiny": dict(width=32, fine_width=16, levels=4, codes=16, code_width=16, timbre=8, **dict.fromkeys(_LAYERS, 1)),
        "paper": dict(width=512, fine_width=256, levels=12, code_width=128, **dict.fromkeys(_LAYERS, 8)),
    }


class Reconstruction(NamedTuple):
    """What a forward pass in training gives."""

    waveform: Tensor  # (B, N)
    pitch: Tensor  # (B, N / 320, 161) logits: of `excitation`'s bins, and that there is a pitch at all
    latent: Tensor  # (B, F, code_width)
    semantic: Tensor  # (B, F, semantic), as the first level alone tells it
    codes: Tensor  # (B, F, Q)
    commitment: Tensor  # ()


class LogMagnitudes(nn.Module):
    """(B, N), N a multiple of 320 -> (B, N / 320, 232), logarithms of magnitudes; of the sign and phase nothing.

    72 bins of 64 ms below 1.1 kHz, in which harmonics of the lowest voice are resolved, and two mel spectra of 40 ms.
    """

    SIZE = 72 + 2 * 80
    mel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.long, self.short = STFT(1024, HALF, centred=True), STFT(640, HALF // 2, centred=True)
        filters = mel_bands(SAMPLE_RATE, 640, 80)
        self.register_buffer("mel", torch.from_numpy(filters).T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        bass = self.long(waveform).abs()[..., :72]
        bands = (self.short(waveform).abs() @ self.mel).unflatten(1, (-1, 2)).flatten(2)
        return (torch.cat([bass, bands], -1) + 1e-3).log() + 3.0  # floor some 60 dB under speech; about zero mean


class Timbre(nn.Module):
    """`LogMagnitudes` of some seconds (B, F, 232) -> who speaks (B, size), of length sqrt(size).

    Mean and deviation over time, weighted by attention (Okabe et al. 2018, 1803.10963).
    """

    def __init__(self, size: int, width: int):
        super().__init__()
        self.embed = nn.Linear(LogMagnitudes.SIZE, width)
        self.blocks, self.norm = ConvNeXt(3, width, 5), RMSNorm(width)
        self.score, self.out = nn.Linear(width, width), nn.Linear(2 * width, size)

    def forward(self, magnitudes: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.embed(magnitudes)))
        weights = self.score(x).softmax(1)
        mean = (weights * x).sum(1)
        deviation = ((weights * x.square()).sum(1) - mean.square()).clamp(min=1e-4).sqrt()
        vector = self.out(torch.cat([mean, deviation], -1)).float()
        return F.normalize(vector, dim=-1) * vector.shape[-1] ** 0.5


class Codec(nn.Module):
    """Waveform (B, N) in [-1, 1] at 16 kHz <-> codes (B, F, Q), F = ceil(N / 640), and a timbre (B, C)."""

    DECODER = ("speaker", "widen", "decoder", "pitch", "split", "fine", "head")  # what codes do not depend on

    def __init__(self, config: CodecConfig):
        super().__init__()
        self.config, self.levels, self.codes = config, config.levels, config.codes
        width, fine, kernel, timbre = config.width, config.fine_width, config.kernel, config.timbre
        self.magnitudes = LogMagnitudes()
        self.embed = nn.Sequential(nn.Linear(LogMagnitudes.SIZE, width), RMSNorm(width))
        self.encoder = ConvNeXt(config.encoder_layers, width, kernel)
        self.join = nn.Sequential(RMSNorm(2 * width), nn.Linear(2 * width, config.code_width))
        self.quantizer = ResidualVectorQuantizer(config.levels, config.codes, config.code_width)
        self.semantic = nn.Linear(config.code_width, config.semantic)
        self.speaker = Timbre(timbre, width // 2)
        self.widen = nn.Linear(config.code_width, 2 * width)
        self.decoder = ConvNeXt(config.decoder_layers, width, kernel, timbre)
        self.pitch = nn.Sequential(RMSNorm(width), nn.Linear(width, excitation.BINS + 1))
        self.split = nn.Sequential(RMSNorm(width), nn.Linear(width, PATCH * fine))
        self.fine = ConvNeXt(config.fine_layers, fine, kernel, timbre)
        bins = WINDOW // 2 + 1
        filters = nn.Linear(fine, 3 * bins)  # gain and phase of the pulses, gain of the noise
        nn.init.normal_(filters.weight, std=0.02)
        with torch.no_grad():  # speech has about exp(-3) of the pulses and exp(-5) of the noise
            filters.bias.copy_(torch.tensor([-3.0, 0.0, -5.0]).repeat_interleave(bins))
        self.head = nn.Sequential(RMSNorm(fine), filters)
        self.spectrum = STFT(WINDOW, HALF // PATCH, centred=True)
        self.refiner = None
        if config.refiner_layers:
            shape = config.refiner_layers, width, config.refiner_kernel, config.code_width
            context = config.context_layers, config.context_width, config.context_kernel
            self.refiner = Refiner(*shape, config.vocabulary, timbre, context if config.context_layers else None)

    @property
    def guessed(self) -> int | None:
        """How many levels a voice has to guess, the refiner telling the others; None: as many as it likes."""
        return 1 if self.refiner is not None else None

    def forward(
        self, waveform: Tensor, depth: Tensor, reference: Tensor | None = None, hertz: Tensor | None = None
    ) -> Reconstruction:
        """For training: waveform (B, N), N a multiple of 640; depth (B,) levels to use (quantizer dropout).

        A depth of 0 leaves the latent as it is: the first steps train without the quantizer. `reference` (B, M) is
        other speech of the same speaker; without it the timbre is taken from the waveform itself. `hertz` (B, 2 F)
        takes the place of the pitch that the decoder reads off the codes, where it is above 0.
        """
        latent = self.latent(waveform)
        quantized, codes, commitment = self.quantizer(latent, depth)
        quantized = torch.where((depth > 0)[:, None, None], quantized, latent)
        timbre = self.speaker(self.magnitudes(waveform if reference is None else reference))
        decoded, logits = self.synthesize(quantized, timbre, hertz=hertz)
        first = latent + (self.quantizer.levels[0].codebook[codes[..., 0]] - latent).detach()
        first = torch.where((depth > 0)[:, None, None], first, latent)
        return Reconstruction(decoded, logits, latent, self.semantic(first), codes, commitment)

    def latent(self, waveform: Tensor) -> Tensor:
        """(B, N) -> what the quantizer sees (B, F, code_width)."""
        magnitudes = self.magnitudes(F.pad(waveform, (0, -waveform.shape[-1] % FRAME_HOP)))
        x = self.encoder(self.embed(magnitudes))  # (B, 2 F, width)
        return self.join(x.unflatten(1, (-1, 2)).flatten(2)).float()

    def synthesize(
        self,
        quantized: Tensor,
        timbre: Tensor,
        generator: torch.Generator | None = None,
        hertz: Tensor | None = None,
        contrast: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """(B, F, code_width), (B, timbre) -> (B, 640 F) and the logits of the pitch (B, 2 F, 161).

        `generator` draws the noise; `hertz` as in `forward`; `contrast` is that of `sharpened`.
        """
        x = self.decoder(self.widen(quantized).unflatten(-1, (2, -1)).flatten(1, 2), timbre)  # (B, 2 F, width)
        logits = self.pitch(x).float()
        fine = self.split(x).unflatten(-1, (PATCH, -1)).flatten(1, 2)  # (B, 8 F, fine_width)
        gain, phase, breath = self.head(self.fine(fine, timbre)).float().chunk(3, -1)  # (B, 8 F, bins)
        gain = sharpened(gain, contrast)
        with torch.no_grad():
            tone = excitation.pitch(logits[..., :-1])
            tone = tone if hertz is None else torch.where(hertz > 0, hertz, tone)
            pulses = excitation.pulses(tone, HALF, SAMPLE_RATE)
            noise = torch.randn(pulses.shape, generator=generator, device=pulses.device)
            voiced, unvoiced = self.spectrum(pulses), self.spectrum(noise)
        spectrum = voiced * torch.polar(gain.clamp(max=4.0).exp(), phase) + unvoiced * breath.clamp(max=4.0).exp()
        return self.spectrum.inverse(spectrum), logits

    @torch.no_grad()
    def encode(self, waveform: Tensor) -> Tensor:
        """(B, N) -> codes (B, ceil(N / 640), Q); a last frame that is not full is completed with silence.

        Raises LabError unless that is a tensor of finite floats, N >= 1.
        """
        return self.quantizer.encode(self.latent(self._checked(waveform)))

    @torch.no_grad()
    def timbre(self, waveform: Tensor) -> Tensor:
        """Some seconds of a speaker (B, N) -> the vector (B, timbre) that `decode` wants. Raises as `encode` does."""
        waveform = self._checked(waveform)
        return self.speaker(self.magnitudes(F.pad(waveform, (0, -waveform.shape[-1] % HALF))))

    @torch.no_grad()
    def decode(self, codes: Tensor, timbre: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Codes (B, F, q), the first q <= Q levels, and who speaks (B, timbre) -> (B, 640 F).

        With the semantic tokens (B, F) that are spoken in them, codes are a guess of `guessed` levels, and the refiner
        tells what all levels would add up to. The same codes give the same samples. Raises LabError for codes or tokens
        that it has not.
        """
        vectors = self.quantizer.decode(codes)
        if vectors.ndim != 3 or timbre.shape != (len(vectors), self.config.timbre):
            found = f"codes {tuple(codes.shape)} and a timbre {tuple(timbre.shape)}"
            raise LabError(f"{found}: give (B, F, q) and (B, {self.config.timbre})")
        timbre = timbre.to(vectors)
        if tokens is not None and self.refiner is not None:
            tokens = as_indices(tokens, self.config.vocabulary, "semantic token").to(vectors.device)
            if tokens.shape != vectors.shape[:2] or codes.shape[-1] != self.guessed:
                found = f"tokens {tuple(tokens.shape)} and codes {tuple(codes.shape)}"
                raise LabError(f"{found} to refine: give (B, F) and (B, F, {self.guessed})")
            vectors = self.refiner.estimate(tokens, vectors, timbre)
        return self.synthesize(vectors, timbre, generator_of(0, device=self.device), contrast=CONTRAST)[0]

    def _checked(self, waveform: Tensor) -> Tensor:
        if not isinstance(waveform, Tensor) or waveform.ndim != 2 or not waveform.numel():
            found = tuple(waveform.shape) if isinstance(waveform, Tensor) else type(waveform).__name__
            raise LabError(f"the codec encodes tensors (B, N) of 1 sample or more, not {found}")
        for row in waveform:
            audio.as_waveform(row)
        return waveform.float()

    @property
    def device(self) -> torch.device:
        return self.widen.weight.device

    @property
    def receptive_field(self) -> int:
        """Samples of input, before and after, that a frame's codes depend on beside its own."""
        return HALF * self.config.encoder_layers * (self.config.kernel // 2) + (self.magnitudes.long.size - HALF) // 2


def sharpened(gain: Tensor, contrast: float) -> Tensor:
    """Logarithms of a filter's magnitudes (B, T, bins), with 1 + `contrast` times what each has above or below the mean
    of the AROUND bins around it, and the power that they had: a formant postfilter, as of parametric synthesis.
    """
    if not contrast:
        return gain
    edge = AROUND // 2
    around = F.avg_pool1d(F.pad(gain.flatten(0, 1)[:, None], (edge, edge), mode="replicate"), AROUND, 1)
    sharp = gain + contrast * (gain - around.view_as(gain))
    return sharp + 0.5 * ((2 * gain).logsumexp(-1, keepdim=True) - (2 * sharp).logsumexp(-1, keepdim=True))
