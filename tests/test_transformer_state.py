"""The keys and values of a SpeechTransformer as a value: continued, repeated, learnt through, appended to in place."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from lab.language import decode, state_bytes
from tests.test_language import build, tokens_of


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("reset", [False, True])
def test_continuations_of_one_transformer_state_do_not_meet(mode: Any, reset: bool) -> None:
    """Three stories from one state, a few tokens of each in turn: logits as of each whole, older states untouched."""
    model, prompt = build("transformer"), tokens_of(2, 13)
    stories = [torch.cat([prompt, tokens_of(2, 20, seed)], 1) for seed in (1, 2, 3)]
    documents = torch.zeros(2, 33, dtype=torch.bool)
    documents[1, [7, 17]] = reset
    with mode():
        whole = [model(story, reset=documents) for story in stories]
        _, state = model(prompt[:, :12], reset=documents[:, :12] if reset else None)
        _, state = model(prompt[:, 12:], state)  # of 12 tokens there is memory for 24 now
        states, pieces, old = [state] * 3, [[], [], []], []
        for a, b in ((13, 14), (14, 15), (15, 22), (22, 23), (23, 33)):
            for i, story in enumerate(stories):
                old.append((states[i], [layer.keys.clone() for layer in states[i].layers]))
                flags = documents[:, a:b] if documents[:, a:b].any() else None
                logits, states[i] = model(story[:, a:b], states[i], flags)
                pieces[i].append(logits)
        for i, (logits, last) in enumerate(whole):
            torch.testing.assert_close(torch.cat(pieces[i], 1), logits[:, 13:], atol=1e-5, rtol=0)
            for ours, theirs in zip(states[i].layers, last.layers, strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for then, keys in old:
        assert all(torch.equal(layer.keys, was) for layer, was in zip(then.layers, keys, strict=True))


@torch.inference_mode()
def test_decoding_appends_to_the_cache_of_the_transformer_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "SPARE", 64)
    model, tokens = build("transformer"), tokens_of(1, 300)
    whole, _ = model(tokens)
    logits, first = model(tokens[:, :1])
    kept = copy.deepcopy(first)
    stepper, pieces, states, memories = decode.decoder(model, first), [logits[:, 0]], [], []
    for t in range(1, 300):
        pieces.append(stepper.step(tokens[:, t]))
        states.append(stepper.state)
        assert states[-1].size == t + 1 and state_bytes(states[-1]) == (t + 1) * 3 * 2 * 16 * 4 + 8
        address = states[-1].layers[0].keys.data_ptr()
        memories += [address] * (address not in memories[-1:])
    assert len(memories) == 5  # 1 token and 64 more, 128 more, ...
    torch.testing.assert_close(torch.stack(pieces, 1), whole, atol=1e-4, rtol=0)
    for state in (first, *states):  # none was written to, and each can be continued
        for layer, last in zip(state.layers, states[-1].layers, strict=True):
            torch.testing.assert_close(layer.keys, last.keys[:, : state.size], atol=0, rtol=0)
    assert all(torch.equal(a.values, b.values) for a, b in zip(first.layers, kept.layers, strict=True))
    other = model(tokens[:, 21:], states[19])[0]
    torch.testing.assert_close(other, whole[:, 21:], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_rows_of_a_transformer_state_may_be_picked_and_repeated() -> None:
    model, tokens, more = build("transformer"), tokens_of(2, 12), tokens_of(2, 3, 1)
    _, state = model(tokens)
    _, state = model(more[:, :1], state)  # now with free memory behind
    for rows in ([1, 0], [1, 1], [0]):
        layers = tuple(type(layer)(*(kv[rows] for kv in layer)) for layer in state.layers)
        logits, _ = model(more[rows, 1:], state._replace(length=state.length[rows], layers=layers))
        whole, _ = model(torch.cat([tokens, more], 1)[rows])
        torch.testing.assert_close(logits, whole[:, 13:], atol=1e-5, rtol=0)


def test_gradients_go_through_the_state_of_the_transformer() -> None:
    model, tokens = build("transformer"), tokens_of(2, 12)

    def gradients(*cuts: int) -> list[Tensor]:
        model.zero_grad()
        state, pieces = None, []
        for a, b in zip((0, *cuts), (*cuts, 12), strict=True):
            logits, state = model(tokens[:, a:b], state)
            pieces.append(logits)
        torch.cat(pieces, 1).square().mean().backward()
        return [p.grad.clone() for p in model.parameters()]

    for whole, split in zip(gradients(), gradients(5, 6, 10), strict=True):
        torch.testing.assert_close(whole, split, atol=1e-6, rtol=1e-4)
    with torch.inference_mode():
        _, state = model(tokens)  # and from a state that keeps no gradients, in any mode
        _, state = model(tokens[:, :1], state)
    logits, _ = model(tokens[:, 1:], state)
    logits.sum().backward()
    with torch.no_grad():
        model(tokens[:, 1:], state)
