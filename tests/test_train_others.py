"""The recipes of lab.others: they learn, and what they make goes on from a prompt; words are where they are said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab import bundle
from lab.corpora import Utterance, narration, narrators, shards
from lab.corpora.shards import Shard
from lab.corpora.utterance import int16
from lab.errors import LabError
from lab.evaluate import systems
from lab.evaluate.examples import Example, Sound
from lab.language import Griffin, GriffinConfig, SpeechTransformer, TransformerConfig
from lab.others.one_voice import OneVoice, OneVoiceConfig
from lab.others.units import Units, UnitsConfig, without_repeats
from lab.train import language, others, recipes, unit_stories
from lab.train import units as recipe
from lab.train.alignment import beside
from lab.train.language import TokenStream
from lab.train.plan import RECIPES, Plan
from tests.spoken import voiced


@pytest.fixture(scope="module")
def tiny() -> Units:
    torch.manual_seed(0)
    return Units(UnitsConfig.preset("tiny", units=6))


def test_the_encoder_learns_what_was_hidden(tmp_path: Path, tiny: Units, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "SECONDS", 2)
    speech = [voiced(9.0, level) for level in (0.05, 0.1, 0.2)]
    untrained = recipe.Learner(tiny)(torch.from_numpy(np.stack([each[:32_000] for each in speech])))[0]
    figures = recipe.train_encoder(tiny, [int16(each) for each in speech], tmp_path, steps=60, size=2)
    assert figures["masked"] < float(untrained.detach()) - 0.3
    explained = recipe.cluster(tiny, speech)
    assert 0.3 < explained < 1
    assert len(without_repeats(tiny.encode(speech[0]))[0]) > 5
    with pytest.raises(LabError, match="4 frames of speech make no 6 clusters"):
        recipe.cluster(tiny, [voiced(0.08)])


def test_the_one_voice_learns_how_units_sound_and_how_long_they_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "FRAMES", 50)
    torch.manual_seed(0)
    one_voice = OneVoice(OneVoiceConfig.preset("tiny", units=4, rate=50, code_width=3, timbre=0, pace=10.0))
    lasts, sounds = torch.tensor([2, 4, 6, 10]), torch.randn(4, 3)
    kept = torch.arange(400) * 3 % 4
    units = kept.repeat_interleave(lasts[kept])
    vectors = sounds[units[::2]] + sounds[units[1::2]]
    figures = recipe.train_voice(one_voice, units, vectors, tmp_path, steps=200, size=4)
    assert figures["error"] < 0.1 and figures["timing"] < 0.05
    found = one_voice.eval().durations(kept)[10:14]
    assert (found - lasts[kept[10:14]]).abs().max() <= 1
    with pytest.raises(LabError, match="speaks for 1.6 s, less than a crop of 2 s"):
        recipe.train_voice(one_voice, units[:80], vectors[:40], tmp_path)


def test_the_first_and_last_unit_of_a_crop_teach_no_duration() -> None:
    units = torch.arange(60).repeat_interleave(7)
    batch = recipe.voice_batches(units, torch.arange(420.0)[:, None], 2, seed=0)(0)
    assert batch.units.shape == (2, recipe.FRAMES) and batch.vectors.shape == (2, recipe.FRAMES, 1)
    for row in range(2):
        assert torch.equal(units[batch.vectors[row, :, 0].long()], batch.units[row])
        lasts = batch.lasts[row][: len(batch.units[row].unique())]
        assert lasts[0] == lasts[-1] == 0 and lasts[1:-1].tolist() == [7] * (len(lasts) - 2)


def test_given_tokens_are_read_and_not_predicted() -> None:
    stream = TokenStream.of([np.arange(1000) % 10])
    tokens, targets, _ = language.batches(stream, 3, 20, seed=0, given=4)(0)
    following = (tokens + 1) % 10
    assert torch.equal(targets, torch.where(following < 4, -100, following))


@pytest.mark.parametrize("kind", ["griffin", "transformer"])
def test_layers_of_a_model_of_text_go_on_and_its_embedding_does_not(kind: str) -> None:
    torch.manual_seed(0)
    text: Any
    network: Any
    if kind == "griffin":
        text, network = (Griffin(GriffinConfig.preset("tiny", vocabulary=size)) for size in (28, 40))
        other: Any = Griffin(GriffinConfig.preset("tiny", vocabulary=28, width=64))
    else:
        shapes = ((28, 64), (40, 128))
        text, network = (
            SpeechTransformer(TransformerConfig.preset("tiny", vocabulary=size, context=context))
            for size, context in shapes
        )
        other = SpeechTransformer(TransformerConfig.preset("tiny", vocabulary=28, width=64))
    own = network.embedding.clone()
    language.take_layers(network, text)
    for key, value in network.state_dict().items():
        assert torch.equal(value, own if key == "embedding" else text.state_dict()[key]), key
    with pytest.raises(LabError, match="width 64 and not 32"):
        language.take_layers(network, other)
    with pytest.raises(LabError, match="cannot begin a"):
        language.take_layers(
            network,
            Griffin(GriffinConfig.preset("tiny"))
            if kind == "transformer"
            else SpeechTransformer(TransformerConfig.preset("tiny")),
        )


def test_words_begin_where_they_are_said() -> None:
    narrator = narrators.named("Celia")
    text = "the fox, of the wood, ran home. it was late."
    waveform, words = narrator.read_words(text)
    assert np.array_equal(waveform, narrator.read(text))
    assert "".join(word for _, word in words) == text
    starts = [time for time, _ in words]
    assert starts == sorted(starts) and starts[0] == 0 and starts[-1] < len(waveform) / 16_000
    home = next(time for time, word in words if word.startswith("home"))
    alone = len(narrator.read("the fox, of the wood, ran")) / 16_000
    assert abs(home - alone) < 0.35
    slow, later = replace(narrator, size=1.2).read_words(text)
    assert abs(later[-1][0] / len(slow) - words[-1][0] / len(waveform)) < 0.03


def test_a_story_with_its_words_is_the_training_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first sentences: the whole takes seconds."""
    monkeypatch.setattr(unit_stories, "SENTENCES", 12)
    utterance, words = unit_stories.worded_story(1)
    assert utterance.text == narration.training_story(1, 12).text
    assert utterance.text == " ".join(word for _, _, word in words)
    assert all(start <= end for start, end, _ in words) and words[-1][1] == utterance.seconds


def test_the_one_reader_says_what_others_say() -> None:
    for number in (0, 1, 2):
        one, other = others.reading(number)
        assert one.text == other.text and other.narrator == others.READER.name
        assert (one.narrator == other.narrator) == (number == 0)
        assert 0.8 < one.seconds / other.seconds < 1.25


def test_what_two_readings_say_at_once(models: dict[str, Any]) -> None:
    one = Utterance(int16(voiced(3.0)), "", "", "")
    matches, there = beside(models["tokenizer"], one, one)
    assert np.array_equal(matches, np.arange(75)) and len(there) == 75
    late = Utterance(int16(np.concatenate([voiced(3.0)[:6400], voiced(3.0)])), "", "", "")
    matches, _ = beside(models["tokenizer"], one, late)
    assert len(matches) == 75 and (np.diff(matches) >= 0).all() and matches[-1] >= 84


def test_a_language_model_of_another_system_has_its_share_of_the_steps_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Plan, "inputs", lambda plan, name: {})
    monkeypatch.setattr(language, "train", lambda *_, steps, **options: asked.append(steps) or (None, {}))
    for steps in (None, 7):
        plan = Plan(tmp_path, tmp_path, None, steps=steps)
        others._trained(plan, "gslm-language", 9, [np.arange(9)], {})
        assert recipes.settings("gslm-language", plan)["steps"] == asked[-1]
    assert asked == [round(0.7 * language.PRESETS["laptop"].schedule.steps), 7]


def test_recordings_without_known_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="spiritlm-language learns from narrated stories, .* leave out --corpus mine"):
        others.train(Plan(tmp_path, tmp_path, None, corpus="mine"), "spiritlm-language")


@pytest.fixture
def narrated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Short stories and passages, made in this process and without speech."""

    def told(number: int) -> Utterance:
        return Utterance(int16(voiced(4.0 + number % 3, 0.05 + 0.02 * (number % 4))), "the fox ran", "Ada", "narrated")

    def story(number: int) -> Any:
        words = ("the fox ran to a house " * 20).split()
        waveform = np.tile(told(number).waveform, 12)
        return replace(told(number), waveform=waveform, text=" ".join(words)), [
            (0.5 * at, 0.5 * at + 0.4, word) for at, word in enumerate(words)
        ]

    def made(maker: Callable[[int], Any], numbers: Iterable[int], workers: int) -> Iterator[Any]:
        for number in numbers:
            yield (story(number) if maker is unit_stories.worded_story else (told(number), told(number + 3)))

    monkeypatch.setattr(narration, "make", made)
    monkeypatch.setattr(shards, "digest", lambda name: "short")
    yield


# Of each way to make a model one; those of TWIST's voice and of the base Spirit LM are made as others are.
MADE = (
    *others.SYSTEMS["gslm"],
    *("text-transformer", "twist-units", "twist-language", "spiritlm-language", "audiolm-coarse", "audiolm-fine"),
)


def test_systems_are_trained_into_a_bundle_and_speak(
    tmp_path: Path, models: dict[str, Any], narrated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "bundle"
    for name, model in (("tokenizer", "tokenizer"), ("codec", "codec"), ("transformer", "transformer")):
        bundle.save(root, name, models[model], {"data": "nothing"})
    plan = Plan(tmp_path / "runs", root, None, steps=2, hours=0.01, preset="tiny")
    person = Utterance(int16(voiced(4.0)), "", "", "kokoro")
    monkeypatch.setattr(Plan, "people", lambda self, texts: [person, person])
    with pytest.raises(LabError, match="has no gslm-units"):
        recipes.train("twist-units", plan)
    for name in MADE:
        card = recipes.train(name, plan)
        assert card["command"].startswith(f"lab train {name} ") and (card["steps"] == 2 or name == "twist-units")
        assert recipes.complete(name, plan)
    assert len(list((tmp_path / "runs").glob("heard-*.npz"))) == 2  # TWIST and Spirit LM share theirs
    for name in ("gslm-units", "audiolm-coarse"):
        assert "speech by Kokoro-82M" in bundle.index(root)[name]["card"]["data"]
    kept = min((tmp_path / "runs").glob("heard-*.npz"), key=lambda path: path.stat().st_mtime)
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(LabError, match="npz is damaged .*; delete it"):
        recipes.train("gslm-language", plan)
    sound = Sound(voiced(3.0))
    for name in ("gslm", "audiolm"):
        found = systems.load(name, root, 1.0).go_on(Example("one", lambda: sound, 1), sound, 0.2)
        assert found.shape == (3200,) and np.isfinite(found).all()


def test_all_models_of_a_system_have_recipes_in_the_order_in_which_they_need_each_other() -> None:
    assert set(others.SYSTEMS["others"]) == {*others.MODELS, "transformer"} - {"text-griffin"}
    for names in others.SYSTEMS.values():
        for at, name in enumerate(names):
            assert set(RECIPES[name].models) - {"tokenizer", "codec"} <= set(names[:at])


def test_variants_of_the_language_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, models: dict[str, Any]
) -> None:
    asked: list[dict[str, Any]] = []
    root = tmp_path / "bundle"
    for name in ("tokenizer", "griffin"):
        bundle.save(root, "text-griffin" if name == "griffin" else name, models[name], {})

    def train(*_: Any, model: str, length: int | None, **options: Any) -> Any:
        asked.append({"model": model, "length": length, "text": options.get("text"), "begin": options.get("begin")})
        return models["griffin"], {"steps": 1.0, "minutes": 0.0}

    corpora: list[str] = []
    monkeypatch.setattr(shards, "digest", lambda name: "short")
    monkeypatch.setattr(language, "train", train)
    monkeypatch.setattr(
        recipes.data,
        "shard",
        lambda plan, name: corpora.append(name) or Shard(*[np.zeros(9, int)] * 2, np.zeros(1, int), [], []),
    )
    monkeypatch.setattr(
        narration, "development_story", lambda number, sentences: Utterance(int16(voiced(1)), "", "", "")
    )
    for name in ("griffin-16min", "griffin-text", "transformer"):
        recipes.train(name, Plan(tmp_path, root, None, preset="tiny"))
    assert corpora == ["long-stories", "stories", "stories"]
    assert [(each["model"], each["length"]) for each in asked] == [
        ("griffin", 24_000),
        ("griffin", None),
        ("transformer", None),
    ]
    assert [each["text"] is not None for each in asked] == [False, True, False]
    bundle.save(tmp_path / "init", "griffin", models["griffin"], {})
    recipes.train("griffin-16min", Plan(tmp_path, root, None, preset="tiny", init=str(tmp_path / "init")))
    assert isinstance(asked[-1]["begin"], Griffin) and asked[0]["begin"] is None
