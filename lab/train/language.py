"""Recipe of the language models: next-token prediction over long pieces of tokenized stories (paper section 3.1).

Pieces are cut from one flat stream of documents; where a document begins inside a piece, the state is reset.

Not of the paper, so that a model of 3 M parameters remembers a name for minutes: slow channels to begin with
(`lambda_init`; the time scales of the data at init, after Tallec & Ollivier 2018, arXiv 1804.11188), local attention
that is narrowed (`narrowing`), and names that weigh more where they were long unsaid (`weights`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.corpora import storyworld
from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, SpeechTransformer, TransformerConfig
from lab.language.layers import SLOW, RecurrentBlock, looking_back, slow_lambda
from lab.measure.loss import MINUTE, losses, whole_minutes
from lab.tokens import TOKEN_RATE, Tokenizer
from lab.train.batches import positive, random_of, seed_of
from lab.train.loop import Compute, Losses, Schedule, fit, take_over

LENGTHS = {"30s": 750, "1min": 1500, "2min": 3000, "4min": 6000, "16min": 24_000}  # tokens of a piece
# Tokens at the end of each recording, 10 s, that are left out: the last window was completed with its beginning, and
# many begin alike, with "Chapter N" (paper section 3.3, on LibriLight).
END = 250
KEPT = 5  # checkpoints to choose from, as the paper did
# What the held-out loss is told of: so many documents at most, and as many tokens of each, or those of a piece.
HELD_OUT, BRIEF = 32, 1024
LEAD = 3  # tokens before the first letter of a word is read: a CTC head is late
EMPHASIS = 5.0  # weight of a naming word that was said before, and of one
FAR, LONG_AGO = 10.0, 20.0  # that was last said longer ago than so many seconds, which is what attention sees
TAUGHT = (  # for a Griffin's card
    "one channel in four began with a half-life of 10 s to 4 min (after Tallec & Ollivier 2018, arXiv 1804.11188); "
    f"names weigh {EMPHASIS:g}, and {FAR:g} when last said more than {LONG_AGO:g} s before"
)
Batch = tuple[Tensor, ...]  # tokens (B, T), targets (B, T), reset (B, T), and weights (B, T) of the targets if any


@dataclass(frozen=True)
class Preset:
    """A scale of training: the preset of the model's config, tokens of a piece and of a step, the schedule."""

    shapes: str
    length: int
    tokens: int
    schedule: Schedule

    def of(self, length: int | None, size: int | None, steps: int | None) -> tuple[int, int, Schedule]:
        """Tokens of a piece, pieces of a step and the schedule: what is left out as comes nearest to the preset."""
        length = self.length if length is None else length
        size = max(1, round(self.tokens / length)) if size is None else size
        positive(size=size, length=length)
        return length, size, self.schedule.lasting(steps or round(self.schedule.steps * self.tokens / (size * length)))


_PAPER = Schedule(  # section 3.1; its betas and clipping are not told, and a checkpoint of 25 GB is no minute's work
    100_000, learning_rate=5e-4, warmup=1000, weight_decay=0.6, betas=(0.9, 0.95), save_seconds=1800.0
)
_LAPTOP = Schedule(2600, learning_rate=2e-3, warmup=150, weight_decay=0.1, betas=(0.9, 0.95))
PRESETS = {
    "tiny": Preset("tiny", 128, 1024, replace(_LAPTOP, steps=300, learning_rate=5e-3, warmup=20)),
    "laptop": Preset("laptop", 2048, 4096, _LAPTOP),
    "gpu": Preset("lab", 6000, 48_000, replace(_LAPTOP, steps=3000, warmup=300)),
    "paper-2b": Preset("2b", 6000, 768_000, _PAPER),
    "paper-9b": Preset("9b", 6000, 768_000, _PAPER),
}


def scale_of(preset: str) -> Preset:
    """The preset of that name. Raises LabError where there is none."""
    if preset not in PRESETS:
        raise LabError(f"there is no preset {preset!r} of a language model; there are {', '.join(PRESETS)}")
    return PRESETS[preset]


@dataclass(frozen=True)
class TokenStream:
    """Documents end to end: tokens (N,) of any integer type, and where documents start, ascending from 0.

    `weights` (N,) of the tokens in the loss; all alike if left out. `places`: where in `tokens` documents lie that are
    not end to end there, as in a shard whose documents lose their ends; the last one goes to the end. Raises LabError
    for tokens that are no integers or negative, and weights that are not one positive number for each.
    """

    tokens: np.ndarray
    starts: np.ndarray
    weights: np.ndarray | None = None
    places: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 1 or self.tokens.dtype.kind not in "iu":
            raise LabError(f"tokens are integers in one row, not {self.tokens.dtype} of shape {self.tokens.shape}")
        small = self.tokens.dtype.kind == "u" and self.tokens.itemsize <= 2  # a shard, which may be larger than memory
        if len(self.tokens) and not small and not 0 <= self.tokens.min() <= self.tokens.max() < 2**31:
            raise LabError(f"tokens count from 0, and these are {self.tokens.min()} to {self.tokens.max()}")
        if self.weights is not None and (self.weights.shape != self.tokens.shape or not (self.weights > 0).all()):
            raise LabError(f"{len(self.tokens)} tokens have as many positive weights, not {self.weights.shape}")

    @classmethod
    def of(cls, documents: Sequence[np.ndarray], drop: int = 0) -> TokenStream:
        """Documents (T,) each, less their last `drop` tokens, a quarter at most, and less empty ones.

        Raises LabError where nothing is left.
        """
        arrays = [cls(np.asarray(document), np.zeros(1, int)).tokens for document in documents]
        ends = less(np.array([len(array) for array in arrays], int), drop)
        kept = [array[:end].astype(np.int32) for array, end in zip(arrays, ends, strict=True) if end]
        if not kept:
            raise LabError("no documents to learn from: the corpus is empty")
        return cls(np.concatenate(kept), np.cumsum([0] + [len(array) for array in kept[:-1]]))

    @classmethod
    def of_shard(cls, tokens: np.ndarray, starts: np.ndarray, learnt: np.ndarray, drop: int) -> TokenStream:
        """Of the documents that begin at `starts` in the tokens (N,) of a shard those of the numbers `learnt`, which
        ascend, less their last `drop`, as `of` has it: where they lie, and nothing copied."""
        lengths, starts = less(np.diff(starts, append=len(tokens)), drop)[learnt], starts[learnt]
        places, lengths = starts[lengths > 0], lengths[lengths > 0]
        if not len(lengths):
            raise LabError("no documents to learn from: the corpus is empty")
        return cls(tokens[: places[-1] + lengths[-1]], np.cumsum([0, *lengths[:-1]]), places=places)

    @property
    def size(self) -> int:
        """Tokens of all documents."""
        last = (self.starts if self.places is None else self.places)[-1]
        return int(self.starts[-1] + len(self.tokens) - last)

    def read(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tokens at any places (...,) of the stream, int64, and whether a document begins there."""
        document = np.searchsorted(self.starts, at, "right") - 1
        begin = self.starts[document]
        where = at if self.places is None else at - begin + self.places[document]
        return self.tokens[where].astype(np.int64), at == begin


def less(lengths: np.ndarray, drop: int) -> np.ndarray:
    """Lengths (N,) of documents in tokens, less the last `drop` of each, a quarter at most."""
    return lengths - np.minimum(drop, lengths // 4)


def weights(tokenizer: Tokenizer, tokens: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Weights (N,) of tokens (N,), documents end to end that begin at `starts`, by the words that tell casts apart, as
    the tokenizer reads them: `EMPHASIS` for the tokens of each, `FAR` where its document last said it `LONG_AGO`, and 1
    where for the first time, which nobody can know. 1 for all others.

    Of a story's tokens one in a few hundred is the beginning of a name after a minute without it: as such it would be
    next to nothing in a mean, and a model learns to speak long before it learns to remember.
    """
    weights = np.ones(len(tokens), np.float32)
    for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        said: dict[str, float] = {}  # word -> second at which it last ended
        for first, last, word in tokenizer.words(torch.from_numpy(tokens[start:end].astype(np.int64))):
            if word in storyworld.NAMING:
                if word in said:
                    at = start + max(0, round(first * TOKEN_RATE) - LEAD)
                    far = first - said[word] > LONG_AGO
                    weights[at : start + round(last * TOKEN_RATE)] = FAR if far else EMPHASIS
                said[word] = last
    return weights


def batches(stream: TokenStream, size: int, length: int, seed: int, given: int = 0) -> Callable[[int], Batch]:
    """Step -> `size` pieces of `length` tokens. Tokens below `given` are read and not predicted.

    A piece that would begin within a document that it can hold begins with it: a name that was said before the piece
    nobody can know. Raises LabError for a stream that is not longer than a piece.
    """
    positive(size=size, length=length)
    if stream.size <= length:
        raise LabError(f"{stream.size} tokens are too few for pieces of {length}; make more stories")
    fits = np.diff(stream.starts, append=stream.size) <= length
    seed = seed_of(seed)

    def batch(step: int) -> Batch:
        rng = random_of(seed, step)
        first = rng.integers(0, stream.size - length, size)
        document = np.searchsorted(stream.starts, first, "right") - 1
        first = np.where(fits[document], stream.starts[document], first)
        at = first[:, None] + np.arange(length + 1)
        tokens, reset = map(torch.from_numpy, stream.read(at))
        unasked = reset[:, 1:] | (tokens[:, 1:] < given)  # nobody can know how the next story begins
        targets = tokens[:, 1:].masked_fill(unasked, -100)
        reset[:, 0] = True
        batch = tokens[:, :-1], targets, reset[:, :-1]
        if stream.weights is None:
            return batch
        return *batch, torch.from_numpy(stream.weights[at[:, 1:]].astype(np.float32))

    return batch


def loss_of(model: nn.Module, batch: Batch) -> Losses:
    """Cross-entropy in nats a token, weighted where the batch has weights; what is logged is not."""
    tokens, targets, reset, *weights = batch
    if targets.shape != tokens.shape or targets.dtype != torch.int64:
        raise LabError(f"targets must be as tokens, not {tuple(targets.shape)} {targets.dtype}")
    logits, _ = model(tokens, reset=reset)  # which looks at the others
    if targets.device.type == "cpu" and int(targets.max()) >= logits.shape[-1]:
        raise LabError(f"target {int(targets.max())} is not in the vocabulary, 0 to {logits.shape[-1] - 1}")
    logits, targets = logits.flatten(0, 1).float(), targets.flatten()
    if not weights:
        loss = F.cross_entropy(logits, targets, ignore_index=-100)
        return loss, {"loss": loss}
    each, weight = F.cross_entropy(logits, targets, ignore_index=-100, reduction="none"), weights[0].flatten()
    known = (targets != -100).float()
    heavy = known * (weight > 1)
    logs = {
        "loss": each.sum() / known.sum(),
        "loss of what weighs more": (each * heavy).sum() / heavy.sum().clamp(min=1),
    }
    return (each * weight).sum() / (known * weight).sum(), logs


def narrowing(batch: Callable[[int], Batch], window: int, seed: int) -> Callable[[int], tuple[Any, ...]]:
    """Step -> its batch, and how far local attention looks back then: `window`, or in 7 of 10 steps less, 1 s at least.

    A name comes again within 20 s nearly always. A model that may always look back so far learns to copy it from there,
    and never to keep it in its state.
    """

    seed = seed_of(seed)

    def narrowed(step: int) -> tuple[Any, ...]:
        random = np.random.default_rng((seed, step, 1))
        less = TOKEN_RATE * (window / TOKEN_RATE) ** random.random()
        return *batch(step), torch.tensor(window if random.random() < 0.3 else round(less))

    return narrowed


def narrowed_loss(model: nn.Module, batch: tuple[Any, ...]) -> Losses:
    """`loss_of` a batch of `narrowing`."""
    with looking_back(model, int(batch[-1])):
        return loss_of(model, batch[:-1])


def cross_entropy(model: nn.Module, documents: list[np.ndarray], length: int, given: int = 0) -> float:
    """Mean cross-entropy in nats a token over the first `length` tokens of each document, less those below `given`."""
    documents = [document[: length + 1] for document in documents if len(document) > 1]
    if not documents:
        raise LabError("no document of two tokens or more to measure the cross-entropy on")
    asked = np.concatenate([document[1:] for document in documents]) >= given
    return float(torch.cat([_losses(model, document) for document in documents])[torch.from_numpy(asked)].mean())


def by_minute(model: nn.Module, documents: list[np.ndarray], dropped: int = 0) -> dict[str, float]:
    """Mean cross-entropy in nats a semantic token of each whole minute, over the documents that are as long: what a
    model that remembers what was said goes on to need less of. A last minute may lack the first token, which has no
    loss, and the tokens that were `dropped` at the end: the fourth of pieces of 240 s."""
    lacking = dropped + 1
    told = [whole_minutes(_losses(model, each), lacking) for each in documents if len(each) > MINUTE - lacking]
    minutes = ([each for each in minute if each is not None] for minute in zip_longest(*told))
    return {f"held_out_loss_minute_{number}": sum(each) / len(each) for number, each in enumerate(minutes, 1)}


def _losses(model: nn.Module, document: np.ndarray) -> Tensor:
    return losses(model, torch.from_numpy(document.astype(np.int64)).to(next(model.parameters()).device))


def slowed(begin: Griffin | SpeechTransformer, config: Any) -> Griffin | SpeechTransformer:
    """The weights to begin with in a model of `config`: where that has slow channels and they have none, the slowest
    channels of each layer become as slow, in their order: they change least by it. Any others as they are."""
    if (
        not isinstance(begin, Griffin)
        or config.lambda_init != "minutes"
        or replace(begin.config, lambda_init="minutes") != config
        or begin.config == config
    ):
        return begin
    with begin.device, torch.no_grad():
        made = Griffin(config)
        made.load_state_dict(begin.state_dict())
        for mix in (module for module in made.modules() if isinstance(module, RecurrentBlock)):
            slowest = mix.lambda_.argsort()[: len(mix.lambda_[::SLOW])]
            mix.lambda_[slowest] = slow_lambda(len(slowest)).sort().values
    return made


def take_layers(network: Griffin | SpeechTransformer, text: Griffin | SpeechTransformer) -> None:
    """Begin with the layers of a language model of text; the embedding stays new, as units are no letters (paper
    section 3.1). Raises LabError for one of other layers."""
    apart = {"vocabulary", "context", "lambda_init"}
    ours, theirs = (asdict(model.config) for model in (network, text))
    differ = [key for key in ours if key not in apart and ours[key] != theirs.get(key)]
    if type(network) is not type(text) or differ:
        shapes = ", ".join(f"{key} {theirs.get(key)} and not {ours[key]}" for key in differ) or type(text).__name__
        raise LabError(
            f"cannot begin a {type(network).__name__} with the layers of that model of text: it has {shapes}"
        )
    if network.device.type != "meta":
        network.load_state_dict(_layers(text), strict=False)


def _layers(text: nn.Module) -> dict[str, Tensor]:
    return {key: value.float() for key, value in text.state_dict().items() if key != "embedding"}


def _built(
    model: str, scale: Preset, vocabulary: int, length: int, config: Any, seed: int, meta: bool
) -> Griffin | SpeechTransformer:
    """A new model, or its shapes alone, on the meta device."""
    torch.manual_seed(seed_of(seed))
    with torch.device("meta") if meta else nullcontext():
        if model == "griffin":
            return Griffin(config or GriffinConfig.preset(scale.shapes, vocabulary=vocabulary))
        if model == "transformer":
            preset = TransformerConfig.preset(scale.shapes, vocabulary=vocabulary, context=length)
            return SpeechTransformer(config or preset)
    raise LabError(f"there is no language model {model!r}; there are griffin and transformer")


def _weights(
    network: Griffin | SpeechTransformer, seed: int, begin: nn.Module | None, text: nn.Module | None
) -> Iterator[tuple[str, Tensor]]:
    """Those that an ordinary model begins with, for one on the meta device; then nobody needs `begin` any more."""
    if begin is not None:
        yield from begin.state_dict().items()
        begin.to("meta")  # the first process has the memory of all of it else
        return
    with torch.random.fork_rng([]):
        torch.manual_seed(seed_of(seed))
        yield from network.initial()
    if text is not None:
        yield from _layers(text).items()


def train(
    stream: TokenStream,
    held_out: list[np.ndarray],
    folder: Path,
    *,
    model: str = "griffin",
    preset: str = "laptop",
    vocabulary: int = 512,
    steps: int | None = None,
    size: int | None = None,
    length: int | None = None,
    seed: int = 0,
    given: int = 0,
    begin: Griffin | SpeechTransformer | None = None,
    config: Any = None,
    text: Griffin | SpeechTransformer | None = None,
    inputs: Mapping[str, str] | None = None,
    **options: Any,
) -> tuple[Griffin | SpeechTransformer, dict[str, float]]:
    """Griffin or SpeechTransformer on a stream of documents.

    `length` is that of a piece in tokens, by default the preset's, and `size` the pieces of a step, by default as many
    as come nearest to the preset's tokens; `steps` by default as many as make the preset's tokens in all, whatever the
    length. `given`: as in `batches`. `begin` gives the weights to begin with; `text`, a language model of text, those
    of all layers but the embedding; `config` takes the place of the preset's. `options` are `fit`'s. Raises LabError
    for another model or preset, too few tokens, and tokens outside the vocabulary.
    """
    scale = scale_of(preset)
    length, size, schedule = scale.of(length, size, steps)
    if len(stream.tokens) and int(stream.tokens.max()) >= vocabulary:
        raise LabError(f"token {stream.tokens.max()} is not in the vocabulary, 0 to {vocabulary - 1}")
    compute = options.get("compute") or Compute()
    network = _built(model, scale, vocabulary, length, config, seed, compute.shares)
    begin = None if begin is None else slowed(begin, network.config)
    if compute.shares:
        options["weights"] = partial(_weights, network, seed, begin, text)
    if begin is not None:
        take_over(network, begin)
    elif text is not None:
        take_layers(network, text)
    batch, loss = batches(stream, size, length, seed, given), loss_of
    brief = min(length, BRIEF)
    if isinstance(network, Griffin):
        batch, loss = narrowing(batch, network.config.window, seed), narrowed_loss
    if held_out:
        options["settings"] = {"keep": KEPT} | (options.get("settings") or {})
    figures = fit(
        network,
        loss,
        batch,
        schedule=schedule,
        folder=folder,
        evaluate=(lambda network: {"held_out_loss": cross_entropy(network, held_out, brief, given)})
        if held_out
        else None,
        seed=seed,
        mixed=True,
        inputs={"pieces": f"of {length} tokens, {size} a step", **(inputs or {})},
        tokens=size * length,
        **options,
    )
    return network, figures | {"piece": float(length)}
