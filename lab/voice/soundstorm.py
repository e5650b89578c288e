"""SoundStorm (2305.09636): semantic tokens and 3 s of a speaker -> codec codes, in parallel, level by level.

Semantic tokens are given and never masked; codes are predicted in order of confidence, coarse levels first.
A window begins with the speaker's prompt, whose tokens and codes stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lab.errors import LabError
from lab.nn.indices import as_indices
from lab.nn.sampling import check_scale, exponential, sample
from lab.presets import Presets
from lab.voice.conformer import ConformerBlock, Layout

CONFIDENCE_NOISE = 4.5  # MaskGIT's; SoundStorm does not say
PASSES = 8  # of the first level; SoundStorm's 16 are understood no better by Whisper

_PAPER = dict(tokens=32000, levels=12, width=1024, layers=12, heads=16, expansion=4, span=None)


@dataclass(frozen=True)
class SoundStormConfig(Presets):
    """Shapes: semantic `tokens` and acoustic `codes` are vocabularies; `levels` Q may be fewer than the codec's.

    `width` D, `layers`, `heads`, `kernel` (frames) and `expansion` are the Conformer's; `span`: frames to each side
    that attention reaches, None for all. Presets: "lab" is trained here, "tiny" tested, "paper" is SoundStorm's 350M,
    "speechssm" SpeechSSM's 600M.

    The lab's predicts 4 of the codec's 6 levels: already of the fourth it learns little (`at_the_end` of its card;
    knowing nothing is ln 1024 = 6.93 nats). Attention of +-2 s and the prompt keeps a window of 27 s like the crops of
    training.
    """

    tokens: int = 512
    levels: int = 4
    codes: int = 1024
    width: int = 224
    layers: int = 6
    heads: int = 7
    kernel: int = 5
    expansion: int = 3
    span: int | None = 50

    PRESETS = {
        "lab": {},
        "tiny": dict(tokens=32, levels=3, codes=16, width=32, layers=1, heads=2, span=20),
        "paper": _PAPER,
        "speechssm": _PAPER | {"layers": 24},
    }


class VoicePrompt(NamedTuple):
    """Some seconds of a speaker: semantic tokens (T,), codes (T, Q), and the codec's timbre (C,) to decode with."""

    tokens: Tensor
    codes: Tensor
    timbre: Tensor | None = None


class Pass(NamedTuple):
    """What `on_pass` of `generate` receives after a pass: the new frames of the first row."""

    level: int
    number: int  # 1 to the level's passes
    codes: Tensor  # (F, Q); `config.codes` where still masked
    masked: Tensor  # (F,) bool, this level
    confidence: Tensor  # (F,) log-probability of the code that this pass proposed, without noise
    likeliest: Tensor  # (F,) the most probable code in this pass

    def filled(self) -> Tensor:
        """Codes (F, q) of levels 1 to this one, to be decoded: where still masked, the most probable."""
        known = self.codes[:, : self.level + 1].clone()
        known[:, -1] = torch.where(self.masked, self.likeliest, known[:, -1])
        return known


class SoundStorm(nn.Module):
    """A Conformer over frames, one a token; its input is the sum of the semantic and the Q acoustic embeddings."""

    def __init__(self, config: SoundStormConfig):
        super().__init__()
        self.config = config
        self.mask = config.codes  # stands for a code not yet known
        self.semantic_embedding = nn.Embedding(config.tokens, config.width)
        acoustic = (nn.Embedding(config.codes + 1, config.width) for _ in range(config.levels))
        self.acoustic_embeddings = nn.ModuleList(acoustic)
        self.blocks = nn.ModuleList(
            ConformerBlock(config.width, config.heads, config.kernel, config.expansion) for _ in range(config.layers)
        )
        self.output_weight = nn.Parameter(0.02 * torch.randn(config.levels, config.codes, config.width))
        self.output_bias = nn.Parameter(torch.zeros(config.levels, config.codes))
        for table in (self.semantic_embedding, *self.acoustic_embeddings):
            nn.init.normal_(table.weight, std=(config.levels + 1) ** -0.5)  # the sum of all has variance 1

    def forward(
        self, tokens: Tensor, codes: Tensor, level: Tensor, prompt: int, positions: Tensor | None = None
    ) -> Tensor:
        """Tokens (B, T), codes (B, T, Q) with `mask` where unknown, level (B,) to predict in each row.

        The first `prompt` frames are the speaker's. Returns logits of the codes of the rest (B, T - prompt,
        codes). `positions` (B, T) are those of the frames, by default 0, 1, 2, ...
        """
        x = self.semantic_embedding(tokens)  # (B, T, D)
        for number, table in enumerate(self.acoustic_embeddings):
            x = x + table(codes[..., number])
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)[None]
        layout = Layout.of(x, positions, prompt, self.config.span, self.config.width // self.config.heads)
        for block in self.blocks:
            x = block(x, layout)
        weight, bias = self.output_weight[level], self.output_bias[level]
        return torch.baddbmm(bias[:, None], x[:, prompt:], weight.transpose(1, 2))

    @torch.no_grad()
    def generate(
        self,
        tokens: Tensor | Sequence[int],
        prompt: VoicePrompt | list[VoicePrompt],
        generator: torch.Generator | list[torch.Generator],
        *,
        known: Tensor | None = None,
        iterations: Sequence[int] | None = None,
        temperature: float = 1.0,
        noise: float = CONFIDENCE_NOISE,
        on_pass: Callable[[Pass], None] | None = None,
    ) -> Tensor:
        """Semantic tokens (T,) or (B, T) -> their codes (T, Q) or (B, T, Q), the prompt's not among them.

        A batch has one prompt for all, or a list of as many frames each, and one generator for all, or a list: a row
        then draws as it does alone. `known` are the codes of the first levels (T, q) or (B, T, q) where they need not
        be predicted.

        `iterations` passes for each level, by default (PASSES, 1, ..., 1); the last of each is greedy. After pass
        i of I the floor(F cos(pi/2 i/I)) frames of least confidence are masked again. Confidence is the
        log-probability of what was drawn at `temperature`, plus Gumbel noise of scale `noise` (1 - i/I).

        Raises LabError for tokens, codes, iterations, a temperature or a noise that do not fit.
        """
        config, device = self.config, self.output_bias.device
        iterations = self.check_options(iterations, temperature, noise)
        prompts = [self.check_prompt(each) for each in (prompt if isinstance(prompt, list) else [prompt])]
        tokens = as_indices(tokens, config.tokens, "semantic token")
        if tokens.ndim not in (1, 2) or not tokens.numel():
            raise LabError(f"semantic tokens must be (T,) or (B, T), 1 or more, not {tuple(tokens.shape)}")
        new = tokens if tokens.ndim == 2 else tokens[None]
        (rows, frames), ahead = new.shape, len(prompts[0].codes)
        if len(prompts) not in (1, rows) or any(len(each.codes) != ahead for each in prompts):
            found = [len(each.codes) for each in prompts]
            raise LabError(f"voice prompts of {found} frames for {rows} rows; give one, or one for each, of one length")
        first = torch.stack([each.tokens for each in prompts]).expand(rows, -1)
        semantic = torch.cat([first.to(device), new.to(device)], 1)
        codes = torch.full((rows, ahead + frames, config.levels), self.mask, device=device)
        codes[:, :ahead] = torch.stack([each.codes[:, : config.levels] for each in prompts]).to(device)
        target = codes[:, ahead:]  # a view: what is written here the model sees
        given = 0
        if known is not None:
            known, shape = as_indices(known, config.codes, "known code"), (*tokens.shape[:-1], frames)
            if known.shape[:-1] != shape or (given := known.shape[-1]) > config.levels:
                wanted = f"{shape} and at most {config.levels} levels"
                raise LabError(f"known codes of shape {tuple(known.shape)} do not match tokens; give {wanted}")
            target[..., :given] = known
        for level in range(given, config.levels):
            passes = iterations[level]
            masked = torch.ones(rows, frames, dtype=torch.bool, device=device)
            for number in range(1, passes + 1):
                logits = self(semantic, codes, torch.full((rows,), level, device=device), ahead).float()
                left = masked_after(frames, number, passes)
                proposed = logits.argmax(-1) if left == 0 else sample(logits, temperature, generator)
                confidence = logits.log_softmax(-1).gather(-1, proposed[..., None])[..., 0]  # (B, F)
                target[..., level] = torch.where(masked, proposed, target[..., level])
                now = torch.zeros_like(masked)
                if left:
                    gumbel = -exponential(confidence, generator).log()
                    score = confidence + noise * (1 - number / passes) * gumbel
                    least = score.masked_fill(~masked, math.inf).topk(left, largest=False).indices
                    now.scatter_(1, least, True)
                    target[..., level].masked_fill_(now, self.mask)
                masked = now
                if on_pass is not None:
                    on_pass(Pass(level, number, target[0].clone(), masked[0], confidence[0], logits[0].argmax(-1)))
        return target if tokens.ndim == 2 else target[0]

    def check_options(self, iterations: Sequence[int] | None, temperature: float, noise: float) -> tuple[int, ...]:
        """The iterations. Raises LabError for options of `generate` that do not fit."""
        check_scale("temperature", temperature)
        check_scale("noise", noise)
        levels = self.config.levels
        iterations = (PASSES, *[1] * (levels - 1)) if iterations is None else tuple(iterations)
        if len(iterations) != levels or not all(isinstance(n, (int, np.integer)) and n > 0 for n in iterations):
            raise LabError(f"iterations {iterations}: give {levels} integers, 1 or more each")
        return iterations

    def check_prompt(self, prompt: VoicePrompt) -> VoicePrompt:
        """The same as int64. Raises LabError for a prompt that is not this model's."""
        if not isinstance(prompt, tuple) or len(prompt) not in (2, 3):
            raise LabError(f"a voice prompt is tokens, codes and a timbre, not {type(prompt).__name__}")
        tokens = as_indices(prompt[0], self.config.tokens, "semantic token")
        codes, levels = as_indices(prompt[1], self.config.codes, "code"), self.config.levels
        if tokens.ndim != 1 or codes.ndim != 2 or len(codes) != len(tokens) or codes.shape[1] < levels:
            shapes = f"tokens {tuple(tokens.shape)} and codes {tuple(codes.shape)}"
            raise LabError(f"a voice prompt of {shapes}; give (T,) and (T, {levels} or more)")
        return VoicePrompt(tokens, codes, *prompt[2:])


def masked_after(frames: int, number: int, passes: int) -> int:
    """How many of `frames` are masked after pass `number` of `passes`: the cosine schedule, 0 at the end."""
    return 0 if number == passes else math.floor(frames * math.cos(math.pi / 2 * number / passes))


def mask_codes(codes: Tensor, masked: Tensor, level: Tensor, prompt: int, mask: int) -> Tensor:
    """SoundStorm's masking in training: codes (B, F, Q) with `mask` where they are hidden from the model.

    The first `prompt` frames are shown whole. Of the others, level (B,) is hidden where `masked` (B, F) bool is true,
    and all levels above it are hidden everywhere.
    """
    depth = torch.arange(codes.shape[2], device=codes.device)
    hidden = (depth == level[:, None, None]) & masked[..., None] | (depth > level[:, None, None])  # (B, F, Q)
    hidden[:, :prompt] = False
    return codes.masked_fill(hidden, mask)
