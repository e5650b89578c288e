"""The voice: masking, local attention, parallel decoding, windows and seams, recipe."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lab.errors import LabError
from lab.train import soundstorm as recipe
from lab.voice import Codec, CodecConfig, SoundStorm, SoundStormConfig, Synthesizer, VoicePrompt
from lab.voice.conformer import attend_locally, local_mask
from lab.voice.soundstorm import Pass, mask_codes, masked_after
from lab.windows import Windowing
from tests.spoken import voiced

SHORT = Windowing(60, 20)
MASK = 16


@pytest.fixture(scope="module")
def soundstorm() -> SoundStorm:
    torch.manual_seed(0)
    return SoundStorm(SoundStormConfig.preset("tiny")).eval()


@pytest.fixture(scope="module")
def synthesizer(soundstorm: SoundStorm) -> Synthesizer:
    torch.manual_seed(0)
    codec = Codec(CodecConfig.preset("tiny"))
    noise = 0.1 * torch.randn(1, 32000)
    codec(noise, torch.tensor([4]))  # starts the codebooks
    return Synthesizer(soundstorm, codec.eval())


@pytest.fixture(scope="module")
def prompt() -> VoicePrompt:
    random = torch.Generator().manual_seed(1)
    tokens = torch.randint(32, (75,), generator=random)
    codes = torch.randint(16, (75, 4), generator=random)
    return VoicePrompt(tokens, codes, torch.randn(8, generator=random))


def stream_of(length: int) -> list[int]:
    return np.random.default_rng(length).integers(0, 32, length).tolist()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Masking


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**31), st.data())
def test_mask_codes(frames: int, levels: int, seed: int, data: st.DataObject) -> None:
    prompt, level = data.draw(st.integers(0, frames)), data.draw(st.integers(0, levels - 1))
    codes = torch.randint(16, (1, frames, levels), generator=seeded(seed))
    masked = torch.rand(1, frames, generator=seeded(seed)) < 0.5
    shown = mask_codes(codes, masked, torch.tensor([level]), prompt, MASK)
    hidden = shown == MASK
    assert torch.equal(shown[~hidden], codes[~hidden])
    assert not hidden[:, :prompt].any() and not hidden[..., :level].any()
    assert torch.equal(hidden[:, prompt:, level], masked[:, prompt:])
    assert hidden[:, prompt:, level + 1 :].all()


@given(st.integers(1, 3000), st.integers(1, 40))
def test_cosine_schedule(frames: int, passes: int) -> None:
    left = [masked_after(frames, number, passes) for number in range(1, passes + 1)]
    assert left[-1] == 0 and all(0 <= later <= earlier for earlier, later in zip([frames, *left], left, strict=False))
    assert left[:-1] == [math.floor(frames * math.cos(math.pi / 2 * i / passes)) for i in range(1, passes)]


# Attention


@pytest.mark.parametrize(("prompt", "length", "span"), [(6, 37, 5), (0, 12, 4), (3, 20, 20), (7, 21, 7)])
def test_local_attention_is_masked_attention(prompt: int, length: int, span: int) -> None:
    query, key, value = torch.randn(3, 2, 3, prompt + length, 8)
    at = torch.arange(prompt + length)
    near = (at[:, None] - at).abs() <= span
    seen = torch.where(at[:, None] < prompt, at < prompt, near | (at < prompt))
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    mask = local_mask(len(query), query.shape[2] - prompt, span, prompt, query.device)
    torch.testing.assert_close(attend_locally(query, key, value, span, prompt, mask), wanted)


def test_far_tokens_do_not_matter(soundstorm: SoundStorm, prompt: VoicePrompt) -> None:
    """One layer of +-20 frames and a kernel of 5: beyond 22 frames only the prompt is heard. With span None all is."""
    tokens = torch.cat([prompt.tokens, torch.tensor(stream_of(100))])[None]
    codes = torch.full((1, 175, 3), MASK)
    other = tokens.clone()
    other[0, -1] = (other[0, -1] + 1) % 32
    full = SoundStorm(SoundStormConfig.preset("tiny", span=None)).eval()
    level = torch.tensor([0])
    with torch.no_grad():
        near = (soundstorm(tokens, codes, level, 75) - soundstorm(other, codes, level, 75)).abs().amax(-1)[0]
        far = (full(tokens, codes, level, 75) - full(other, codes, level, 75)).abs().amax(-1)[0]
    assert near[:77].max() < 1e-6 < near[79:].max()
    assert (far > 0).all()


# Generation


def test_generate(soundstorm: SoundStorm, prompt: VoicePrompt) -> None:
    passes: list[Pass] = []
    seen: list[torch.Tensor] = []
    hook = soundstorm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].clone()))
    tokens = torch.tensor(stream_of(30))
    codes = soundstorm.generate(tokens, prompt, seeded(), on_pass=passes.append)
    hook.remove()
    assert codes.shape == (30, 3) and codes.min() >= 0 and codes.max() < 16
    assert [(p.level, p.number) for p in passes] == [(0, n) for n in range(1, 9)] + [(1, 1), (2, 1)]
    assert [int(p.masked.sum()) for p in passes] == [masked_after(30, n, 8) for n in range(1, 9)] + [0, 0]
    for codes_in in seen:
        assert torch.equal(codes_in[0, :75], prompt.codes[:, :3])  # frozen in every pass
    for known, codes_in in zip(passes, seen[1:], strict=False):
        assert torch.equal(codes_in[0, 75:], known.codes)  # each pass sees what those before it accepted
    for earlier, later in zip(passes, passes[1:], strict=False):
        kept = earlier.codes != MASK
        assert torch.equal(earlier.codes[kept], later.codes[kept])  # what was accepted stays
    assert (passes[3].codes[:, 1:] == MASK).all()
    assert torch.equal(passes[-1].codes, codes)


def test_what_is_known_is_not_guessed(soundstorm: SoundStorm, prompt: VoicePrompt) -> None:
    tokens = torch.tensor(stream_of(30))
    whole = soundstorm.generate(tokens, prompt, seeded())
    passes: list[Pass] = []
    again = soundstorm.generate(tokens, prompt, seeded(), known=whole[:, :2], on_pass=passes.append)
    assert torch.equal(again, whole) and [p.level for p in passes] == [2]
    other = (whole[:, :1] + 1) % 16
    assert torch.equal(soundstorm.generate(tokens, prompt, seeded(), known=other)[:, :1], other)
    both = soundstorm.generate(torch.stack([tokens, tokens]), prompt, seeded(), known=torch.stack([whole, whole]))
    assert torch.equal(both[1], whole)
    for odd in (whole[:-1], whole[None], torch.zeros(30, 4, dtype=torch.int64), torch.zeros((), dtype=torch.int64)):
        with pytest.raises(LabError, match="do not match tokens; give .* and at most 3 levels"):
            soundstorm.generate(tokens, prompt, seeded(), known=odd)
    for odd, message in ((whole - 20, "known code -20 is not one of the 16"), (whole.float(), "must be integers")):
        with pytest.raises(LabError, match=message):
            soundstorm.generate(tokens, prompt, seeded(), known=odd)


def test_a_pass_can_be_heard_before_the_last(soundstorm: SoundStorm, prompt: VoicePrompt) -> None:
    tokens = torch.tensor(stream_of(30))
    passes: list[Pass] = []
    codes = soundstorm.generate(tokens, prompt, seeded(), iterations=(4, 2, 1), on_pass=passes.append)
    for found in passes:
        heard, known = found.filled(), found.codes[:, : found.level + 1]
        assert heard.shape == (30, found.level + 1) and heard.max() < MASK
        assert torch.equal(heard[known != MASK], known[known != MASK])
    assert torch.equal(passes[-1].filled(), codes)
    greedy = soundstorm.generate(tokens, prompt, seeded(), iterations=(1, 1, 1))
    masked = passes[0].masked
    assert torch.equal(passes[0].filled()[masked, 0], greedy[masked, 0])  # the rest is what one pass would say
    assert torch.equal(codes, soundstorm.generate(tokens, prompt, seeded(), iterations=(4, 2, 1)))  # looking is free


def test_generate_by_seed(soundstorm: SoundStorm, prompt: VoicePrompt) -> None:
    tokens = torch.tensor(stream_of(20))
    first = soundstorm.generate(tokens, prompt, seeded(0))
    assert torch.equal(first, soundstorm.generate(tokens, prompt, seeded(0)))
    assert not torch.equal(first, soundstorm.generate(tokens, prompt, seeded(1)))
    greedy = [soundstorm.generate(tokens, prompt, seeded(s), iterations=(1, 1, 1)) for s in (0, 1)]
    assert torch.equal(*greedy)  # single passes draw nothing
    several = soundstorm.generate(torch.stack([tokens, tokens.flip(0)]), prompt, seeded(), iterations=(1, 1, 1))
    torch.testing.assert_close(several[0], greedy[0])


def test_rows_of_several_speakers_are_as_each_is_alone(soundstorm: SoundStorm, prompt: VoicePrompt) -> None:
    other = VoicePrompt(prompt.tokens.flip(0), prompt.codes.flip(0), prompt.timbre)
    tokens = torch.tensor([stream_of(20), stream_of(20)[::-1]])
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = soundstorm.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[0], inputs[1].clone())))
    rows = soundstorm.generate(tokens, [prompt, other], [seeded(3), seeded(4)])
    hook.remove()
    for row, own, voice in zip((0, 1), tokens, (prompt, other), strict=True):
        assert torch.equal(seen[-1][0][row], torch.cat([voice.tokens, own]))
        assert torch.equal(seen[-1][1][row, :75], voice.codes[:, :3])
    for row, own, voice, seed in zip(rows, tokens, (prompt, other), (3, 4), strict=True):
        assert torch.equal(row, soundstorm.generate(own, voice, seeded(seed)))
    short = VoicePrompt(prompt.tokens[:70], prompt.codes[:70], prompt.timbre)
    for odd in ([prompt, short], [prompt] * 3):
        with pytest.raises(LabError, match="voice prompts of .* for 2 rows; give one, or one for each, of one length"):
            soundstorm.generate(tokens, odd, seeded())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": []}, r"semantic tokens must be \(T,\) or \(B, T\), 1 or more, not \(0,\)"),
        ({"tokens": [32]}, "semantic token 32 is not one of the 32, 0 to 31"),
        ({"tokens": torch.tensor([3, -1])}, "semantic token -1 is not one of the 32"),
        ({"tokens": [1.5]}, "semantic tokens must be integers, not float64"),
        ({"tokens": np.array([True])}, "semantic tokens must be integers, not bool"),
        ({"tokens": "ab"}, "semantic tokens must be integers in a tensor, an array or a list, not 'ab'"),
        ({"tokens": [[1, 2], [3]]}, "semantic tokens must be integers in a tensor"),
        (
            {"codes": (74, 4)},
            r"a voice prompt of tokens \(75,\) and codes \(74, 4\); give",
        ),
        ({"codes": (75, 2)}, r"codes \(75, 2\); give \(T,\) and \(T, 3 or more\)"),
        ({"code": -1}, "code -1 is not one of the 16"),
        ({"code": 16}, "code 16 is not one of the 16"),
        ({"iterations": (16, 1)}, r"iterations \(16, 1\): give 3 integers, 1 or more each"),
        ({"iterations": (0, 1, 1)}, "give 3 integers"),
        ({"iterations": ()}, "give 3 integers"),
        ({"iterations": (1.5, 1, 1)}, "give 3 integers"),
        ({"temperature": math.nan}, "temperature must be 0 or more, not nan"),
        ({"temperature": -1}, "temperature must be 0 or more, not -1"),
        ({"noise": -0.5}, "noise must be 0 or more, not -0.5"),
        ({"noise": math.inf}, "noise must be 0 or more, not inf"),
    ],
)
def test_what_makes_no_sense_is_refused(synthesizer: Synthesizer, prompt: VoicePrompt, options: dict, message: str):
    """By `generate`, and by `speak` before anything is rendered."""
    frames, levels = options.pop("codes", (75, 4))
    codes = prompt.codes[:frames, :levels].clone()
    codes[0, 0] = options.pop("code", int(codes[0, 0]))
    voice, tokens = VoicePrompt(prompt.tokens, codes, prompt.timbre), options.pop("tokens", [1, 2])
    with pytest.raises(LabError, match=message):
        synthesizer.soundstorm.generate(tokens, voice, seeded(), **options)
    if len(tokens):
        with pytest.raises(LabError, match=message):
            synthesizer.stream(tokens, voice, **options) if options else synthesizer.speak(tokens, voice)


@pytest.mark.parametrize("options", [{"seed": 1.5}, {"fade": -2}, {"fade": 3}, {"fade": 64002}, {"windowing": (9, 9)}])
def test_a_stream_that_makes_no_sense_is_refused_at_once(synthesizer: Synthesizer, prompt, options: dict) -> None:
    with pytest.raises(LabError):
        synthesizer.stream(iter(()), prompt, **options)


def test_codes_and_prompts_that_are_none_are_refused(synthesizer: Synthesizer, prompt: VoicePrompt) -> None:
    with pytest.raises(LabError, match="tokens, codes and a timbre, not ndarray"):
        synthesizer.stream([1], np.zeros(48000, np.float32))  # type: ignore[arg-type]
    for codes, message in (
        ([[0, -1]], "code -1"),
        ([0, 1], "give .B, F, q."),
        (np.zeros((2, 4)), "integers, not float64"),
    ):
        with pytest.raises(LabError, match=message):
            synthesizer.decode(codes, prompt.timbre)  # type: ignore[arg-type]
    heard = synthesizer.decode(prompt.codes, prompt.timbre)
    assert np.array_equal(heard, synthesizer.decode(prompt.codes.tolist(), prompt.timbre))  # type: ignore[arg-type]
    with pytest.raises(LabError, match="no timbre to decode with"):
        synthesizer.decode(prompt.codes, None)


def test_greedy_at_the_smallest_temperature(soundstorm: SoundStorm, prompt: VoicePrompt) -> None:
    codes = [
        soundstorm.generate([1, 2, 3], prompt, seeded(), iterations=(3, 1, 1), temperature=temperature, noise=0)
        for temperature in (0, 1e-40)
    ]
    assert torch.equal(*codes)


def test_lists_arrays_and_any_integers_are_tokens(synthesizer: Synthesizer, prompt: VoicePrompt) -> None:
    tokens = torch.tensor(stream_of(5))
    whole = synthesizer.speak(tokens, prompt, iterations=(1, 1, 1))
    codes = prompt.codes.numpy().astype(np.uint16)
    short = VoicePrompt(prompt.tokens.short(), codes, prompt.timbre)  # type: ignore[arg-type]
    for same in (tokens.tolist(), tokens.numpy(), tokens.to(torch.uint8)):
        assert np.array_equal(whole, synthesizer.speak(same, short, iterations=(1, 1, 1)))


# Windows and seams


@pytest.mark.parametrize("total", [1, 74, 75, 675, 676, 2000])
def test_stitched_length(synthesizer: Synthesizer, prompt: VoicePrompt, total: int) -> None:
    waveform = synthesizer.speak(stream_of(total), prompt, iterations=(1, 1, 1))
    assert waveform.shape == (640 * total,) and waveform.dtype == np.float32
    assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 1
    assert synthesizer.seams(total) == [25.0 + 23 * n for n in range({676: 1, 2000: 3}.get(total, 0))]


@pytest.mark.parametrize("fade", [0, 320])
def test_speak_is_stream(synthesizer: Synthesizer, prompt: VoicePrompt, fade: int) -> None:
    tokens, options = stream_of(230), {"windowing": SHORT, "fade": fade, "seed": 5, "iterations": (3, 1, 1)}
    pieces, drawn = [], 0

    def arriving():
        nonlocal drawn
        for token in tokens:
            drawn += 1
            yield token

    for piece in synthesizer.stream(arriving(), prompt, **options):
        if not pieces:
            assert drawn == SHORT.window + 1  # the first sound does not wait for the rest
        pieces.append(piece)
    whole = synthesizer.speak(torch.tensor(tokens), prompt, **options)
    assert np.array_equal(np.concatenate(pieces), whole) and len(whole) == 640 * 230
    assert not np.array_equal(whole, synthesizer.speak(tokens, prompt, **(options | {"seed": 6})))


def test_windows_are_filled_in_side_by_side(synthesizer: Synthesizer, prompt: VoicePrompt) -> None:
    """Two at a time, of all sequences; the last of each is shorter, and as its window is alone."""
    other = VoicePrompt(prompt.tokens.flip(0), prompt.codes.flip(0), prompt.timbre.flip(0))
    sequences = [stream_of(130), [], stream_of(150), torch.tensor(stream_of(70))]
    options = {"windowing": SHORT, "iterations": (2, 1, 1)}
    rows: list[tuple[int, ...]] = []
    hook = synthesizer.soundstorm.register_forward_pre_hook(lambda _, inputs: rows.append(tuple(inputs[0].shape)))
    spoken = synthesizer.speak_all(sequences, [prompt, other, other, prompt], [1, 2, 3, 4], **options)
    hook.remove()
    # of 130 tokens 60, 60 and 50 of them, of 150 three of 60 and 30, of 70 60 and 30
    assert rows[::4] == [(2, 135)] * 3 + [(1, 125), (2, 105)]
    for whole, tokens, voice, seed in zip(spoken, sequences, (prompt, other, other, prompt), (1, 2, 3, 4), strict=True):
        pieces = synthesizer.stream(list(tokens), voice, seed, **options)
        assert np.array_equal(whole, np.concatenate(list(pieces))) and len(whole) == 640 * len(tokens)


def test_fade_is_near_seams(synthesizer: Synthesizer, prompt: VoicePrompt) -> None:
    tokens = stream_of(150)
    options = {"windowing": SHORT, "iterations": (2, 1, 1)}
    cut, faded = (synthesizer.speak(tokens, prompt, fade=fade, **options) for fade in (0, 320))
    places = np.flatnonzero(cut != faded)
    seams = np.array(synthesizer.seams(150, SHORT)) * 16000
    distance = places[:, None] - seams
    assert len(seams) == 3 and (np.abs(distance).min(0) < 10).all()
    assert ((distance >= -160) & (distance < 160)).any(1).all()
    with pytest.raises(LabError, match="even"):
        synthesizer.speak(tokens, prompt, fade=321)


def test_windows_draw_for_themselves(synthesizer: Synthesizer, prompt: VoicePrompt) -> None:
    """What comes later changes nothing before the last window's start: window k draws from (seed, k) alone."""
    tokens = stream_of(160)
    options = {"windowing": SHORT, "iterations": (2, 1, 1), "seed": -3}
    short, long = (synthesizer.speak(tokens[:n], prompt, **options) for n in (120, 160))
    assert np.array_equal(short[: 640 * 50 - 160], long[: 640 * 50 - 160])


def test_prompt(synthesizer: Synthesizer) -> None:
    waveform = (0.1 * np.random.default_rng(0).standard_normal(16000 * 5)).astype(np.float32)
    tokens = torch.tensor(stream_of(125))
    prompt = synthesizer.prompt(waveform, tokens)
    whole = synthesizer.codec.encode(torch.from_numpy(waveform)[None])[0]
    assert torch.equal(prompt.tokens, tokens[:75])
    assert torch.equal(prompt.codes, whole[:75])  # the cut at 3 s is not heard
    for short in (waveform[:47999], waveform[:0]):
        with pytest.raises(LabError, match="at least 3 s"):
            synthesizer.prompt(short, tokens)
    with pytest.raises(LabError, match="74 tokens"):
        synthesizer.prompt(waveform, tokens[:74])


def test_voice_and_codec_must_match(soundstorm: SoundStorm) -> None:
    for overrides in ({"levels": 2}, {"codes": 32}):
        with pytest.raises(LabError, match="cannot drive"):
            Synthesizer(soundstorm, Codec(CodecConfig.preset("tiny", **overrides)))


# Recipe


def takes(speakers: int = 3) -> list[tuple[VoicePrompt, VoicePrompt]]:
    """Speakers whose codes follow from token and speaker: something to learn."""
    random = np.random.default_rng(0)

    def one(speaker: int, length: int) -> VoicePrompt:
        tokens = torch.from_numpy(random.integers(0, 32, length))
        codes = (tokens[:, None] + speaker + torch.arange(4)) % 16
        return VoicePrompt(tokens.short(), codes.short())

    return [(one(s, int(random.integers(80, 200))), one(s, int(random.integers(80, 200)))) for s in range(speakers)]


def test_batches_skip_positions() -> None:
    batches = recipe.batches(takes(), 64, 3, seed=1)
    batch = batches(7)
    rows, frames = batch.positions.shape
    assert batch.codes.shape == (rows, frames, 3) and batch.tokens.shape == (rows, frames)
    assert all(torch.equal(a, b) for a, b in zip(batch, batches(7), strict=True))
    assert torch.equal(batch.positions[:, :75], torch.arange(75).expand(rows, -1))
    target = batch.positions[:, 75:]
    assert (target.diff() == 1).all() and target.min() >= 75 and target.max() < 75 + 675
    assert target[:, 0].unique().numel() > 32 and target[:, 0].max() > 500  # distances of a whole window
    counts = torch.bincount(torch.cat([batches(step).level for step in range(20)]), minlength=3)
    torch.testing.assert_close(counts / counts.sum(), torch.tensor([36, 9, 4]) / 49, atol=0.05, rtol=0)
    shares = batch.masked.float().mean(1)
    first = shares[batch.level == 0]
    assert 0 <= first.min() < 0.2 and 0.8 < first.max() <= 1
    assert (shares[batch.level > 0] == 1).all()  # predicted in one pass, and so hidden whole
    same = (batch.tokens[..., None] + torch.arange(3)) % 16
    speaker = (batch.codes - same) % 16
    assert (speaker == speaker[:, :1, :1]).all()  # prompt and target are one speaker, codes lie on their tokens
    with pytest.raises(LabError, match="two utterances"):
        recipe.batches([takes()[0][:1]], 4, 3, seed=1)


def test_recipe_learns(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(recipe, "PROMPT", 10)
    monkeypatch.setattr(recipe, "TARGET", (10, 20))
    options = {"preset": "tiny", "vocabulary": 40, "steps": 80, "batch": 6, "held_out": takes()}
    model, figures = recipe.train(takes(), tmp_path, **options)
    assert model.config.tokens == 40 and figures["steps"] == 80
    assert figures["cross-entropy 2"] < 0.85 * math.log(16), figures  # one above the first level, always


def test_the_speaker_is_taken_from_where_speech_is(models: dict[str, nn.Module]) -> None:
    """People press record, then speak."""
    voice = Synthesizer(models["soundstorm"], models["codec"])  # type: ignore[arg-type]
    room = 1e-3 * np.random.default_rng(0).standard_normal(5 * 16_000).astype(np.float32)
    late = np.concatenate([room, voiced(5)])
    tokens = torch.tensor(stream_of(len(late) // 640))
    found = voice.prompt(late, tokens)
    (first,) = (at for at in range(75, 151) if torch.equal(found.tokens, tokens[at : at + 75]))
    assert torch.equal(found.codes, voice.prompt(late[640 * first :], tokens[first:]).codes)
    assert len(voice.prompt(late, tokens[:90]).tokens) == 75  # it looks no further than the tokens reach
    early = voiced(5)
    assert torch.equal(voice.prompt(early, tokens).tokens, tokens[:75])


def test_a_voice_begins_with_the_geometry_of_the_codebooks() -> None:
    """Far apart where they are far apart, near where they are near; of each level its own; and in one scale."""
    random = torch.Generator().manual_seed(2)
    books = [torch.randn(count, 8, generator=random) * scale for count, scale in ((32, 3.0), *[(16, 0.1)] * 4)]
    voice = SoundStorm(SoundStormConfig.preset("tiny"))
    before = [table.weight.std() for table in (voice.semantic_embedding, *voice.acoustic_embeddings)]
    mask = voice.acoustic_embeddings[0].weight[MASK].clone()
    recipe.embed(voice, recipe.Codebooks(books[0], books[1:]))
    tables = [voice.semantic_embedding.weight, *(table.weight[:16] for table in voice.acoustic_embeddings)]
    for table, book, std in zip(tables, books[:4], before, strict=True):
        distances, wanted = torch.pdist(table), torch.pdist(book)
        torch.testing.assert_close(distances / distances.mean(), wanted / wanted.mean())
        assert 0.7 < table.std() / std < 1.4
    for weight, book in zip(voice.output_weight, books[1:4], strict=True):
        distances, wanted = torch.pdist(weight), torch.pdist(book)
        torch.testing.assert_close(distances / distances.mean(), wanted / wanted.mean())
    assert torch.equal(voice.acoustic_embeddings[0].weight[MASK], mask)
