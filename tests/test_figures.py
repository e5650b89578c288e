"""The bundle that ships, at coarse bounds: a broken one must be noticed, a slightly worse one is for `lab measure`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lab import bundle
from lab.corpora import narration, storyworld
from lab.corpora.prompts import prompts
from lab.evaluate import report
from lab.language import generate
from lab.measure import audio as audio_measures
from lab.measure import coherence
from lab.measure import tokens as token_measures
from lab.speech import SpeechSSM
from tests.commands import lab

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "data" / "bundle"


@pytest.fixture(scope="module")
def ssm() -> SpeechSSM:
    return SpeechSSM.load(SHIPPED)


def test_bundle_is_small_and_every_model_has_a_card():
    entries = bundle.index(SHIPPED)
    assert bundle.size(SHIPPED) < 45e6
    for name, entry in entries.items():
        assert {"data", "steps", "minutes", "machine", "command", "parameters"} <= set(entry["card"]), name


@pytest.mark.parametrize("what", ["headlines", "stages", "differences"])
def test_readme_shows_what_lab_card_prints(what: str):
    shown = (ROOT / "README.md").read_text().split(f"<!-- lab card {what} -->\n")[1].split("<!-- end -->")[0]
    assert shown == lab("card", what, "--bundle", SHIPPED).stdout


def test_page_of_all_figures_is_that_of_the_bundle():
    assert report.PAGE.read_text() == lab("card", "page", "--bundle", SHIPPED).stdout


def test_the_curves_of_coherence_are_those_of_the_bundle():
    weights, digests = coherence.Report.load().weights, bundle.digests(SHIPPED)
    assert set(weights) == {"griffin", "griffin30", "transformer", "tokenizer"}
    assert weights == {name: digests[name] for name in weights}


def test_prompts_are_about_ten_seconds_and_understood(ssm: SpeechSSM):
    for prompt in prompts():
        waveform = ssm.prepare_prompt(prompt.path)
        assert abs(len(waveform) / 16_000 - prompt.seconds) < 0.01 and 9.5 <= prompt.seconds <= 10.5
        heard = ssm.tokenizer.transcribe(ssm.tokenizer.encode(waveform))
        truth = storyworld.normalize(prompt.text)
        assert token_measures.character_error_rate([truth], [heard]) < 0.25, prompt.name


def test_codec_keeps_held_out_narrators_intelligible(ssm: SpeechSSM):
    waveforms = [narration.held_out_story(number, sentences=2).samples() for number in range(2)]
    assert audio_measures.of_codec(ssm.voice.codec, waveforms, ssm.voice.codec.config.levels)["STOI"] > 0.8


def test_language_model_speaks_words_of_the_world(ssm: SpeechSSM):
    prompt = ssm.tokenizer.encode(ssm.prepare_prompt(prompts()[0].path))
    tokens = list(generate(ssm.language, prompt, generator=torch.Generator().manual_seed(0), max_tokens=750))
    transcript = ssm.tokenizer.transcribe(torch.tensor(tokens))
    assert token_measures.words_that_exist(transcript, storyworld.VOCABULARY) > 0.5


def test_story_is_heard_as_it_was_meant(ssm: SpeechSSM):
    """Through the whole road and back: what the voice speaks, the tokenizer reads again."""
    told = ssm.generate(prompts()[1].path, 4.0, seed=1)
    assert len(told.waveform) == 640 * len(told.tokens)
    assert 0.01 < float(np.sqrt(np.mean(told.waveform**2))) < 0.3
    meant = ssm.tokenizer.transcribe(told.tokens)
    heard = ssm.tokenizer.transcribe(ssm.tokenizer.encode(told.waveform))
    assert token_measures.character_error_rate([meant], [heard]) < 0.6
