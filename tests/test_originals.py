"""Checkpoints of the originals, tiny and random, of the true architectures, in the place of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    DacConfig,
    DacModel,
    EncodecConfig,
    EncodecModel,
    HubertConfig,
    HubertModel,
    MimiConfig,
    MimiModel,
    OPTConfig,
    OPTForCausalLM,
    SeamlessM4TCodeHifiGan,
    SeamlessM4TConfig,
)

from lab import audio
from lab.errors import LabError
from lab.language import generate
from lab.others import twist
from lab.others.gslm import GSLM
from lab.others.originals import HubCodec, HubertUnits, UnitHifiGan, hifigan
from lab.protocols import Codec, LanguageModel
from lab.voice import SoundStorm, SoundStormConfig, Synthesizer
from tests.spoken import voiced


def encodec() -> Any:
    sizes = dict(num_filters=2, hidden_size=8, codebook_dim=8, num_lstm_layers=1, codebook_size=16)
    return EncodecModel(EncodecConfig(**sizes, target_bandwidths=[1.2]))


def dac() -> Any:
    sizes = dict(encoder_hidden_size=4, decoder_hidden_size=32, n_codebooks=3, codebook_size=16, codebook_dim=4)
    ratios = dict(downsampling_ratios=[2, 4, 5, 8], upsampling_ratios=[8, 5, 4, 2])
    return DacModel(DacConfig(**sizes, **ratios, sampling_rate=16_000))


def mimi() -> Any:
    heads = dict(num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8, intermediate_size=16)
    books = dict(codebook_size=16, codebook_dim=8, num_quantizers=4, vector_quantization_hidden_dimension=8)
    return MimiModel(MimiConfig(num_filters=2, hidden_size=16, upsample_groups=16, **heads, **books))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], str]:
    def saved(model: Any) -> str:
        for name, codebook in model.named_buffers():
            if name.endswith(("embed", "embed_sum", "cluster_usage")):  # which begin as zeros or ones
                codebook.uniform_(0.5, 1) if name.endswith("usage") else codebook.normal_()
        folder = tmp_path_factory.mktemp("checkpoint")
        model.save_pretrained(folder)
        return str(folder)

    torch.manual_seed(0)
    return saved


@pytest.mark.parametrize(("make", "levels", "fold"), [(encodec, 4, 3), (dac, 3, 2), (mimi, 4, 1)])
def test_codecs_have_25_frames_a_second(
    checkpoint: Callable[[Any], str], make: Callable[[], Any], levels: int, fold: int
) -> None:
    model = make().eval()
    codec = HubCodec(checkpoint(model))  # which fills its codebooks
    assert isinstance(codec, Codec) and (codec.levels, codec.codes) == (levels * fold, 16)
    waveform = torch.from_numpy(voiced(2.03))[None]
    codes = codec.encode(waveform)
    assert codes.shape == (1, 51, levels * fold) and codes.dtype == torch.int64
    with torch.inference_mode():
        sound = torch.from_numpy(audio.resample(np.pad(waveform[0].numpy(), (0, 1440)), 16_000, codec.sample_rate))
        own = model.encode(sound[None, None]).audio_codes
    own = own[0] if make is encodec else own  # (1, Q, its frames)
    first = codes[0, :20, :fold].flatten() if fold > 1 else codes[0, :40:2, 0]
    assert torch.equal(first, own[0, 0, : len(first)])  # the first level, before all others
    decoded = codec.decode(codes, codec.timbre(waveform))
    assert decoded.shape == (1, 51 * 640) and decoded.isfinite().all()
    half = codec.decode(codes[..., : levels * fold - fold])
    assert half.shape == decoded.shape and not torch.equal(half, decoded)
    if fold > 1:
        with pytest.raises(LabError, match=f"4 levels|1 levels .* multiple of {fold}"):
            codec.decode(codes[..., :1])


def test_a_codec_of_the_hub_drives_our_soundstorm(checkpoint: Callable[[Any], str]) -> None:
    codec = HubCodec(checkpoint(dac()), levels=2)
    assert codec.levels == 4
    Synthesizer(SoundStorm(SoundStormConfig.preset("tiny", levels=4)), codec)
    with pytest.raises(LabError, match="SoundStorm of 5 levels x 16 codes cannot drive a codec of 4 x 16"):
        Synthesizer(SoundStorm(SoundStormConfig.preset("tiny", levels=5)), codec)


def test_codecs_that_cannot_serve(checkpoint: Callable[[Any], str], tmp_path: Path) -> None:
    odd = dac()
    odd.config.sampling_rate = 44_100
    for source, levels, message in (
        (checkpoint(odd), None, "137.812 frames a second; give one of 12.5, 25"),
        (checkpoint(dac()), 4, "has 3 levels; give 1 to 3, not 4"),
        (checkpoint(hubert()), None, "it is a hubert; there are encodec, dac, mimi"),
        (str(tmp_path / "none"), None, "there is no codec of transformers"),
    ):
        with pytest.raises(LabError, match=message):
            HubCodec(source, levels)


def hubert(stride: int = 2) -> Any:
    shapes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7)
    positions = dict(num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2)
    return HubertModel(HubertConfig(**shapes, **positions, conv_stride=[5, 2, 2, 2, 2, 2, stride]))


@pytest.mark.parametrize(("stride", "rate"), [(2, 50), (4, 25)])
def test_units_of_hubert(checkpoint: Callable[[Any], str], stride: int, rate: int, tmp_path: Path) -> None:
    centres = np.random.default_rng(0).standard_normal((9, 16)).astype(np.float32)
    np.save(tmp_path / "kmeans.npy", centres)
    folder = checkpoint(hubert(stride))
    units = HubertUnits(folder, 1, tmp_path / "kmeans.npy")
    assert (units.vocabulary, units.rate) == (9, rate)
    found = units.encode(voiced(2.01))
    assert found.shape == (-(-int(2.01 * 16_000) // units.hop),) and 0 <= found.min() <= found.max() < 9
    with pytest.raises(LabError, match=r"centres are \(9, 8\), and the features of .* 16 wide"):
        HubertUnits(folder, 1, centres[:, :8])
    with pytest.raises(LabError, match="has layers 1 to 2, and none 3"):
        HubertUnits(folder, 3, centres)
    (tmp_path / "kmeans.pkl").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(LabError, match="kmeans.pkl holds no cluster centres"):
        HubertUnits(folder, 1, tmp_path / "kmeans.pkl")


def opt(**more: Any) -> Any:
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=32, vocab_size=50)
    return OPTForCausalLM(OPTConfig(**sizes, max_position_embeddings=64, word_embed_proj_dim=16, **more)).eval()


@pytest.mark.parametrize(
    ("make", "change", "load", "message"),
    [
        (
            opt,
            {"vocab_size": 60},
            lambda path: twist.from_text(path, 12),
            r"embed_tokens.weight is \(50, 16\) .* \(60, 16\)",
        ),
        (
            hubert,
            {"intermediate_size": 24},
            lambda path: HubertUnits(path, 1, np.zeros((9, 16))),
            r"\(16,\) .* \(24,\)",
        ),
        (dac, {"codebook_size": 32}, HubCodec, r"codebook.weight is \(16, 4\) .* \(32, 4\)"),
    ],
)
def test_weights_of_another_config_are_refused_with_both_shapes_and_half_a_file(
    checkpoint: Callable[[Any], str],
    make: Callable[[], Any],
    change: dict[str, int],
    load: Callable[[str], Any],
    message: str,
) -> None:
    folder = checkpoint(make())
    config = Path(folder) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(LabError, match=message):
        load(folder)
    weights = Path(folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(LabError, match="there is no .* header"):
        load(folder)


def test_a_language_model_of_text_becomes_one_of_units(checkpoint: Callable[[Any], str]) -> None:
    text = opt()
    folder = checkpoint(text)
    model = twist.from_text(folder, 12)
    assert isinstance(model, LanguageModel) and (model.vocabulary, model.context) == (12, 64)
    for name, value in text.state_dict().items():
        if "embed_tokens" not in name and "lm_head" not in name:
            assert torch.equal(value, model.model.state_dict()[name]), name
    same = twist.from_units(folder, 50)
    tokens = torch.arange(20)[None]
    with torch.inference_mode():
        whole = text(input_ids=tokens).logits
        first, state = same(tokens[:, :7])
        rest, _ = same(tokens[:, 7:], state)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)
    made = list(generate(model, torch.arange(12), generator=torch.Generator().manual_seed(0), max_tokens=80, slide=8))
    assert len(made) == 80 and set(made) <= set(range(12)) and len(set(made)) > 3
    with pytest.raises(LabError, match="one document at a time"):
        same(tokens, reset=tokens == 3)
    with pytest.raises(LabError, match="has 64 positions and 65 tokens were given; give fewer, or slide"):
        same(torch.zeros(1, 60, dtype=torch.int64), same(tokens[:, :5])[1])
    with pytest.raises(LabError, match="there is no causal language model"):
        twist.from_text(folder + "x", 12)


def test_units_of_twist_begin_at_its_offset(checkpoint: Callable[[Any], str]) -> None:
    original = opt(offset=3)
    original.lm_head.weight.data[[0, 2, 15, 49]] *= 50  # what is no unit is likeliest
    folder = checkpoint(original)
    model = twist.from_units(folder, 12)
    units = torch.arange(12)[None]
    with torch.inference_mode():
        wanted = original(input_ids=units + 3).logits
        logits, _ = model(units)
    assert not set(wanted.argmax(-1).flatten().tolist()) & set(range(3, 15))
    torch.testing.assert_close(logits, wanted[..., 3:15])
    made = list(generate(model, units[0], generator=torch.Generator().manual_seed(0), max_tokens=60, slide=8))
    assert set(made) <= set(range(12)) and len(set(made)) > 3
    assert twist.from_units(folder, 47).vocabulary == 47
    with pytest.raises(LabError, match="the model has 50 tokens, and 48 units from 3 on are not among them"):
        twist.from_units(folder, 48)


SHAPES = dict(upsample_initial_channel=32, resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3, 5]])
TWISTED = dict(SHAPES, upsample_rates=[5, 4, 4, 4, 2], upsample_kernel_sizes=[11, 8, 8, 8, 4])  # 25 Hz
SINGLE = dict(lang_embed_dim=0, spkr_embed_dim=0, vocoder_num_langs=1, vocoder_num_spkrs=1)


def vocoder(**more: Any) -> Any:
    """Of units at 25 Hz, by one speaker."""
    config = SeamlessM4TConfig(**{**TWISTED, **SINGLE, "unit_hifi_gan_vocab_size": 9, "unit_embed_dim": 8, **more})
    return SeamlessM4TCodeHifiGan(config).eval()


def test_a_unit_hifigan_speaks_as_transformers_does(checkpoint: Callable[[Any], str]) -> None:
    fifty = dict(upsample_rates=[5, 4, 4, 2, 2], upsample_kernel_sizes=[11, 8, 8, 4, 4])
    for model, stack in (
        (vocoder(), 1),
        (vocoder(**fifty, spkr_embed_dim=4, lang_embed_dim=2, vocoder_num_spkrs=3), 2),
    ):
        model.dur_predictor.proj.bias.data.fill_(1.2)  # durations of 2 or so
        model.hifi_gan.conv_post.weight.data *= 9
        one_voice = UnitHifiGan(checkpoint(model))
        assert (one_voice.config.units, one_voice.config.rate, one_voice.stack) == (9, 25 * stack, stack)
        units, first = torch.arange(45) % 9, torch.zeros(1, 1, dtype=torch.int64)
        with torch.inference_mode():
            wanted = model(units[None], first, first)[0][0].numpy()
        lasts = one_voice.durations(units)
        assert lasts.float().mean() > 1 and int(lasts.sum()) * 640 // stack == len(wanted)
        spoken = one_voice.speak(units.repeat_interleave(lasts))
        assert len(spoken) == -(-len(wanted) // 640) * 640 and np.abs(wanted).max() > 0.01
        near = len(wanted) - 3200  # what completes the last frame is heard before it
        np.testing.assert_allclose(spoken[:near], wanted[:near], atol=1e-5)
    assert one_voice.speak(units[:0]).shape == (0,) and one_voice.speak(units).shape == (23 * 640,)  # of 45 at 50 Hz
    long = one_voice.speak(units.repeat(40))  # 36 s, in two windows
    assert len(long) == 36 * 16_000 and np.isfinite(long).all()
    with pytest.raises(LabError, match="makes 160 samples of a unit, at 16000 Hz; give one that makes 640 or 320"):
        UnitHifiGan(checkpoint(vocoder(upsample_rates=[5, 4, 4, 2, 1], upsample_kernel_sizes=[11, 8, 8, 4, 3])))
    with pytest.raises(LabError, match="it is a hubert, no seamless_m4t"):
        UnitHifiGan(checkpoint(hubert()))


def test_textless_s_unit_hifigan_becomes_one_of_transformers() -> None:
    theirs = {
        "unit_embedding": "dict",
        "hifi_gan.upsampler": "ups",
        "hifi_gan.": "",
        "predictor.conv1": "predictor.conv1.0",
    }
    theirs["predictor.conv2"] = "predictor.conv2.0"
    model, weights = vocoder(), {}
    for key, value in model.state_dict().items():
        for ours, other in theirs.items():
            key = key.replace(ours, other)
        if value.numel():
            weights[key] = value
    predictor = dict(encoder_embed_dim=8, var_pred_hidden_dim=8, var_pred_kernel_size=3, var_pred_dropout=0.5)
    config = dict(TWISTED, num_embeddings=9, embedding_dim=8, sampling_rate=16_000, dur_predictor_params=predictor)
    assert {"dict.weight", "ups.0.bias", "conv_pre.weight", "dur_predictor.conv2.0.bias"} < set(weights)
    found = hifigan(config, weights)
    for key, value in model.state_dict().items():
        assert torch.equal(found.state_dict()[key], value)
    with pytest.raises(LabError, match="no unit HiFi-GAN of one speaker .*spkr.weight"):
        hifigan(config, weights | {"spkr.weight": torch.zeros(3, 8)})


def test_twist_by_its_own_models_alone_stays_in_its_positions(checkpoint: Callable[[Any], str]) -> None:
    """64 positions are 2.6 s; tokens are drawn 32 at a time, and no unit may repeat."""
    centres = np.random.default_rng(0).standard_normal((9, 16)).astype(np.float32)
    units = HubertUnits(checkpoint(hubert(4)), 1, centres)
    language, one_voice = twist.from_units(checkpoint(opt(offset=4)), 9), UnitHifiGan(checkpoint(vocoder()))
    system = twist.TWIST("twist", units, language, one_voice)
    assert system.longest == 64 / 25
    found = system.go_on(voiced(1), 1.5)
    assert found.waveform.shape == (24_000,) and np.isfinite(found.waveform).all() and len(found.tokens) > 64
    assert 0 <= found.tokens.min() <= found.tokens.max() < 9
    again = system.go_on(voiced(1), 6.0, slide=1.0)
    assert again.waveform.shape == (96_000,)
    with pytest.raises(LabError, match=r"gslm has 9 units at 25 Hz and a codec of \(0, 0\), its voice 8 at 25 Hz"):
        GSLM("gslm", units, language, UnitHifiGan(checkpoint(vocoder(unit_hifi_gan_vocab_size=8))))
