"""Speech -> semantic tokens at 25 Hz: our small USM (paper section 3), 3.9 M parameters against 2 B.

    log-mel 100 Hz -> two strided convolutions, 25 Hz -> blocks -> vector quantizer -> blocks -> characters (CTC)

The CTC head stands *after* the quantizer: the words have to pass through the tokens, the speaker has not. The encoder
is bidirectional, about 1.4 s to each side, so a window's tokens depend on what comes next: see `in_windows` for what
follows from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab import windows
from lab.errors import LabError
from lab.nn import VectorQuantizer
from lab.nn.convnext import convnext_blocks
from lab.nn.indices import as_indices
from lab.presets import Presets
from lab.tokens import ctc, mel
from lab.tokens.windowed import all_in_windows, in_windows
from lab.windows import TOKEN_HOP, TOKEN_RATE


@dataclass(frozen=True)
class TokenizerConfig(Presets):
    """Shapes. `width`: channels of the ConvNeXt blocks; `kernel`: of their convolutions, in tokens of 40 ms, odd.

    `blocks` stand before the quantizer, their MLPs `expansion` times as wide, `blocks_after` in the CTC head. `codes`:
    the vocabulary, vectors of `code_width` on the unit sphere. The preset "lab" is trained here, "tiny" for tests.
    """

    width: int = 192
    kernel: int = 15
    blocks: int = 5
    blocks_after: int = 6
    codes: int = 512
    code_width: int = 16
    expansion: int = 3

    PRESETS = {"lab": {"expansion": 6}, "tiny": {"width": 32, "kernel": 5, "blocks": 1, "blocks_after": 1, "codes": 32}}


class Tokenizer(nn.Module):
    """Waveform -> tokens, and tokens -> characters."""

    ENCODER = ("down", "before", "to_code")  # the layers that decide the tokens; the quantizer's are no parameters
    CTC_HEAD = ("ctc_head",)

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config, self.vocabulary = config, config.codes
        width = config.width
        self.mel = mel.LogMel()
        self.down = nn.ModuleList(nn.Conv1d(n, width, 5, stride=2, padding=2) for n in (mel.BANDS, width))
        self.before = convnext_blocks(config.blocks, width, config.kernel, config.expansion)
        self.to_code = nn.Linear(width, config.code_width)
        # Centred, the directions spread over the whole sphere; otherwise they share one cap and the codebook collapses.
        self.centre = nn.BatchNorm1d(config.code_width, affine=False)
        self.quantizer = VectorQuantizer(config.codes, config.code_width, cosine=True, decay=0.97)
        # Quantized vectors (B, T, code_width) -> logits of characters (B, T, 29).
        self.ctc_head = nn.Sequential(
            nn.Linear(config.code_width, width),
            *convnext_blocks(config.blocks_after, width, config.kernel),
            nn.Linear(width, ctc.CLASSES),
        )

    def features(self, frames: Tensor) -> Tensor:
        """Log-mel (B, 4 T, 80) -> output of the encoder, before the quantizer (B, T, width)."""
        x = frames.transpose(1, 2)  # (B, 80, 4 T)
        for convolution in self.down:
            x = F.gelu(convolution(x))
        return self.before(x.transpose(1, 2))  # (B, T, width)

    def narrow(self, features: Tensor, speech: Tensor | None = None) -> Tensor:
        """(B, T, width) -> what is quantized (B, T, code_width). `speech` (B, T) bool: what `centre` may follow.

        In training all NaN for a batch that is not finite or too large to square, which moves no statistics.
        """
        codes = self.to_code(features).float()  # neighbouring codes are closer than 8 bits can tell
        if speech is None:
            speech = torch.ones_like(codes[..., 0], dtype=torch.bool)
        rows = codes[speech]
        if self.training and not rows.detach().square().sum().isfinite():
            return codes * torch.nan
        return torch.zeros_like(codes).masked_scatter(speech[..., None], self.centre(rows))

    @property
    def device(self) -> torch.device:
        return self.to_code.weight.device

    @property
    def reach(self) -> int:
        """The encoder's receptive field, in tokens to each side."""
        return self.config.blocks * (self.config.kernel // 2) + 3  # 3: the strided convolutions and the spectrum

    @torch.inference_mode()
    def tokenize(self, waveform: Tensor) -> Tensor:
        """One window: (B, N) at 16 kHz, N a multiple of 640 -> tokens (B, N / 640), without any windowing."""
        return self.quantizer.nearest(self.narrow(self.features(self.mel(waveform.to(self.device)))))

    def encode(
        self,
        waveform: np.ndarray,
        window: int = windows.TOKENIZATION.window,
        overlap: int = windows.TOKENIZATION.overlap,
    ) -> Tensor:
        """Waveform (N,) float32 at 16 kHz -> tokens (ceil(N / 640),) int64, in windows of 30 s that overlap by 4 s.

        Raises LabError for what is no waveform, is empty or not finite.
        """
        return in_windows(self.tokenize, waveform, TOKEN_HOP, self.reach, window, overlap)

    def encode_all(self, waveforms: Sequence[np.ndarray], together: int) -> list[Tensor]:
        """`encode` of each waveform, with up to `together` windows at once, of about one length: what a GPU wants."""
        return all_in_windows(self.tokenize, waveforms, TOKEN_HOP, self.reach, *windows.TOKENIZATION, together)

    def transcribe(self, tokens: Tensor | Sequence[int]) -> str:
        """Tokens (T,) -> text, by greedy CTC decoding. Raises LabError for tokens that this tokenizer has not."""
        return ctc.decode(self._best_labels(tokens))

    def words(self, tokens: Tensor | Sequence[int]) -> list[tuple[float, float, str]]:
        """The words of `transcribe`, each with when it begins and ends, in seconds."""
        found = ctc.words(self._best_labels(tokens))
        return [(start / TOKEN_RATE, stop / TOKEN_RATE, word) for start, stop, word in found]

    @torch.inference_mode()
    def _best_labels(self, tokens: Tensor | Sequence[int]) -> Tensor:
        """Tokens (T,) -> the most likely label of each (T,). Windows of 30 s bound the memory."""
        indices = as_indices(tokens, self.vocabulary, "token").to(self.device)
        if indices.ndim != 1:
            raise LabError(f"tokens must be (T,), not {tuple(indices.shape)}")
        best = []
        for part in windows.plan(len(indices), *windows.TOKENIZATION):
            vectors = self.quantizer.codebook[indices[part.start : part.stop]]
            best.append(self.ctc_head(vectors[None])[0].argmax(-1)[part.kept()])
        return torch.cat(best)
