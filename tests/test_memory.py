"""Channels that remember minutes, from the beginning of training or from a model that has none."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lab.errors import LabError
from lab.language import Griffin, GriffinConfig
from lab.language.layers import MINUTES, initial_lambda
from lab.train import language


def tiny(**changes: Any) -> Griffin:
    torch.manual_seed(0)
    return Griffin(GriffinConfig.preset("tiny", vocabulary=32, **changes))


def half_lives(values: Tensor) -> Tensor:
    return math.log(2) / (4 * F.softplus(values.double()))


def test_one_channel_in_four_begins_with_minutes() -> None:
    torch.manual_seed(0)
    values = half_lives(initial_lambda(20_000, "minutes"))
    slow, others = values[::4], torch.cat([values[k::4] for k in (1, 2, 3)])
    low, high = MINUTES
    assert low * 0.99 < slow.min() < low * 1.05 and high * 0.95 < slow.max() < high * 1.01
    assert slow.median() == pytest.approx(math.sqrt(low * high), rel=0.1)  # uniform in the logarithm
    assert 13 < others.min() < 13.5 and others.max() < 1400
    assert GriffinConfig.preset("laptop").lambda_init == GriffinConfig.preset("lab").lambda_init == "minutes"
    assert GriffinConfig.preset("2b").lambda_init == "paper"


def test_the_slowest_channels_of_a_model_to_begin_with_become_slow(tmp_path: Path) -> None:
    begin = tiny()
    config = replace(begin.config, lambda_init="minutes")
    made = language.slowed(begin, config)
    assert made.config == config
    for name, value in made.state_dict().items():
        before = begin.state_dict()[name]
        if not name.endswith("lambda_"):
            assert torch.equal(value, before)
            continue
        order = before.argsort()  # the slowest first
        assert torch.equal(value[order[8:]], before[order[8:]])
        assert torch.equal(value[order[:8]], value[order[:8]].sort().values)
        assert (half_lives(value[order[:8]]) > MINUTES[0] * 0.99).all()
    assert language.slowed(begin, begin.config) is begin
    assert language.slowed(made, config) is made
    assert language.slowed(tiny().to("meta"), config).device.type == "meta"
    stream = language.TokenStream(np.arange(300) % 32, np.array([0]))
    preset = replace(language.PRESETS["tiny"], schedule=replace(language.PRESETS["tiny"].schedule, learning_rate=0.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(language.PRESETS, "tiny", preset)
        options: dict[str, Any] = dict(preset="tiny", steps=1, begin=begin)
        trained, _ = language.train(stream, [], tmp_path, config=config, **options)
        assert isinstance(trained, Griffin) and (half_lives(trained.blocks[0].mix.lambda_) > MINUTES[0]).sum() >= 8
        with pytest.raises(LabError, match="cannot begin with the weights of"):
            wider = replace(config, mlp_expansion=2)
            language.train(stream, [], tmp_path / "wider", config=wider, **options)
