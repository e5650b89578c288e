"""Recipe of the tokenizer: masked prediction on all audio, characters on transcribed audio, one token for two voices.

Three losses: BEST-RQ (Chiu et al. 2022) asks the encoder for the frozen random-projection code of frames that were
hidden from it; CTC after the quantizer asks the tokens for the text; and of two voices that say the same (see
`narration.pair`) each asks the other's tokens, warped in time to its own, of its encoder output, since tokens should
tell neither who speaks nor when a frame began.

Then its two parts go on alone (`tokenizer_parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.corpora import Utterance
from lab.tokens import TOKEN_HOP, Tokenizer, TokenizerConfig, ctc, mel
from lab.train import tokenizer_parts
from lab.train.batches import random_of, seed_of
from lab.train.loop import Compute, Losses, Schedule, fit, take_over
from lab.train.speakers import SHARPNESS, in_step, perturb
from lab.train.tokenizer_parts import Pair

STACK = 4  # log-mel frames a token
_MASKED_ROWS, _SPAN = 0.25, 10  # share of rows that learn by masked prediction; tokens a span, 400 ms (BEST-RQ)
_AGREEMENT = 2.0  # weight of the agreement loss


@dataclass
class Batch:
    """Rows 2k and 2k + 1 say the same."""

    waveform: Tensor  # (B, N)
    tokens: Tensor  # (B,) tokens of speech in each row, the rest is padding
    text: Tensor  # (sum of lengths,)
    text_lengths: Tensor  # (B,)
    agreement: float  # weight of the agreement loss: asked of codes that mean nothing yet, it makes them all one


class Learner(nn.Module):
    """The tokenizer with what only its training needs: the frozen targets and the head that predicts them."""

    projection: Tensor
    targets: Tensor

    def __init__(self, tokenizer: Tokenizer, codes: int = 1024, width: int = 16):
        super().__init__()
        self.tokenizer = tokenizer
        frozen = torch.Generator().manual_seed(0)
        self.register_buffer("projection", torch.randn(STACK * mel.BANDS, width, generator=frozen))
        self.register_buffer("targets", F.normalize(torch.randn(codes, width, generator=frozen), dim=-1))
        self.predict = nn.Linear(tokenizer.config.width, codes)

    def random_projection_codes(self, frames: Tensor) -> Tensor:
        """Log-mel (B, 4 T, 80) -> target of each token (B, T)."""
        stacked = frames.unflatten(1, (-1, STACK)).flatten(2)  # (B, T, 320)
        return (F.normalize(stacked @ self.projection, dim=-1) @ self.targets.T).argmax(-1)

    def forward(self, batch: Batch) -> Losses:
        """The sum of the three losses and what to log; everything in one forward, which is what Fabric distributes."""
        tokenizer = self.tokenizer
        with torch.no_grad():
            frames = tokenizer.mel(batch.waveform)
            rows, length = len(frames), frames.shape[1] // STACK
            speech = torch.arange(length, device=frames.device) < batch.tokens[:, None]  # (B, T)
            targets = self.random_projection_codes(frames)
            varied = perturb(frames)
            hides = torch.rand(rows, device=frames.device) < _MASKED_ROWS
            starts = torch.rand(rows, 1, length, device=frames.device) < 0.04
            hidden = F.max_pool1d(starts.float(), _SPAN, 1, _SPAN // 2)[:, 0, :length].bool() & hides[:, None]  # (B, T)
            noise = 0.1 * torch.randn_like(varied)
            varied = torch.where(hidden.repeat_interleave(STACK, 1)[..., None], noise, varied)
        features = tokenizer.features(varied)
        narrow = tokenizer.narrow(features, speech)
        quantized, indices = tokenizer.quantizer(narrow, speech)
        logits = tokenizer.ctc_head(quantized)

        asked = hidden & speech
        masked = F.cross_entropy(self.predict(features[asked]), targets[asked]) if asked.any() else features.sum() * 0
        each = F.ctc_loss(
            logits.float().log_softmax(-1).transpose(0, 1), batch.text, batch.tokens, batch.text_lengths,
            zero_infinity=True, reduction="none",
        )  # fmt: skip
        reads = ~hides
        ctc = (each / batch.text_lengths)[reads].mean() if reads.any() else each.sum() * 0

        mine, other = matches(tokenizer.quantizer.on_sphere(narrow.detach()), batch.tokens, reads)
        agreement = narrow.sum() * 0
        same = narrow.new_zeros(())
        if len(mine):
            scores = tokenizer.quantizer.scores(narrow.flatten(0, 1)) * SHARPNESS  # (B T, codes)
            code = indices.flatten()
            for one, another in ((mine, other), (other, mine)):
                agreement = agreement + 0.5 * F.cross_entropy(scores[one], code[another])
            same = (code[mine] == code[other]).float().mean()
        used = torch.bincount(indices[speech], minlength=tokenizer.config.codes)
        logs = {
            "ctc": ctc,
            "masked": masked,
            "agreement": agreement,
            "same": same,
            "used": (used > 0).float().mean(),
        }
        return ctc + 0.15 * masked + batch.agreement * agreement, logs


@torch.no_grad()
def matches(directions: Tensor, lengths: Tensor, reads: Tensor) -> tuple[Tensor, Tensor]:
    """Which tokens of rows 2k and 2k + 1 say the same, by dynamic time warping near an even tempo.

    Unit vectors (B, T, C), tokens of speech in each row (B,), rows to match (B,) bool -> indices into (B T): two (M,).
    """
    rows, length, _ = directions.shape
    pairs = []
    for row in range(0, rows, 2):
        if not (reads[row] and reads[row + 1] and directions[row : row + 2].isfinite().all()):
            continue  # of NaN librosa would raise an error, where the step is to be rejected
        path = in_step(*(directions[each, : lengths[each]] for each in (row, row + 1)))
        pairs.append(path + length * np.array([row, row + 1]))
    found = np.concatenate([np.zeros((0, 2), np.int64), *pairs])
    return tuple(torch.from_numpy(found).to(directions.device).unbind(1))  # type: ignore[return-value]


def loss_of(learner: nn.Module, batch: Any) -> Losses:
    return learner(batch)


def batches(
    pairs: list[Pair], speech: list[Utterance], size: int, seed: int, agreement: Callable[[int], float]
) -> Callable[[int], Batch]:
    """Step -> batch of `size` pairs of about one length; each fourth step real utterances, each twice.

    Each begins up to a token late, so that tokens learn not to tell where their frame began.
    """
    pairs = sorted(pairs, key=lambda both: len(both[0].waveform))
    speech = sorted((u for u in speech if u.seconds < 16), key=lambda u: len(u.waveform))

    def neighbours(rng: np.random.Generator, items: list[Any], count: int) -> list[Any]:
        start = rng.integers(max(1, len(items) - count + 1))
        return items[start : start + count]

    def batch(step: int) -> Batch:
        rng = random_of(seed, step)
        chosen = neighbours(rng, pairs, size)
        if speech and step % 4 == 0:
            chosen = [(u, u) for u in neighbours(rng, speech, size // 2)]
        late = rng.integers(TOKEN_HOP, size=2 * len(chosen))
        return collate([u for both in chosen for u in both], agreement(step), late)

    return batch


def collate(utterances: list[Utterance], agreement: float = 0.0, late: np.ndarray | None = None) -> Batch:
    """Utterances as rows, the first `late` (B,) samples of each left out."""
    starts = np.zeros(len(utterances), int) if late is None else late
    heard = [u.samples()[start:] for u, start in zip(utterances, starts, strict=True)]
    tokens = torch.tensor([len(samples) // TOKEN_HOP for samples in heard])
    waveform = torch.zeros(len(heard), int(tokens.max()) * TOKEN_HOP)
    for row, samples in zip(waveform, heard, strict=True):
        row[: len(samples)] = torch.from_numpy(samples[: len(row)])
    texts = [torch.tensor(ctc.labels(u.text)) for u in utterances]
    return Batch(
        waveform,
        tokens,
        torch.cat(texts),
        torch.tensor([len(t) for t in texts]),
        agreement,
    )


def train(
    words: list[Pair],
    stories: list[Pair],
    referred: list[Pair],
    speech: list[Utterance],
    folder: Path,
    *,
    preset: str = "lab",
    steps: int = 6000,
    hearing: int = tokenizer_parts.HEARING,
    reading: int = tokenizer_parts.READING,
    size: int = 10,
    seed: int = 0,
    evaluate: Callable[[Tokenizer], dict[str, float]] | None = None,
    begin: Tokenizer | None = None,
    inputs: Mapping[str, str] | None = None,
    compute: Compute | None = None,
) -> tuple[Tokenizer, dict[str, float]]:
    """A tokenizer that learnt from pairs (see `narration.pair`) and from transcribed real speech.

    For half of the `steps` from `words`, many of them in no order, so that it has to listen; then, at a lower
    rate, from `stories`, so that it makes use of what it can expect. After that the encoder alone, `hearing` steps on
    the pairs `referred` to the reference narrator, and the reader alone, `reading` steps. `begin` gives the weights to
    begin with.
    """
    torch.manual_seed(seed_of(seed))
    tokenizer = Tokenizer(TokenizerConfig.preset(preset))
    if begin is not None:
        take_over(tokenizer, begin)
    learner = Learner(tokenizer)
    minutes = 0.0
    for name, pairs, rate, agreement in (
        ("words", words, 2e-3, lambda step: _AGREEMENT if begin else 0.6 * min(1.0, step / 2000) ** 2),
        ("stories", stories, 1.2e-3, lambda step: _AGREEMENT),
    ):
        figures = fit(
            learner,
            loss_of,
            batches(pairs, speech, size, seed, agreement),
            schedule=Schedule(steps // 2, learning_rate=rate, warmup=100, weight_decay=0.02),
            folder=folder / name,
            evaluate=(lambda _: evaluate(tokenizer)) if evaluate else None,
            evaluate_every=300,
            seed=seed,
            mixed=True,
            inputs=inputs,
            compute=compute,
        )
        minutes += figures["minutes"]
    options: dict[str, Any] = {"seed": seed, "evaluate": evaluate, "inputs": inputs, "compute": compute}
    heard = tokenizer_parts.hear(tokenizer, referred, speech, folder / "hearing", steps=hearing, **options)
    everything = [utterance for pair in words + stories + referred for utterance in pair] + speech
    read = tokenizer_parts.read(tokenizer, everything, folder / "reading", steps=reading, **options)
    minutes += heard["minutes"] + read["minutes"]
    return tokenizer, figures | heard | read | {"steps": float(steps), "minutes": minutes}
