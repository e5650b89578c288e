"""lab.language.sampling: continuations, how they are drawn, and what is refused."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from lab.errors import LabError
from lab.language import (
    generate,
    sample,
    state_bytes,
)
from tests.test_language import KINDS, WINDOW, build, seeded, tokens_of


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_tokens(kind: str) -> None:
    model, prompt = build(kind), tokens_of(1, 12)[0]
    made = [list(generate(model, prompt, generator=seeded(s), max_tokens=20)) for s in (3, 3, 4)]
    assert made[0] == made[1] != made[2] and len(made[0]) == 20
    assert all(0 <= token < 64 for token in made[0])


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_the_argmax_of_the_whole(kind: str) -> None:
    model, prompt = build(kind), tokens_of(1, 12)[0]
    made = list(generate(model, prompt, generator=seeded(), temperature=0, max_tokens=3 * WINDOW))
    logits, _ = model(torch.cat([prompt, torch.tensor(made)])[None])
    assert made == logits[0, 11:-1].argmax(-1).tolist()


def test_a_continuation_can_be_watched_and_taken_up_again() -> None:
    model, prompt = build("griffin"), tokens_of(1, 12)[0]
    story = generate(model, prompt, generator=seeded(5))
    sizes, made = set(), []
    for token in islice(story, 3 * WINDOW):
        made.append(token)
        sizes.add(state_bytes(story.state))
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()  # between steps the mode is left
    assert len(sizes) == 1 and story.made == len(made) and story.logits is not None and story.logits.shape == (64,)
    half = generate(model, prompt, generator=(generator := seeded(5)))
    begun = list(islice(half, 10))
    rest = generate(model, torch.tensor(begun[-1:]), generator=generator, state=half.state)
    assert begun + list(islice(rest, 3 * WINDOW - 10)) == made


def test_slide_and_prompt_restarts_when_the_context_is_full() -> None:
    model, prompt = build("transformer", context=32), tokens_of(1, 12)[0]
    story = generate(model, prompt, generator=seeded(), max_tokens=70, slide=8)
    made, longest = [], 0
    for token in story:
        made.append(token)
        longest = max(longest, int(story.state.length))
    assert len(made) == 70 and longest == 32
    # 12 of the prompt and 21 new (the last is not read) fill 32; then 8 and 25 new
    assert story.restarts == [21, 46]
    fresh = generate(model, torch.tensor(made[13:21]), generator=seeded(), temperature=0, max_tokens=3)
    again = generate(model, prompt, generator=seeded(), max_tokens=21, slide=8)
    assert list(again) == made[:21]
    again.temperature, again.max_tokens = 0, 24
    assert list(again) == list(fresh)


def test_temperature_is_the_share_of_the_draws() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0])
    drawn = sample(logits.expand(20_000, 3), 0.5, seeded())
    shares = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(shares, (logits / 0.5).softmax(0), atol=0.01, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_of_different_lengths_are_continued_as_each_alone(kind: str) -> None:
    """Also drawn, with a generator for each, and where slide-and-prompt restarts before a row fills its newest 24."""
    model = build(kind, context=32) if kind == "transformer" else build(kind)
    prompts = [tokens_of(1, T, T)[0] for T in (25, 3, 12)]
    options: dict[str, Any] = {"max_tokens": 14, "repetition_penalty": 1.3, "top_k": 20}
    for temperature in (0.0, 1.0):
        options["temperature"] = temperature
        together = list(generate(model, prompts, generator=[seeded(row) for row in range(3)], **options))
        for row, prompt in enumerate(prompts):
            alone = list(generate(model, prompt, generator=seeded(row), **options))
            assert alone == torch.stack(together)[:, row].tolist()
    if kind == "transformer":  # restarts at 8 new tokens, where the second prompt and its continuation are 11
        made = torch.stack(list(generate(model, prompts, generator=seeded(), max_tokens=9, slide=24, temperature=0)))
        row = torch.cat([prompts[1], made[:8, 1]])
        assert made[8, 1] == model(row[None])[0][0, -1].argmax()


def test_forced_tokens_come_first_and_are_read() -> None:
    model, prompt = build("griffin"), tokens_of(1, 12)[0]
    free = list(generate(model, prompt, generator=seeded(), temperature=0, max_tokens=8))
    forced = [(free[0] + 1) % 64, 5, 6]
    made = list(generate(model, prompt, generator=seeded(), temperature=0, max_tokens=8, forced=forced))
    after = generate(model, torch.cat([prompt, torch.tensor(forced)]), generator=seeded(), temperature=0, max_tokens=5)
    assert made == forced + list(after) and made[3:] != free[3:]
    batch = generate(model, prompt.expand(2, -1), generator=seeded(), forced=torch.tensor([[1, 2], [3, 4]]))
    assert [token.tolist() for token in islice(batch, 2)] == [[1, 3], [2, 4]]
    assert list(generate(model, prompt, generator=seeded(), forced=[7, 8], max_tokens=1)) == [7]


def test_a_hook_changes_the_logits_that_are_drawn_from() -> None:
    model, prompt = build("griffin"), tokens_of(1, 12)[0]

    def only_even(logits: Tensor) -> Tensor:
        assert logits.shape in ((64,), (2, 64))
        return logits.masked_fill(torch.arange(64) % 2 == 1, -math.inf)

    story = generate(model, prompt, generator=seeded(), max_tokens=30, logits_hook=only_even)
    assert all(token % 2 == 0 for token in story) and story.logits is not None and story.logits[1] == -math.inf
    batch = generate(model, prompt.expand(2, -1), generator=seeded(), max_tokens=3, logits_hook=only_even)
    assert all((token % 2 == 0).all() for token in batch)
    for wrong in (lambda logits: logits[:3], lambda logits: None):
        with pytest.raises(LabError, match=r"logits_hook must return logits of shape \(64,\)"):
            next(generate(model, prompt, generator=seeded(), logits_hook=wrong))


def test_a_repetition_penalty_falls_on_the_tokens_of_the_newest_3_s() -> None:
    model, prompt = build("griffin"), tokens_of(1, 12)[0]
    off = list(generate(model, prompt, generator=seeded(1), max_tokens=20))
    assert list(generate(model, prompt, generator=seeded(1), max_tokens=20, repetition_penalty=1)) == off
    long = torch.tensor([5] * 20 + [7] * 70 + [9] * 5)  # 75 tokens are 3 s
    raw, penalised = (generate(model, long, generator=seeded(), repetition_penalty=p) for p in (1, 2))
    next(raw), next(penalised)
    assert raw.logits is not None
    wanted = raw.logits.clone()
    for token in (7, 9):
        wanted[token] *= 0.5 if wanted[token] > 0 else 2
    torch.testing.assert_close(penalised.logits, wanted)
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 40, "repetition_penalty": 1e9}
    made = list(generate(model, prompt, generator=seeded(), logits_hook=lambda logits: logits + 50, **options))
    assert len({*made, *prompt.tolist()}) == 40 + len({*prompt.tolist()})


def test_bad_sampling() -> None:
    model, prompt = build("griffin"), tokens_of(1, 12)[0]
    _, state = model(prompt[None])
    for arguments, message in (
        ({"temperature": -0.5}, "temperature must be 0 or more, not -0.5"),
        ({"temperature": float("nan")}, "not nan"),
        ({"temperature": "hot"}, "temperature must be 0 or more, not hot"),
        ({"top_k": 0}, "top_k must be 1 or more, an integer, not 0"),
        ({"top_k": 2.5}, "top_k must be 1 or more, an integer, not 2.5"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, not 0.0"),
        ({"top_p": float("nan")}, "top_p must be above 0"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0"),
        ({"repetition_penalty": -1}, "repetition_penalty must be 0 or more, not -1"),
        ({"logits_hook": 3}, "logits_hook must be a function"),
        ({"max_tokens": -1}, "max_tokens must be 0 or more"),
        ({"max_tokens": 2.5}, "max_tokens must be 0 or more, an integer, not 2.5"),
        ({"slide": 8}, "leave it out"),
        ({"weights": "int4"}, "weights must be float32 or int8, not 'int4'"),
        ({"forced": [64]}, "token 64 is not in the vocabulary"),
        ({"forced": [0.5]}, "forced must be"),
        ({"forced": ["a"]}, "forced must be"),
        ({"forced": 3}, "forced must be"),
        ({"forced": torch.zeros(2, 3, dtype=torch.int64)}, r"forced must be \(N,\) or \(1, N\)"),
        ({"generator": 3}, "generator must be a torch.Generator"),
        ({"generator": [seeded(), seeded()]}, "or a list of 1"),
        ({"prompt": prompt[:0]}, "1 token or more"),
        ({"prompt": prompt.float()}, "int64"),
        ({"prompt": prompt.int()}, "int64 .*int32"),
        ({"prompt": prompt.numpy()}, "prompt must be a tensor"),
        ({"prompt": prompt.tolist()}, "prompt must be a tensor .*, not int"),
        ({"prompt": []}, "prompt must be a tensor"),
        ({"prompt": [prompt, prompt[:0]]}, "1 token or more"),
        ({"prompt": prompt + 60}, "is not in the vocabulary, 0 to 63"),
        ({"prompt": prompt - 64}, "token -"),
        ({"prompt": [prompt, prompt[:4]], "state": state}, "cannot continue a state"),
    ):
        with pytest.raises(LabError, match=message):
            generate(model, **{"prompt": prompt, "generator": seeded(), **arguments})
    for slide, message in (
        (64, "below the model's context, 64, not 64"),
        (0, "1 or more, an integer"),
        (2.5, "1 or more"),
    ):
        with pytest.raises(LabError, match=f"slide must be {message}"):
            generate(build("transformer"), prompt, generator=seeded(), slide=slide)
