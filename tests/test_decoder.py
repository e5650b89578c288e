"""lab.train.codec: the codec's decoder alone, on codes as the voice predicts them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from lab import bundle
from lab.corpora import Utterance
from lab.errors import LabError
from lab.tokens import Tokenizer
from lab.train import codec as recipe
from lab.train.codec import Resynthesized
from lab.voice import Codec, Synthesizer
from tests.spoken import spoken


@pytest.fixture
def heard(tiny_bundle: Path) -> tuple[Tokenizer, Synthesizer]:
    tokenizer, soundstorm, codec = (bundle.load(tiny_bundle, name) for name in ("tokenizer", "soundstorm", "codec"))
    return tokenizer, Synthesizer(soundstorm, codec)  # type: ignore[return-value, arg-type]


def utterances() -> list[tuple[Utterance, Utterance]]:
    """Of 4 to 6 s and 2 to 3 s: the second is too short to tell who speaks."""
    first, second, third = (spoken(n)[0] for n in range(3))
    both = Utterance(np.concatenate([first.waveform, second.waveform]), "", "7", "recorded")
    return [(both, third)]


def test_the_voice_predicts_what_is_under_the_first_level(heard: tuple[Tokenizer, Synthesizer]) -> None:
    tokenizer, voice = heard
    ((both, third),) = utterances()
    (made,) = recipe.resynthesize(tokenizer, voice, [(both, third)])
    tokens = len(third.waveform) // 640
    assert made.source == "recorded" and np.array_equal(made.waveform, third.waveform[: 640 * tokens])
    assert made.codes.shape == (2 * tokens, 4) and made.predicted.shape == (2 * tokens, 3)
    codes = voice.codec.encode(torch.from_numpy(third.samples()[: 640 * tokens])[None])[0]
    assert torch.equal(made.codes, codes) and torch.equal(made.predicted[:, 0], codes[:, 0])
    assert not torch.equal(made.predicted[:, 1:], codes[:, 1:3])
    long = Utterance(np.tile(both.waveform, 3), "", "7", "recorded")
    assert len(recipe.resynthesize(tokenizer, voice, [(long, long)])[1].waveform) == 10 * 16000


def counting(frames: int, source: str) -> Resynthesized:
    """Sample 320 f + k is f; so is every code of frame f, but those of the voice are -f."""
    frame = torch.arange(frames)
    waveform = np.repeat(frame.numpy(), 320).astype(np.int16)
    return Resynthesized(waveform, frame[:, None].expand(-1, 4).clone(), -frame[:, None].expand(-1, 3), source)


def test_every_third_row_has_the_codes_of_the_voice() -> None:
    corpus = [counting(60, "narrated")] * 9 + [counting(90, "librispeech"), counting(7, "librispeech")]
    made = recipe.decoder_batches(corpus, 6, 40, seed=0)
    depths, last = set(), []
    for step in range(20):
        codes, depth, waveform = made(step)
        assert codes.shape == (6, 40, 4) and waveform.shape == (6, 40 * 320)
        frames = (waveform.unflatten(1, (40, 320)) * 32768).round().long()
        assert (frames == frames[..., :1]).all()
        voiced = torch.arange(6) % 3 == 2
        assert torch.equal(codes[~voiced], frames[~voiced, :, :1].expand(-1, -1, 4))
        assert torch.equal(codes[voiced, :, :3], -frames[voiced, :, :1].expand(-1, -1, 3))
        assert (depth[voiced] == 3).all()
        depths |= set(depth[~voiced].tolist())
        last += frames[:, -1, 0].tolist()
    assert depths == {1, 2, 3, 4}
    assert 0.1 < np.mean(np.array(last) >= 60) < 0.4  # one reader's recording has the share of nine narrated
    assert all(torch.equal(a, b) for a, b in zip(made(3), made(3), strict=True))
    with pytest.raises(LabError, match=r"no recording lasts 0.8 s beside 3 s"):
        recipe.decoder_batches(corpus[-1:], 8, 40, seed=0)


def test_the_decoder_learns_and_the_codes_stay(heard: tuple[Tokenizer, Synthesizer], tmp_path: Path) -> None:
    tokenizer, voice = heard
    codec: Codec = voice.codec
    codec.embed[0].bias[0] = -0.0
    before, print_before = copy.deepcopy(codec.state_dict()), bundle.fingerprint(codec)
    made = recipe.resynthesize(tokenizer, voice, utterances())
    batch = recipe.decoder_batches(made, 4, 20, seed=0)(0)

    def distance() -> float:
        with torch.no_grad():
            return float(recipe.Decoder(codec).eval()(batch)[0])

    at_first = distance()
    figures = recipe.train_decoder(
        codec, made, tmp_path, steps=40, size=4, frames=20, seed=0, held_out=[utterances()[0][1]]
    )
    assert all(parameter.requires_grad for parameter in codec.parameters())
    assert distance() < 0.95 * at_first and {"harmonics", "stoi recorded 4"} <= figures.keys()
    changed = {name for name, value in codec.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in changed} == set(Codec.DECODER)
    assert bundle.fingerprint(codec) == print_before
    learnt = torch.load(tmp_path / "checkpoint.pt")["players"][0]["model"]
    for name, weights in codec.named_parameters():  # a fifth of what it was
        torch.testing.assert_close(weights.detach(), 0.8 * learnt[f"codec.{name}"] + 0.2 * before[name])
        assert torch.equal(learnt[f"origin.{name}"], before[name])


def test_levels_that_are_not_known_are_not_spoken(heard: tuple[Tokenizer, Synthesizer]) -> None:
    """What is learnt of three levels is what `Codec.decode` will be asked."""
    codec, seen = heard[1].codec, []
    codec.synthesize = lambda quantized: seen.append(quantized) or torch.zeros(2, 12800)  # type: ignore
    codes = torch.randint(16, (2, 40, 4))
    recipe.Decoder(codec)(recipe.DecoderBatch(codes, torch.tensor([3, 4]), torch.zeros(2, 12800)))
    torch.testing.assert_close(seen[0][:1], codec.quantizer.decode(codes[:1, :, :3]))
    torch.testing.assert_close(seen[0][1:], codec.quantizer.decode(codes[1:]))
