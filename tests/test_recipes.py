"""lab.train.recipes: what `lab train` makes of a plan, and what it leaves in the bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab import audio, bundle
from lab.corpora import Utterance, narration, shards
from lab.corpora.shards import Shard, Source
from lab.corpora.utterance import int16
from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, recurrentgemma
from lab.speech import SpeechSSM
from lab.tokens import Tokenizer, TokenizerConfig
from lab.train import recipes
from lab.train.language import TokenStream
from lab.train.loop import Compute
from lab.train.plan import Plan
from lab.voice import VoicePrompt
from tests.spoken import spoken, voiced
from tests.test_train_tokenizer import said


@pytest.fixture
def narrated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Corpora without processes and without speech: what each maker would be asked for."""
    asked: list[int] = []

    def made(maker: Callable[[int], Any], numbers: range, workers: int) -> Iterator[Any]:
        asked.append(len(numbers))
        for number in numbers:
            tone = 0.1 * np.sin(np.arange(16_000 * 7) * 0.05 * (number + 1))
            utterance = Utterance(int16(tone), "owl", "Ada", "narrated")
            yield utterance, utterance

    monkeypatch.setattr(narration, "make", made)
    yield asked


def test_stories_are_tokenized_once_for_each_tokenizer(
    tmp_path: Path, tiny_bundle: Path, noise: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[TokenStream] = []

    def train(stream: TokenStream, held_out: list[np.ndarray], *_: Any, model: str, **options: Any) -> Any:
        told, begin = options.pop("inputs"), options.pop("begin")
        assert told["tokenizer"] == bundle.fingerprint(bundle.load(root, "tokenizer")) and told["stories"] == "noise"
        assert options == {
            "preset": "laptop",
            "length": None,
            "vocabulary": 32,
            "seed": 0,
            "compute": plan.compute,
            "settings": {"preset": "laptop"},
            "config": None,
            "size": None,
        }
        assert begin is None and len(held_out) == 8
        learnt.append(stream)
        slow = Griffin(GriffinConfig.preset("tiny", vocabulary=32, lambda_init="minutes"))
        return slow if model == "griffin" else bundle.load(root, model), {"steps": 1.0, "minutes": 0.0}

    monkeypatch.setattr(recipes.language_recipe, "train", train)
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    plan = Plan(tmp_path / "runs", root, None, hours=60 / 3600)
    card = recipes.train("griffin", plan)
    read = len(noise)
    assert "1804.11188" in card["taught"] and "taught" not in recipes.train("transformer", plan)
    assert len(noise) == read and np.array_equal(learnt[0].tokens, learnt[1].tokens)
    assert 1500 <= len(learnt[0].tokens) < 1575 and learnt[0].starts[0] == 0 < learnt[0].starts[1] <= 75
    assert card["data"].startswith("0.0 h of stories")
    torch.manual_seed(1)
    bundle.save(root, "tokenizer", Tokenizer(TokenizerConfig.preset("tiny")), {})
    recipes.train("griffin", plan)
    assert len(noise) == 2 * read and not np.array_equal(learnt[0].tokens, learnt[2].tokens)
    assert len(list(plan.work.iterdir())) == 2


def test_a_name_weighs_by_how_long_ago_it_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = [(0.04, 0.4, "leo"), (1.0, 1.4, "walked"), (2.0, 2.4, "leo"), (22.8, 23.2, "leo")]  # seconds
    tokenizer = Tokenizer(TokenizerConfig.preset("tiny"))
    told = iter([heard, [(2.0, 2.4, "leo")]])
    monkeypatch.setattr(tokenizer, "words", lambda tokens: next(told))
    weights = recipes.language_recipe.weights(tokenizer, np.zeros(700, np.uint16), np.array([0, 600]))
    said_again, long_ago = [1.0] * 47 + [5.0] * 13, [1.0] * 507 + [10.0] * 13
    assert weights.tolist() == said_again + long_ago + [1.0] * 120  # in another story it is said for the first time


def test_the_voice_learns_from_utterances_of_one_speaker(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(utterances: list[list[VoicePrompt]], *_: Any, **options: Any) -> Any:
        assert options["inputs"].keys() == {"stories", "hours", "readers", "tokenizer", "codec"}
        assert options["vocabulary"] == 32
        assert [len(group) for group in utterances] == [2, 2, 1, 1, 2]  # of Ada, slow and fast, and of Bruno, slow
        assert all(each.codes.shape == (len(each.tokens), 4) for group in utterances for each in group)
        return bundle.load(tiny_bundle, "soundstorm"), {"steps": 1.0, "minutes": 0.0}

    tone = int16(0.1 * np.sin(np.arange(16_000 * 4) * 0.05))
    spans = [("Ada", 64_000), ("Bruno", 48_000), ("Ada", 50_000), ("Bruno", 47_000)]  # the last is shorter than 3 s
    people = [Utterance(tone[:length], "owl", who, "read") for who, length in spans]
    monkeypatch.setattr(Plan, "people", lambda plan, **_: people)
    monkeypatch.setattr(recipes.soundstorm_recipe, "train", train)
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    card = recipes.train("soundstorm", Plan(tmp_path / "runs", root, None, hours=0.01))
    assert card == bundle.index(root)["soundstorm"]["card"]


def test_a_recipe_puts_its_model_and_card_into_the_bundle(
    tmp_path: Path, narrated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenizerConfig, "preset", classmethod(lambda cls, name: cls(width=16, kernel=3, blocks=1)))
    monkeypatch.setattr(narration, "development_story", lambda number: said("good night.", number))
    plan = Plan(tmp_path / "runs", tmp_path / "bundle", None, None, steps=5, hours=0.03, seed=0)
    card = recipes.train("tokenizer", plan)
    assert narrated == [12, 0, 0]
    assert card == bundle.index(plan.bundle)["tokenizer"]["card"]
    assert (
        card["steps"] == 5
        and card["command"] == "lab train tokenizer --steps 5 --hours 0.03"
        and "cer" in card["at_the_end"]
    )
    assert card["data"] == f"{2 * 12 * 4 / 3600:.1f} h of stories narrated by espeak-ng"
    assert bundle.load(plan.bundle, "tokenizer").config.width == 16


@pytest.mark.parametrize("part, learnt", [("ctc-head", {"ctc_head"}), ("encoder", {"ctc_head", "to_code"})])
def test_a_part_of_the_tokenizer_goes_on_alone(
    tmp_path: Path, tiny_bundle: Path, narrated: list[int], monkeypatch: pytest.MonkeyPatch, part: str, learnt: set[str]
) -> None:
    """What learnt from its tokens stays when it reads them better, and is another's when it makes others."""
    monkeypatch.setattr(narration, "development_story", lambda number: said("good night.", number))
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    old, before = bundle.load(root, "tokenizer"), bundle.index(root)["tokenizer"]["card"]
    card = recipes.train(part, Plan(tmp_path / "runs", root, None, None, steps=3, hours=0.03))
    new = bundle.load(root, "tokenizer")
    assert sum(narrated) == 12 and bundle.index(root).keys() == bundle.index(tiny_bundle).keys()
    assert bundle.fingerprint(old) == card["inputs"]["tokenizer"]
    assert (bundle.fingerprint(new) == bundle.fingerprint(old)) == (part == "ctc-head")
    for name in ("ctc_head", "to_code"):
        ours, theirs = (torch.cat([p.flatten() for p in getattr(each, name).parameters()]) for each in (new, old))
        assert torch.equal(ours, theirs) == (name not in learnt)
    assert card == bundle.index(root)["tokenizer"]["card"] and card["steps"] == 3 and "cer" in card["at_the_end"]
    assert card["command"] == f"lab train {part} --steps 3 --hours 0.03" and card["before"].items() <= before.items()


def test_what_is_cut_twice_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Utterance(int16(np.zeros(32_000)), "owl", "7", "people")
    learnt: list[Any] = []
    monkeypatch.setattr(Plan, "passages", lambda plan, cut=0: [read])
    monkeypatch.setattr(Plan, "load", lambda plan, name: Tokenizer(TokenizerConfig.preset("tiny")))
    monkeypatch.setattr(Plan, "inputs", lambda *_: {})
    monkeypatch.setattr(recipes, "_finish", lambda *given: given[4])
    monkeypatch.setattr(recipes.data, "evaluation", lambda: None)
    monkeypatch.setattr(recipes.data, "narrated", lambda hours: [])
    monkeypatch.setattr(recipes.data, "pairs", lambda hours: [])
    monkeypatch.setattr(recipes.data, "paired", lambda maker, items: [(each, each) for _, each in items])
    monkeypatch.setattr(recipes.encoder_recipe, "train", lambda model, corpus, *_, **__: learnt.append(corpus) or {})
    monkeypatch.setattr(recipes.tokenizer_recipe, "train", lambda pairs, *_, **__: learnt.append(pairs) or (None, {}))
    plan = Plan(tmp_path, tmp_path, None, None)
    assert recipes.encoder(plan, "encoder") == {"people": 2.0}
    assert recipes.tokenizer(plan, "tokenizer") == {"people": 2.0 * 3}  # once, and each cut's reading beside it
    assert learnt == [[read, read], [(read, read)] * 2]


def test_the_decoder_goes_on_and_codes_stay(tmp_path: Path, tiny_bundle: Path, narrated: list[int]) -> None:
    """So do the voice, and what was tokenized for it."""
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    old, before = bundle.load(root, "codec"), bundle.index(root)["codec"]["card"]
    plan = Plan(tmp_path / "runs", root, None, None, steps=2, hours=0.01)
    card = recipes.train("decoder", plan)
    new = bundle.load(root, "codec")
    assert narrated == [4] and bundle.index(root).keys() == bundle.index(tiny_bundle).keys()
    assert card["inputs"].keys() >= {"stories", "tokenizer", "codec"} and card["steps"] == 2
    assert card["command"] == "lab train decoder --steps 2 --hours 0.01" and card["before"].items() <= before.items()
    assert bundle.fingerprint(new) == bundle.fingerprint(old)
    assert recipes.complete("decoder", plan) and not recipes.complete("decoder", replace(plan, steps=3))
    assert not torch.equal(new.widen.weight, old.widen.weight) and torch.equal(new.embed[0].weight, old.embed[0].weight)


def test_griffin30_learns_from_30_s_at_once_and_what_griffin_learns_from(
    tmp_path: Path, tiny_bundle: Path, noise: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, dict[str, Any]] = {}

    def train(stream: TokenStream, held_out: list[np.ndarray], folder: Path, **options: Any) -> Any:
        told[folder.name] = options | {"tokens": stream.tokens}
        return bundle.load(tiny_bundle, folder.name), {"steps": 1.0, "minutes": 0.0}

    monkeypatch.setattr(recipes.language_recipe, "train", train)
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    plan = Plan(tmp_path / "runs", root, None, hours=60 / 3600, length="4min")
    for name in ("griffin", "griffin30"):
        recipes.train(name, plan)
    assert [told[name]["length"] for name in ("griffin", "griffin30")] == [6000, 750]
    assert [told[name]["model"] for name in ("griffin", "griffin30")] == ["griffin", "griffin"]
    assert np.array_equal(told["griffin"]["tokens"], told["griffin30"]["tokens"])
    assert bundle.index(root)["griffin"]["card"]["command"].endswith(" --length 4min")
    assert (
        "griffin30" in bundle.index(root)
        and SpeechSSM.load(root, baseline="griffin30").language.config.vocabulary == 32
    )


def test_a_warm_run_begins_with_the_weights_of_the_bundle(
    tmp_path: Path, tiny_bundle: Path, noise: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    def train(*_: Any, begin: Any, inputs: dict[str, str], **__: Any) -> Any:
        begun.append((begin, inputs.get("griffin")))
        return bundle.load(tiny_bundle, "griffin"), {"steps": 7.0, "minutes": 0.5}

    monkeypatch.setattr(recipes.language_recipe, "train", train)
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    plan = Plan(tmp_path / "runs", root, None, hours=0.01)
    first = recipes.train("griffin", plan)
    card = recipes.train("griffin", replace(plan, warm=True))
    bundled = bundle.load(tiny_bundle, "griffin")
    assert begun[0] == (None, None) and begun[1][1] == bundle.fingerprint(begun[1][0]) == bundle.fingerprint(bundled)
    assert card["command"] == "lab train griffin --hours 0.01 --warm" and "before" not in first
    assert card["before"] == {key: first[key] for key in ("data", "steps", "minutes", "command", "inputs")}


def test_a_run_begins_with_another_bundle_or_with_recurrentgemma(
    tmp_path: Path, tiny_bundle: Path, noise: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    def train(*_: Any, begin: Any, config: Any, inputs: dict[str, str], **__: Any) -> Any:
        begun.append((begin, config, inputs["init"]))
        return begin, {"steps": 7.0, "minutes": 0.5}

    def load(source: str, **options: Any) -> Griffin:
        assert source == "google/rg" and options == {"rope": False, "vocabulary": 32, "seed": 0, "shapes": False}
        return Griffin(GriffinConfig.preset("tiny", vocabulary=32, lambda_init="recurrentgemma"))

    monkeypatch.setattr(recipes.language_recipe, "train", train)
    monkeypatch.setattr(recurrentgemma, "load", load)
    other = Path(shutil.copytree(tiny_bundle, tmp_path / "other"))
    torch.manual_seed(7)
    bundle.save(other, "griffin", Griffin(GriffinConfig.preset("tiny", vocabulary=32)), {})
    plan = Plan(tmp_path / "runs", Path(shutil.copytree(tiny_bundle, tmp_path / "b")), None, hours=0.01)
    card = recipes.train("griffin", replace(plan, init=str(other)))
    recipes.train("griffin", replace(plan, init="google/rg"))
    assert bundle.fingerprint(begun[0][0]) == bundle.fingerprint(bundle.load(other, "griffin"))
    assert begun[1][1].lambda_init == "recurrentgemma" and begun[0][2] == str(other)
    assert f"--init {other}" in card["command"] and "before" not in card
    with pytest.raises(LabError, match="transformer cannot begin with google/rg, .* RecurrentGemma is for griffin"):
        recipes.train("transformer", replace(plan, init="google/rg"))
    with pytest.raises(LabError, match="give --warm or --init"):
        replace(plan, init="google/rg", warm=True)


def test_all_models_learn_from_a_corpus(
    tmp_path: Path,
    tiny_bundle: Path,
    noise: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The tokenizer from what has a text, the codec from all of it, the voice from its codes, and griffin."""
    learnt: dict[str, Any] = {}
    tapes = tmp_path / "tapes"
    tapes.mkdir()
    for number in range(3):
        audio.save(tapes / f"{number}.wav", voiced(2 + number))
    audio.save(tapes / "3.wav", voiced(40))
    for number in (0, 3):
        (tapes / f"{number}.txt").write_text("owl")
    (tapes / "9.wav").write_bytes(b"")
    made = {name: bundle.load(tiny_bundle, name) for name in ("tokenizer", "codec", "soundstorm", "griffin")}
    monkeypatch.undo()
    beside = lambda maker, items: [(each, each) for _, each in items] if isinstance(items, list) else []  # noqa: E731
    monkeypatch.setattr(recipes.data, "paired", beside)
    monkeypatch.setattr(recipes.data, "evaluation", lambda: None)
    for name in made:
        room = getattr(recipes, f"{'language' if name == 'griffin' else name}_recipe")

        def train(*given: Any, name: str = name, **_: Any) -> Any:
            learnt[name] = given
            return made[name], {"steps": 1.0, "minutes": 0.0}

        monkeypatch.setattr(room, "train", train)
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    plan = Plan(tmp_path / "runs", root, None, corpus=str(tapes), hours=0.01)
    for name in made:
        card = recipes.train(name, plan)
        assert f"--corpus {tapes}" in card["command"] and str(tapes) in card["inputs"], name
        assert recipes.complete(name, plan)
    assert [one.text for one, _ in learnt["tokenizer"][0]] == ["owl"]
    said = capsys.readouterr().err
    assert "skipped: 1.wav has no text" in said and "skipped: 3.wav lasts 40 s, and 36 are learnt from" in said
    assert [round(each.utterance.seconds) for each in learnt["codec"][0]] == [2, 3, 4, 40]
    assert sum(len(said.tokens) for speaker in learnt["soundstorm"][0] for said in speaker) == (9 + 40) * 25
    stream, held_out, _ = learnt["griffin"]
    assert len(held_out) == 1 and len(stream.starts) == 3
    audio.save(tapes / "7.wav", voiced(2))
    assert not recipes.complete("griffin", plan)


def test_training_is_watched_on_stories_of_no_other_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither training stories, which are even, nor the held-out ones that figures are measured on."""
    seeds: list[int] = []
    monkeypatch.setattr(narration, "story", lambda seed, *_: seeds.append(seed) or spoken(0)[0])
    monkeypatch.setattr(
        recipes.data, "shard", lambda *_, **__: Shard(np.zeros(9, np.uint16), None, np.zeros(1, int), [], [])
    )
    monkeypatch.setattr(recipes.data, "paired", lambda *_: [])
    monkeypatch.setattr(recipes, "_finish", lambda *_: {})
    monkeypatch.setattr(Plan, "load", lambda plan, name: made[name])
    monkeypatch.setattr(Plan, "inputs", lambda *_: {})
    for recipe, train in (("language", "train"), ("tokenizer", "train")):
        monkeypatch.setattr(getattr(recipes, f"{recipe}_recipe"), train, lambda *_, **__: (made["tokenizer"], {}))
    made = {"tokenizer": Tokenizer(TokenizerConfig.preset("tiny"))}
    plan = Plan(tmp_path, tmp_path, None, None)
    for number, name in enumerate(("griffin", "tokenizer"), 1):
        recipes.MAKERS[name](plan, name)
        assert len(seeds) >= 6 * number, name
    assert all(seed % 2 and seed > narration.held_out_seed(100_000) for seed in seeds)


def test_recordings_lose_their_last_10_s_and_some_are_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a recording was completed with its beginning (paper section 3.3)."""
    lengths = np.array([800 + 20 * n for n in range(20)])
    tokens = np.repeat(np.arange(20, dtype=np.uint16), lengths)
    shard = Shard(tokens, None, np.cumsum([0, *lengths[:-1]]), ["7"] * 20, [])
    learnt: list[Any] = []
    monkeypatch.setattr(recipes.data, "shard", lambda plan, name: shard)
    monkeypatch.setattr(Plan, "load", lambda plan, name: Tokenizer(TokenizerConfig.preset("tiny")))
    monkeypatch.setattr(Plan, "inputs", lambda *_: {})
    monkeypatch.setattr(recipes, "_finish", lambda *given: given[4])
    monkeypatch.setattr(recipes.language_recipe, "train", lambda *given, **_: learnt.append(given) or (None, {}))
    plan = Plan(tmp_path, speech=None, corpus="/a/talks")
    seconds = recipes.language(plan, "griffin")
    stream, held_out, _ = learnt[0]
    assert seconds == {"talks": stream.size / 25}
    kept = lengths - np.minimum(250, lengths // 4)  # of short ones no more than a quarter goes
    assert [len(document) for document in held_out] == kept[:2].tolist()
    learnt_from = np.bincount(stream.read(np.arange(stream.size))[0])
    assert learnt_from[2:].tolist() == kept[2:].tolist() and len(stream.starts) == 18
    shard = replace(shard, dev=(3, 19))  # of a manifest that says what is held out
    recipes.language(plan, "griffin")
    stream, held_out, _ = learnt[1]
    assert [set(document.tolist()) for document in held_out] == [{3}, {19}] and len(stream.starts) == 18
    assert not {3, 19} & set(stream.read(np.arange(stream.size))[0].tolist())
    shard = replace(shard, dev=tuple(range(20)))
    with pytest.raises(LabError, match="of /a/talks all documents, 20, are held out; give more"):
        recipes.language(plan, "griffin")


def test_the_fourth_minute_of_four_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its first token has no loss and its last 10 s are dropped."""
    shard = Shard(np.zeros(60_000, np.uint16), None, np.arange(0, 60_000, 6000), [""] * 10, [])
    figures: dict[str, float] = {}
    network = Griffin(GriffinConfig.preset("tiny", vocabulary=32))
    monkeypatch.setattr(recipes.data, "shard", lambda plan, name: shard)
    monkeypatch.setattr(Plan, "load", lambda plan, name: Tokenizer(TokenizerConfig.preset("tiny")))
    monkeypatch.setattr(Plan, "inputs", lambda *_: {})
    monkeypatch.setattr(recipes, "_finish", lambda *given: given[4])
    monkeypatch.setattr(recipes.language_recipe, "train", lambda *_, **__: (network, figures))
    recipes.language(Plan(tmp_path, speech=None, corpus="/a/talks"), "griffin")
    assert [*figures] == [f"held_out_loss_minute_{number}" for number in (1, 2, 3, 4)]


def pieces(narrators: str, recordings: str) -> Shard:
    """Documents of a token, each by one of these and a piece of one of these."""
    count = len(narrators)
    return Shard(np.zeros(count, np.uint16), None, np.arange(count), [*narrators], [], recordings=[*recordings])


@pytest.mark.parametrize(
    ("shard", "expected"),
    [(pieces("a" * 20, "AAABBCCCCCCDDDDDDDDD"), [0, 1, 2]),  # two are asked for; all of A
     (pieces("a" * 20, "AAAAAAAAAAAAAAAABBCC"), [16, 17]),  # A is more than half
     (pieces("a" * 20, "A" * 20), [0, 1]), (pieces("a" * 20, ""), [0, 1]), (pieces("a", "A"), [0]),
     (pieces("abab" + "c" * 16, "ABCDEFGHIJKLMNOPQRST"), [0, 2]),  # all by a speaker
     (pieces("ababab" + "c" * 24, "AABB" + "C" * 26), [0, 2, 4]),
     (pieces("a" * 10 + "b" * 10, "AAAABBBBCCDDDDEEEEFF"), [0, 1, 2, 3])],  # a speaker is too much
)  # fmt: skip
def test_whole_speakers_or_recordings_are_held_out(shard: Shard, expected: list[int]) -> None:
    assert [*recipes.data.held_out(shard)] == expected


def test_a_shard_without_codes_is_refused_before_anybody_narrates(
    tmp_path: Path, tiny_bundle: Path, noise: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards.make(tmp_path / "tokens", Source.of("noise"), tiny_bundle, hours=0.001, workers=1)
    monkeypatch.setattr(recipes.data, "heard", lambda plan: pytest.fail("narrated"))
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with pytest.raises(LabError, match="tokens holds no codes of a codec; make one with `lab shard --codes`"):
        recipes.train("soundstorm", Plan(tmp_path / "runs", root, None, corpus=str(tmp_path / "tokens")))


@pytest.mark.parametrize("name", ["codec", "griffin"])
def test_codebooks_are_trained_by_one_process(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Compute] = []
    monkeypatch.setitem(recipes.MAKERS, name, lambda plan, _: seen.append(plan.compute))
    monkeypatch.setattr(bundle, "index", lambda root: {name: {"card": {"data": "nothing"}}})
    monkeypatch.setattr(Compute, "fabric", lambda self: FirstProcess)
    compute = Compute(devices=4, accumulate=2, tensorboard=True)
    assert recipes.train(name, Plan(speech=None, compute=compute)) == {"data": "nothing"}
    expected = compute if name == "griffin" else Compute(tensorboard=True)
    assert seen == [expected]


class FirstProcess:
    """The first process of Fabric's, without the others."""

    is_global_zero = True

    @staticmethod
    def barrier() -> None:
        pass


def test_an_unknown_recipe_is_an_error() -> None:
    with pytest.raises(LabError, match="no recipe for 'mamba'; there are tokenizer, encoder, ctc-head, .* and all"):
        recipes.train("mamba", Plan())
