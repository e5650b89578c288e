"""Speech -> semantic tokens at 25 Hz: our small USM (paper section 3), 1.9 M parameters against 2 B.

    log-mel 100 Hz -> two strided convolutions, 25 Hz -> blocks -> vector quantizer -> blocks -> characters (CTC)

The characters are read *after* the quantizer: what is said has to pass through the tokens, who says it has not. The
encoder looks both ways, about 1.4 s, so a window's tokens know what comes next: see `encode` for what follows from
that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab import presets, windows
from lab.errors import LabError
from lab.nn import ConvNeXtBlock, VectorQuantizer
from lab.tokens import mel, spelling
from lab.windows import TOKEN_HOP, TOKEN_RATE


@dataclass(frozen=True)
class TokenizerConfig:
    width: int = 192
    kernel: int = 15
    blocks: int = 5
    blocks_after: int = 6
    codes: int = 256
    code_width: int = 16

    @classmethod
    def preset(cls, name: str, **overrides: int) -> TokenizerConfig:
        """ "lab" is trained here, "tiny" for tests. Raises LabError for an unknown preset or field."""
        tiny = dict(width=32, kernel=5, blocks=1, blocks_after=1, codes=32)
        return presets.build(cls, {"lab": {}, "tiny": tiny}, name, overrides)


class Centre(nn.BatchNorm1d):
    """Batch normalization whose running statistics stay as they are when a batch is not finite."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        before = [buffer.clone() for buffer in self.buffers()]
        y = super().forward(x)
        finite = torch.stack([buffer.isfinite().all() for buffer in self.buffers()]).all()
        for buffer, kept in zip(self.buffers(), before, strict=True):
            buffer.copy_(torch.where(finite, buffer, kept))
        return y


class Tokenizer(nn.Module):
    """Waveform -> tokens, and the characters that the tokens spell."""

    ENCODER = ("down", "before", "to_code")  # the layers that make tokens,
    READER = ("widen", "after", "characters")  # and those that read them

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.mel = mel.LogMel()
        self.down = nn.ModuleList(
            [
                nn.Conv1d(mel.BANDS, width, 5, stride=2, padding=2),
                nn.Conv1d(width, width, 5, stride=2, padding=2),
            ]
        )
        self.before = nn.Sequential(*(ConvNeXtBlock(width, config.kernel) for _ in range(config.blocks)))
        self.to_code = nn.Linear(width, config.code_width)
        # Centred, directions spread over the whole sphere; without it they share one cap and the codebook collapses.
        self.centre = Centre(config.code_width, affine=False)
        self.quantizer = VectorQuantizer(config.codes, config.code_width, cosine=True, decay=0.97)
        self.widen = nn.Linear(config.code_width, width)
        self.after = nn.Sequential(*(ConvNeXtBlock(width, config.kernel) for _ in range(config.blocks_after)))
        self.characters = nn.Linear(width, spelling.SIZE)

    def features(self, frames: Tensor) -> Tensor:
        """Log-mel (B, 4 T, 80) -> what the encoder makes of it, before the quantizer (B, T, width)."""
        x = frames.transpose(1, 2)  # (B, 80, 4 T)
        for convolution in self.down:
            x = F.gelu(convolution(x))
        return self.before(x.transpose(1, 2))  # (B, T, width)

    def narrow(self, features: Tensor, speech: Tensor | None = None) -> Tensor:
        """(B, T, width) -> what is quantized (B, T, code_width). `speech` (B, T) bool: what the centre may follow."""
        codes = self.to_code(features).float()  # neighbouring codes are closer than 8 bits can tell
        if speech is None:
            return self.centre(codes.flatten(0, 1)).view_as(codes)
        return torch.zeros_like(codes).masked_scatter(speech[..., None], self.centre(codes[speech]))

    def spell(self, quantized: Tensor) -> Tensor:
        """Quantized vectors (B, T, code_width) -> logits of characters (B, T, 29)."""
        return self.characters(self.after(self.widen(quantized)))

    @property
    def reach(self) -> int:
        """How many tokens of audio after its own the encoder looks at for one token (and as many before)."""
        return self.config.blocks * (self.config.kernel // 2) + 3  # 3: the strided convolutions and the spectrum

    @torch.inference_mode()
    def tokenize(self, waveform: Tensor) -> Tensor:
        """One window: (B, N) at 16 kHz, N a multiple of 640 -> tokens (B, N / 640), without any windowing."""
        return self.quantizer.nearest(self.narrow(self.features(self.mel(waveform))))

    def encode(
        self,
        waveform: np.ndarray,
        window: int = windows.TOKENIZATION.window,
        overlap: int = windows.TOKENIZATION.overlap,
    ) -> Tensor:
        """Waveform (N,) float32 at 16 kHz -> tokens (ceil(N / 640),) int64, in windows of 30 s that overlap by 4 s.

        The last window is filled with the *start of the same waveform* and the tokens of the filling are dropped.
        Silence would tell the tokens before it that the end is near, and a language model would learn to end (paper
        section 3.3, "implicit EOS").
        """
        tokens = -(-len(waveform) // TOKEN_HOP)
        if tokens == 0:
            raise LabError("there is nothing to tokenize: the waveform is empty")
        parts = windows.plan(tokens, window, overlap)
        device = self.to_code.weight.device
        # Filled as far as the encoder can see from the last token; what lies beyond cannot change it.
        end = min(tokens + self.reach, parts[-1].start + window)
        padded = np.resize(waveform, TOKEN_HOP * end).astype(np.float32)  # repeats from the start
        kept = []
        for part in parts:
            samples = padded[TOKEN_HOP * part.start : TOKEN_HOP * min(part.start + window, end)]
            kept.append(self.tokenize(torch.from_numpy(samples[None]).to(device))[0, part.kept()])
        return torch.cat(kept)

    def transcribe(self, tokens: Tensor) -> str:
        """Tokens (T,) -> the text that they spell, greedily."""
        return spelling.read(self._letters(tokens))

    def words(self, tokens: Tensor) -> list[tuple[float, float, str]]:
        """The words of `transcribe`, each with when it begins and ends, in seconds."""
        return [
            (start / TOKEN_RATE, stop / TOKEN_RATE, word) for start, stop, word in spelling.words(self._letters(tokens))
        ]

    @torch.inference_mode()
    def _letters(self, tokens: Tensor) -> Tensor:
        """Tokens (T,) -> the likeliest character of each (T,). Windows of 30 s bound the memory."""
        parts = windows.plan(len(tokens), *windows.TOKENIZATION)
        best = []
        for part in parts:
            vectors = self.quantizer.codebook[tokens[part.start : part.stop]]
            best.append(self.spell(vectors[None])[0].argmax(-1)[part.kept()])
        return torch.cat(best)
