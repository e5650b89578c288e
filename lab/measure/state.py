"""What Griffin's recurrent state holds, and for how long: traces, state patching and linear probes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from lab.corpora import narration, narrators, splits, storyworld
from lab.corpora.storyworld.world import HEROES
from lab.errors import LabError
from lab.language import Griffin, GriffinState
from lab.language.layers import RecurrentBlock, RecurrentState, initial_lambda
from lab.measure.ablation import forget_windows as forget_windows
from lab.recurrence import rg_lru
from lab.recurrence.reference import DECAY_POWER
from lab.tokens import TOKEN_HOP, TOKEN_RATE, Tokenizer

# Traces


@dataclass(frozen=True)
class Trace:
    """Inputs, gates and h of one recurrent layer: (T, L) float32 each, but decay (L,), which is softplus(Lambda)."""

    layer: int  # among all layers of the model, from 0
    x: Tensor
    input_gate: Tensor
    recurrence_gate: Tensor
    decay: Tensor
    hidden: Tensor

    @cached_property
    def half_lives(self) -> Tensor:
        """Seconds (L,), at the gates that these tokens gave: log a_t is linear in r_t, so their mean is exact."""
        return half_life(self.decay, self.recurrence_gate.mean(0))

    @cached_property
    def order(self) -> Tensor:
        """Channels (L,) by half-life, the shortest first."""
        return self.half_lives.argsort()

    @cached_property
    def renewed(self) -> Tensor:
        """How much of h is new at each token (T,): |h_t - h_(t-1)| / |h_t|, and 1 at the first."""
        before = F.pad(self.hidden, (0, 0, 1, 0))[:-1]
        return (self.hidden - before).norm(dim=1) / self.hidden.norm(dim=1).clamp(min=1e-9)

    def replay(self, channel: int, times: float) -> Tensor:
        """h of one channel over the same inputs and gates (T,), were its decay `times` what it is."""
        only = slice(channel, channel + 1)
        x, i, r = (each[:, only] for each in (self.x, self.input_gate, self.recurrence_gate))
        return _from_a_beginning(x, i, r, times * self.decay[only])[:, 0]

    def left_by(self, start: int, stop: int) -> Tensor:
        """What the inputs of tokens [start, stop) left in h at each token, (T, L).

        Exact, as RG-LRU is linear in x once the gates are given, and no gate sees h: what all left adds up to h.
        """
        here = torch.arange(len(self.x))
        x = self.x * ((start <= here) & (here < stop))[:, None]
        return _from_a_beginning(x, self.input_gate, self.recurrence_gate, self.decay)


class Projection(NamedTuple):
    """A path along principal axes: points (T, count), and the share of the variance that each explains (count,)."""

    points: np.ndarray
    shares: np.ndarray


def principal(hidden: Tensor, count: int = 2) -> Projection:
    """PCA of h (T, L) over time, its channels centred and as large as they are.

    The sign of an axis is such that its largest weight is positive, so that it is the same in every run. Raises
    LabError where h never moves, or for more axes than it has channels or moments.
    """
    centred = (hidden - hidden.mean(0)).double()
    if not 0 < count <= min(centred.shape):
        raise LabError(f"h of {tuple(hidden.shape)} has no {count} principal axes; give fewer, or a longer story")
    u, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    if not sizes[0]:
        raise LabError("h is the same at each token, so there is no direction that it moves in")
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()[:, 0]
    points, variances = u * (sizes * signs), sizes.square()
    return Projection(points[:, :count].float().numpy(), (variances / variances.sum())[:count].numpy())


def _from_a_beginning(x: Tensor, input_gate: Tensor, recurrence_gate: Tensor, decay: Tensor) -> Tensor:
    """h of RG-LRU (T, L); the first token begins a document, so that its input enters whole."""
    reset = torch.arange(len(x))[None] == 0
    return rg_lru(x[None], input_gate[None], recurrence_gate[None], decay, reset=reset)[0][0]


def trace(model: Griffin, tokens: Tensor) -> list[Trace]:
    """One of each recurrent layer, as the model reads tokens (T,) from a beginning."""
    seen: list[tuple[int, Tensor, Tensor, Tensor, Tensor]] = []
    with ExitStack() as hooks, torch.no_grad():
        for layer, block in enumerate(model.blocks):
            if isinstance(mix := block.mix, RecurrentBlock):

                def record(_gates, branch, logits, layer=layer, mix=mix):
                    i, r = (each[0].float().sigmoid() for each in logits)  # (T, L)
                    seen.append((layer, branch[0][0].float(), i, r, F.softplus(mix.lambda_.float())))

                hooks.callback(mix.gates.register_forward_hook(record).remove)
        model(tokens[None], last=True)
        return [Trace(*parts, _from_a_beginning(*parts[1:])) for parts in seen]


def half_life(decay: Tensor, recurrence_gate: Tensor | float) -> Tensor:
    """Seconds until half of what a channel holds is gone: ln 2 / (8 r softplus(Lambda)) tokens, 25 of them a second."""
    return math.log(2) / (DECAY_POWER * recurrence_gate * decay) / TOKEN_RATE


def initial_half_lives(kind: str, width: int = 10_000, seed: int = 0) -> Tensor:
    """Seconds (width,) before training, gates half open. kind: of `GriffinConfig.lambda_init`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return half_life(F.softplus(initial_lambda(width, kind)), 0.5)


# Patching


def patch_hidden(
    state: GriffinState, other: GriffinState | None = None, channels: Sequence[Tensor] | None = None
) -> GriffinState:
    """`state` with h of the recurrent layers from `other`, or 0 if None, as in activation patching. All else stays: the
    windows of attention and the taps of the convolutions.

    channels: (L,) bool for each recurrent layer, True where h is exchanged; None: all. Raises LabError for states that
    do not belong to one model and one batch.
    """
    mine = _hidden(state)
    theirs = [torch.zeros_like(h) for h in mine] if other is None else _hidden(other)
    masks = [torch.ones(h.shape[-1], dtype=torch.bool) for h in mine] if channels is None else list(channels)
    shapes = [tuple(h.shape) for h in mine]
    if shapes != [tuple(h.shape) for h in theirs] or [s[-1] for s in shapes] != [len(mask) for mask in masks]:
        raise LabError(f"h of {shapes} cannot be exchanged for h of {[tuple(h.shape) for h in theirs]}")
    exchanged = (torch.where(mask, b, a) for a, b, mask in zip(mine, theirs, masks, strict=True))
    layers = (
        layer._replace(hidden=next(exchanged)) if isinstance(layer, RecurrentState) else layer for layer in state.layers
    )
    return GriffinState(state.length, tuple(layers))


def divergence(model: Griffin, state: GriffinState, other: GriffinState, tokens: Tensor) -> np.ndarray:
    """Bits (T,) by which the prediction of the next token from `other` is off that from `state`, as both read the same
    tokens (T,): the Kullback-Leibler divergence."""
    with torch.no_grad():
        ours, theirs = (model(tokens[None], each)[0][0].log_softmax(-1) for each in (state, other))
    return ((ours.exp() * (ours - theirs)).sum(-1) / math.log(2)).numpy()


def first_difference(ours: Tensor, theirs: Tensor) -> float | None:
    """Seconds at which two token sequences (T,) part; None if they never do."""
    differ = (ours != theirs).nonzero()
    return float(differ[0]) / TOKEN_RATE if len(differ) else None


def _hidden(state: GriffinState) -> list[Tensor]:
    """h of each recurrent layer, (B, L)."""
    return [layer.hidden for layer in state.layers if isinstance(layer, RecurrentState)]


# Probes


@dataclass(frozen=True)
class SentenceEnds:
    """States at the ends of N sentences of held-out stories, and what holds there."""

    hidden: np.ndarray  # (layers, N, L), the recurrent layers
    facts: list[storyworld.Facts]
    stories: np.ndarray  # (N,) numbers from 0
    unnamed: np.ndarray  # (N,) sentences since the hero was named, 0 where this one names the hero
    held_out: np.ndarray  # (N,) bool: states of every third story of each hero, for the test of a probe


def held_out_stories(each: int, sentences: int) -> list[storyworld.Story]:
    """`each` held-out stories of each hero, of so many sentences, in rounds of one of each."""
    found: dict[str, list[storyworld.Story]] = {hero: [] for hero in HEROES}
    for number in splits.PROBED:
        if min(map(len, found.values())) >= each:
            break
        story = storyworld.story(narration.held_out_seed(number), sentences)
        if len(found[story.cast.hero]) < each:
            found[story.cast.hero].append(story)
    return [story for stories in zip(*found.values(), strict=True) for story in stories]


def sentence_ends(
    tokenizer: Tokenizer, model: Griffin, stories: Sequence[storyworld.Story], after: int = 4
) -> SentenceEnds:
    """Read stories aloud and keep the state at the end of each sentence, but not of the first `after`, which introduce
    everybody.

    Sentences are read one by one, so that where they end is known; the held-out narrators take turns.
    """
    hidden, facts, numbers, unnamed, held_out = [], [], [], [], []
    heroes: Counter[str] = Counter()
    for number, story in enumerate(stories):
        narrator = narrators.HELD_OUT[number % len(narrators.HELD_OUT)]
        spoken = [narrator.read(sentence) for sentence in story.sentences]
        ends = -(-np.cumsum([len(waveform) for waveform in spoken]) // TOKEN_HOP)
        tokens = tokenizer.encode(np.concatenate(spoken))
        state, since = None, 0
        heroes[story.cast.hero] += 1
        for k, sentence in enumerate(tokens.split(np.diff(ends, prepend=0).tolist())):
            with torch.no_grad():
                state = model(sentence[None], state, last=True)[1]
            since = 0 if story.parsed[k].form.names else since + 1
            if k >= after:
                hidden.append(torch.cat(_hidden(state)).numpy())  # (layers, L)
                facts.append(story.facts[k])
                numbers.append(number)
                unnamed.append(since)
                held_out.append(heroes[story.cast.hero] % 3 == 0)
    if not any(held_out):
        wanted = f"give 3 of each hero, of over {after} sentences"
        raise LabError(f"{len(stories)} stories give no state to test with; {wanted}")
    return SentenceEnds(np.stack(hidden, 1), facts, *map(np.array, (numbers, unnamed, held_out)))


@dataclass(frozen=True)
class Probe:
    """A linear probe on states that it was not fitted to."""

    right: np.ndarray  # (N,) bool, of the held-out states
    stories: np.ndarray  # (N,) where they come from
    weights: np.ndarray  # (L,) root mean square over the labels, of standardized channels

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def error(self) -> float:
        """Standard error of the accuracy; states of one story are no independent draws, stories are."""
        shares = [self.right[self.stories == story].mean() for story in np.unique(self.stories)]
        return float(np.std(shares, ddof=1) / math.sqrt(len(shares)))


def probe(ends: SentenceEnds, layer: int, labels: Sequence[str], channels: np.ndarray | None = None) -> Probe:
    """Multinomial logistic regression from h of a recurrent layer (counted among those) to labels (N,).

    channels: (L,) bool, those that it may see; None: all. L2 penalty C = 0.1, as scikit-learn counts; up to 10 the
    accuracy is the same to 1 %.
    """
    hidden = ends.hidden[layer] if channels is None else ends.hidden[layer][:, channels]
    wanted, test = np.array(labels), ends.held_out
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    classifier.fit(hidden[~test], wanted[~test])
    weights = np.sqrt(np.square(classifier[-1].coef_).mean(0))
    return Probe(classifier.predict(hidden[test]) == wanted[test], ends.stories[test], weights)
