"""lab.evaluate: which samples, minutes and texts enter, what they come to, and that no result is lost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab import audio
from lab.audio import SAMPLE_RATE
from lab.corpora import narration, storyworld
from lab.errors import LabError
from lab.evaluate import ears, examples, run, scoring, sets, systems
from lab.evaluate.ears import Ears
from lab.evaluate.examples import Example, Examples, Sound
from lab.evaluate.results import Results, Row
from lab.judges.protocols import Verdict
from lab.speech import SpeechSSM


class Ear:
    """All judges in one, of what can be reckoned by hand. A word is heard for each second that is not silent."""

    name = "ear"

    def __init__(self) -> None:
        self.heard: list[int] = []  # lengths of what was transcribed
        self.spans: list[np.ndarray] = []
        self.compared: list[tuple[str, str, str]] = []
        self.answers: list[Any] = []

    def transcribe(self, waveform: np.ndarray) -> str:
        self.heard.append(len(waveform))
        return " ".join(["owl"] * round(len(waveform) / SAMPLE_RATE))

    def embed_speaker(self, waveform: np.ndarray) -> np.ndarray:
        return np.array([1.0, 0.0]) if len(waveform) < 4 * SAMPLE_RATE else np.array([0.6, 0.8])

    def predict_mos(self, waveform: np.ndarray) -> float:
        self.spans.append(waveform)
        return 3.0

    def log_likelihood(self, text: str, context: str = "") -> tuple[float, int]:
        return -2.5 * len(text.split()), len(text.split())

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[1.0, 0.0] if "fox" in text else [0.6, 0.8] for text in texts])

    def judge(self, prompt: str, first: str, second: str) -> Verdict:
        self.compared.append((prompt, first, second))
        answer = self.answers.pop(0) if self.answers else "first"
        if isinstance(answer, LabError):
            raise answer
        return Verdict(answer, f"[[{answer}]]")

    def provenance(self) -> dict[str, str]:
        return {"backend": "a test"}


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def example(name: str = "one", seconds: float = 6.0, **given: Any) -> Example:
    sound = Sound(noise(3), noise(seconds), noise(seconds, seed=1))
    return Example(name, lambda: sound, **given)


def row(system: str = "mine", **given: Any) -> Row:
    options: dict[str, Any] = {"set": "folder", "seconds": None, "temperature": None, "seed": 0, "weights": {}}
    return Row(system, command="lab evaluate", **(options | {"judges": {}} | given))


def sample(name: str, values: dict[str, Any], text: str = "owl", **given: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "seed": 0, "seconds": 7.0, "prompt_text": "a fox", "texts": {"ear": [text]}}
    return told | {"values": values, "minutes": [values], "spans": {}} | given


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def listens(ear: Ear) -> Ears:
    return ears.of([ear])


# What is scored


def folder(root: Path, names: Sequence[str] = ("a", "b")) -> Path:
    for name in names:
        for part in ("prompts", "continuations", "references"):
            (root / part).mkdir(parents=True, exist_ok=True)
            audio.save(root / part / f"{name}.wav", noise(3))
    return root


def test_a_folder_of_prompts_continuations_and_what_belongs_to_them(tmp_path: Path) -> None:
    root = folder(tmp_path / "mine")
    for part, note in (("texts", "The owl, again."), ("seeds", "7")):
        (root / part).mkdir()
        (root / part / "a.txt").write_text(note)
    audio.save(root / "continuations" / "b.wav", noise(4.5))
    (root / "references" / "b.wav").unlink()
    found = examples.read(root)
    assert (found.name, found.skipped) == ("mine", [])
    first, second = found
    assert (first.name, first.text, first.seed) == ("a", "The owl, again.", 7)
    assert (second.name, second.text, second.seed) == ("b", "", 0)
    assert second.sound().reference is None and len(second.sound().continuation) == 4.5 * SAMPLE_RATE  # type: ignore[arg-type]
    examples.keep(tmp_path / "kept", first, first.sound())
    (again,) = examples.read(tmp_path / "kept")
    assert (again.name, again.text, again.seed) == (first.name, first.text, first.seed)
    assert np.abs(again.sound().continuation - first.sound().continuation).max() < 5e-3  # type: ignore[operator]


def test_those_without_a_partner_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path, "abc")
    (root / "prompts" / "a.wav").unlink()
    (root / "continuations" / "b.wav").unlink()
    found = examples.read(root)
    assert [each.name for each in found] == ["c"]
    assert found.skipped == ["a has no prompt", "b has no continuation"]


def test_a_manifest_and_its_lines_that_are_none(tmp_path: Path) -> None:
    folder(tmp_path)
    lines = [
        {"prompt": "prompts/a.wav", "continuation": "continuations/a.wav", "reference": "references/a.wav", "seed": 3},
        "{not JSON",
        {"prompt": "prompts/b.wav"},
        ["a list"],
        {"prompt": "prompts/b.wav", "continuation": "continuations/b.wav", "seed": "x"},
        {"prompt": "prompts/b.wav", "continuation": "continuations/a.wav"},
        {"prompt": "prompts/b.wav", "continuation": "continuations/b.wav", "name": "last", "text": "an owl"},
    ]
    manifest = tmp_path / "mine.jsonl"
    manifest.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n\n")
    found = examples.read(manifest)
    assert [(each.name, each.seed, each.text) for each in found] == [("a", 3, ""), ("last", 0, "an owl")]
    assert len(found.skipped) == 5 and "mine.jsonl line 2 is no JSON" in found.skipped[0]
    assert found.skipped[1:3] == [
        "mine.jsonl line 3 has no continuation",
        "mine.jsonl line 4 is no object with names of files",
    ]
    assert "no integer for a seed" in found.skipped[3] and "name of another sample, a" in found.skipped[4]
    manifest.write_text("nothing")
    with pytest.raises(
        LabError, match=r"holds no prompt with its continuation \(left out: mine.jsonl line 1 is no JSON"
    ):
        examples.read(manifest)
    with pytest.raises(LabError, match="there is no .*nowhere"):
        examples.read(tmp_path / "nowhere")


def test_bad_files_are_named_and_the_others_scored(tmp_path: Path, listens: Ears, ear: Ear) -> None:
    root = folder(tmp_path, "abcdefg")
    (root / "prompts" / "a.wav").write_bytes(b"no audio")
    (root / "continuations" / "b.wav").write_bytes(b"")
    audio.save(root / "references" / "c.wav", np.zeros(SAMPLE_RATE * 3, np.float32))
    audio.save(root / "continuations" / "d.wav", noise(0.5))
    audio.save(root / "continuations" / "e.wav", np.zeros(SAMPLE_RATE * 4, np.float32))
    import soundfile as sf

    sf.write(root / "continuations" / "f.wav", 0.1 * np.sin(np.arange(6 * 8000) * 0.2), 8000)  # another rate
    results = Results.load(tmp_path / "results.json")
    done = run.run(results, listens, examples.read(root), row())
    assert [each["name"] for each in done.samples] == ["e", "f", "g"]
    assert [line[:2] for line in done.skipped] == ["a:", "b:", "c:", "d:"]
    assert "is silent" in done.skipped[2] and "lasts 0.50 s" in done.skipped[3]
    silent, other_rate, _ = done.samples
    assert (
        silent["values"]["words"] == 0 and silent["values"]["MOS (ear)"] == 1 and silent["values"]["SpkrSim (ear)"] == 0
    )
    assert "ASR-PPL (ear)" not in silent["values"]  # a text without a word has none
    assert other_rate["seconds"] == 6 and other_rate["values"]["words"] == 6
    with pytest.raises(LabError, match="no sample of .* could be scored: a: "):
        run.run(Results(tmp_path / "no.json"), listens, Examples("x", examples.read(root).examples[:1]), row())


def test_stories_are_held_out_and_go_on_where_the_prompt_ends() -> None:
    (found,) = sets.examples("stories", 1, 14)
    sound, whole = found.sound(), narration.held_out_story(0, sentences=40)
    assert found.cast == storyworld.story(narration.held_out_seed(0), 40).cast and found.text == whole.text
    assert len(sound.prompt) == 10 * SAMPLE_RATE and sound.continuation is None
    joined = np.concatenate([sound.prompt, sound.reference])  # type: ignore[list-item]
    assert np.array_equal(joined, audio.set_level(whole.samples())[: 14 * SAMPLE_RATE])
    assert [each.seed for each in sets.examples("stories", 3, 14, seed=5)] == [5, 6, 7]


def test_of_librispeech_only_what_no_model_learnt_from(tmp_path: Path) -> None:
    for chapter in ("train/1/158079", "train/1/11", "test-clean/2/22"):
        path = tmp_path / chapter
        path.mkdir(parents=True)
        reader, number = path.parts[-2:]
        for at, seconds in enumerate((11, 4, 12)):
            audio.save(path / f"{reader}-{number}-{at:04}.flac", noise(seconds, seed=at))
        (path / f"{reader}-{number}.trans.txt").write_text(
            "".join(f"{reader}-{number}-{at:04} AN OWL\n" for at in range(3))
        )
    found = sets.examples("librispeech", 16, 10, tmp_path)
    assert sorted(each.name for each in found) == [f"{name}-000{at}" for name in ("1-158079", "2-22") for at in (0, 2)]
    sound = next(iter(found)).sound()
    assert (len(sound.prompt), len(sound.reference)) == (3 * SAMPLE_RATE, 7 * SAMPLE_RATE)  # type: ignore[arg-type]
    with pytest.raises(LabError, match="has no reading for librispeech-long that no model learnt from"):
        sets.examples("librispeech-long", 16, 240, tmp_path)  # 27 s a chapter


@pytest.mark.parametrize(
    "asked, message",
    [
        (("books", 1, 20.0), "there is no set 'books'; there are stories"),
        (("stories", 0, 20.0), "cannot score 0 samples"),
        (("stories", 1, 10.0), "the prompts of stories last 10 s"),
        (("stories", 1, math.nan), "cannot go on to nan s"),
        (("librispeech", 1, 10.0), "needs LibriSpeech: give --speech"),
    ],
)
def test_sets_that_are_none(asked: tuple[str, int, float], message: str) -> None:
    with pytest.raises(LabError, match=message):
        sets.examples(*asked)


# Who goes on


def test_restarts_of_the_transformer(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 128 tokens: none as in the paper, from the newest 3 s, or from all that leaves room for 3 s."""
    slides: list[Any] = []

    def generate(self: Any, prompt: Any, seconds: float, **options: Any) -> Any:
        slides.append((seconds, options))
        return type("Story", (), {"waveform": np.arange(len(prompt) + 5)})

    monkeypatch.setattr("lab.speech.SpeechSSM.generate", generate)
    for name in ("transformer", "transformer+3s", "transformer+window", "griffin"):
        system = systems.load(name, tiny_bundle, 0.7)
        spoken = system.go_on(example(seed=4), Sound(noise(3)), 2.0)
        assert spoken.tolist() == list(range(3 * SAMPLE_RATE, 3 * SAMPLE_RATE + 5))
        assert set(system.weights) == {"tokenizer", "soundstorm", "codec", name.partition("+")[0]}
    assert [options["slide"] for _, options in slides] == [None, 75, 53, None]
    assert all(options["seed"] == 4 and options["temperature"] == 0.7 for _, options in slides)
    with pytest.raises(LabError, match=r"griffin\+3s: a state of fixed size has no length to fill"):
        systems.load("griffin+3s", tiny_bundle, 1.0)
    with pytest.raises(LabError, match="there is no restart '5s'; there are 3s, 10s and window"):
        systems.load("transformer+5s", tiny_bundle, 1.0)


@pytest.mark.parametrize("name", ["codec", "codec+1", "voice"])
def test_stages_speak_the_reference_again(tiny_bundle: Path, name: str) -> None:
    system = systems.load(name, tiny_bundle, 1.0)
    assert system.temperature is None and "griffin" not in system.weights
    sound = Sound(noise(3), reference=noise(2, seed=1))
    spoken = system.go_on(example(), sound, 60.0)
    assert len(spoken) == 2 * SAMPLE_RATE
    other = system.go_on(example(), sound._replace(reference=noise(2, seed=2)), 60.0)
    assert not np.array_equal(spoken, other)
    with pytest.raises(LabError, match="no reference"):
        system.go_on(example(), Sound(noise(3)), 60.0)


def test_codec_at_fewer_levels_is_another_sound(tiny_bundle: Path) -> None:
    sound = Sound(noise(3), reference=noise(2, seed=1))
    at = {name: systems.load(name, tiny_bundle, 1.0).go_on(example(), sound, 60.0) for name in ("codec", "codec+1")}
    levels = SpeechSSM.load(tiny_bundle).voice.codec.levels
    spoken = systems.load(f"codec+{levels}", tiny_bundle, 1.0).go_on(example(), sound, 60.0)
    assert np.array_equal(at["codec"], spoken) and not np.array_equal(at["codec"], at["codec+1"])
    with pytest.raises(LabError, match=r"codec\+9: the codec has no '9' levels; it has 1, 2"):
        systems.load("codec+9", tiny_bundle, 1.0)


# One sample


def test_minutes_are_cut_where_it_is_quiet() -> None:
    spoken = noise(170)
    quiet = 50 * SAMPLE_RATE + 8000  # half a second after minute 1 of prompt and continuation
    spoken[quiet - 400 : quiet + 400] = 0
    first, second, last = scoring.minutes(spoken, 10 * SAMPLE_RATE)
    assert abs(len(first) - quiet) <= 400
    assert len(first) + len(second) + len(last) == len(spoken) and abs(len(second) / SAMPLE_RATE - 59.5) < 1.6
    assert len(scoring.minutes(noise(64), 10 * SAMPLE_RATE)) == 1  # 14 s are no minute of their own
    assert len(scoring.minutes(noise(7), 3 * SAMPLE_RATE)) == 1


def test_the_spans_of_mos_are_those_of_all_systems() -> None:
    before, length = 10 * SAMPLE_RATE, 5 * SAMPLE_RATE
    clock = np.arange(230 * SAMPLE_RATE, dtype=np.float32)  # tells which samples were taken
    reference = clock[: 200 * SAMPLE_RATE]
    spans = scoring.mos_spans("one", clock, before, reference)
    truth = scoring.mos_spans("one", reference, before, reference)
    assert [len(span) for span in spans] == [length] * 4
    assert all(np.array_equal(one, other) for one, other in zip(spans, truth, strict=True))
    for number, span in enumerate(spans):
        assert 60 * number <= (span[0] + before) / SAMPLE_RATE and (span[-1] + before) / SAMPLE_RATE < 60 * (number + 1)
    other = scoring.mos_spans("two", clock, before, reference)
    assert all(not np.array_equal(one, two) for one, two in zip(spans, other, strict=True))
    long_prompt = scoring.mos_spans("one", clock[: 58 * SAMPLE_RATE], 30 * SAMPLE_RATE, None)  # two minutes of it
    assert len(long_prompt) == len(scoring.minutes(noise(58), 30 * SAMPLE_RATE)) == 2
    (whole,) = scoring.mos_spans("one", clock[: 7 * SAMPLE_RATE], 3 * SAMPLE_RATE, None)
    assert len(whole) == 7 * SAMPLE_RATE


def test_values_of_a_sample_by_hand(listens: Ears, ear: Ear) -> None:
    sound = Sound(noise(3), reference=noise(6))
    truth = scoring.score(listens, example(), sound, noise(6), None, respoken=True)
    assert truth["prompt_text"] == "owl owl owl" and truth["texts"] == {"ear": ["owl owl owl owl owl owl"]}
    ear.transcribe = lambda waveform: "the fox ran and the fox ran"  # type: ignore[method-assign]
    found = scoring.score(listens, example(), sound, noise(130), truth, respoken=False)
    assert found["prompt_text"] == "owl owl owl" and len(found["texts"]["ear"]) == len(found["minutes"]) == 2
    values = found["values"]
    assert values["words"] == 14 and values["ASR-PPL (ear)"] == 2.5
    assert values["SpkrSim (ear)"] == pytest.approx(0.6)  # of [1, 0] and [0.6, 0.8]
    assert values["similarity (ear)"] == pytest.approx(0.6)  # of its whole text and the truth's
    assert [minute.get("similarity (ear)") for minute in found["minutes"]] == [pytest.approx(0.6), None]
    assert found["minutes"][0]["auto-BLEU"] == pytest.approx(
        (6 / 7 * 4 / 6) ** 0.5
    )  # all but `and`; `the fox`, `fox ran`
    assert "words wrong (ear)" not in values  # it says nothing that is known


def test_sc_l_by_hand(listens: Ears, ear: Ear) -> None:
    words = ["owl"] * 100 + ["fox"] * 100 + ["owl"] * 99
    ear.transcribe = lambda waveform: " ".join(words) if len(waveform) > 3 * SAMPLE_RATE else "a fox"  # type: ignore[method-assign]
    found = scoring.score(listens, example(), Sound(noise(3)), noise(7), None, respoken=False)
    assert found["spans"] == {"SC-L (ear)": [pytest.approx(0.6), pytest.approx(1.0)]}  # the last 99 words are no span
    assert found["values"]["SC-L (ear)"] == pytest.approx(0.8)


def test_words_wrong_are_counted_against_what_was_read(listens: Ears, ear: Ear) -> None:
    text = "long ago there lived a kitten named leo who went away and came back at night"
    heard = {3: "long ago there livd a", 6: "kitten named leo who went"}
    ear.transcribe = lambda waveform: heard[len(waveform) // SAMPLE_RATE]  # type: ignore[method-assign]
    sound = Sound(noise(3), reference=noise(6))
    truth = scoring.score(listens, example(text=text), sound, noise(6), None, respoken=True)
    assert truth["said"] == "kitten named leo who went" and truth["values"]["words wrong (ear)"] == 0
    heard[6] = "kitten named who went back"
    again = scoring.score(listens, example(text=text), sound, noise(6), truth, respoken=True)
    assert again["values"]["words wrong (ear)"] == 2 / 5 and again["values"]["STOI"] > 0.99  # of the same noise
    ends = scoring.score(listens, example(text="long ago there"), sound, noise(6), None, respoken=True)
    assert ends["said"] == "" and ends["values"]["words"] == 5 and "words wrong (ear)" not in ends["values"]
    assert scoring.words_wrong("The owl's home.", "the owl's house") == 1 / 3
    assert scoring.part("a b c d", "", "x y") and scoring.part("a b", "a b", "") == ""


def test_a_story_that_makes_no_sense_keeps_nothing(listens: Ears, ear: Ear) -> None:
    story = storyworld.story(narration.held_out_seed(3), 40)
    texts = {  # by the minute; the last one is the prompt's
        60: " ".join(story.sentences[4:20]),
        70: "and and mumble",
        65: " ".join(sentence for sentence in story.sentences if story.cast.hero not in sentence),
        10: "a prompt",
    }
    pieces = iter([60, 70, 65, 10])
    ear.transcribe = lambda waveform: texts[next(pieces)]  # type: ignore[method-assign]
    found = scoring.score(listens, example(cast=story.cast), Sound(noise(10)), noise(170), None, respoken=False)
    good, bad, gap = found["minutes"]
    assert good["words that exist"] == 1 and bad["words that exist"] == pytest.approx(2 / 3)
    assert good["words that parse"] == 1 and good["hero right"] == 1 and good["mentions"] > 0
    assert (bad["words that parse"], bad["hero right"], bad["mentions"]) == (0, 0, 0)
    assert gap["words that parse"] > 0.5 and (gap["mentions"], gap["hero right"]) == (
        0,
        1,
    )  # as the last minute with a name
    heroes = [each for each in found["recalled"] if each.fact == "hero"]
    assert heroes and all(0 <= each.ago < 60 and each.right for each in heroes)
