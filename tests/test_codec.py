"""The codec: lengths, what codes cannot tell, excitation, quantizer, losses, discriminators, recipes."""

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
from lab.train import pitch
from lab.train.loop import Compute, Schedule, fit
from lab.voice import Codec, CodecConfig, excitation
from lab.voice.codec import CONTRAST, sharpened
from lab.voice.discriminators import Discriminators, adversary_loss, feature_distance, generator_loss
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


def spoken(codec: Codec, waveform: torch.Tensor, levels: int = 4) -> torch.Tensor:
    return codec.decode(codec.encode(waveform)[..., :levels], codec.timbre(waveform))


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 16000])
def test_a_frame_is_640_samples(samples: int) -> None:
    codec = tiny().eval()
    waveform = 0.1 * torch.randn(2, samples)
    codes = codec.encode(waveform)
    frames = -(-samples // 640)
    assert codes.shape == (2, frames, 4)
    assert codec.decode(codes, codec.timbre(waveform)).shape == (2, 640 * frames)


def test_frame_f_is_centred_on_its_samples() -> None:
    """A click in the middle of a half frame is in that half frame's magnitudes more than in its neighbours'."""
    codec, silence = tiny(), torch.zeros(1, 6400)
    click = silence.clone()
    click[0, 320 * 7 + 160] = 1
    risen = (codec.magnitudes(click) - codec.magnitudes(silence))[0]  # (20, 232)
    assert risen[:, :72].sum(1).argmax() == 7  # of 64 ms
    weights = risen[:, 72:].clamp(min=0).sum(1)
    assert float((weights * torch.arange(20.0)).sum() / weights.sum()) == pytest.approx(7, abs=0.05)


def test_codes_cannot_tell_phase() -> None:
    codec = tiny().eval()
    for waveform in (tone(6400), 0.1 * torch.randn(1, 6400)):
        assert torch.equal(codec.encode(-waveform), codec.encode(waveform))
    time = torch.arange(32000) / 16000
    harmonics = [torch.rand(1) * 2 * torch.pi for _ in range(20)]

    def voice(phases: list[torch.Tensor]) -> torch.Tensor:
        return 0.05 * sum(torch.cos(2 * torch.pi * 150 * n * time + p) for n, p in enumerate(phases, 1))[None]

    # Harmonics in other phases, as an all-pass filter makes them: the resolved ones are alike.
    one, other = (codec.magnitudes(voice(phases))[:, 10:-10, :72] for phases in (harmonics, [torch.zeros(1)] * 20))
    assert (one - other).abs().mean() < 0.05
    assert (one - codec.magnitudes(2 * voice(harmonics))[:, 10:-10, :72]).abs().mean() > 0.3


def test_decoding_is_the_same_each_time() -> None:
    codec = tiny().eval()
    waveform = tone(6400, rows=2)
    one = spoken(codec, waveform)
    torch.manual_seed(1)
    assert torch.equal(spoken(codec, waveform), one)
    whose = codec.timbre(waveform)
    assert not torch.equal(codec.decode(codec.encode(waveform), -whose), one) or not codec.decoder[0].film.weight.any()
    torch.testing.assert_close(whose.norm(dim=-1), torch.full((2,), 8**0.5))


def test_sharpened_filters_keep_their_power_and_what_is_flat() -> None:
    bins = torch.arange(161.0)
    bump, flat = -3 + torch.exp(-((bins - 40) ** 2) / 50), torch.full((161,), -2.0)
    sharp = sharpened(torch.stack([bump, flat])[None], 0.5)[0]
    torch.testing.assert_close(sharp.mul(2).exp().sum(-1), torch.stack([bump, flat]).mul(2).exp().sum(-1))
    torch.testing.assert_close(sharp[1], flat)
    assert sharp[0, 40] - sharp[0, 55] > 1.3 * (bump[40] - bump[55])  # a formant stands out more
    assert sharp[0, 20] < bump[20] and sharp[0].argmax() == 40


def test_decoding_sharpens_and_training_does_not() -> None:
    codec = tiny()
    torch.nn.init.normal_(codec.head[1].weight, std=0.3)  # filters that are not flat
    codes, timbre = torch.randint(16, (1, 6, 4)), torch.randn(1, 8)
    vectors = codec.quantizer.decode(codes)

    def made(**options: float) -> torch.Tensor:
        return codec.synthesize(vectors, timbre, torch.Generator().manual_seed(0), **options)[0]

    decoded = codec.decode(codes, timbre)
    assert (decoded - made(contrast=CONTRAST)).norm() < 0.1 * (decoded - made()).norm()


@pytest.mark.parametrize("hertz", [60.0, 110.0, 250.0, 500.0])
def test_pulses_have_their_pitch_and_unit_power(hertz: float) -> None:
    made = excitation.pulses(torch.full((1, 100), hertz), 320, 16000)[0]
    assert len(made) == 32000 and made.isfinite().all()
    assert made.square().mean().sqrt() == pytest.approx(1, abs=0.1)
    spectrum = torch.fft.rfft(made[:16000] * torch.hann_window(16000)).abs()  # 1 Hz a bin
    peaks = [spectrum[round(hertz * n) - 1 : round(hertz * n) + 2].max() for n in range(1, int(7600 / hertz))]
    assert min(peaks) > 0.5 * max(peaks)
    assert spectrum[7900:].max() < 0.02 * max(peaks)  # nothing that would fold back
    between = spectrum[[round(hertz * (n + 0.5)) for n in range(1, int(7600 / hertz))]]
    assert between.max() < 0.02 * max(peaks)


def test_pulses_keep_phase_when_the_pitch_moves() -> None:
    glide = torch.linspace(100, 200, 50)[None]
    made = excitation.pulses(glide, 320, 16000)[0]
    # Unit pulses a period apart: their number is the integral of the pitch.
    peaks = (made[1:-1] > made[:-2]) & (made[1:-1] >= made[2:]) & (made[1:-1] > 0.3 * made.max())
    assert int(peaks.sum()) == pytest.approx(150, abs=2)


def test_pitch_is_read_off_the_logits_between_bins() -> None:
    bins = excitation.frequencies()
    assert bins[0] == 55 and bins[-1] == pytest.approx(520)
    logits = torch.full((1, 2, 160), -20.0)
    logits[0, 0, 80] = 5.0
    logits[0, 1, 80] = logits[0, 1, 81] = 5.0
    logits[0, :, 10] = 4.9  # a rival far away has no say
    found = excitation.pitch(logits)[0]
    assert found[0] == pytest.approx(float(bins[80]), rel=1e-4)
    assert found[1] == pytest.approx(float((bins[80] * bins[81]).sqrt()), rel=1e-4)


@pytest.mark.parametrize("hertz", [70.0, 121.0, 233.0, 440.0])
def test_track_finds_the_pitch_and_where_there_is_none(hertz: float) -> None:
    time = np.arange(16000) / 16000
    voice = 0.1 * sum(np.cos(2 * np.pi * hertz * n * time + n * n) / n for n in range(1, 8))
    noise = 0.05 * np.random.default_rng(0).standard_normal(16000)
    found = pitch.track(np.concatenate([voice, 0 * voice, noise]).astype(np.float32))
    assert found.shape == (150,) and found.dtype == np.int16
    heard = excitation.frequencies()[torch.from_numpy(found[3:47]).long()]
    assert (found[3:47] >= 0).all() and (heard / hertz).log2().abs().max() < 0.03  # 36 cents: a bin and a half
    assert (found[53:97] == pitch.UNVOICED).all() and (found[103:147] == pitch.UNVOICED).mean() > 0.9
    assert pitch.track(np.zeros(100, np.float32)).shape == (0,)


def test_fewer_levels() -> None:
    codec = tiny().eval()
    codes = codec.encode(tone(3200))
    for levels in range(1, 5):
        assert codec.decode(codes[..., :levels], codec.timbre(tone(3200))).shape == (1, 3200)
    with pytest.raises(LabError, match="CodecConfig: no preset"):
        CodecConfig.preset("huge")


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(1, 3, 5, dtype=torch.long), r"codes of shape \(1, 3, 5\); give \(B, F, q\) of 1 to 4 levels"),
        (torch.zeros(1, 3, 0, dtype=torch.long), r"codes of shape \(1, 3, 0\)"),
        (torch.zeros(3, dtype=torch.long), r"codes of shape \(3,\)"),
        (torch.zeros(3, 4, dtype=torch.long), r"codes \(3, 4\) and a timbre \(1, 8\): give \(B, F, q\) and \(B, 8\)"),
        (torch.full((1, 3, 4), -1), "code -1 is not one of the 16, 0 to 15"),
        ([[[0, 16]]], "code 16 is not one of the 16"),
        (torch.zeros(1, 3, 4), "codes must be integers, not float32"),
        (None, "codes must be integers in a tensor, an array or a list, not None"),
    ],
)
def test_codes_that_it_has_not_are_refused(codes: torch.Tensor, message: str) -> None:
    with pytest.raises(LabError, match=message):
        tiny().decode(codes, torch.ones(1, 8))


def test_a_timbre_of_another_size_is_refused() -> None:
    codec = tiny().eval()
    for wrong in (torch.ones(1, 7), torch.ones(2, 8), torch.ones(8)):
        with pytest.raises(LabError, match=r"a timbre .*: give \(B, F, q\) and \(B, 8\)"):
            codec.decode(codec.encode(tone(640)), wrong)


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
    with pytest.raises(LabError, match=message):
        tiny().timbre(waveform)


def test_lists_arrays_and_any_integers_are_codes() -> None:
    codec = tiny().eval()
    codes, whose = codec.encode(tone(1280)), codec.timbre(tone(1280))
    for same in (codes.tolist(), codes.numpy().astype(np.uint16), codes.short()):
        assert torch.equal(codec.decode(same, whose), codec.decode(codes, whose))


def test_receptive_field_by_gradient() -> None:
    codec = tiny(kernel=3)
    waveform = (0.1 * torch.randn(1, 640 * 20)).requires_grad_()
    (gradient,) = torch.autograd.grad(codec.latent(waveform)[0, 10].sum(), waveform)
    places = gradient[0].nonzero()[:, 0]
    before, after = 640 * 10 - int(places[0]), int(places[-1]) + 1 - 640 * 11
    # A Hann window is 0 at its first sample, which stays dark.
    assert (before + 1, after) == (codec.receptive_field, codec.receptive_field)


def test_overfits_a_syllable() -> None:
    codec, distance = tiny(), MultiScaleMel()
    waveform, depth = tone(6400), torch.tensor([4])
    adam = torch.optim.Adam(codec.parameters(), lr=5e-3)
    losses = []
    for step in range(40):
        made = codec(waveform, depth if step > 10 else 0 * depth)
        loss = sum(distance(made.waveform, waveform)) + 0.25 * made.commitment
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
    codec, discriminators = tiny(), Discriminators(width=2)
    waveform = tone(5120, rows=2)
    reconstruction = codec(waveform, torch.tensor([4, 2])).waveform
    real, fake = discriminators(waveform), discriminators(reconstruction)
    assert len(real) == 8 and all(torch.isfinite(scores[-1]).all() for scores in real)
    assert [a[-1].shape for a in discriminators(waveform, [5, 0])] == [real[5][-1].shape, real[0][-1].shape]
    for loss in (generator_loss(fake), feature_distance(real, fake)):
        codec.zero_grad()
        loss.backward(retain_graph=True)
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in codec.encoder.parameters())
    discriminators.zero_grad()
    adversary_loss(real, discriminators(reconstruction.detach())).backward()
    assert all(p.grad is not None for p in discriminators.parameters())


def test_losses_of_both_players() -> None:
    """Least squares: real is 1, made 0; the generator wants 1. A feature's distance is a share of its mean."""

    def scored(value: float, feature: float = 1.0) -> list[list[torch.Tensor]]:
        return [[torch.full((2, 3), feature), torch.full((2, 1), value)]]

    assert adversary_loss(scored(1.0), scored(0.0)) == 0 and adversary_loss(scored(0.0), scored(1.0)) == 2
    assert generator_loss(scored(1.0)) == 0 and generator_loss(scored(-1.0)) == 4
    assert feature_distance(scored(0, 2.0), scored(0, 3.0)) == 0.5


@pytest.mark.parametrize("spoilt", ["a row", "all rows", "infinite", "huge", "the loss", "the gradient"])
@pytest.mark.parametrize(("at", "accumulate"), [(0, 1), (2, 1), (1, 2)])
def test_a_step_that_is_rejected_changes_nothing(spoilt: str, at: int, accumulate: int, tmp_path) -> None:
    """Neither weights nor codebooks, in the batch that starts k-means or later: as if it had not been."""
    game, states = recipe.Game(), []

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


def examples() -> list[recipe.Example]:
    random = np.random.default_rng(0)

    def example(narrator: str, source: str, samples: int) -> recipe.Example:
        speech = random.integers(-3000, 3000, samples).astype(np.int16)
        tones = random.integers(-1, 160, samples // 320).astype(np.int16)
        vectors = random.standard_normal((samples // 640, 16)).astype(np.float16)
        return recipe.Example(Utterance(speech, "", narrator, source), tones, vectors)

    anna = [example("anna", "kokoro", 20480) for _ in range(9)]
    return [*anna, example("4088", "librispeech", 17000), example("short", "librispeech", 9000)]


def test_crops() -> None:
    batches = recipe.crops(examples(), 8, 16000, 4, seed=3)
    batch = batches(1000)
    assert [tuple(each.shape) for each in batch[:-1]] == [(8, 16000), (8,), (8, 48000), (8, 50), (8, 25, 16)]
    assert batch.waveform.dtype == batch.reference.dtype == torch.float32 and batch.pitch.dtype == torch.int64
    assert batch.depth[::2].tolist() == [4] * 4 and batch.depth[1::4].tolist() == [1, 1] and 1 <= batch.depth.min()
    assert all(torch.equal(a, b) for a, b in zip(batches(1000)[:-1], batch[:-1], strict=True))
    assert not torch.equal(batches(1001).waveform, batch.waveform)
    assert batches(recipe.FREE - 1).depth.max() == 0
    assert batches(recipe.FREE).depth.tolist() == [4] * 8 * recipe.START
    with pytest.raises(LabError, match="no utterance lasts 1 s"):
        recipe.crops(examples()[-1:], 6, 16000, 4, seed=3)


def test_crops_tell_what_belongs_to_their_samples() -> None:
    """Waveform, pitch and vectors of one place; and a reader of one utterance has the share of one of nine."""
    told = []
    for example in examples():
        count = len(example.utterance.waveform)
        ramp = np.repeat(np.arange(count // 320), 320)[:count].astype(np.int16)  # each half frame its number
        narrator = example.utterance.narrator
        told.append(
            recipe.Example(
                Utterance(np.resize(100 * (ramp + 1), count).astype(np.int16), "", narrator, "kokoro"),
                np.arange(count // 320).astype(np.int16),
                np.repeat(np.arange(count // 640)[:, None], 16, 1).astype(np.float16),
            )
        )
    speakers = 0
    for step in range(300, 320):
        batch = recipe.crops(told, 4, 6400, 4, seed=0)(step)
        for row, tones, vectors in zip(batch.waveform, batch.pitch, batch.semantic, strict=True):
            assert torch.equal(tones, int(tones[0]) + torch.arange(20)) and tones[0] % 2 == 0
            assert torch.equal(vectors[:, 0], int(tones[0]) / 2 + torch.arange(10))
            level = row[::320] / (tones + 1)
            torch.testing.assert_close(level, level[:1].expand(20), atol=1e-6, rtol=1e-3)
            speakers += int(tones[0]) > 43  # only anna's utterances are that long
    assert speakers < 60


def test_examples_tell_pitch_and_the_tokenizers_vectors(models) -> None:
    tokenizer = models["tokenizer"]
    speech = (3000 * tone(16100)[0]).numpy().astype(np.int16)
    (example,) = recipe.examples([Utterance(speech, "", "anna", "kokoro")], tokenizer)
    assert example.pitch.shape == (50,) and example.semantic.shape == (25, tokenizer.config.code_width)
    torch.testing.assert_close(np.linalg.norm(example.semantic.astype(float), axis=1), np.ones(25), atol=1e-2, rtol=0)
    vectors = torch.from_numpy(example.semantic).float()
    tokens = tokenizer.tokenize(torch.from_numpy(speech[:16000].astype(np.float32) / 32768)[None])[0]
    assert (tokenizer.quantizer.nearest(vectors) == tokens).float().mean() > 0.9  # 16 bits round some over the edge


def test_recipe(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(recipe, "FREE", 2)
    monkeypatch.setattr(recipe, "START", 2)
    codec, figures = recipe.train(examples(), tmp_path, steps=8, preset="tiny", batch=2)
    assert figures["steps"] == 8 and {"pitch", "voicing", "semantic", "shift", "commitment"} < set(figures)
    assert codec.quantizer.levels[0].started
    assert spoken(codec, tone(3200)).isfinite().all()


@pytest.mark.parametrize("change", [lambda w, d: (w.double(), d), lambda w, d: ((32768 * w).short(), d),
                                    lambda w, d: (w[0], d), lambda w, d: (w, d.float())])  # fmt: skip
def test_a_batch_of_another_type_is_an_error(change: Callable[..., Any]) -> None:
    batch = change(torch.zeros(2, 640), torch.ones(2, dtype=torch.int64))
    with pytest.raises(LabError, match=r"a batch is a waveform \(B, N\) of float32 and levels"):
        recipe.Game().loss_of(Codec(CodecConfig.preset("tiny")), batch)
