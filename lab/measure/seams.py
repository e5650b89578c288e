"""What windows change: tokens near the edge of a window, the sound at a seam, and the tokens before the end.

Neighbouring windows share an overlap (lab.windows), and each has its own version of it. The last window has no
neighbour after it; what it is filled with takes the neighbour's place (paper section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lab import audio, windows
from lab.audio import SAMPLE_RATE
from lab.errors import LabError
from lab.language import generate
from lab.measure.audio import spectral_jumps
from lab.measure.tokens import histograms, probe
from lab.nn.sampling import generator_of
from lab.protocols import LanguageModel
from lab.tokens import TOKEN_HOP, TOKEN_RATE, Tokenizer
from lab.voice import Synthesizer, VoicePrompt
from lab.voice.losses import FLOOR, MultiScaleMel
from lab.voice.synthesis import FADE, NOISE, TEMPERATURE
from lab.windows import Window, Windowing

Output = TypeVar("Output", np.ndarray, Tensor)

EDGE = Windowing(200, 100)  # windows of 8 s: the overlap of the paper, and 6.5 times its seams in a minute
QUIET = -50.0  # dBFS of 40 ms; speech at -23 dBFS has its pauses below
NEAR_END = 6  # tokens: the quarter of a second in which an ending shows most


# Overlaps


def overlaps(parts: Sequence[Window], outputs: Sequence[Output]) -> list[tuple[Output, Output]]:
    """What each window and the next make of the part that both saw: outputs (k * len(window), ...), one a window, ->
    K - 1 pairs (k * overlap, ...)."""
    if len(parts) != len(outputs):
        raise LabError(f"{len(outputs)} outputs of {len(parts)} windows; give one a window")
    pairs = []
    for number, (left, right) in enumerate(zip(parts, parts[1:], strict=False)):
        earlier, later = outputs[number], outputs[number + 1]
        shared = (left.stop - right.start) * (len(earlier) // len(left))
        pairs.append((earlier[len(earlier) - shared :], later[:shared]))
    return pairs


def abutted(parts: Iterable[Window]) -> list[Window]:
    """Windows with the same seams and no overlap: each sees only what it answers for."""
    return [Window(part.keep_start, part.keep_stop, part.keep_start, part.keep_stop) for part in parts]


# Tokens


@torch.inference_mode()
def tokens_alone(tokenizer: Tokenizer, waveform: np.ndarray, windowing: Windowing) -> tuple[list[Window], list[Tensor]]:
    """The full windows of a waveform (N,), and the tokens of each as if there were no other: (window,) each.

    What is left over at the end is no full window and is not tokenized. Raises LabError for less than one window.
    """
    waveform, (window, overlap) = audio.as_waveform(waveform), windowing
    if len(waveform) < window * TOKEN_HOP:
        seconds = len(waveform) / SAMPLE_RATE
        wanted = window * TOKEN_HOP
        raise LabError(f"{seconds:.2f} s of speech fill no window of {window} tokens; give {wanted} samples")
    stride = window - overlap
    parts = windows.plan(window + (len(waveform) // TOKEN_HOP - window) // stride * stride, window, overlap)
    pieces = np.stack([waveform[TOKEN_HOP * part.start : TOKEN_HOP * part.stop] for part in parts])
    device = tokenizer.device
    return parts, [tokenizer.tokenize(torch.from_numpy(piece[None]).to(device))[0].cpu() for piece in pieces]


def disagreement(
    tokenizer: Tokenizer, waveforms: Iterable[np.ndarray], windowing: Windowing = EDGE
) -> tuple[np.ndarray, int]:
    """Token i of an overlap: the share of seams at which the two windows differ in it, (overlap,); and how many seams.

    Token i is i tokens after the start of the later window and overlap - 1 - i before the end of the earlier one; no
    window hears beyond its edges, so nothing differs where both distances are `tokenizer.reach` or more.
    """
    pairs = [pair for waveform in waveforms for pair in overlaps(*tokens_alone(tokenizer, waveform, windowing))]
    if not pairs:
        raise LabError(f"no two windows of {windowing.window} tokens in what was given; give longer waveforms")
    differ = torch.stack([earlier != later for earlier, later in pairs])
    return differ.double().mean(0).numpy(), len(pairs)


# Sound


def renderings(
    voice: Synthesizer,
    tokens: Tensor,
    prompt: VoicePrompt,
    parts: Sequence[Window],
    seed: int = 0,
    *,
    iterations: Sequence[int] | None = None,
    temperature: float = TEMPERATURE,
    noise: float = NOISE,
) -> list[np.ndarray]:
    """Tokens (T,) -> what each window says, all of it, before anything is cut: (640 * len(window),) each.

    Seeds and defaults are those of `Synthesizer.stream`: `joined` makes of these the very samples that it makes.
    """
    spoken = []
    for index, part in enumerate(parts):
        codes = voice.soundstorm.generate(
            tokens[part.start : part.stop],
            prompt,
            generator_of(seed, index),
            iterations=iterations,
            temperature=temperature,
            noise=noise,
        )
        spoken.append(voice.decode(codes, prompt.timbre, tokens[part.start : part.stop]))
    return spoken


def joined(parts: Sequence[Window], spoken: Sequence[np.ndarray], fade: int = FADE) -> np.ndarray:
    """`renderings` -> one waveform (640 T,), cross-faded over `fade` samples at each seam; 0 is the paper's cut.

    Raises LabError for a fade that is odd or longer than the overlap.
    """
    if fade % 2 or fade < 0:
        raise LabError(f"a cross-fade of {fade} samples has no middle; give an even number")
    pieces = (whole[part.scaled(TOKEN_HOP).kept(fade // 2)] for part, whole in zip(parts, spoken, strict=True))
    return np.concatenate(list(audio.stitch(pieces, fade)))


def at_first(
    voice: Synthesizer,
    tokens: Tensor,
    prompt: VoicePrompt,
    windowing: Windowing,
    fade: int = FADE,
    seconds: float = 4.0,
    **how: Any,
) -> tuple[np.ndarray, float]:
    """`seconds` of speech (N,) around the first seam of tokens (T,), were the voice's windows these; and its second.

    fade: samples, no longer than the overlap. how: of `renderings`. The first two windows are spoken, nothing else.
    Raises LabError where one window is enough, and as `windows.plan` and `joined`.
    """
    parts = windows.plan(len(tokens), *windowing)[:2]
    if len(parts) < 2:
        raise LabError(f"{len(tokens) / TOKEN_RATE:g} s fit into one window: there is no seam; take shorter windows")
    parts = windows.plan(parts[1].stop, *windowing)
    sound = joined(parts, renderings(voice, tokens, prompt, parts, **how), fade)
    seam, half = parts[1].keep_start * TOKEN_HOP, round(seconds * SAMPLE_RATE / 2)
    return sound[max(0, seam - half) : seam + half], seam / SAMPLE_RATE


@torch.inference_mode()
def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How far two renderings (640 T,) of the same tokens are apart in the 40 ms of each token, in nepers: (T,).

    The mean distance of their log-mel spectra, 64 bands, windows of 40 ms every 10 ms.
    """
    first, second = audio.as_waveform(first), audio.as_waveform(second)
    if first.shape != second.shape or not len(first) or len(first) % TOKEN_HOP:
        raise LabError(f"cannot compare {first.shape} samples with {second.shape}; give equal multiples of {TOKEN_HOP}")
    spectrum = MultiScaleMel(SAMPLE_RATE, scales=(TOKEN_HOP,))
    margin = TOKEN_HOP * 3 // 8  # frame f is centred on its 10 ms
    both = np.pad(np.stack([first, second]), ((0, 0), (margin, margin)))
    bands = (spectrum.mel(torch.from_numpy(both), TOKEN_HOP) + FLOOR).log()  # (2, 4 T, 64)
    return (bands[0] - bands[1]).abs().mean(1).unflatten(0, (-1, 4)).mean(1).numpy()


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """How alike two renderings (N,) are, sample by sample: 1 is the same sound, 0 unrelated, as where phases differ; 0
    for silence. The middle of an equal-power cross-fade is 10 log10(1 + correlation) dB louder than they are.

    Raises LabError for unequal lengths.
    """
    first, second = audio.as_waveform(first), audio.as_waveform(second)
    if first.shape != second.shape:
        raise LabError(f"cannot correlate {len(first)} samples with {len(second)}; give as many of both")
    powers = float(np.square(first, dtype=np.float64).sum() * np.square(second, dtype=np.float64).sum())
    return float(np.dot(first.astype(np.float64), second)) / powers**0.5 if powers else 0.0


def ranks(waveform: np.ndarray, seams: Sequence[float]) -> list[float]:
    """For each seam, in seconds: the share of all other moments of a waveform (N,) at which its spectrum jumps less.

    0.5 is a seam like any other moment of the story, 1 the largest jump of all. Raises LabError as `spectral_jumps`.
    """
    at, elsewhere = spectral_jumps(waveform, seams)
    return [float((elsewhere < jump).mean()) for jump in at]


# The end


@torch.inference_mode()
def endings(
    tokenizer: Tokenizer, waveform: np.ndarray, cuts: Sequence[int], length: int = 10 * TOKEN_RATE
) -> dict[str, Tensor]:
    """The last `length` tokens of a recording that is cut off, (cuts, length), by what the encoder hears after the cut.

    "what follows" is the waveform (N,) itself, "the start again" is what `Tokenizer.encode` fills the last window with,
    and "silence" is the padding to avoid (paper section 3.3). Each cut, in tokens, is at least `length` and twice the
    tokenizer's reach after the beginning and its reach before the end; LabError otherwise.
    """
    waveform, reach = audio.as_waveform(waveform), tokenizer.reach
    least, most = max(length, 2 * reach), len(waveform) // TOKEN_HOP - reach
    if not cuts or min(cuts) < least or max(cuts) > most:
        raise LabError(f"cuts after {list(cuts)} tokens; give cuts between {least} and {most}")
    whole = tokenizer.encode(waveform).cpu()
    follows = torch.stack([whole[cut - length : cut] for cut in cuts])
    samples = torch.from_numpy(waveform).to(tokenizer.device)
    before = torch.stack([samples[TOKEN_HOP * (cut - 2 * reach) : TOKEN_HOP * cut] for cut in cuts])  # (cuts, N)
    start = samples[: TOKEN_HOP * reach].expand(len(cuts), -1)
    ends = {"what follows": follows}
    for name, filling in (("the start again", start), ("silence", torch.zeros_like(start))):
        last = tokenizer.tokenize(torch.cat([before, filling], 1))[:, reach : 2 * reach].cpu()
        ends[name] = torch.cat([follows[:, :-reach], last], 1)[:, -length:]  # no earlier token hears the cut
    return ends


def end_is_known(ends: Sequence[Tensor], elsewhere: Sequence[Tensor], tokens: int = NEAR_END) -> float:
    """How well a linear probe tells the last `tokens` of a recording from as many tokens elsewhere: 0.5 is chance.

    ends, elsewhere: one (cuts, tokens or more) a recording, with what follows never heard in `ends`. The probe
    (`lab.measure.tokens.probe`) sees how often each token occurs and is tested on recordings that it never saw.
    Raises LabError for fewer than six recordings.
    """
    if len(ends) < 6:
        raise LabError(f"{len(ends)} recordings are too few to train and test a probe on; give 6")
    pieces = [rows[:, -tokens:] for pair in zip(ends, elsewhere, strict=True) for rows in pair]
    labels = [label for pair in zip(ends, elsewhere, strict=True) for k in (0, 1) for label in [str(k)] * len(pair[k])]
    groups = [number // 2 for number, rows in enumerate(pieces) for _ in range(len(rows))]
    return probe(histograms(torch.cat(pieces).numpy()), labels, groups)


def quiet_tokens(tokenizer: Tokenizer, waveforms: Iterable[np.ndarray], dbfs: float = QUIET) -> Tensor:
    """Which tokens (V,) mean a pause: those whose 40 ms lie below `dbfs` more often than not; unheard ones do not."""
    count, below = (torch.zeros(tokenizer.vocabulary) for _ in range(2))
    for waveform in waveforms:
        whole = audio.as_waveform(waveform)[: len(waveform) // TOKEN_HOP * TOKEN_HOP]
        tokens = tokenizer.encode(whole).cpu()
        power = np.square(audio.without_offset(whole).reshape(-1, TOKEN_HOP), dtype=np.float64).mean(1)
        count += torch.bincount(tokens, minlength=len(count))
        below += torch.bincount(tokens[torch.from_numpy(power < 10 ** (dbfs / 10))], minlength=len(count))
    return below > count / 2


def quiet_probability(
    model: LanguageModel,
    prompts: Tensor,
    quiet: Tensor,
    steps: int,
    seed: int = 0,
    temperature: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts (B, T) -> the probability that each of the next tokens is a quiet one (B, steps), and which were.

    Row b draws alike for every set of prompts of one shape and seed, so that sets can be compared row by row.
    """
    generator = generator_of(seed, device=model.device)
    new = generate(model, prompts, generator=generator, temperature=temperature, max_tokens=steps)
    chances, drawn = [], []
    for tokens in new:
        assert new.logits is not None
        chances.append(new.logits.float().softmax(-1).cpu()[:, quiet].sum(-1))
        drawn.append(quiet[tokens.cpu()])
    return torch.stack(chances, 1).numpy(), torch.stack(drawn, 1).numpy()
