"""SoundStorm (2305.09636): semantic tokens and 3 s of a speaker -> codec codes, in parallel, level by level.

What each frame says is given and never masked; how it sounds is filled in by confidence, coarse levels first.
A window begins with the speaker's prompt, whose tokens and codes are frozen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lab import presets
from lab.errors import LabError
from lab.nn.sampling import exponential, sample
from lab.voice.conformer import ConformerBlock, rotary

FRAMES = 2  # codec frames (50 Hz) a semantic token (25 Hz)
CONFIDENCE_NOISE = 4.5  # MaskGIT's; SoundStorm does not say


@dataclass(frozen=True)
class SoundStormConfig:
    """Shapes. `levels` may be fewer than the codec's; `span`: frames that attention reaches, None for all."""

    tokens: int = 512
    levels: int = 4
    codes: int = 1024
    width: int = 224
    layers: int = 5
    heads: int = 7
    kernel: int = 5
    expansion: int = 3
    span: int | None = 100

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> SoundStormConfig:
        """Here "lab" is trained, "tiny" tested; "paper": SoundStorm's 350M; "speechssm": SpeechSSM's 600M.

        The lab's speaks 4 of the codec's 8 levels: already of the fourth it learns little (`at_the_end` of its card;
        knowing nothing is ln 1024 = 6.93 nats). Attention of +-2 s and the prompt keeps a window of 27 s like the
        crops of training.
        """
        paper = {
            "tokens": 32000,
            "levels": 12,
            "width": 1024,
            "layers": 12,
            "heads": 16,
            "expansion": 4,
            "span": None,
        }
        known: dict[str, dict[str, Any]] = {
            "lab": {},
            "tiny": {
                "tokens": 32,
                "levels": 3,
                "codes": 16,
                "width": 32,
                "layers": 1,
                "heads": 2,
                "span": 20,
            },
            "paper": paper,
            "speechssm": paper | {"layers": 24},
        }
        return presets.build(cls, known, name, overrides)


class VoicePrompt(NamedTuple):
    """Some seconds of a speaker: semantic tokens (T,) and codec codes (2 T, Q)."""

    tokens: Tensor
    codes: Tensor


class Pass(NamedTuple):
    """What a look inside `generate` sees after a pass: the first window's new frames."""

    level: int
    number: int  # 1 to the level's passes
    codes: Tensor  # (F, Q); `config.codes` where still masked
    masked: Tensor  # (F,) bool, this level
    confidence: Tensor  # (F,) log-probability of the code that this pass proposed, without noise
    likeliest: Tensor  # (F,) the code that this pass finds likeliest

    def filled(self) -> Tensor:
        """Codes (F, q) of levels 1 to this one as they can be heard now: where still masked, the likeliest."""
        known = self.codes[:, : self.level + 1].clone()
        known[:, -1] = torch.where(self.masked, self.likeliest, known[:, -1])
        return known


class SoundStorm(nn.Module):
    """A Conformer over frames; it sees the sum of the semantic and the Q acoustic embeddings of each."""

    def __init__(self, config: SoundStormConfig):
        super().__init__()
        self.config = config
        # A token is spoken in two frames: in place of one vector repeated, it has one for each.
        self.say = nn.Embedding(config.tokens, FRAMES * config.width)
        self.sound = nn.ModuleList(nn.Embedding(config.codes + 1, config.width) for _ in range(config.levels))
        self.blocks = nn.ModuleList(
            ConformerBlock(config.width, config.heads, config.kernel, config.expansion, config.span)
            for _ in range(config.layers)
        )
        self.heads = nn.Parameter(0.02 * torch.randn(config.levels, config.codes, config.width))
        self.biases = nn.Parameter(torch.zeros(config.levels, config.codes))
        for table in (self.say, *self.sound):
            nn.init.normal_(table.weight, std=(config.levels + 1) ** -0.5)  # the sum of all has variance 1

    @property
    def mask(self) -> int:
        """The id that stands for a code not yet known."""
        return self.config.codes

    def forward(
        self, tokens: Tensor, codes: Tensor, level: Tensor, prompt: int, positions: Tensor | None = None
    ) -> Tensor:
        """Tokens (B, T), codes (B, F = 2 T, Q) with `mask` where unknown, level (B,) asked for in each row.

        The first `prompt` frames are the speaker's. Returns logits of the codes of the rest (B, F - prompt,
        codes). `positions` (B, F) are those of the frames, by default 0, 1, 2, ...
        """
        x = self.say(tokens).unflatten(-1, (FRAMES, -1)).flatten(1, 2)  # (B, F, D)
        for number, table in enumerate(self.sound):
            x = x + table(codes[..., number])
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)[None]
        rotation = rotary(positions, self.config.width // self.config.heads)
        for block in self.blocks:
            x = block(x, rotation, prompt)
        return torch.baddbmm(self.biases[level][:, None], x[:, prompt:], self.heads[level].transpose(1, 2))

    @torch.no_grad()
    def generate(
        self,
        tokens: Tensor,
        prompt: VoicePrompt,
        generator: torch.Generator,
        *,
        known: Tensor | None = None,
        iterations: Sequence[int] | None = None,
        temperature: float = 1.0,
        noise: float = CONFIDENCE_NOISE,
        on_pass: Callable[[Pass], None] | None = None,
    ) -> Tensor:
        """Semantic tokens (T,) or (B, T) -> their codes (2 T, Q) or (B, 2 T, Q), the prompt's not among them.

        `known` are the codes of the first levels (2 T, q) or (B, 2 T, q) where they need not be guessed.

        `iterations` passes for each level, by default (16, 1, ..., 1); the last of each is greedy. After pass
        i of I the floor(F cos(pi/2 i/I)) frames of least confidence are masked again. Confidence is the
        log-probability of what was drawn at `temperature`, plus Gumbel noise of scale `noise` (1 - i/I).
        """
        iterations = tuple(iterations or (16, *[1] * (self.config.levels - 1)))
        self._check(tokens, prompt, iterations, known)
        device = self.heads.device
        new = tokens if tokens.ndim == 2 else tokens[None]
        rows, frames, ahead = len(new), FRAMES * new.shape[1], len(prompt.codes)
        said = torch.cat([prompt.tokens.expand(rows, -1), new], 1).to(device)
        heard = prompt.codes[:, : self.config.levels].long().expand(rows, -1, -1)
        codes = torch.cat([heard, heard.new_full((rows, frames, self.config.levels), self.mask)], 1).to(device)
        fresh = codes[:, ahead:]  # a view: what is written here the model sees
        given = 0 if known is None else known.shape[-1]
        if known is not None:
            fresh[..., :given] = known
        for level in range(given, self.config.levels):
            passes = iterations[level]
            masked = torch.ones(rows, frames, dtype=torch.bool, device=device)
            for number in range(1, passes + 1):
                logits = self(said, codes, torch.full((rows,), level, device=device), ahead).float()
                left = masked_after(frames, number, passes)
                proposed = logits.argmax(-1) if left == 0 else sample(logits, temperature, generator)
                confidence = logits.log_softmax(-1).gather(-1, proposed[..., None])[..., 0]  # (B, F)
                fresh[..., level] = torch.where(masked, proposed, fresh[..., level])
                if left:
                    gumbel = -exponential(confidence, generator).log()
                    score = confidence + noise * (1 - number / passes) * gumbel
                    least = score.masked_fill(~masked, math.inf).topk(left, largest=False).indices
                    masked = torch.zeros_like(masked).scatter(1, least, True)
                    fresh[..., level].masked_fill_(masked, self.mask)
                else:
                    masked = torch.zeros_like(masked)
                if on_pass is not None:
                    on_pass(Pass(level, number, fresh[0].clone(), masked[0], confidence[0], logits[0].argmax(-1)))
        return fresh if tokens.ndim == 2 else fresh[0]

    def _check(self, tokens: Tensor, prompt: VoicePrompt, iterations: Sequence[int], known: Tensor | None) -> None:
        if not tokens.numel():
            raise LabError("no semantic tokens to speak; give at least one")
        said = torch.cat([tokens.flatten(), prompt.tokens])
        odd = said[(said < 0) | (said >= self.config.tokens)]
        if len(odd):
            raise LabError(f"semantic token {int(odd[0])} is not one of the {self.config.tokens} of this voice")
        if len(prompt.codes) != FRAMES * len(prompt.tokens):
            raise LabError(
                f"a voice prompt of {len(prompt.tokens)} tokens and {len(prompt.codes)} frames does not match"
            )
        if prompt.codes.shape[1] < self.config.levels:
            raise LabError(f"a voice prompt of {prompt.codes.shape[1]} levels; this voice needs {self.config.levels}")
        if known is not None:
            frames = (*tokens.shape[:-1], FRAMES * tokens.shape[-1])
            if known.shape[:-1] != frames or known.shape[-1] > self.config.levels:
                wanted = f"{frames} and at most {self.config.levels} levels"
                raise LabError(f"known codes of shape {tuple(known.shape)} do not match tokens; give {wanted}")
        if len(iterations) != self.config.levels or min(iterations) < 1:
            raise LabError(f"iterations {tuple(iterations)}: give {self.config.levels} numbers, at least 1 each")


def masked_after(frames: int, number: int, passes: int) -> int:
    """How many of `frames` are masked after pass `number` of `passes`: the cosine schedule, 0 at the end."""
    return 0 if number == passes else math.floor(frames * math.cos(math.pi / 2 * number / passes))


def conceal(codes: Tensor, boundary: Tensor, level: Tensor, share: Tensor, mask: int) -> tuple[Tensor, Tensor]:
    """SoundStorm's masking in training: codes (B, F, Q), boundary (B,) frames, level (B,), share (B,) of 1.

    From the boundary on, a `share` of the frames loses the level, and every frame all levels above it; what
    comes before (the prompt) loses nothing. Returns the codes with `mask` in those places, and where the
    level was lost (B, F) bool.
    """
    rows, frames, levels = codes.shape
    after = torch.arange(frames, device=codes.device) >= boundary[:, None]  # (B, F)
    asked = after & (torch.rand(rows, frames, device=codes.device) < share[:, None])
    depth = torch.arange(levels, device=codes.device)
    lost = (depth == level[:, None, None]) & asked[..., None] | (depth > level[:, None, None]) & after[..., None]
    return codes.masked_fill(lost, mask), asked
