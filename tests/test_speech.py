"""lab.speech: the whole road, with models that have learnt nothing but have all the shapes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab import audio
from lab.corpora import narrators
from lab.errors import LabError
from lab.speech import SLIDE, SpeechSSM, Story
from lab.tokens import TOKEN_HOP, TOKEN_RATE
from lab.windows import Windowing

SECONDS = 6.0
WINDOWS = Windowing(100, 20)  # 4 s, so that a few seconds have seams


@pytest.fixture(scope="module")
def ssm(tiny_bundle: Path) -> SpeechSSM:
    return SpeechSSM.load(tiny_bundle)


@pytest.fixture(scope="module")
def prompt() -> np.ndarray:
    text = "once upon a time there was a quiet owl. the owl lived in a green tower with a bee."
    return narrators.named("Alba").read(text)[: 4 * audio.SAMPLE_RATE + 100]  # not quite whole tokens


@pytest.fixture(scope="module")
def story(ssm: SpeechSSM, prompt: np.ndarray) -> Story:
    return ssm.generate(prompt, SECONDS, seed=1, windowing=WINDOWS)


def test_a_story_is_the_prompt_and_as_much_as_was_asked_for(ssm: SpeechSSM, prompt: np.ndarray, story: Story) -> None:
    heard = ssm.tokenizer.encode(audio.set_level(prompt))
    assert story.prompt_tokens == len(heard) == 101
    assert len(story.tokens) == 101 + SECONDS * TOKEN_RATE
    assert torch.equal(story.tokens[:101], heard)
    assert story.waveform.shape == (TOKEN_HOP * len(story.tokens),) and story.waveform.dtype == np.float32
    assert story.seconds == len(story.tokens) / TOKEN_RATE
    assert np.isfinite(story.waveform).all() and np.abs(story.waveform).max() <= 1
    assert story.seams == [3.6, 6.8]
    assert story.timings.keys() == {"prompt", "language", "voice"} and min(story.timings.values()) > 0


def test_a_seed_is_a_story(ssm: SpeechSSM, prompt: np.ndarray) -> None:
    one, again, other = (ssm.generate(prompt, 1.0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.tokens, again.tokens)
    np.testing.assert_array_equal(one.waveform, again.waveform)
    assert not torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.tokens[:101], other.tokens[:101])


def test_another_speaker_says_the_same(ssm: SpeechSSM, prompt: np.ndarray) -> None:
    speaker = narrators.named("Boaz").read("the rain began to fall, and the badger felt sleepy.")
    own, another = ssm.generate(prompt, 1.0), ssm.generate(prompt, 1.0, speaker=speaker)
    assert torch.equal(own.tokens, another.tokens)
    assert not np.array_equal(own.waveform, another.waveform)
    itself = ssm.generate(prompt, 1.0, speaker=prompt)
    np.testing.assert_array_equal(own.waveform, itself.waveform)


def test_a_greedy_story_has_one_text_and_as_many_renderings_as_seeds(ssm: SpeechSSM, prompt: np.ndarray) -> None:
    one, other = (ssm.generate(prompt, 1.0, seed=seed, temperature=0) for seed in (1, 2))
    assert torch.equal(one.tokens, other.tokens)
    assert not np.array_equal(one.waveform, other.waveform)


def test_a_stream_begins_as_the_story_does_and_its_state_never_grows(
    ssm: SpeechSSM, prompt: np.ndarray, story: Story
) -> None:
    pieces = list(islice(ssm.stream(prompt, seed=1, windowing=WINDOWS), 5))
    told = np.concatenate([piece.waveform for piece in pieces])
    shared = int(6.7 * audio.SAMPLE_RATE)  # the last window of the story knows no more, that of the stream does
    np.testing.assert_array_equal(told[:shared], story.waveform[:shared])
    assert [piece.tokens for piece in pieces] == [101, 181, 261, 341, 421]  # one more than a window: it goes on
    assert [piece.seconds for piece in pieces] == pytest.approx([3.6 - 0.01 + 3.2 * n for n in range(5)])
    assert pieces[-1].seconds == len(told) / audio.SAMPLE_RATE
    assert len({piece.state_bytes for piece in pieces[1:]}) == 1 and pieces[-1].state_bytes > 0


def test_a_stream_sounds_before_the_model_has_read_anything(ssm: SpeechSSM, prompt: np.ndarray) -> None:
    stream = ssm.stream(prompt, SECONDS, seed=1)
    first = next(stream)
    assert (first.tokens, first.state_bytes) == (101, 0)
    assert len(first.waveform) == round(1.75 * audio.SAMPLE_RATE)  # half a fade before the seam
    pieces = [first, *stream]
    assert stream.seams == [1.76, 5.04] and pieces[-1].seconds == (101 + SECONDS * TOKEN_RATE) / TOKEN_RATE
    assert stream.tokens == ssm.generate(prompt, SECONDS, seed=1).tokens.tolist()
    assert [token for piece in pieces for token in piece.drawn] == stream.tokens and len(first.drawn) == 51


def test_a_stream_keeps_no_tokens(ssm: SpeechSSM, prompt: np.ndarray) -> None:
    stream = ssm.stream(prompt, 1.0, keep_tokens=False)
    assert len(np.concatenate([piece.waveform for piece in stream])) == TOKEN_HOP * (101 + TOKEN_RATE)
    assert stream.tokens == [] and stream.seams == []


def test_the_baseline_slides_within_its_context(tiny_bundle: Path, prompt: np.ndarray) -> None:
    """A context of 128: 101 tokens of prompt and 28 new ones fill it; then it begins again from 3 s."""
    ssm = SpeechSSM.load(tiny_bundle, baseline="transformer")
    stream = ssm.stream(prompt, 6.0, seed=1)
    assert len(np.concatenate([piece.waveform for piece in stream])) == TOKEN_HOP * (101 + 6 * TOKEN_RATE)
    restarts = stream._new.restarts
    assert restarts[0] == 128 - 101 + 1 and set(np.diff(restarts)) == {128 - SLIDE + 1}


def test_an_unknown_language_model_is_an_error(tiny_bundle: Path) -> None:
    with pytest.raises(LabError, match="the bundle in .* has no mamba; it has"):
        SpeechSSM.load(tiny_bundle, baseline="mamba")
    with pytest.raises(LabError, match="codec is no language model; give griffin"):
        SpeechSSM.load(tiny_bundle, language="codec")


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 1e300, None, "4"])
def test_a_length_that_is_none_is_an_error(ssm: SpeechSSM, prompt: np.ndarray, seconds: Any) -> None:
    with pytest.raises(LabError, match="cannot continue for .* seconds; give a|seconds must be 0 or more"):
        ssm.generate(prompt, seconds)


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_an_error(ssm: SpeechSSM, prompt: np.ndarray, temperature: float) -> None:
    with pytest.raises(LabError, match="temperature must be 0 or more"):
        ssm.generate(prompt, 1.0, temperature=temperature)


def test_a_prompt_is_levelled_and_judged(
    ssm: SpeechSSM, prompt: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audio.level(ssm.prepare_prompt(0.1 * prompt)) == pytest.approx(-23, abs=0.01)
    audio.save(tmp_path / "prompt.wav", prompt)
    for source in (tmp_path / "prompt.wav", str(tmp_path / "prompt.wav"), (tmp_path / "prompt.wav").open("rb")):
        np.testing.assert_allclose(ssm.prepare_prompt(source), audio.set_level(prompt), atol=1e-4)
    np.testing.assert_array_equal(ssm.prepare_prompt(torch.from_numpy(prompt)), audio.set_level(prompt))
    for wrong, said in (((32767 * prompt).astype(np.int16), "int16"), (prompt.tolist(), "list"), (b"RIFF", "bytes")):
        with pytest.raises(LabError, match=said):
            ssm.prepare_prompt(wrong)  # type: ignore[arg-type]
    with pytest.raises(LabError, match="the speaker lasts 2.00 s; give at least 3 s"):
        ssm.generate(prompt, 1.0, speaker=prompt[: 2 * audio.SAMPLE_RATE])
    long = np.resize(prompt, 61 * audio.SAMPLE_RATE)
    cut = ssm.prepare_prompt(long)
    assert "warning: the prompt is longer than 60 s; taking its beginning" in capsys.readouterr().err
    np.testing.assert_array_equal(cut, ssm.prepare_prompt(long[: 60 * audio.SAMPLE_RATE]))


def test_a_list_of_prompts_is_a_list_of_stories(ssm: SpeechSSM, prompt: np.ndarray) -> None:
    other = narrators.named("Boaz").read("the rain began to fall, and the badger felt sleepy.")
    options: dict[str, Any] = {"top_k": 9, "windowing": WINDOWS}
    stories = ssm.generate([prompt, other, prompt], 1.0, seed=[1, 2, 3], speaker=[None, prompt, None], **options)
    assert [len(story.tokens) - story.prompt_tokens for story in stories] == [TOKEN_RATE] * 3
    for story, source, seed, speaker in zip(
        stories, (prompt, other, prompt), (1, 2, 3), (None, prompt, None), strict=True
    ):
        alone = ssm.generate(source, 1.0, seed=seed, speaker=speaker, **options)
        assert torch.equal(story.tokens, alone.tokens) and story.seams == alone.seams != []
        np.testing.assert_array_equal(story.waveform, alone.waveform)
    assert torch.equal(ssm.generate([prompt], 1.0, seed=1)[0].tokens, ssm.generate(prompt, 1.0, seed=1).tokens)
    with pytest.raises(LabError, match="2 prompts, 2 speakers and 3 seeds are no stories"):
        ssm.generate([prompt, other], 1.0, seed=[1, 2, 3])


def test_a_device_is_where_all_models_are(tiny_bundle: Path) -> None:
    ssm = SpeechSSM.load(tiny_bundle, device="cpu")
    assert ssm.device == torch.device("cpu") and ssm.to("cpu") is ssm
    for wrong in ("cuda:99", "gpu"):
        with pytest.raises(LabError, match=f"cannot compute on '{wrong}'"):
            SpeechSSM.load(tiny_bundle, device=wrong)
