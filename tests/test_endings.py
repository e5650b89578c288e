"""What a model learns from how its examples end: which tokens those are, and that it falls silent by the one alone."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, generate
from lab.tokens import TOKEN_HOP, Tokenizer
from lab.train import endings
from lab.view import stitching, style
from tests.test_stitching import noise


def test_examples_end_in_silence_or_with_the_recording(models: dict[str, nn.Module]) -> None:
    tokenizer = models["tokenizer"]
    assert isinstance(tokenizer, Tokenizer)
    recording = noise(60)
    (silent,) = endings.examples(tokenizer, [np.append(recording, 0.1)], endings.SILENCE, padding=1.0)
    (start,) = endings.examples(tokenizer, [recording], endings.START)
    assert len(silent) == 60 + 25 and len(start) == 60  # a part of a token is none
    assert np.array_equal(start, tokenizer.encode(recording))
    reach = tokenizer.reach
    assert np.array_equal(silent[: 60 - reach], start[: 60 - reach]) and not np.array_equal(silent[:60], start)
    behind = tokenizer.encode(np.zeros(TOKEN_HOP * (25 + 4 * reach), np.float32))
    assert set(silent[60 + reach :]) == {int(behind[2 * reach])}  # the padding does not hear the start again
    with pytest.raises(LabError, match="there is no ending 'noise'; there are silence and the start again"):
        endings.examples(tokenizer, [recording], "noise")


def test_a_model_falls_silent_by_examples_that_did() -> None:
    """It knows nothing at first, and counts through 1 to 8 where its examples speak."""
    torch.manual_seed(0)
    model = Griffin(GriffinConfig.preset("tiny", vocabulary=16)).eval()
    before = deepcopy(model.state_dict())
    speech = np.tile(np.arange(1, 9), 5)
    prompt, silent = torch.from_numpy(speech[:8])[None], []
    for behind in (20, 0):
        documents = [np.append(speech, np.zeros(behind, int))] * 24
        taught = endings.taught(model, documents, steps=120, length=60)
        new = generate(taught, prompt, generator=torch.Generator().manual_seed(0), temperature=0.5, max_tokens=48)
        said = torch.stack([each.clone() for each in new], 1)[0]
        assert (said[:24] != 0).float().mean() > 0.9  # what is said of the story before
        silent.append(float((said[-12:] == 0).float().mean()))
    assert silent[0] > 0.9 and silent[1] < 0.1
    assert all(torch.equal(before[name], weights) for name, weights in model.state_dict().items())  # a copy learnt


def test_what_falls_silent_is_drawn_by_second() -> None:
    talks = np.zeros((3, 60), bool)  # 2 s, and a part of one that is left out
    stops = talks.copy()
    stops[:2, 25:] = True
    figure = stitching.falls_silent({endings.SILENCE: stops, endings.START: talks}, prompt=4, ends=5)
    traces = {trace.name: trace for trace in figure.data if trace.name}
    assert traces[endings.SILENCE].y == pytest.approx([0, 0.667]) and traces[endings.START].y == pytest.approx([0, 0])
    assert traces[endings.SILENCE].x.tolist() == [4.5, 5.5] and figure.layout.shapes[0].x0 == 5
    low, high = figure.data[0].y[1], figure.data[0].y[2]  # there and back
    assert low < 0.667 < high
    assert traces[endings.SILENCE].line.color == style.SILENCE
    assert figure.layout.title.text.endswith("67% (silence), 0% (the start again)")
    alone = stitching.falls_silent({endings.START: talks[:1]}, prompt=4, ends=5)
    assert "NaN" not in alone.to_json()
