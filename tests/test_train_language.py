"""lab.train.language: its pieces, losses, presets and recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, SpeechTransformer, TransformerConfig
from lab.language.layers import LocalAttention
from lab.measure import loss
from lab.train import language
from lab.train.loop import Schedule


def stream() -> language.TokenStream:
    """Documents of 5, 3 and 9 tokens; the tokens count on from 0."""
    return language.TokenStream.of([np.arange(0, 5), np.arange(5, 8), np.arange(8, 17)])


@pytest.mark.parametrize(
    ("documents", "message"),
    [([], "the corpus is empty"), ([np.zeros(0, int)], "the corpus is empty"), (np.arange(5), "integers in one row"),
     ([np.arange(5.0)], "not float64 of shape"), ([np.zeros((2, 3), int)], r"of shape \(2, 3\)"),
     ([np.array([3, -1])], "these are -1 to 3"), ([np.array([2**40])], "these are 1099511627776"),
     (["abc"], "not <U3")],
)  # fmt: skip
def test_documents_that_are_no_tokens_are_an_error(documents: Any, message: str) -> None:
    with pytest.raises(LabError, match=message):
        language.TokenStream.of(documents)


def test_the_end_of_a_document_can_be_left_out() -> None:
    made = language.TokenStream.of([np.arange(13), np.arange(0), np.arange(3), np.arange(8)], drop=3)
    expected = [*range(10), *range(3), *range(6)]  # of a short one no more than a quarter
    assert made.tokens.tolist() == expected and made.starts.tolist() == [0, 10, 13]


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda tokens, targets, reset: (tokens.float(), targets, reset), "tokens must be int64"),
     (lambda tokens, targets, reset: (tokens, targets.float(), reset), "targets must be as tokens, not"),
     (lambda tokens, targets, reset: (tokens, targets[:, 1:], reset), "targets must be as tokens, not"),
     (lambda tokens, targets, reset: (tokens, targets + 99, reset), "target 1.. is not in the vocabulary, 0 to 31"),
     (lambda tokens, targets, reset: (tokens, targets, reset.long()), "reset must be")],
)  # fmt: skip
def test_a_batch_of_another_type_is_an_error(change: Any, message: str) -> None:
    batch = language.batches(language.TokenStream.of([np.arange(30)]), 2, 8, 0)(0)
    with pytest.raises(LabError, match=message):
        language.loss_of(Griffin(GriffinConfig.preset("tiny", vocabulary=32)), change(*batch))


@pytest.mark.parametrize(("size", "length"), [(0, 4), (2, 0), (-1, 4), (2, 17)])
def test_pieces_that_cannot_be_cut_are_an_error(size: int, length: int) -> None:
    with pytest.raises(LabError, match="give more than 0|are too few for pieces of 17"):
        language.batches(stream(), size, length, 0)


@settings(max_examples=20)
@given(step=st.integers(0, 10**6), length=st.integers(1, 16))
def test_pieces_are_reset_where_documents_begin(step: int, length: int) -> None:
    tokens, targets, reset = language.batches(stream(), 4, length, seed=1)(step)
    assert tokens.shape == targets.shape == reset.shape == (4, length)
    begins = torch.isin(tokens, torch.tensor([0, 5, 8]))
    begins[:, 0] = True
    assert torch.equal(reset, begins)
    crossing = torch.isin(tokens + 1, torch.tensor([5, 8]))  # the first token of a document cannot be known
    assert torch.equal(targets, torch.where(crossing, -100, tokens + 1))


def test_every_token_is_learnt_from_and_a_step_is_always_the_same() -> None:
    batch = language.batches(stream(), 4, 6, seed=1)
    assert {int(token) for step in range(60) for token in batch(step)[1].unique()} == {-100, *range(17)} - {0, 5, 8}
    assert all(torch.equal(a, b) for a, b in zip(batch(7), language.batches(stream(), 4, 6, seed=1)(7), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(batch(7), batch(8), strict=True))
    assert language.batches(stream(), 1, 16, seed=1)(0)[1][0, -1] == 16


def test_a_piece_begins_with_the_document_that_it_can_hold() -> None:
    firsts = [int(first) for step in range(60) for first in language.batches(stream(), 2, 6, seed=1)(step)[0][:, 0]]
    assert set(firsts) == {0, 5, 8, 9, 10}  # of 5, 3 and 9 tokens: the last is longer than a piece


def test_too_few_tokens_are_an_error() -> None:
    with pytest.raises(LabError, match="17 tokens are too few for pieces of 17"):
        language.batches(stream(), 1, 17, seed=0)
    with pytest.raises(LabError, match="no documents"):
        language.TokenStream.of([])


def test_loss_of_a_language_model_leaves_out_what_cannot_be_known() -> None:
    network = Griffin(GriffinConfig.preset("tiny"))
    tokens, targets, reset = language.batches(stream(), 3, 12, seed=0)(0)
    loss, logs = language.loss_of(network, (tokens, targets, reset))
    logits, _ = network(tokens, reset=reset)
    known = targets >= 0
    assert 0 < (~known).sum()
    torch.testing.assert_close(loss, F.cross_entropy(logits[known], targets[known]))
    assert logs["loss"] is loss


def test_weights_of_tokens_are_those_of_targets() -> None:
    weights = np.where(np.isin(np.arange(17), (3, 9, 10)), 5.0, 1.0)
    plain, heavy = stream(), language.TokenStream(stream().tokens, stream().starts, weights)
    network = Griffin(GriffinConfig.preset("tiny"))
    tokens, targets, reset, given = language.batches(heavy, 3, 12, seed=0)(0)
    assert torch.equal(tokens, language.batches(plain, 3, 12, seed=0)(0)[0])
    known = targets >= 0
    assert torch.equal(given[known], torch.where(torch.isin(targets, torch.tensor([3, 9, 10])), 5.0, 1.0)[known])
    loss, logs = language.loss_of(network, (tokens, targets, reset, given))
    logits, _ = network(tokens, reset=reset)
    each = F.cross_entropy(logits[known], targets[known], reduction="none")
    torch.testing.assert_close(loss, (each * given[known]).sum() / given[known].sum())
    torch.testing.assert_close(logs["loss"], each.mean())
    torch.testing.assert_close(logs["loss of what weighs more"], each[given[known] > 1].mean())
    with pytest.raises(LabError, match="17 tokens have as many positive weights"):
        language.TokenStream(stream().tokens, stream().starts, np.zeros(17))


def test_cross_entropy_of_documents_is_a_mean_over_tokens() -> None:
    network = Griffin(GriffinConfig.preset("tiny")).eval()
    documents = [np.arange(9), np.arange(30)[::-1].copy()]
    parts = []
    for document in documents:
        tokens = torch.from_numpy(document[:13])[None]
        parts.append(F.cross_entropy(network(tokens[:, :-1])[0][0], tokens[0, 1:], reduction="none"))
    expected = float(torch.cat(parts).detach().mean())
    assert language.cross_entropy(network, documents, length=12) == pytest.approx(expected, rel=1e-5)
    asked = torch.cat([torch.from_numpy(document[1:13]) for document in documents]) >= 5  # below, they are given
    expected = float(torch.cat(parts).detach()[asked].mean())
    assert language.cross_entropy(network, documents, length=12, given=5) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_told_by_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that knows the tokens from the 8th on, in minutes of 4 tokens. A part of one counts for nothing, unless
    it lacks no more than the first token and those that were dropped."""
    for module in (language, loss):
        monkeypatch.setattr(module, "MINUTE", 4)

    class Learner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(100.0))

        def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
            known = torch.arange(tokens.shape[1]) >= 8
            return self.scale * known[None, :, None] * F.one_hot(tokens + 1, 20), None

    expected = {f"held_out_loss_minute_{n}": loss for n, loss in ((1, np.log(20)), (2, np.log(20)), (3, 0.0))}
    for third, dropped in ((12, 0), (14, 0), (11, 1)):
        told = language.by_minute(Learner(), [np.arange(third), np.arange(9), np.arange(2)], dropped)
        assert told == pytest.approx(expected, abs=1e-5)
    assert len(language.by_minute(Learner(), [np.arange(11), np.arange(9)])) == 2


@pytest.mark.parametrize("name", ["griffin", "transformer"])
def test_language_recipe(tmp_path: Path, name: str) -> None:
    documents = [np.tile(np.arange(8), 30), np.tile(np.arange(8), 20)]
    stream = language.TokenStream.of(documents)
    network, figures = language.train(
        stream, documents[:1], tmp_path, model=name, preset="tiny", vocabulary=8, steps=2, size=2, length=32
    )  # fmt: skip
    assert network.config.vocabulary == 8
    assert figures["steps"] == 2 and 0 < figures["held_out_loss"] < 10
    if name == "transformer":
        assert network.config.context == 32  # type: ignore[union-attr]


@pytest.mark.parametrize("length", [750, 1024, 6000])
def test_any_length_of_pieces_learns_as_much_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(
        language, "fit", lambda *_, schedule, inputs, **__: told.update(inputs, steps=schedule.steps) or {}
    )
    monkeypatch.setattr(
        language, "batches", lambda stream, size, length, *_: told.update(size=size, length=length)
    )  # fmt: skip
    language.train(stream(), [], tmp_path, length=length)
    assert told["length"] == length and told["size"] == {750: 5, 1024: 4, 6000: 1}[length]
    assert told["steps"] * told["size"] * length == pytest.approx(2600 * 4096, rel=0.002)
    assert told["pieces"] == f"of {length} tokens, {told['size']} a step"


@pytest.mark.parametrize(("seconds", "rows"), [("30s", 1024), ("4min", 128), ("16min", 32)])
def test_the_paper_s_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: str, rows: int) -> None:
    """768k tokens a step, 100k steps (paper section 3.1)."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(language, "fit", lambda *_, schedule, **__: told.update(schedule=schedule) or {})
    monkeypatch.setattr(language, "batches", lambda stream, size, *_: told.update(size=size))
    monkeypatch.setattr(language.GriffinConfig, "preset", lambda name, **_: GriffinConfig(32, 16, 1, 1, 16))
    language.train(stream(), [], tmp_path, preset="paper-2b", length=language.LENGTHS[seconds])
    schedule = told["schedule"]
    assert told["size"] == rows and schedule.steps == 100_000
    assert [schedule.rate(step) for step in (999, 1000, 100_000)] == pytest.approx([5e-4, 5e-4, 2.5e-5])
    assert schedule.weight_decay == 0.6


@pytest.mark.parametrize(("name", "billions"), [("paper-2b", 2.11), ("paper-9b", 7.67)])
def test_the_paper_s_models_can_be_built(name: str, billions: float) -> None:
    """On the meta device, which takes no memory; as many parameters as the paper's sizes come to."""
    with torch.device("meta"):
        network = Griffin(GriffinConfig.preset(language.PRESETS[name].shapes))
        assert sum(p.numel() for p in network.parameters()) == pytest.approx(billions * 1e9, rel=0.005)
        assert network.embedding.shape == (32_768, network.config.width)
        blocks = {tuple(p.shape) for p in network.blocks[0].parameters()}
        assert (2 * 3 * network.config.width, network.config.width) in blocks
    with torch.device("meta"):
        transformer = SpeechTransformer(TransformerConfig.preset("2b"))
        assert sum(p.numel() for p in transformer.parameters()) == pytest.approx(2.11e9, rel=0.04)


def test_an_unknown_language_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no preset 'huge' of a language model; there are tiny, laptop, gpu, paper-2b"):
        language.train(stream(), [], tmp_path, preset="huge")
    with pytest.raises(LabError, match="cannot learn with size 0; give more than 0"):
        language.train(stream(), [], tmp_path, size=0)
    with pytest.raises(LabError, match="no language model 'mamba'; there are griffin and transformer"):
        language.train(stream(), [], tmp_path, model="mamba")


def test_a_model_begins_with_the_weights_of_another_of_its_config(tmp_path: Path) -> None:
    spoken = language.TokenStream(np.arange(300) % 32, np.array([0]))
    held_out = [spoken.tokens[:50]]
    one, _ = language.train(spoken, held_out, tmp_path / "one", preset="tiny", steps=1, vocabulary=32)
    still = Schedule(1, learning_rate=0.0, warmup=0)
    preset = replace(language.PRESETS["tiny"], schedule=still)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(language.PRESETS, "tiny", preset)
        two, _ = language.train(spoken, held_out, tmp_path / "two", preset="tiny", vocabulary=32, seed=1, begin=one)
    for name, weights in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], weights, msg=name)
    with pytest.raises(LabError, match="cannot begin with the weights of GriffinConfig.vocabulary=32"):
        language.train(spoken, held_out, tmp_path / "three", preset="tiny", vocabulary=33, begin=one)


def test_most_steps_see_less_than_the_window_and_seldom_less_than_a_second() -> None:
    plain = language.batches(stream(), 1, 8, 0)
    steps = language.narrowing(plain, 512, 5)
    reaches = np.array([int(steps(step)[-1]) for step in range(2000)])
    assert 0.27 < (reaches == 512).mean() < 0.33 and reaches.min() >= 25
    assert np.median(reaches[reaches < 512]) == pytest.approx(np.sqrt(25 * 512), rel=0.15)  # uniform in the logarithm
    assert all(torch.equal(a, b) for a, b in zip(steps(3)[:-1], plain(3), strict=True))
    assert steps(3)[-1] == language.narrowing(plain, 512, 5)(3)[-1]


def test_what_is_further_away_than_a_narrowed_window_is_not_attended_to() -> None:
    torch.manual_seed(0)
    model = Griffin(GriffinConfig.preset("tiny", vocabulary=32))
    seen: list[int] = []

    def loss_of(model: nn.Module, batch: tuple[Tensor, ...]) -> Any:
        seen.extend({layer.reach for layer in model.modules() if isinstance(layer, LocalAttention)})
        return model(batch[0])[0].sum(), {}

    tokens = torch.randint(32, (1, 40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language, "loss_of", loss_of)
        narrow, _ = language.narrowed_loss(model, (tokens, torch.tensor(3)))
        whole, _ = language.narrowed_loss(model, (tokens, torch.tensor(10_000)))
    window = model.config.window
    assert seen == [3, window] and narrow != whole and whole == model(tokens)[0].sum()
    assert all(layer.reach == window for layer in model.modules() if isinstance(layer, LocalAttention))


def test_a_shard_is_learnt_from_where_it_lies(tmp_path: Path) -> None:
    """Mapped, with ends dropped, and what stands before the first document left out: batches as of copies."""
    lengths, tokens = [40, 9, 1, 200, 33], np.arange(283, dtype=np.uint16) % 97
    tokens.tofile(tmp_path / "tokens.bin")
    starts = np.cumsum([0, *lengths[:-1]])
    copied = language.TokenStream.of(np.split(tokens, starts[1:])[1:], drop=12)
    mapped = language.TokenStream.of_shard(
        np.memmap(tmp_path / "tokens.bin", np.uint16), starts, np.arange(1, len(starts)), 12
    )
    assert isinstance(mapped.tokens, np.memmap) and mapped.size == copied.size == len(copied.tokens)
    assert mapped.starts.tolist() == copied.starts.tolist()
    for step in range(5):
        ours, theirs = (language.batches(stream, 3, 30, 0)(step) for stream in (mapped, copied))
        assert all(map(torch.equal, ours, theirs))
    with pytest.raises(LabError, match="no documents to learn from"):
        language.TokenStream.of_shard(tokens, starts, np.zeros(0, int), 12)
