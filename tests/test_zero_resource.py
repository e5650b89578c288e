"""Likelihood tests: pairs of the story world and of a user's folders, and the likelihoods of models known by heart."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab import audio, bundle
from lab.corpora import narration, narrators, splits, storyworld
from lab.errors import LabError
from lab.measure import figures, minimal_pairs, zero_resource
from lab.measure.zero_resource import Pair, Scored


class Bigram:
    """A language model of three tokens: after a 0 come 0, 1, 2 with 1/2, 1/4, 1/4; after any other all alike."""

    vocabulary, context, device = 3, None, torch.device("cpu")
    table = torch.tensor([[1 / 2, 1 / 4, 1 / 4], [1 / 3] * 3, [1 / 3] * 3]).log()

    def to(self, device: Any) -> Bigram:
        return self

    def __call__(self, tokens: torch.Tensor, state: Any = None, reset: Any = None, last: bool = False) -> Any:
        return self.table[tokens] + 5, None  # logits may have any offset


class Loudness:
    """A tokenizer of three tokens: each sample is its own token."""

    vocabulary, device = 3, torch.device("cpu")

    def encode(self, waveform: np.ndarray) -> torch.Tensor:
        return torch.tensor(waveform).long()


def sound(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.float32)


# Likelihoods


def test_a_likelihood_by_hand() -> None:
    nats, tokens = zero_resource.log_likelihood(Bigram(), torch.tensor([0, 0, 1, 2]))
    assert tokens == 3 and nats == pytest.approx(math.log(1 / 2 * 1 / 4 * 1 / 3))
    with pytest.raises(LabError, match="1 tokens have no likelihood"):
        zero_resource.log_likelihood(Bigram(), torch.tensor([0]))


def test_pairs_are_scored_side_by_side() -> None:
    scored = zero_resource.score(Loudness(), {"bigram": Bigram()}, [Pair("a", "word", sound(0, 0), sound(0, 1, 2))])[
        "bigram"
    ]
    right, wrong = math.log(1 / 2), math.log(1 / 4 * 1 / 3)
    assert scored == [Scored("a", "word", pytest.approx(right), 1, pytest.approx(wrong), 2)]


def test_what_a_system_finds_likelier_a_token() -> None:
    pairs = [Pair(name, "word", sound(0, 0), sound(0, 1, 2)) for name in "abc"]
    heard = iter([(-2.0, 1), (-3.0, 2), (-1.0, 2), (-3.0, 2), (-1.0, 1), (-2.0, 2)])  # wrong, right, a tie
    mean, total = zero_resource.likelier(lambda waveform: next(heard), pairs)
    assert mean.value == pytest.approx((0 + 1 + 0.5) / 3)
    assert total.value == 1 and mean.n == total.n == 3


def test_accuracy_by_hand() -> None:
    longer = Scored("a", "", -9.0, 10, -8.0, 5)  # less likely, but more likely a token
    tie, plain = Scored("b", "", -4.0, 2, -4.0, 2), Scored("c", "", -1.0, 2, -2.0, 2)
    assert zero_resource.accuracy([longer, tie, plain], normalized=False).value == pytest.approx((0 + 0.5 + 1) / 3)
    assert zero_resource.accuracy([longer, tie, plain], normalized=True).value == pytest.approx((1 + 0.5 + 1) / 3)


def test_voices_of_an_item_count_once() -> None:
    """Three readings of a word, one wrong, and one reading of another: (2/3 + 1) / 2, of two items."""
    right, wrong = (Scored("a", "", better, 1, -2.0, 1) for better in (-1.0, -3.0))
    found = zero_resource.accuracy([right, right, wrong, right._replace(item="b")], normalized=False)
    assert found.value == pytest.approx(5 / 6) and found.n == 2
    with pytest.raises(LabError):
        zero_resource.accuracy([], normalized=False)


def test_every_test_of_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrators.Narrator, "read", lambda self, text: np.array([0, *map(ord, text)], np.float32) % 3)
    found = zero_resource.of_models(Loudness(), {"one": Bigram(), "other": Bigram()}, 12)
    assert list(found) == ["one", "other"] and found["one"] == found["other"] and len(found["one"]) == 6
    assert all(each.n == 12 and 0 <= each.low <= each.high <= 1 for each in found["one"].values())


def test_figures_of_likelihood(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_BUNDLE", str(tiny_bundle))
    (row, *others) = figures.measure("likelihood", bundle.folder(), None, 12)
    assert {row.model for row in (row, *others)} == {"griffin", "griffin30", "transformer"} and len(others) == 17
    assert row.n == 12 and row.low <= row.value <= row.high and row.command == "lab measure likelihood --count 12"
    assert row.uses == ("tokenizer",) and row.name == "likelier, chance 0.50: words above invented ones, by the sum"


# Pairs of the story world


def test_invented_words() -> None:
    pairs = minimal_pairs.words(100)
    assert len(pairs) == 100 and pairs == minimal_pairs.words(100)
    assert all(pair.right in storyworld.VOCABULARY and pair.wrong not in storyworld.VOCABULARY for pair in pairs)
    assert len({pair.right for pair in pairs}) == 100
    for ends in (1, -3):  # first letters and last syllables say nothing: they are as frequent on both sides

        def cut(word: str, ends: int = ends) -> str:
            return word[:ends] if ends > 0 else word[ends:]

        assert Counter(cut(pair.right) for pair in pairs) == Counter(cut(pair.wrong) for pair in pairs)


@pytest.mark.parametrize("word", ["kastle", "gardan", "wrabbit", "kitn"])
def test_what_sounds_like_a_word_is_none_invented(word: str) -> None:
    known = {minimal_pairs._sound(each) for each in storyworld.VOCABULARY}
    assert (minimal_pairs._sound(word) in known) == (word in ("kastle", "wrabbit"))


def test_faults_of_grammar() -> None:
    pairs = minimal_pairs.sentences(80)
    assert Counter(pair.kind for pair in pairs) == dict.fromkeys(("agreement", "case", "order", "verb"), 20)
    assert len({pair.right for pair in pairs}) == 80
    for pair in pairs:
        right, wrong = (storyworld.normalize(text).split() for text in (pair.right, pair.wrong))
        assert storyworld.parse(pair.right) and not storyworld.parse(pair.wrong)
        assert storyworld.VOCABULARY.issuperset(wrong) and len(right) == len(wrong)
        changed = [(a, b) for a, b in zip(right, wrong, strict=True) if a != b]
        assert len(changed) == (2 if pair.kind == "order" else 1)
        assert pair.kind != "order" or "the" in changed[0]


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("the lake was quiet and deep.", ("agreement", "the lake were quiet and deep.")),
        ("he closed his eyes and fell asleep.", ("case", "him closed his eyes and fell asleep.")),
        ('"i want to go home," said finn.', ("verb", '"i want to went home," said finn.')),
        (
            "finn opened the gate and walked into the garden.",
            ("order", "finn opened gate the and walked into the garden."),
        ),
    ],
)
def test_a_fault_by_hand(sentence: str, fault: tuple[str, str]) -> None:
    assert storyworld.parse(sentence) and fault in list(minimal_pairs._faults(sentence))


def test_of_two_names_the_verb_may_be_plural() -> None:
    faults = list(minimal_pairs._faults("soon the pony and finn reached the lake."))
    assert faults and all(kind != "verb" for kind, _ in faults)


def test_endings_of_other_stories() -> None:
    pairs = minimal_pairs.endings(12, context=8, ending=2)
    for number, pair in enumerate(pairs):
        told = storyworld.story(narration.held_out_seed(splits.CONTEXTS[number]), 50)
        begun = " ".join(told.sentences[:8])
        assert pair.right == f"{begun} {' '.join(told.sentences[8:10])}" and pair.wrong.startswith(begun)
        ending = pair.wrong.removeprefix(begun).strip()
        assert any(other.right.endswith(f" {ending}") for other in pairs if other is not pair)
        assert told.cast.hero not in ending.split()
    with pytest.raises(LabError, match="ask for more"):
        minimal_pairs.endings(1)


def test_only_stories_that_no_training_and_no_other_measure_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(storyworld, "story", lambda seed, n, tell=storyworld.story: seeds.append(seed) or tell(seed, n))
    minimal_pairs.sentences(40)
    minimal_pairs.endings(12)
    numbers = {(seed - 1) // 2 for seed in seeds}
    assert all(seed % 2 for seed in seeds) and min(numbers) >= 7000 and max(numbers) < 9000


def test_more_pairs_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 120 < len(minimal_pairs.words(10_000)) < 400
    monkeypatch.setattr(splits, "SENTENCES", splits.SENTENCES[:1])
    with pytest.raises(LabError, match="have [0-9]+ such sentences"):
        minimal_pairs.sentences(100)


def test_voices_that_nothing_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, str]] = []
    monkeypatch.setattr(
        narrators.Narrator, "read", lambda self, text: read.append((self.name, text)) or np.zeros(1, np.float32)
    )
    texts = [minimal_pairs.Pair(str(k), "word", f"right {k}", f"wrong {k}") for k in range(6)]
    pairs = list(zero_resource.spoken(texts, voices=2))
    assert [pair.item for pair in pairs] == [str(k) for k in range(6) for _ in range(2)]
    assert {name for name, _ in read} == {narrator.name for narrator in narrators.HELD_OUT}
    assert read[0] == ("Alba", "right 0") and read[1] == ("Alba", "wrong 0") and read[2] == ("Boaz", "right 0")


# Original sets


def tone(path: Path, hertz: float = 200.0, seconds: float = 0.5, rate: int = 16_000) -> None:
    audio.save(path, (0.1 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32))


def gold(folder: Path, rows: list[dict[str, Any]]) -> None:
    with (folder / "gold.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "filename", "voice", "frequency", "word", "correct"])
        writer.writeheader()
        writer.writerows({"frequency": "100", "word": "x", **row} for row in rows)


def test_zerospeech(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for voice, hertz in (("A", 200), ("B", 300)):
        for correct, off in ((1, 0), (0, 50)):
            name = f"{voice}{correct}"
            tone(tmp_path / f"{name}.wav", hertz + off)
            rows.append({"id": "7", "filename": name, "voice": voice, "correct": correct})
    rows.append({"id": "8", "filename": "A1", "voice": "A", "correct": 1})  # no partner
    rows += [{"id": "9", "filename": name, "voice": "A", "correct": c} for name, c in (("A1", 1), ("missing", 0))]
    rows += [{"id": "10", "filename": name, "voice": "A", "correct": c} for name, c in (("A1", 1), ("silent", 0))]
    audio.save(tmp_path / "silent.wav", np.zeros(8000, np.float32))
    gold(tmp_path, rows)
    found = list(zero_resource.zerospeech(tmp_path))
    assert [(pair.item, pair.kind) for pair in found] == [("7", "100")] * 2
    crossings = [int((np.diff(np.sign(side)) > 0).sum()) for pair in found for side in (pair.right, pair.wrong)]
    assert crossings == pytest.approx([100, 125, 150, 175], abs=1)  # half a second each: right first, voice by voice
    told = capsys.readouterr().err
    assert all(word in told for word in ("8 by A", "missing.wav", "silent.wav is silent"))


@pytest.mark.parametrize("text", [None, "", "id,file\n1,2\n", "id,filename,voice,correct\n", "\x00\xff"])
def test_no_zerospeech(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "gold.csv").write_text(text, encoding="latin-1")
    with pytest.raises(LabError, match="gold.csv"):
        list(zero_resource.zerospeech(tmp_path))


def test_story_cloze(tmp_path: Path) -> None:
    for number in (10, 11, *range(10)):
        tone(tmp_path / f"{number}_{'wrong' if number % 2 else 'right'}.wav", 200 + 50 * (number % 2))
    found = list(zero_resource.story_cloze(tmp_path))
    assert [pair.item for pair in found] == [str(k) for k in range(6)]
    assert all((np.diff(np.sign(pair.wrong)) > 0).sum() > (np.diff(np.sign(pair.right)) > 0).sum() for pair in found)
    (tmp_path / "11_wrong.wav").unlink()
    with pytest.raises(LabError, match="no pairs of files"):
        list(zero_resource.story_cloze(tmp_path))


class Pitch(Loudness):
    """Two tokens for a tone: a 0 and another 0 below 220 Hz, else a 0 and a 1."""

    def encode(self, waveform: np.ndarray) -> torch.Tensor:
        return torch.tensor([0, int((np.diff(np.sign(waveform)) > 0).sum() / len(waveform) * 16_000 > 220)])


def test_an_original_set_is_scored_by_kind(tmp_path: Path) -> None:
    rows = []
    for item, kind, hertz in (("1", "oov", (200, 250)), ("2", "oov", (200, 250)), ("3", "100", (250, 200))):
        for correct, each in zip((1, 0), hertz, strict=True):
            tone(tmp_path / f"{item}-{correct}.wav", each)
            rows.append({"id": item, "filename": f"{item}-{correct}", "voice": "A", "correct": correct})
            rows[-1]["frequency"] = kind
    gold(tmp_path, rows)
    found = zero_resource.of_folder(Pitch(), {"one": Bigram()}, tmp_path)["one"]
    assert {name: each.value for name, each in found.items() if name.endswith("sum")} == {
        "all pairs, by the sum": pytest.approx(2 / 3),
        "100, by the sum": 0,
        "oov, by the sum": 1,
    }
    first = zero_resource.of_folder(Pitch(), {"one": Bigram()}, tmp_path, 2)["one"]
    assert first.keys() == {"all pairs, by the sum", "all pairs, by the mean a token"}
    assert first["all pairs, by the sum"].n == 2
    with pytest.raises(LabError, match="no pairs of files"):
        zero_resource.of_folder(Pitch(), {"one": Bigram()}, tmp_path / "none")
