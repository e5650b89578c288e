"""A step as a CUDA graph is a step of the model, and generate does not wait for the device."""

from __future__ import annotations

import pytest
import torch

from lab.language import Griffin, GriffinConfig, generate
from lab.language.decode import Graph, decoder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_graph_steps_as_the_model_does(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Griffin(GriffinConfig.preset("tiny")).to("cuda", dtype).eval()
    tokens = torch.randint(64, (2, 60), device="cuda")
    _, state = model(tokens[:, :20])
    before = state.layers[0].hidden.clone()
    graph = decoder(model, state)
    assert isinstance(graph, Graph)
    plain = state
    for column in tokens[:, 20:].unbind(1):
        wanted, plain = model(column[:, None], plain)
        torch.testing.assert_close(graph.step(column), wanted[:, 0])
    torch.testing.assert_close(graph.state.layers[0].hidden, plain.layers[0].hidden)
    assert torch.equal(state.layers[0].hidden, before)


def test_stories_side_by_side_are_drawn_on_the_device() -> None:
    model = Griffin(GriffinConfig.preset("tiny")).cuda().eval()
    generator = torch.Generator("cuda").manual_seed(0)
    stories = generate(model, torch.zeros(3, 4, dtype=torch.int64), generator=generator)
    next(stories)  # reads the prompt and records the graph
    torch.cuda.set_sync_debug_mode("error")
    try:
        drawn = [next(stories) for _ in range(5)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(tokens.shape == (3,) and tokens.is_cuda for tokens in drawn)
