"""lab.others: GSLM, TWIST, Spirit LM and AudioLM go on from a prompt, to their own length or by restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lab import bundle
from lab.audio import SAMPLE_RATE
from lab.errors import LabError
from lab.evaluate import systems
from lab.evaluate.examples import Example, Sound
from lab.language import Continuation, SpeechTransformer, TransformerConfig
from lab.others import audiolm, gslm, spiritlm
from lab.others.audiolm import AHEAD, COARSE, AudioLM
from lab.others.continuation import Continued
from lab.others.gslm import GSLM
from lab.others.one_voice import OneVoice, OneVoiceConfig
from lab.others.spiritlm import Layout, SpiritLM
from lab.others.units import Units, UnitsConfig, without_repeats
from lab.voice import Codec, CodecConfig
from tests.commands import lab, refused
from tests.spoken import voiced

UNITS = 12


def transformer(vocabulary: int, context: int = 64) -> SpeechTransformer:
    return SpeechTransformer(TransformerConfig.preset("tiny", vocabulary=vocabulary, layers=1, context=context)).eval()


@pytest.fixture(scope="module")
def others(models: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The models of all systems, tiny and untrained, by their names in a bundle."""
    torch.manual_seed(0)
    codec = Codec(CodecConfig.preset("tiny", refiner_layers=1, vocabulary=32)).eval()
    codec.load_state_dict(models["codec"].state_dict(), strict=False)
    made: dict[str, nn.Module] = {"tokenizer": models["tokenizer"], "codec": codec}
    for name, stack in (("gslm", 1), ("twist", 2)):
        units = Units(UnitsConfig.preset("tiny", units=UNITS, stack=stack)).eval()
        heard = units.stacked(torch.from_numpy(voiced(8))[None])[0]
        units.centres.copy_(heard[torch.linspace(0, len(heard) - 1, UNITS).long()].detach())
        shape = dict(units=UNITS, rate=units.rate, code_width=codec.config.code_width, timbre=codec.config.timbre)
        made |= {
            f"{name}-units": units,
            f"{name}-voice": OneVoice(OneVoiceConfig.preset("tiny", pace=10.0, **shape)).eval(),
        }
        made[f"{name}-language"] = transformer(UNITS)
    made["spiritlm-language"] = transformer(Layout(UNITS, True).size, 96)
    made["spiritlm-base-language"] = transformer(Layout(UNITS, False).size)
    made["transformer"] = transformer(32, 150)
    made["audiolm-coarse"] = transformer(32 + COARSE * codec.codes, 40)
    made["audiolm-fine"] = transformer(3 * codec.codes, 40)
    return {name: model.requires_grad_(False) for name, model in made.items()}


@pytest.fixture(scope="module")
def others_bundle(others: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("others")
    for name, model in others.items():
        bundle.save(root, name, model, {})
    return root


@pytest.fixture(scope="module")
def prompt() -> np.ndarray:
    return voiced(3)


@pytest.mark.parametrize("name", systems.OTHERS)
def test_a_system_goes_on_for_as_long_as_it_is_asked(
    name: str, others: dict[str, nn.Module], prompt: np.ndarray
) -> None:
    system = systems.OTHERS[name](others.__getitem__)
    found = system.go_on(prompt, 0.8, seed=3)
    assert found.waveform.shape == (0.8 * SAMPLE_RATE,) and found.waveform.dtype == np.float32
    assert np.isfinite(found.waveform).all() and np.abs(found.waveform).max() <= 1
    assert len(found.tokens) > found.prompt_tokens > 10
    again, other = (system.go_on(prompt, 0.8, seed=seed) for seed in (3, 4))
    assert np.array_equal(found.waveform, again.waveform) and torch.equal(found.tokens, again.tokens)
    assert not torch.equal(found.tokens, other.tokens)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[Continuation]:
    """What systems draw from, as they begin it."""
    begun: list[Continuation] = []

    def watched(*given: Any, **options: Any) -> Continuation:
        begun.append(Continuation(*given, **options))
        return begun[-1]

    for module in (gslm, audiolm):
        monkeypatch.setattr(module, "generate", watched)
    return begun


@pytest.mark.parametrize("name", systems.OTHERS)
def test_beyond_its_length_only_by_restarts(
    name: str, others: dict[str, nn.Module], prompt: np.ndarray, streams: list[Continuation]
) -> None:
    system = systems.OTHERS[name](others.__getitem__)
    assert 3 < system.longest < 7
    with pytest.raises(LabError, match=rf"{name} learnt from \d s at most, and .* 7.0 s; .*{name}\+3s"):
        system.go_on(prompt, 4.0)
    assert len(system.go_on(prompt, 4.0, slide=1.0).waveform) == 4 * SAMPLE_RATE
    (stream,) = streams
    a_second = {"audiolm": 25, "audiolm-refined": 25, "spiritlm": 17}.get(name, 10)  # tokens
    assert stream.restarts and stream.slide == a_second


@pytest.mark.parametrize("name", ["gslm", "spiritlm"])
def test_more_tokens_a_second_than_the_mean_fill_no_context_twice(
    name: str,
    others: dict[str, nn.Module],
    prompt: np.ndarray,
    streams: list[Continuation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = systems.OTHERS[name](others.__getitem__)
    monkeypatch.setattr(type(system), "pace", 1.0)
    assert system.longest == system.language.context
    assert len(system.go_on(prompt, 8.0).waveform) == 8 * SAMPLE_RATE
    (stream,) = streams
    assert stream.made > system.language.context > stream.state.size and stream.restarts  # type: ignore[operator]


@pytest.mark.parametrize(
    ("seconds", "slide", "message"),
    [(0.0, None, "more than 0"), (float("nan"), None, "seconds"), (1.0, 99.0, "below 6"), (1.0, 0.0, "above 0")],
)
def test_lengths_that_make_no_sense(
    others: dict[str, nn.Module], prompt: np.ndarray, seconds: float, slide: float | None, message: str
) -> None:
    with pytest.raises(LabError, match=message):
        GSLM.of(others.__getitem__, "gslm", "gslm").go_on(prompt, seconds, slide=slide)


@pytest.mark.parametrize("stack", [1, 2])
def test_units_are_the_nearest_clusters_in_any_windows(others: dict[str, nn.Module], stack: int) -> None:
    units: Any = others["gslm-units" if stack == 1 else "twist-units"]
    assert units.rate == 50 // stack
    waveform = voiced(33.3)
    found = units.encode(waveform)
    assert len(found) == -(-len(waveform) // units.hop) and found.unique().numel() > 3
    start = torch.from_numpy(waveform[: 30 * 16_000])[None]  # the first window
    distances = torch.cdist(units.stacked(start)[0], units.centres)
    assert torch.equal(found[:90], distances.argmin(-1)[:90])


def test_repeats_are_removed_and_counted() -> None:
    kept, lasts = without_repeats(torch.tensor([4, 4, 2, 4, 4, 4]))
    assert kept.tolist() == [4, 2, 4] and lasts.tolist() == [2, 1, 3]


def test_units_last_as_long_as_the_predictor_says(
    others: dict[str, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_voice: Any = others["gslm-voice"]
    logarithms = torch.tensor([[0.0, np.log(4.0), 9.0]])
    monkeypatch.setattr(OneVoice, "logarithms", lambda self, units: logarithms)
    assert one_voice.durations(torch.tensor([1, 2, 3])).tolist() == [1, 3, 50]  # at least 1, a second at most


def test_the_one_voice_speaks_a_frame_for_40_ms_and_joins_windows(others: dict[str, nn.Module]) -> None:
    codec: Any = others["codec"]
    for name, rate in (("gslm", 50), ("twist", 25)):
        one_voice: Any = others[f"{name}-voice"]
        units = torch.arange(40 * rate + 1) // 3 % UNITS
        waveform = one_voice.speak(units, codec)
        assert waveform.shape == (640 * (40 * 25 + 1),) and np.abs(waveform).max() <= 1
        changed = units.clone()
        changed[rate * 10 :] = 0
        same = one_voice.speak(changed, codec)
        assert np.allclose(waveform[: 9 * SAMPLE_RATE], same[: 9 * SAMPLE_RATE], atol=1e-4)
        assert not np.allclose(waveform[11 * SAMPLE_RATE :], same[11 * SAMPLE_RATE :], atol=1e-4)
    assert one_voice.speak(units[:0], codec).shape == (0,)


def test_models_of_other_systems_are_refused(others: dict[str, nn.Module]) -> None:
    def swapped(**names: str) -> Any:
        return lambda name: others[names.get(name.replace("-", "_"), name)]

    with pytest.raises(LabError, match=r"12 units at 50 Hz and a codec of \(16, 8\), its voice 12 at 25 Hz"):
        GSLM.of(swapped(gslm_voice="twist-voice"), "gslm", "gslm")
    wider = Codec(CodecConfig.preset("tiny", code_width=8))
    with pytest.raises(LabError, match=r"a codec of \(8, 8\), its voice 12 at 50 Hz and \(16, 8\)"):
        GSLM.of(lambda name: wider if name == "codec" else others[name], "gslm", "gslm")
    with pytest.raises(LabError, match=r"42 tokens and the units 12: .*another unit set"):
        GSLM.of(swapped(gslm_language="spiritlm-base-language"), "gslm", "gslm")
    with pytest.raises(LabError, match=r"12 tokens; 12 units, letters and markers are 42 or 75: .*another unit set"):
        SpiritLM.of(swapped(spiritlm_language="gslm-language"), "spiritlm", "twist")
    with pytest.raises(LabError, match="stages know 32 and 12 tokens"):
        AudioLM.of(swapped(audiolm_coarse="gslm-language"))
    with pytest.raises(LabError, match="fine stage knows 12 tokens"):
        AudioLM.of(swapped(audiolm_fine="gslm-language"))
    plain = Codec(CodecConfig.preset("tiny"))
    with pytest.raises(LabError, match="no refiner of 2 coarse levels, which audiolm-refined wants"):
        AudioLM.of(lambda name: plain if name == "codec" else others[name], refined=True)
    with pytest.raises(LabError, match=r"unit 12 is not"):
        GSLM.of(others.__getitem__, "gslm", "gslm").speak(torch.tensor([0, 12]))


def test_spirit_lm_writes_and_speaks(others: dict[str, nn.Module], prompt: np.ndarray) -> None:
    system = SpiritLM.of(others.__getitem__, "spiritlm", "twist")
    text = system.write(prompt, 30, seed=1)
    assert 0 < len(text) <= 30 and set(text) <= set(" abcdefghijklmnopqrstuvwxyz'")
    assert 0 < len(system.say("the fox ran", 2.0, seed=5)) < 60 * SAMPLE_RATE
    with pytest.raises(LabError, match="nothing to say in '123'"):
        system.say("123")


def test_documents_of_spirit_lm_turn_at_words() -> None:
    layout = Layout(UNITS, expressive=False)
    speech = [(0.1 * step + 0.01, step % UNITS) for step in range(300)]
    words = [(0.5 * number, 0.5 * number + 0.4, f"w{'abcdefghij'[number % 10]}") for number in range(60)]
    found = layout.interleaved(speech, words, np.random.default_rng(0))
    parts = np.split(found, [at for at, token in enumerate(found) if token in (layout.text, layout.speech)][1:])
    spoken = [part[1:] for part in parts if part[0] == layout.speech]
    written = [layout.read(part[1:]) for part in parts if part[0] == layout.text]
    assert len(spoken) > 1 and len(written) > 1
    heard = sum(map(len, spoken)) / 5  # 5 tokens a word
    assert heard + sum(len(text.split()) for text in written) == 60
    assert all(len(part) % 5 == 0 for part in spoken)
    with pytest.raises(LabError, match="no times of words"):
        layout.interleaved(speech, [], np.random.default_rng(0))


def test_pitch_and_style_tell_how_it_is_said() -> None:
    times = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    hertz = np.where(times < 2, 110.0, 165.0)  # 7 semitones
    tone = 0.1 * np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE)
    quiet = tone * np.where(times < 3, 1.0, 0.001)
    pitches, styles = spiritlm.expression(quiet.astype(np.float32))
    assert len(pitches) == 51 and len(styles) in (4, 5)
    low, high, none = (int(np.median(pitches[part])) for part in (slice(3, 22), slice(28, 36), slice(40, 49)))
    assert high - low == 5 and none == 16  # 7 semitones, 1.5 a class
    assert styles[3] // 4 < styles[0] // 4
    layout = Layout(UNITS, expressive=True)
    timed = layout.spoken(torch.arange(100) // 10, 25, (pitches, styles))
    assert [time for time, _ in timed] == sorted(time for time, _ in timed)
    assert timed[0][1] >= layout.units + spiritlm.PITCHES and timed[2] == (0.0, 0)  # style, pitch, unit


def test_frames_of_audiolm_hold_each_code_where_it_is_learnt() -> None:
    tokens, codes = torch.arange(6), torch.arange(36).view(12, 3) % 16  # two frames a token
    coarse = audiolm.coarse_frames(tokens, codes, 32, 16)
    assert coarse.shape == (6, 1 + 2 * COARSE)
    assert coarse[:, 0].tolist() == [AHEAD, 5, 5, 5, 5, 5]
    assert torch.equal(coarse[:, 1:].reshape(12, 2) - torch.tensor([32, 48]), codes[:, :2])
    assert torch.equal(audiolm.fine_frames(codes, 16) - torch.tensor([0, 16, 32]), codes)


def test_audiolm_fills_by_what_the_model_says_and_where_its_context_is_full() -> None:
    class Counting:
        """The next id is the newest one, one range higher; remembers the longest it was given."""

        context, device, longest = 12, torch.device("cpu"), 0

        def __call__(self, tokens: Tensor, state: Any = None, reset: Any = None, last: bool = False) -> Any:
            seen = tokens if state is None else torch.cat([state.tokens, tokens], 1)
            Counting.longest = max(Counting.longest, seen.shape[1])
            logits = torch.full((1, 1, 30), -50.0)
            logits[0, 0, (int(tokens[0, -1]) + 10) % 30] = 50.0
            return logits, Seen(seen)

    class Seen:
        def __init__(self, tokens: Tensor):
            self.tokens, self.size = tokens, tokens.shape[1]

    given = torch.tensor([[3], [7], [1], [9], [4], [2]])
    found = audiolm.fill(
        Counting(),
        torch.zeros(0, 3).long(),
        given,
        [10, 20],
        10,
        torch.Generator().manual_seed(0),
        1.0,  # type: ignore[arg-type]
    )
    assert torch.equal(found, given + torch.tensor([10, 20])) and Counting.longest <= 12


def test_audiolm_speaks_in_the_codes_of_the_prompt(
    others: dict[str, nn.Module], prompt: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both stages read the prompt's own codes first."""
    system = AudioLM.of(others.__getitem__)
    read: list[Tensor] = []
    fill = audiolm.fill

    def watched(model: Any, before: Tensor, *rest: Any) -> Tensor:
        read.append(before)
        return fill(model, before, *rest)

    monkeypatch.setattr(audiolm, "fill", watched)
    system.go_on(prompt, 0.4)
    codec: Any = others["codec"]
    codes = codec.encode(torch.from_numpy(prompt)[None])[0, :, :3]
    coarse, fine = read
    assert torch.equal((coarse[:, 1:].reshape(-1, 2) - 32) % codec.codes, codes[:, :2])
    assert torch.equal(fine % codec.codes, codes)


def test_a_refined_audiolm_decodes_the_coarse_codes_with_what_is_said(
    others: dict[str, nn.Module], prompt: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = AudioLM.of(others.__getitem__, refined=True)
    given: list[Any] = []
    decode = Codec.decode

    def watched(self: Codec, codes: Tensor, timbre: Tensor, tokens: Tensor | None = None) -> Tensor:
        given.append((codes, tokens))
        return decode(self, codes, timbre, tokens)

    monkeypatch.setattr(Codec, "decode", watched)
    tokens = torch.arange(90) % 32
    assert len(system.speak(prompt, tokens)) == 15 * 640
    ((codes, said),) = given
    assert codes.shape == (1, 90, 1) and torch.equal(said, tokens[None])


def test_evaluate_calls_them_by_name(others_bundle: Path, prompt: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def go_on(self: GSLM, prompt: np.ndarray, seconds: float, **options: Any) -> Continued:
        asked.append(options)
        return Continued(prompt[:9], torch.zeros(3), 1)

    monkeypatch.setattr(GSLM, "go_on", go_on)
    example = Example("one", lambda: Sound(prompt), 7)
    system = systems.load("gslm", others_bundle, 0.7)
    assert set(system.weights) == {"gslm-language", "gslm-units", "gslm-voice", "codec"}
    assert len(system.go_on(example, Sound(prompt), 2.0)) == 9
    systems.load("gslm+3s", others_bundle, 0.7).go_on(example, Sound(prompt), 60.0)
    nats, count = system.likelihood(prompt)  # type: ignore[misc]
    assert (
        nats < -count and count == len(without_repeats(bundle.load(others_bundle, "gslm-units").encode(prompt))[0]) - 1
    )
    assert systems.load("audiolm", others_bundle, 1.0).likelihood(prompt)[1] == 74  # type: ignore[misc]
    assert asked == [{"seed": 7, "temperature": 0.7, "slide": slide} for slide in (None, 3.0)]
    assert systems.load("gslm", others_bundle).temperature == 0.7  # its paper's
    with pytest.raises(LabError, match="no restart '5s'"):
        systems.load("twist+5s", others_bundle, 0.7)


def test_what_a_system_refuses_is_told_before_anything_is_heard(
    desk: Path, others_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_BUNDLE", str(others_bundle))
    asked = ("--minutes", "0.2", "-n", "2")
    for names in ("gslm", "gslm+3s,gslm"):
        refused(
            "gslm learnt from 6 s at most, and prompt and continuation last 12.0 s; ask for less, or for gslm+3s, "
            "which restarts from the newest 3 s",
            "evaluate", "--system", names, *asked,
        )  # fmt: skip
    refused(
        "gslm restarts from the newest seconds, above 0 and below 6, not 10", "evaluate", "--system", "gslm+10s", *asked
    )
    unknown = {
        "there is no system 'gslm9'; there are gslm, twist, ": ("evaluate", "--system", "gslm9"),
        "has no gslm9; it has ": ("story", "prompt.wav", "--language", "gslm9"),
    }
    for message, words in unknown.items():
        refused(message, *words)
        assert "lab train" not in lab(*words).stderr  # where there is no such recipe


def test_the_units_of_a_reference_are_spoken_again_in_the_one_voice(
    others: dict[str, nn.Module], others_bundle: Path, prompt: np.ndarray
) -> None:
    system = systems.load("twist-voice", others_bundle, 1.0)
    assert system.temperature is None and set(system.weights) == {"twist-units", "twist-voice", "codec"}
    sound = Sound(prompt, reference=voiced(2.01, 0.05))
    found = system.go_on(Example("one", lambda: sound), sound, 2.01)
    assert len(found) == len(sound.reference)  # type: ignore[arg-type]
    units: Any = others["twist-units"]
    said = units.encode(np.concatenate([prompt, sound.reference]))  # type: ignore[list-item]
    spoken = bundle.load(others_bundle, "twist-voice").speak(said, bundle.load(others_bundle, "codec"))  # type: ignore[operator]
    assert np.array_equal(found, spoken[len(prompt) :][: len(found)])


@pytest.mark.parametrize("name", ["gslm-units", "gslm-voice"])
def test_what_a_bundle_keeps_of_units_and_of_their_voice(
    name: str, others: dict[str, nn.Module], others_bundle: Path
) -> None:
    loaded = bundle.load(others_bundle, name)
    assert loaded.config == others[name].config
    for key, value in others[name].state_dict().items():
        assert loaded.state_dict()[key].dtype == value.dtype
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=2e-3, atol=1e-4)


def test_a_missing_model_is_named(others_bundle: Path, tmp_path: Path, others: dict[str, nn.Module]) -> None:
    for name in ("gslm-language", "codec"):
        bundle.save(tmp_path, name, others[name], {})
    with pytest.raises(LabError, match="has no gslm-units; .*train it with `lab train gslm-units`"):
        systems.load("gslm", tmp_path, 1.0)
