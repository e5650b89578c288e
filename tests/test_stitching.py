"""Windows measured and drawn: overlaps, joins, ends."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lab import audio, windows
from lab.errors import LabError
from lab.measure import audio as audio_measures
from lab.measure import seams
from lab.tokens import TOKEN_HOP, Tokenizer
from lab.view import stitching, style
from lab.voice import Synthesizer, VoicePrompt
from lab.windows import Windowing, plan

SHORT = Windowing(60, 20)
FAST = (2, 1, 1)  # passes of the tiny voice


def noise(tokens: int, seed: int = 0) -> np.ndarray:
    """Of another loudness each token, so that tokens differ."""
    rng = np.random.default_rng(seed)
    loudness = 10 ** rng.uniform(-4, -1, (tokens, 1))
    return (loudness * rng.standard_normal((tokens, TOKEN_HOP))).astype(np.float32).ravel()


@pytest.fixture(scope="module")
def tokenizer(models: dict[str, nn.Module]) -> Tokenizer:
    assert isinstance(models["tokenizer"], Tokenizer)
    return models["tokenizer"]


@pytest.fixture(scope="module")
def voice(models: dict[str, nn.Module]) -> Synthesizer:
    return Synthesizer(models["soundstorm"], models["codec"])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def prompt() -> VoicePrompt:
    random = torch.Generator().manual_seed(1)
    tokens, codes = torch.randint(32, (75,), generator=random), torch.randint(16, (75, 4), generator=random)
    return VoicePrompt(tokens, codes, torch.randn(8, generator=random))


# Overlaps


@given(st.integers(1, 300), st.integers(0, 10), st.integers(1, 40), st.integers(1, 3))
def test_both_versions_are_of_the_same_moments(total: int, half: int, more: int, scale: int) -> None:
    parts = plan(total, 2 * half + more, 2 * half)
    outputs = [np.arange(part.start * scale, part.stop * scale) for part in parts]
    pairs = seams.overlaps(parts, outputs)
    assert len(pairs) == len(parts) - 1
    for seam, (earlier, later) in zip(windows.seams(parts), pairs, strict=True):
        assert earlier.tolist() == later.tolist() == list(range((seam - half) * scale, (seam + half) * scale))


def test_abutted_windows_have_the_seams_and_no_overlap() -> None:
    parts = plan(150, *SHORT)
    alone = seams.abutted(parts)
    assert windows.seams(alone) == windows.seams(parts) == [50, 90, 130]
    assert [(part.start, part.stop) for part in alone] == [(0, 50), (50, 90), (90, 130), (130, 150)]


# Tokens


def test_full_windows_are_tokenized_alone(tokenizer: Tokenizer) -> None:
    waveform = noise(119)[:-1]  # 118 whole tokens: the third window would need 140
    parts, tokens = seams.tokens_alone(tokenizer, waveform, SHORT)
    assert [(part.start, part.stop) for part in parts] == [(0, 60), (40, 100)]
    for part, found in zip(parts, tokens, strict=True):
        piece = torch.from_numpy(waveform[None, TOKEN_HOP * part.start : TOKEN_HOP * part.stop])
        assert torch.equal(found, tokenizer.tokenize(piece)[0])
    with pytest.raises(LabError, match="2.36 s of speech fill no window of 60 tokens; give 38400 samples"):
        seams.tokens_alone(tokenizer, waveform[: 59 * TOKEN_HOP], SHORT)


def test_windows_disagree_within_the_reach_of_their_edges_alone(tokenizer: Tokenizer) -> None:
    share, count = seams.disagreement(tokenizer, [noise(300, 1), noise(180, 2)], SHORT)
    reach = tokenizer.reach
    assert reach == 5 and share.shape == (20,) and count == 6 + 3
    assert not share[reach:-reach].any()
    assert share[:reach].any() and share[-reach:].any()
    with pytest.raises(LabError, match="no two windows"):
        seams.disagreement(tokenizer, [noise(99)], SHORT)


def test_disagreement_counts_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = plan(10, 4, 2)
    tokens = [torch.tensor(t) for t in ([0, 0, 1, 2], [1, 2, 3, 4], [9, 4, 5, 6], [5, 7, 8, 8])]
    monkeypatch.setattr(seams, "tokens_alone", lambda *_: (parts, tokens))
    share, count = seams.disagreement(None, [np.zeros(1)])  # type: ignore[arg-type]
    np.testing.assert_allclose(share, [1 / 3, 1 / 3])
    assert count == 3


# Sound


@pytest.mark.parametrize("fade", [0, 320, 12_800])
def test_joined_windows_are_what_the_voice_says(voice: Synthesizer, prompt: VoicePrompt, fade: int) -> None:
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 32, 130))
    parts = plan(130, *SHORT)
    spoken = seams.renderings(voice, tokens, prompt, parts, seed=7, iterations=FAST)
    assert [len(whole) for whole in spoken] == [TOKEN_HOP * len(part) for part in parts]
    whole = voice.speak(tokens, prompt, seed=7, iterations=FAST, windowing=SHORT, fade=fade)
    assert np.array_equal(seams.joined(parts, spoken, fade), whole)


def test_a_seam_is_heard_as_the_voice_would_say_it(voice: Synthesizer, prompt: VoicePrompt) -> None:
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 32, 130))
    whole = voice.speak(tokens, prompt, seed=7, iterations=FAST, windowing=SHORT, fade=320)
    heard, second = seams.at_first(voice, tokens, prompt, SHORT, 320, 0.8, seed=7, iterations=FAST)
    assert second == 2.0  # 60 tokens a window, 20 shared
    np.testing.assert_allclose(heard, whole[round(16_000 * 1.6) : round(16_000 * 2.4)], atol=1e-5)
    with pytest.raises(LabError, match="2.4 s fit into one window"):
        seams.at_first(voice, tokens[:60], prompt, SHORT)

    player = stitching.hear_seam(voice, tokens, prompt, seed=7, iterations=FAST)(5.2, 2.4, 0.8, 20)
    pcm = np.frombuffer(player._sounds[0]["pcm"], "<i2") / 32767
    assert len(pcm) == 4 * 16_000
    until = round(16_000 * 3.5)  # the next seam, at 3.6 s, is another's
    np.testing.assert_allclose(pcm[:until], whole.clip(-1, 1)[:until], atol=1e-4)
    assert player._seams == [2.0] and player.caption.endswith("windows of 2.4 s, 0.8 s shared, cross-fade of 20 ms")
    assert stitching.hear_seam(voice, tokens, prompt, iterations=FAST)(5.2, 2.4, 0, 20).caption.endswith("plain cut")


def test_what_cannot_be_joined(voice: Synthesizer) -> None:
    parts = plan(100, *SHORT)
    spoken = [np.zeros(TOKEN_HOP * len(part), np.float32) for part in parts]
    with pytest.raises(LabError, match="321 samples has no middle"):
        seams.joined(parts, spoken, 321)
    with pytest.raises(LabError, match="a margin of 6402 does not fit"):
        seams.joined(parts, spoken, 2 * (TOKEN_HOP * 10 + 2))
    with pytest.raises(LabError, match="a margin of 1 does not fit"):
        seams.joined(seams.abutted(parts), [whole[: 50 * TOKEN_HOP] for whole in spoken], 2)


def test_distance_is_in_nepers_where_it_is() -> None:
    hiss = 0.1 * np.random.default_rng(0).standard_normal(40 * TOKEN_HOP).astype(np.float32)
    assert not seams.distance(hiss, hiss).any()
    np.testing.assert_allclose(seams.distance(hiss, hiss * np.e), 1, atol=0.03)  # the floor takes little of it
    other = hiss.copy()
    other[20 * TOKEN_HOP : 21 * TOKEN_HOP] *= 3
    apart = seams.distance(hiss, other)
    assert apart.shape == (40,) and apart.argmax() == 20
    assert not apart[:19].any() and not apart[22:].any()
    with pytest.raises(LabError, match="cannot compare"):
        seams.distance(hiss, hiss[:-TOKEN_HOP])


def test_correlation_tells_what_a_cross_fade_does_to_the_level() -> None:
    one, other = 0.1 * np.random.default_rng(0).standard_normal((2, 160_000)).astype(np.float32)
    for mixed in (other, one, 0.6 * one + 0.8 * other, -one):
        alike = seams.correlation(one, mixed)
        middle = audio.crossfade(one, mixed)[79_000:81_000]
        if alike > -0.99:
            louder = audio.level(middle) - audio.level(one[79_000:81_000])
            assert louder == pytest.approx(10 * np.log10(1 + alike), abs=0.2)
        else:
            assert np.abs(middle).max() < 0.01
    assert seams.correlation(one, 0.6 * one + 0.8 * other) == pytest.approx(0.6, abs=0.01)
    assert seams.correlation(one, np.zeros_like(one)) == 0


def test_the_rank_of_a_seam_is_the_share_of_lesser_jumps() -> None:
    waveform = 0.05 * np.random.default_rng(0).standard_normal(48_000).astype(np.float32)
    waveform[16_000:] *= 4
    loud, nothing = seams.ranks(waveform, [1.0, 2.0])
    assert loud == 1 and 0.02 < nothing < 0.98


def test_spectral_change_is_what_seams_are_judged_by() -> None:
    waveform = 0.05 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    waveform[16_000:] *= 4
    points, change = audio_measures.spectral_change(waveform)
    np.testing.assert_allclose(np.diff(points), 0.005)
    assert abs(points[change.argmax()] - 1) <= 0.02
    at, elsewhere = audio_measures.spectral_jumps(waveform, [1.0])
    assert at[0] == change[np.abs(points - 1).argmin()] and len(elsewhere) == (np.abs(points - 1) > 0.1).sum()


# The end


def test_endings_are_what_the_tokenizer_makes_of_them(tokenizer: Tokenizer) -> None:
    waveform, reach = noise(90), tokenizer.reach
    cuts = [12, 37, 85]
    ends = seams.endings(tokenizer, waveform, cuts, length=12)
    assert {tokens.shape for tokens in ends.values()} == {(3, 12)}
    whole = tokenizer.encode(waveform)
    for row, cut in enumerate(cuts):
        heard = waveform[: TOKEN_HOP * cut]
        filled = tokenizer.encode(np.pad(heard, (0, TOKEN_HOP * reach)))[cut - 12 : cut]
        assert torch.equal(ends["what follows"][row], whole[cut - 12 : cut])
        assert torch.equal(ends["the start again"][row], tokenizer.encode(heard)[-12:])
        assert torch.equal(ends["silence"][row], filled)
    differ = ends["silence"] != ends["what follows"]
    assert differ[:, -reach:].any() and not differ[:, :-reach].any()
    for wrong in ([], [11], [86]):
        with pytest.raises(LabError, match="give cuts between 12 and 85"):
            seams.endings(tokenizer, waveform, wrong, length=12)


def test_an_end_that_tells_is_known() -> None:
    random = torch.Generator().manual_seed(0)

    def pieces(low: int, high: int) -> list[torch.Tensor]:
        return [torch.randint(low, high, (12, 30), generator=random) for _ in range(9)]

    assert seams.end_is_known(pieces(0, 12), pieces(4, 16)) > 0.9
    assert abs(seams.end_is_known(pieces(0, 16), pieces(0, 16)) - 0.5) < 0.25  # 72 pieces: a deviation of 0.06
    late = [torch.cat([a[:, :-6], b[:, :6]], 1) for a, b in zip(pieces(4, 16), pieces(0, 12), strict=True)]
    assert seams.end_is_known(late, pieces(4, 16)) > 0.9  # the last 6 are looked at
    with pytest.raises(LabError, match="5 recordings are too few"):
        seams.end_is_known(pieces(0, 16)[:5], pieces(0, 16)[:5])


def test_quiet_tokens_are_those_of_pauses() -> None:
    said = [0, 0, 0, 1, 1, 2, 3, 3]
    loud = [1, 0, 0, 1, 1, 0, 1, 0]  # token 0 is quiet more often than not, 3 as often as not, 4 is never heard
    waveform = (np.repeat(loud, TOKEN_HOP) * 0.1 + 0.001) * np.tile([1, -1], 4 * TOKEN_HOP)
    stub = SimpleNamespace(encode=lambda _: torch.tensor(said), vocabulary=5)
    assert seams.quiet_tokens(stub, [waveform]).tolist() == [True, False, True, False, False]  # type: ignore[arg-type]
    everything = seams.quiet_tokens(stub, [waveform], dbfs=0)  # type: ignore[arg-type]
    assert everything.tolist() == [True, True, True, True, False]


def test_quiet_probability_is_the_chance_of_a_pause(models: dict[str, nn.Module]) -> None:
    prompts = torch.randint(32, (3, 20), generator=torch.Generator().manual_seed(0))
    quiet = torch.arange(32) % 3 == 0
    chances, drawn = seams.quiet_probability(models["griffin"], prompts, quiet, 6, seed=4)  # type: ignore[arg-type]
    assert chances.shape == drawn.shape == (3, 6)
    logits, _ = models["griffin"](prompts)
    np.testing.assert_allclose(chances[:, 0], logits[:, -1].softmax(-1)[:, quiet].sum(-1), rtol=1e-4)
    again = seams.quiet_probability(models["griffin"], prompts, quiet, 6, seed=4)  # type: ignore[arg-type]
    assert np.array_equal(again[0], chances) and np.array_equal(again[1], drawn)
    never, none = seams.quiet_probability(models["griffin"], prompts, torch.zeros(32, dtype=torch.bool), 2)  # type: ignore[arg-type]
    assert not never.any() and not none.any()


# Pictures


def named(figure) -> dict:
    return {trace.name: trace for trace in figure.data}


def test_the_plan_is_drawn_as_it_is() -> None:
    figure = stitching.window_plan(60, 27, 4, fade=100, reach=38)
    traces = named(figure)
    kept = traces["kept"]
    starts, stops = np.array(kept.base), np.array(kept.base) + kept.x
    assert starts.tolist() == [0, 25, 48] and stops.tolist() == [25, 48, 60]
    assert traces["heard, and left to the neighbour"].customdata.tolist() == [[0, 27], [23, 50], [46, 60]]
    assert traces["seam"].x == (25, 25, None, 48, 48, None)
    earlier, later = traces["earlier window"], traces["later window"]
    np.testing.assert_allclose(np.square(earlier.y) + np.square(later.y), 1, atol=3e-3)  # equal power
    assert earlier.x.min() == 24.75 and earlier.x.max() == 25.25
    fading = earlier.x[(earlier.y > 0) & (earlier.y < 1)]
    assert 0.09 < fading[-1] - fading[0] <= 0.1
    assert (
        figure.layout.title.text
        == "3 windows, 13% of the work done twice; 2.00 s heard beyond a seam: enough for the tokenizer"
    )


def test_the_plan_tells_what_is_too_little() -> None:
    assert "1.48 s heard beyond a seam: TOO LITTLE" in stitching.window_plan(60, 27, 3, reach=38).layout.title.text
    assert "for the tokenizer" not in stitching.window_plan(60, 27, 3).layout.title.text
    assert "no seam" in stitching.window_plan(20, 27, 4).layout.title.text
    cut = named(stitching.window_plan(60, 27, 0, fade=100))["earlier window"]
    assert np.unique(cut.x).tolist() == [26.75, 27, 27.25]  # no overlap, nothing to fade over
    with pytest.raises(LabError, match="cannot overlap"):
        stitching.window_plan(60, 4, 4)


def test_two_versions_show_where_they_differ_and_what_is_kept() -> None:
    earlier, later = torch.arange(8), torch.arange(8)
    later = torch.where(torch.tensor([1, 1, 0, 0, 0, 0, 0, 1]) == 1, later + 10, later)
    figure = stitching.two_versions(earlier, later, seam=28.0, reach=2)
    picture = figure.data[0]
    assert picture.z.tolist() == [[1, 1, 0, 0, 0, 0, 0, 1], [2, 2, 2, 2, 3, 3, 3, 3], [1, 1, 0, 0, 0, 0, 0, 1]]
    assert picture.customdata[1].tolist() == [0, 1, 2, 3, 4, 5, 6, 17]
    assert picture.x.tolist() == [27.86, 27.9, 27.94, 27.98, 28.02, 28.06, 28.1, 28.14]
    assert [shape.x0 for shape in figure.layout.shapes] == pytest.approx([27.92, 28.08])
    assert figure.layout.title.text.startswith("3 of 8 tokens differ, 0 of the 4")


def test_edges_are_drawn_over_the_overlap() -> None:
    share = np.array([0.8, 0.2, 0, 0, 0, 0, 0.1, 0.4])
    figure = stitching.edges(share, 2, np.arange(8) / 10, seams=50)
    assert figure.data[0].y.tolist() == [80, 20, 0, 0, 0, 0, 10, 40]
    assert figure.data[1].y.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert figure.data[0].x[0] == pytest.approx(-0.14) and figure.data[0].x[-1] == pytest.approx(0.14)
    assert figure.layout.title.text == "Beyond the tokenizer's reach no token differs at 50 seams; at the edges 60% do"
    assert "18.8% of the tokens differ" in stitching.edges(share, 0).layout.title.text


def test_endings_have_a_line_for_each_filling() -> None:
    truth = torch.zeros(4, 5, dtype=torch.int64)
    silence = truth.clone()
    silence[:, -1], silence[0, -3] = 1, 1
    figure = stitching.endings_differ({"what follows": truth, "the start again": truth, "silence": silence}, last=3)
    traces = named(figure)
    assert traces["silence"].y.tolist() == [25, 0, 100] and traces["the start again"].y.tolist() == [0, 0, 0]
    assert traces["silence"].x.tolist() == pytest.approx([-0.1, -0.06, -0.02])
    assert figure.layout.title.text.endswith("0% (the start again), 100% (silence)")

    rows = np.array([[0.1, 0.5], [0.3, 0.5]])
    figure = stitching.quiet_probability({"what follows": rows, "silence": rows + 0.2})
    traces = named(figure)
    assert traces["silence"].y.tolist() == pytest.approx([0.4, 0.7])
    assert figure.data[0].y.tolist() == pytest.approx([0.3, 0.5, 0.5, 0.1])  # mean and standard error, there and back
    assert figure.layout.title.text.endswith("0.20 (what follows), 0.40 (silence)")
    assert {trace.line.color for trace in traces.values() if trace.name} == {style.TRUTH, style.SILENCE}


def test_joins_are_drawn_around_the_seam() -> None:
    waveform = np.linspace(0, 1, 32_000, dtype=np.float32)
    figure = stitching.joins({"cut": waveform, "cross-fade": waveform / 2}, seam=1.0, width=0.1)
    cut, faded = figure.data
    assert cut.x0 == 0.95 and cut.dx == 1 / 16_000 and len(cut.y) == 1600
    np.testing.assert_allclose(cut.y, waveform[15_200:16_800], atol=6e-4)
    np.testing.assert_allclose(faded.y, waveform[15_200:16_800] / 2, atol=6e-4)
    assert [shape.x0 for shape in figure.layout.shapes] == [1.0, 1.0]
