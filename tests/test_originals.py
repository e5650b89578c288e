"""Checkpoints of the originals, tiny and random, of the true architectures, in the place of ours."""

from __future__ import annotations

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
)

from lab import audio
from lab.errors import LabError
from lab.language import generate
from lab.others import twist
from lab.others.originals import HubCodec, HubertUnits
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


def test_a_language_model_of_text_becomes_one_of_units(checkpoint: Callable[[Any], str]) -> None:
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=32, vocab_size=50)
    text = OPTForCausalLM(OPTConfig(**sizes, max_position_embeddings=64, word_embed_proj_dim=16)).eval()
    folder = checkpoint(text)
    model = twist.from_text(folder, 12)
    assert isinstance(model, LanguageModel) and (model.vocabulary, model.context) == (12, 64)
    for name, value in text.state_dict().items():
        if "embed_tokens" not in name and "lm_head" not in name:
            assert torch.equal(value, model.model.state_dict()[name]), name
    same = twist.from_text(folder)
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
    with pytest.raises(LabError, match="there is no causal language model"):
        twist.from_text(folder + "x")
