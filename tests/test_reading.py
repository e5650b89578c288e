"""lab.train.reading and written: text to semantic tokens, what it learns from and the stories that it writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lab import audio, bundle
from lab.corpora import narration
from lab.errors import LabError
from lab.language import Griffin, GriffinConfig
from lab.nn.sampling import generator_of
from lab.tokens import TOKEN_RATE
from lab.train import language, reading, recipes, written
from lab.train.language import TokenStream
from lab.train.plan import Plan
from lab.train.reading import END, FIRST, letters
from tests.spoken import voiced


def test_a_document_has_each_word_before_its_tokens() -> None:
    """The tokenizer misreads "hat": it stays with the words beside it, which nobody knows the ends of."""
    tokens = np.arange(100, dtype=np.uint16)
    heard = [
        (0.4, 0.6, "a"),
        (0.8, 1.2, "fox"),
        (1.24, 1.3, "is"),
        (2.0, 2.4, "has"),
        (3.2, 3.6, "a"),
        (3.7, 3.8, "den"),
    ]
    tokenizer: Any = SimpleNamespace(words=lambda given: heard if given.tolist() == tokens.tolist() else [])
    ids = reading.document(tokenizer, tokens, ["A fox is hat", "a den."])
    a, fox, is_hat_a, den = [1], [6, 15, 24], [9, 19, 8, 1, 20, 0, 1], [4, 5, 14, 0]
    said = [list(range(FIRST + first, FIRST + last)) for first, last in ((0, 17), (17, 30), (30, 90), (90, 100))]
    parts = [[*word, *tokens, END] for word, tokens in zip((a, fox, is_hat_a, den), said, strict=True)]
    assert ids.tolist() == sum(parts, [])
    shuffled = reading.document(tokenizer, tokens, ["A fox is hat", "a den."], np.random.default_rng(0)).tolist()
    found = [parts.index(shuffled[shuffled.index(part[0]) :][: len(part)]) for part in (parts[1], parts[3])]
    assert found == [1, 3] and shuffled != ids.tolist() and sorted(shuffled) == sorted(ids.tolist())


ONE = [15, 14, 5]  # how what people read begins


class Speller:
    """A language model that reads each letter as the token of that number, then ends the word."""

    vocabulary, device, context = FIRST + END, torch.device("cpu"), None

    def __call__(self, tokens: Tensor, state: Any = None, last: bool = False) -> tuple[Tensor, Any]:
        rows = [row + new for row, new in zip(state or [[]] * len(tokens), tokens.tolist(), strict=True)]
        logits = torch.zeros(len(rows), 1, self.vocabulary)
        for row, ids in enumerate(rows):
            since = ids[len(ids) - ids[::-1].index(END) :] if END in ids else ids
            asked = [each for each in since if each < END]
            said = len(since) - len(asked)
            logits[row, 0, FIRST + asked[said] if said < len(asked) else END] = 1
        return logits, rows


def spelled(sentences: Iterable[str]) -> list[int]:
    return [letter for word in letters([*sentences]) for letter in word]


def test_each_row_is_read_to_its_own_end() -> None:
    stories = [("to be", "or not"), ("a",), ("that is", "the", "question")]
    begins = [np.array([2, 5, FIRST + 1, FIRST + 4, END]), np.zeros(0, int), np.array([3, FIRST + 3, END])]
    found = reading.read(Speller(), stories, begins, generator_of(0), 0.0)  # type: ignore[arg-type]
    assert [each.tolist() for each in found] == [spelled(story) for story in stories]


def test_a_word_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST", 2)
    (found,) = reading.read(Speller(), [("abc", "def")], [np.zeros(0, int)], generator_of(0), 0.0)  # type: ignore[arg-type]
    assert found.tolist() == [1, 2, 4, 5]


def test_a_griffin_learns_to_read(tmp_path: Path) -> None:
    """Which it cannot unless letters are given, and seen however its attention is narrowed elsewhere."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdef"), 6)) for _ in range(400)]
    sentences = [" ".join(words[start : start + 4]) for start in range(0, 400, 4)]
    rows = [np.concatenate([ids, np.repeat(ids, 2) + FIRST, [END]]) for ids in map(np.array, letters(sentences))]
    options: dict[str, Any] = dict(preset="tiny", length=128, size=16, vocabulary=FIRST + 7, given=END, narrow=False)
    held_out, stream = [np.concatenate(rows[:40])], TokenStream.of([np.concatenate(rows)])
    model, figures = language.train(stream, held_out, tmp_path, steps=400, **options)
    told = [("fadebe beadca", "cafeda"), ("dadead", "abcdef fedcba")]
    begins = [np.concatenate(rows[:13])] * 2
    found = reading.read(model, told, begins, generator_of(0), 0.0)  # type: ignore[arg-type]
    right = [[letter for letter in spelled(story) for _ in range(2)] for story in told]
    assert figures["held_out_loss"] < 0.1 and [each.tolist() for each in found] == right


@pytest.fixture
def people(tmp_path: Path) -> Path:
    home = tmp_path / "people" / "ann"
    home.mkdir(parents=True)
    for name, seed in (("one", None), ("two", 4)):
        audio.save(home / f"{name}.ogg", voiced(4.0))
        sentences = [[0.1, 1.4, "One fox."], [2.0, 3.5, "Two owls."]]
        told = {"voice": "ann", "speed": 1, "source": "a book", "seed": seed, "sentences": sentences}
        (home / f"{name}.json").write_text(json.dumps(told))
    return tmp_path / "people"


def made_here(maker: Callable[[Any], Any], items: Iterable[Any], *_: Any, **__: Any) -> Iterator[Any]:
    return map(maker, items)


@pytest.fixture
def plan(
    tmp_path: Path,
    tiny_bundle: Path,
    people: Path,
    noise: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> Plan:
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    monkeypatch.setattr(narration, "make", made_here)
    monkeypatch.setattr(narration, "told", lambda number, _: SimpleNamespace(sentences=("An owl.", "A hen.") * 48))
    return Plan(tmp_path / "runs", root, None, people, hours=20 / 3600, corpus="read-stories")


def test_it_learns_from_narrators_and_from_people_in_three_voices(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt: list[TokenStream] = []

    def train(stream: TokenStream, *_: Any, **options: Any) -> Any:
        assert options["given"] == END and options["narrow"] is False and options["vocabulary"] == FIRST + 32
        learnt.append(stream)
        return Griffin(GriffinConfig.preset("tiny", vocabulary=FIRST + 32)), {"steps": 1.0, "minutes": 0.0}

    monkeypatch.setattr(language, "train", train)
    card = recipes.train("text-to-semantic", plan)
    ends = np.append(learnt[0].starts[1:], len(learnt[0].tokens))
    documents = [learnt[0].tokens[start:end] for start, end in zip(learnt[0].starts, ends, strict=True)]
    read = [document for document in documents if document[:3].tolist() == ONE]
    lengths = [sum(document >= FIRST) for document in read]
    assert len(read) == 8 < len(documents) and lengths == [100, 100, 114, 89] * 2  # in order; in any, slower, faster
    assert card["inputs"]["narration"] == "people" and "0.0 h of people" in card["data"]
    assert "--narration people" in card["command"]
    with pytest.raises(LabError, match="text-to-semantic learns from readings with sentence times; give --narration"):
        recipes.train("text-to-semantic", Plan(plan.work, plan.bundle, None, None, hours=0.005))


def test_half_of_read_stories_are_written_once(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="text-to-semantic"):
        recipes.told(plan, "read-stories")
    bundle.save(plan.bundle, "text-to-semantic", Griffin(GriffinConfig.preset("tiny", vocabulary=FIRST + 32)), {})
    monkeypatch.setattr(written, "TOGETHER", 2)
    monkeypatch.setattr(written, "SECONDS", 4.0)
    asked: list[list[np.ndarray]] = []

    def read(model: Griffin, stories: list[Any], begins: list[np.ndarray], *_: Any) -> list[np.ndarray]:
        asked.append(begins)
        assert len(stories) == len(begins) and sum(map(len, stories)) == len(begins) * written.AFTER
        return [np.full(10, number + len(asked)) for number in range(len(stories))]

    monkeypatch.setattr(reading, "read", read)
    stream, seconds = recipes.told(plan, "read-stories")
    documents = np.split(stream.tokens, stream.starts[1:])
    assert [len(begins) for begins in asked] == [16, 8]  # 10 s are three stories, of 96 sentences each
    assert all(begin[:3].tolist() == ONE for begins in asked for begin in begins)
    firsts = [document[::10].tolist() for document in documents[-3:]]
    assert firsts == [list(range(start, start + 8)) for start in (1, 9, 2)] and seconds["written"] == 9.6
    assert sum(map(len, documents[:-3])) / TOKEN_RATE == seconds["narrated"] >= 10
    assert recipes.told(plan, "read-stories")[1] == seconds and len(asked) == 2
    assert "text-to-semantic" in plan.inputs("griffin") and "--narration people" in plan.command("griffin")
    (folder,) = plan.work.glob("written-*")
    monkeypatch.setattr(narration, "make", None)  # nothing is missing, and nobody is asked
    recipes.told(plan, "read-stories")
    (path,) = folder.glob("*-1.npz")
    path.write_bytes(b"PK")
    with pytest.raises(LabError, match=r"-1\.npz is damaged \(.*\); delete it, and the same command makes it again"):
        recipes.told(plan, "read-stories")


def test_what_is_written_are_training_stories_that_nobody_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def told(number: int, sentences: int) -> Any:
        asked.append(number)
        return SimpleNamespace(sentences=("An owl.",) * sentences)

    monkeypatch.setattr(narration, "told", told)
    monkeypatch.setattr(bundle, "load", lambda *_: None)
    monkeypatch.setattr(reading, "read", lambda _, parts, *__: [np.zeros(1)] * len(parts))
    written._write(written.Job(Path(), range(3, 5), [np.zeros(0)] * 2))
    assert asked == [500_003, 500_004]


def test_other_beginnings_or_another_temperature_make_other_stories(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.save(plan.bundle, "text-to-semantic", Griffin(GriffinConfig.preset("tiny", vocabulary=FIRST + 32)), {})
    found = [written.digest(plan)]
    (plan.narration / "ann" / "two.ogg").unlink()  # type: ignore[operator]
    found.append(written.digest(plan))
    monkeypatch.setattr(written, "TEMPERATURE", 1.0)
    found.append(plan.inputs("griffin")["written"])
    assert len({*found}) == 3 and plan.inputs("griffin")["preset"] == "laptop"


def test_what_it_misreads_is_told(tiny_bundle: Path, plan: Plan) -> None:
    """By a model that knows nothing, on the very way that a training goes."""
    model = Griffin(GriffinConfig.preset("tiny", vocabulary=FIRST + 32))
    tokenizer = bundle.load(tiny_bundle, "tokenizer")
    begins = list(written._begins(plan, tokenizer))  # type: ignore[arg-type]
    assert [begin[:3].tolist() for begin in begins] == [ONE] * 2
    told = written._misread(tokenizer, begins)(model)  # type: ignore[arg-type]
    assert told["cer"] > 0.5


def test_processes_write_the_same_stories(plan: Plan) -> None:
    bundle.save(plan.bundle, "text-to-semantic", Griffin(GriffinConfig.preset("tiny", vocabulary=FIRST + 32)), {})
    job = written.Job(plan.bundle, range(2), [np.array([*ONE, FIRST, END])] * 2)
    one, other = written._write(job), written._write(job)
    assert all(np.array_equal(*pair) and pair[0].dtype == np.uint16 for pair in zip(one, other, strict=True))
    assert len(one) == 2 and all(len(story) for story in one)


def test_sentences_without_letters_are_read_over() -> None:
    assert list(letters(["1984.", "A fox!", "..."])) == [[1], [6, 15, 24, 0]]
