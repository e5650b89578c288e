"""The codec's decoder against discriminators: what it decodes, what learns and what stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.tokens import Tokenizer, TokenizerConfig
from lab.train import decoder as recipe
from lab.train import joint
from lab.train import refiner as refiner_recipe
from lab.voice import Codec, CodecConfig, VoicePrompt


@pytest.fixture(params=["with a refiner", "without"])
def codec(request: pytest.FixtureRequest) -> Codec:
    torch.manual_seed(0)
    refined = dict(refiner_layers=1, vocabulary=32) if request.param == "with a refiner" else {}
    made = Codec(CodecConfig.preset("tiny", **refined))
    made(0.1 * torch.randn(1, 32000), torch.tensor([4]))  # starts the codebooks
    made.eval()
    return refiner_recipe.with_refiner(made, Tokenizer(TokenizerConfig.preset("tiny")).eval()) if refined else made


@pytest.fixture
def corpus() -> list[list[joint.Example]]:
    random = np.random.default_rng(0)

    def example() -> joint.Example:
        waveform = random.integers(-3000, 3000, 7 * 16000).astype(np.int16)
        codes = torch.from_numpy(random.integers(0, 16, (175, 4)))
        said = VoicePrompt(torch.from_numpy(random.integers(0, 32, 175)), codes, torch.randn(8))
        return joint.Example(waveform, random.integers(0, 160, 350).astype(np.int16), said)

    return [[example(), example()], [example()]]


def test_the_decoder_alone_learns_and_codes_stay(codec: Codec, corpus: list[list[joint.Example]], tmp_path) -> None:
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    figures = recipe.train(codec, corpus, tmp_path, steps=3, batch=2, width=2)
    assert {"adversary", "fooled", "features", "pitch"} < set(figures)
    changed = {name.partition(".")[0] for name, now in codec.state_dict().items() if not now.equal(before[name])}
    assert changed == set(Codec.DECODER) - {"speaker"}
    assert all(parameter.requires_grad for parameter in codec.parameters())


def test_half_of_the_rows_are_what_the_refiner_estimates(codec: Codec, corpus: list[list[joint.Example]]) -> None:
    batch = joint.batches(corpus, 4, seed=0)(0)
    vectors = recipe.Decoder(codec)(batch).latent
    told = joint.cut(codec.quantizer.decode(batch.codes), batch.start)
    alike = [bool(torch.equal(found, wanted)) for found, wanted in zip(vectors, told, strict=True)]
    assert alike == ([True, False] * 2 if codec.refiner is not None else [True] * 4)


def test_the_decoder_ends_as_the_average_of_its_weights(codec: Codec, corpus: list[list[joint.Example]]) -> None:
    decoder = recipe.Decoder(codec)
    decoder.train()
    assert decoder.codec.training and not decoder.codec.quantizer.training
    start = decoder.average.widen.weight.clone()
    with torch.no_grad():
        decoder.codec.widen.weight.add_(1.0)
    decoder(joint.batches(corpus, 2, seed=0)(0))
    torch.testing.assert_close(decoder.average.widen.weight, start + 1 - recipe.AVERAGED)
