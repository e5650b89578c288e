"""The codec: lengths, alignment, quantizer, losses, discriminators, recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lab.corpora import Utterance
from lab.errors import LabError
from lab.nn import ResidualVectorQuantizer
from lab.train import codec as recipe
from lab.train.loop import Compute, Schedule, fit
from lab.voice import Codec, CodecConfig
from lab.voice.discriminators import Discriminators, feature_distance, hinge_of_adversary, hinge_of_generator
from lab.voice.losses import Harmonics, MultiScaleMel


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def tiny(**overrides: int) -> Codec:
    return Codec(CodecConfig.preset("tiny", **overrides))


def tone(samples: int, rows: int = 1) -> torch.Tensor:
    """Syllables of a buzz (rows, samples): harmonics of 120 Hz, four bursts a second."""
    time = torch.arange(samples) / 16000
    buzz = sum(torch.sin(2 * torch.pi * 120 * n * time) / n for n in range(1, 12))
    return (0.1 * buzz * torch.sin(2 * torch.pi * 2 * time).abs()).expand(rows, -1)


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 16000])
def test_a_frame_is_320_samples(samples: int) -> None:
    codec = tiny().eval()
    codes = codec.encode(0.1 * torch.randn(2, samples))
    frames = -(-samples // 320)
    assert codes.shape == (2, frames, 4)
    assert codec.decode(codes).shape == (2, 320 * frames)


SHAPES = pytest.mark.parametrize(("window", "patch"), [(1280, 1), (640, 1), (320, 4), (320, 2)])


@SHAPES
def test_spectrum_and_its_inverse(window: int, patch: int) -> None:
    spectrum = tiny(window=window, patch=patch).spectrum
    waveform = torch.randn(2, 6400)
    torch.testing.assert_close(spectrum.inverse(spectrum(waveform)), waveform, atol=1e-5, rtol=1e-5)


@SHAPES
def test_frame_f_is_centred_on_its_samples(window: int, patch: int) -> None:
    click = torch.zeros(1, 6400)
    click[0, 320 * 7 + 160] = 1
    power = tiny(window=window, patch=patch).spectrum(click).abs().square().sum(-1)[0]
    assert len(power) == 20 * patch and power.unflatten(0, (20, patch)).sum(1).argmax() == 7
    middles = (torch.arange(20 * patch) + 0.5) * 320 / patch
    torch.testing.assert_close((power * middles).sum() / power.sum(), torch.tensor(320.0 * 7 + 160))


def test_fewer_levels() -> None:
    codec = tiny().eval()
    codes = codec.encode(tone(3200))
    for levels in range(1, 5):
        assert codec.decode(codes[..., :levels]).shape == (1, 3200)
    assert torch.equal(codec.decode(codes), codec.decode(codec.encode(tone(3200))))
    with pytest.raises(LabError, match="CodecConfig: no preset"):
        CodecConfig.preset("huge")


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(1, 3, 5, dtype=torch.long), r"codes of shape \(1, 3, 5\); give \(B, F, q\) of 1 to 4 levels"),
        (torch.zeros(1, 3, 0, dtype=torch.long), r"codes of shape \(1, 3, 0\)"),
        (torch.zeros(3, dtype=torch.long), r"codes of shape \(3,\)"),
        (torch.zeros(3, 4, dtype=torch.long), "not of 2 dimensions"),
        (torch.full((1, 3, 4), -1), "code -1 is not one of the 16, 0 to 15"),
        ([[[0, 16]]], "code 16 is not one of the 16"),
        (torch.zeros(1, 3, 4), "codes must be integers, not float32"),
        (None, "codes must be integers in a tensor, an array or a list, not None"),
    ],
)
def test_codes_that_it_has_not_are_refused(codes: torch.Tensor, message: str) -> None:
    with pytest.raises(LabError, match=message):
        tiny().decode(codes)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros((1, 640), np.float32), r"tensors \(B, N\) of 1 sample or more, not ndarray"),
        ([0.0], "not list"),
        (torch.zeros(1, 640, dtype=torch.int16), "int16; give floats in .-1, 1., such as x / 32768"),
        (torch.zeros(640), r"not \(640,\)"),
        (torch.zeros(1, 0), r"not \(1, 0\)"),
        (torch.full((1, 640), math.nan), "NaN or infinite"),
    ],
)
def test_waveforms_that_are_none_are_refused(waveform: torch.Tensor, message: str) -> None:
    with pytest.raises(LabError, match=message):
        tiny().encode(waveform)


def test_lists_arrays_and_any_integers_are_codes() -> None:
    codec = tiny().eval()
    codes = codec.encode(tone(960))
    for same in (codes.tolist(), codes.numpy().astype(np.uint16), codes.short()):
        assert torch.equal(codec.decode(same), codec.decode(codes))


@SHAPES
def test_receptive_field_by_gradient(window: int, patch: int) -> None:
    codec = tiny(kernel=3, window=window, patch=patch)
    waveform = (0.1 * torch.randn(1, 320 * 40)).requires_grad_()
    spans = []
    for middle in range(320 * 20, 320 * 21, 40):
        reconstruction, _, _ = codec(waveform, torch.tensor([0]))
        (gradient,) = torch.autograd.grad(reconstruction[0, middle], waveform)
        places = gradient[0].nonzero()[:, 0]
        spans.append(int(places[-1] - places[0]) + 1)
    # A Hann window is 0 at its first sample, which stays dark.
    assert max(spans) == codec.receptive_field - 1


def test_overfits_a_syllable() -> None:
    codec, distance = tiny(), MultiScaleMel()
    waveform, depth = tone(6400), torch.tensor([4])
    adam = torch.optim.Adam(codec.parameters(), lr=5e-3)
    losses = []
    for step in range(24):
        reconstruction, commitment, _ = codec(waveform, depth if step > 10 else 0 * depth)
        loss = sum(distance(reconstruction, waveform)) + 0.25 * commitment
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0], losses


def test_mel_distance() -> None:
    distance, waveform = MultiScaleMel(), tone(8000)
    assert distance(waveform, waveform) == (0, 0)
    louder = distance(1.1 * waveform, waveform)
    hiss = distance(waveform + 0.001 * torch.randn(1, 8000), waveform)
    assert louder[0] < math.log(1.1)  # less by the floor, where it is soft
    assert louder[1] == pytest.approx(0.1, rel=0.05)
    assert hiss[0] > louder[0] and hiss[1] < louder[1]  # the logarithm hears what is soft
    for size in distance.scales:  # small windows have few bins: none of the bands may be empty
        assert (distance.get_buffer(f"filters{size}").sum(0) > 0).all()


def test_harmonics_hear_pitch_and_not_phase() -> None:
    """A voice at 84 Hz, the same half a period later, and at 100 Hz."""
    time = torch.arange(16000) / 16000

    def voice(f0: float, late: float = 0.0) -> torch.Tensor:
        return 0.1 * sum(torch.cos(2 * torch.pi * f0 * n * (time - late)) / n for n in range(1, 30))[None]  # type: ignore

    harmonics, mel = Harmonics(), MultiScaleMel()
    low = voice(84)
    assert harmonics(low, low) == 0 and harmonics(1.1 * low, low) < math.log(1.1)
    higher, later = voice(100), voice(84, late=0.5 / 84)
    assert harmonics(higher, low) > 8 * harmonics(later, low)
    assert mel(higher, low)[0] < 3 * mel(later, low)[0]  # which hears both alike


def test_more_levels_never_quantize_worse() -> None:
    quantizer = ResidualVectorQuantizer(levels=5, codes=16, width=8)
    data = torch.randn(4, 100, 8)
    quantizer(data, torch.full((4,), 5))  # the first batch starts every level by k-means
    codes = quantizer.encode(data)
    errors = [float((quantizer.decode(codes[..., :q]) - data).square().mean()) for q in range(1, 6)]
    assert all(later <= earlier for earlier, later in zip(errors, errors[1:], strict=False)), errors
    assert errors[-1] < 0.5 * errors[0]
    rows = [quantizer.decode(codes[row : row + 1, :, :q]) for row, q in enumerate((1, 5, 3, 2))]
    torch.testing.assert_close(quantizer.decode(codes, torch.tensor([1, 5, 3, 2])), torch.cat(rows))


def test_levels_start_from_different_vectors() -> None:
    """Where clusters are of one vector, it leaves nothing to the next level: no code could start from it."""
    quantizer = ResidualVectorQuantizer(levels=2, codes=32, width=8)
    quantizer(torch.randn(1, 48, 8), torch.tensor([2]))
    assert (quantizer.levels[1].codebook.norm(dim=-1) < 1e-3).sum() < 16


def test_quantizer_dropout() -> None:
    quantizer = ResidualVectorQuantizer(levels=3, codes=8, width=4)
    data = torch.randn(2, 20, 4, requires_grad=True)
    quantizer(data, torch.tensor([3, 3]))
    before = quantizer.levels[2].codebook.clone()
    quantized, codes, commitment = quantizer(data, torch.tensor([1, 2]))  # no vector reaches the third level
    assert torch.equal(quantizer.levels[2].codebook, before) and torch.isfinite(commitment)
    quantizer.eval()
    quantized, codes, _ = quantizer(data, torch.tensor([1, 2]))
    torch.testing.assert_close(quantized[0], quantizer.decode(codes[:1, :, :1])[0])
    torch.testing.assert_close(quantized[1], quantizer.decode(codes[1:, :, :2])[0])
    quantized.sum().backward()
    assert torch.equal(data.grad, torch.ones_like(data))  # straight through


def test_discriminators_teach_the_generator() -> None:
    codec, discriminators = tiny(), Discriminators(width=4)
    waveform = tone(4800, rows=2)
    reconstruction, _, _ = codec(waveform, torch.tensor([4, 2]))
    real, fake = discriminators(waveform), discriminators(reconstruction)
    assert len(real) == 4 and all(torch.isfinite(verdict[-1]).all() for verdict in real)
    for loss in (hinge_of_generator(fake), feature_distance(real, fake)):
        codec.zero_grad()
        loss.backward(retain_graph=True)
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in codec.encoder.parameters())
    discriminators.zero_grad()
    hinge_of_adversary(real, discriminators(reconstruction.detach())).backward()
    assert all(p.grad is not None for p in discriminators.parameters())


@pytest.mark.parametrize("spoilt", ["a row", "all rows", "infinite", "huge", "the loss", "the gradient"])
@pytest.mark.parametrize(("at", "accumulate"), [(0, 1), (2, 1), (1, 2)])
def test_a_step_that_is_rejected_changes_nothing(spoilt: str, at: int, accumulate: int, tmp_path) -> None:
    """Neither weights nor codebooks, in the batch that starts k-means or later: as if it had not been."""
    game, states = recipe.Game(0), []

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        wave = 0.1 * torch.randn(4, 3200, generator=torch.Generator().manual_seed(step))
        if step == at:
            values = {"a row": math.nan, "all rows": math.nan, "infinite": math.inf, "huge": 1e30}
            wave[:: 1 if spoilt == "all rows" else 4, 100] = values.get(spoilt, 0.0)
        return wave, torch.full((4,), 4)

    def loss_of(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]):
        states.append({name: value.clone() for name, value in codec.state_dict().items()})
        loss, logs = game.loss_of(model, batch)
        if batch[0][0, 100] == 0.0:
            loss = loss * math.nan if spoilt == "the loss" else loss
            if spoilt == "the gradient":
                loss.register_hook(lambda gradient: gradient * math.inf)
        return loss, logs

    codec = tiny()
    compute = Compute(progress=False, accumulate=accumulate)
    schedule = Schedule(4, warmup=1)
    figures = fit(codec, loss_of, batches, schedule=schedule, folder=tmp_path, compute=compute)
    before, after = states[accumulate * at], states[accumulate * (at + 1)]
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(value.isfinite().all() for value in codec.state_dict().values())
    assert codec.quantizer.levels[0].started == 3 * accumulate and math.isfinite(figures["log-mel"])


def utterances() -> list[Utterance]:
    random = np.random.default_rng(0)

    def speech(samples: int) -> np.ndarray:
        return random.integers(-3000, 3000, samples).astype(np.int16)

    narrated = [Utterance(speech(20000), "", "anna", "narrated") for _ in range(9)]
    return [*narrated, Utterance(speech(9000), "", "4088", "librispeech")]  # shorter than a crop


def test_crops() -> None:
    quiet = [Utterance(0 * u.waveform, u.text, u.narrator, u.source) for u in utterances()[:9]] + utterances()[9:]
    batches = recipe.crops(quiet, 6, 16000, 4, seed=3)
    waveform, depth = batches(1000)
    assert waveform.shape == (6, 16000) and waveform.dtype == torch.float32
    assert (waveform.abs().amax(1) > 0).sum() == 3  # one utterance of real speech has the share of nine narrated
    assert 1 <= depth.min() and depth[:3].tolist() == [4, 4, 4]
    assert min(int(batches(1000 + n)[1].min()) for n in range(9)) == 1
    assert all(torch.equal(a, b) for a, b in zip(batches(1000), (waveform, depth), strict=True))
    assert not torch.equal(batches(1001)[0], waveform)
    assert batches(recipe.FREE - 1)[1].max() == 0
    assert batches(recipe.FREE)[1].tolist() == [4] * 6 * recipe.START
    with pytest.raises(LabError, match="empty"):
        recipe.crops([], 6, 16000, 4, seed=3)


@pytest.mark.parametrize("discriminators", [0, 4])
def test_recipe(discriminators: int, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(recipe, "FREE", 2)
    monkeypatch.setattr(recipe, "START", 2)
    options = {"preset": "tiny", "batch": 2, "seconds": 0.2, "discriminators": discriminators}
    codec, figures = recipe.train(utterances(), tmp_path, steps=5, held_out=utterances()[8:], **options)
    assert figures["steps"] == 5 and "stoi narrated 4" in figures
    assert codec.quantizer.levels[0].started
    assert np.isfinite(codec.decode(codec.encode(tone(3200))).numpy()).all()


@pytest.mark.parametrize("change", [lambda w, d: (w.double(), d), lambda w, d: ((32768 * w).short(), d),
                                    lambda w, d: (w[0], d), lambda w, d: (w, d.float())])  # fmt: skip
def test_a_batch_of_another_type_is_an_error(change: Callable[..., Any]) -> None:
    batch = change(torch.zeros(2, 640), torch.ones(2, dtype=torch.int64))
    with pytest.raises(LabError, match=r"a batch is a waveform \(B, N\) of float32 and levels"):
        recipe.Game(0).loss_of(Codec(CodecConfig.preset("tiny")), batch)
