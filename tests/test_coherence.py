"""lab.measure.coherence and its pictures: on texts made by hand, and with models that have learnt nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lab import bundle, judges
from lab.corpora import narrated_folder, narration, splits, storyworld
from lab.errors import LabError
from lab.language import generate
from lab.measure import coherence, figures, of_language
from lab.measure.coherence import TRUTH, Decay, Report, Span, StoryScores
from lab.measure.minutes import Minute
from lab.measure.minutes import estimates as minute_figures
from lab.measure.recall import Recalled
from lab.speech import TEMPERATURE
from lab.view import coherence as pictures
from lab.view import style
from tests.test_loss import narrated
from tests.test_minutes import minutes, spoken

NUMBER = 6  # a held-out story without gaps
STORY = storyworld.story(narration.held_out_seed(NUMBER), 96)


class Bag:
    """Texts by the words that are in them, whatever their order."""

    name = "bag of words"

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        known = sorted({word for text in texts for word in text.split()})
        counts = np.array([[text.split().count(word) for word in known] for text in texts], float)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


# One story


def test_likeness_of_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coherence, "openings", lambda: ("c", "d"))
    words = [(float(k), k + 0.5, word) for k, word in enumerate("aaaaaaaaaa aaaa bbbb acac aa".replace(" ", ""))]
    spans = coherence.by_span(words, Bag(), size=4)  # ten words of prompt; the last two words are no span
    assert [(span.start, span.stop) for span in spans] == [(0, 3.5), (4, 7.5), (8, 11.5)]
    assert [span.likeness for span in spans] == pytest.approx([1, 0, 0.5**0.5])
    assert [span.elsewhere for span in spans] == pytest.approx([0, 0, 0.5**0.5 / 2])
    assert len(coherence.by_span(words, Bag(), size=4, hop=1)) == 11
    assert coherence.by_span(words, Bag(), size=15) == ()


def test_openings_and_casts_are_of_held_out_stories() -> None:
    assert len(set(coherence.openings())) == 8
    for opening in coherence.openings():
        assert set(opening.split()) <= storyworld.VOCABULARY and 20 < len(opening.split()) < 60
    assert coherence.cast_of(NUMBER) == STORY.cast


# Many stories


@pytest.fixture(scope="module")
def tokenizer(models: dict[str, nn.Module]) -> Any:
    return models["tokenizer"]


def test_a_narrated_story_is_as_long_as_asked_for() -> None:
    short, long = coherence.narrated(NUMBER, 0), coherence.narrated(NUMBER, 2)
    assert len(short) == 160_000 and len(long) == 130 * 16_000
    # the same reading: only the level is of the whole
    assert np.corrcoef(short, long[: len(short)])[0, 1] > 0.999


def test_prompts_are_continued_in_groups(models: dict[str, nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coherence, "MAX_ROWS", 2)
    monkeypatch.setattr(coherence, "TOKEN_RATE", 3)  # a minute of 180 tokens
    prompts = torch.arange(15).view(3, 5)
    for name, slide in (("griffin", None), ("transformer", 75)):
        language: Any = models[name]
        streams = coherence.continued(language, prompts, minutes=1, seed=4)
        assert streams.shape == (3, 5 + 180) and torch.equal(streams[:, :5], prompts)
        for seed, rows in ((4, slice(0, 2)), (5, slice(2, 3))):
            generator = torch.Generator().manual_seed(seed)
            options: dict[str, Any] = {"temperature": TEMPERATURE, "max_tokens": 180, "slide": slide}
            new = generate(language, prompts[rows], generator=generator, **options)
            assert torch.equal(streams[rows, 5:], torch.stack(list(new), 1))


def test_every_model_goes_on_from_the_same_prompts(
    models: dict[str, nn.Module], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Tensor] = []

    def words(tokens: Tensor) -> list[tuple[float, float, str]]:
        heard.append(tokens)
        return spoken(STORY.sentences[:30])

    ear: Any = SimpleNamespace(encode=tokenizer.encode, words=words)
    language: Any = models["griffin"]
    report = coherence.measure(ear, {"griffin": language}, [NUMBER, 5], Bag(), minutes=1)
    assert list(report.scores) == [TRUTH, "griffin"] and report.minutes == 1 and report.embedder == "bag of words"
    assert [story_scores.story for story_scores in report.scores["griffin"]] == [NUMBER, 5]
    assert report.scores[TRUTH][0].hero == STORY.cast.hero
    assert report.scores[TRUTH][0].minutes[0].hero_right > 5
    assert [len(tokens) for tokens in heard] == 4 * [70 * 25]
    prompt = tokenizer.encode(coherence.narrated(NUMBER, 1)[:160_000])
    assert torch.equal(heard[2][:250], prompt)
    assert not torch.equal(heard[2], heard[0])
    assert torch.equal(torch.cat([report.tokens[TRUTH], report.tokens["griffin"]]), torch.stack(heard))


# Reports


def told(hero: Sequence[tuple[int, int]], likeness: Sequence[float] = (), number: int = 0) -> StoryScores:
    minutes = tuple(Minute(right, named, 10, 5, 8, 0.25, 0.5) for right, named in hero)
    return StoryScores(
        number,
        "leo",
        minutes,
        tuple(Span(30.0 * k, 30.0 * k + 29, x, 0.1) for k, x in enumerate(likeness)),
        (Recalled("house", 30.0, number == 0, 70.0),),
    )


def reported() -> Report:
    right = [(10, 10)] * 16
    fading = [(16 - k, 16) for k in range(16)]
    falling = [0.4 + 0.3 * 0.5**k for k in range(6)]
    return Report(
        16,
        "bag of words",
        {
            TRUTH: (told(right, falling), told(right, falling, 1)),
            "griffin": (told(right, falling), told(fading, falling, 1)),
            "transformer": (told(fading, falling), told([(0, 0)] * 16, falling, 1)),
        },
    )


def test_a_report_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    tokens = {"griffin": torch.tensor([[0, 511, 3], [65_535, 1, 2]])}
    report = replace(reported(), command="lab measure coherence", machine="a machine", tokens=tokens)
    path = report.save(tmp_path / "new")
    assert torch.equal(Report.load(path).tokens["griffin"], tokens["griffin"])
    assert replace(Report.load(path), tokens=tokens) == replace(report, scores=Report.load(path).scores)
    assert Report.load(path).scores["griffin"][1].minutes == report.scores["griffin"][1].minutes
    assert Report.load(path).scores["griffin"][0].spans[1].likeness == pytest.approx(0.55)
    assert [entry.name for entry in path.parent.iterdir()] == ["coherence.json"]


def test_reports_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "coherence.json"
    with pytest.raises(LabError, match="lab measure coherence --save"):
        Report.load(path)
    damaged = '{"minutes": 1, "embedder": "", "scores": {}, "tokens": {"griffin": ["e30="]}}'
    for text in ("{", "[]", '{"scores": {"griffin": [{"story": 1}]}}', '{"minutes": 1, "scores": {}}', damaged):
        path.write_text(text)
        with pytest.raises(LabError, match="is damaged"):
            Report.load(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write"):
        reported().save(tmp_path / "file")


# Curves


def test_a_share_is_of_the_words_of_all_stories() -> None:
    curve = coherence.curve(
        [
            StoryScores(0, "leo", tuple(minutes((0, 0, 1, 1), (0, 0, 0, 0))), ()),
            StoryScores(0, "leo", tuple(minutes((0, 0, 3, 0), (0, 0, 0, 0))), ()),
        ],
        "sentences",
    )
    assert list(curve.x) == [1, 2]
    assert curve.value[0] == 1 / 4 and np.isnan([curve.value[1], curve.low[1], curve.high[1]]).all()
    assert (curve.low[0], curve.high[0]) == (0, 1)  # one of the two stories drawn twice


def test_stories_that_agree_leave_no_doubt() -> None:
    curve = coherence.curve([told([(3, 4)])] * 5, "hero")
    assert curve.value[0] == curve.low[0] == curve.high[0] == 0.75
    with pytest.raises(LabError, match="no story"):
        coherence.curve([], "hero")


def test_points_that_half_of_the_stories_reach() -> None:
    stories = [told([], [0.5] * reached) for reached in (1, 2, 4, 8)]
    curve = coherence.curve(stories, "SC-L")
    assert list(curve.x) == [0, 100, 200, 300] and list(curve.value) == [0.5] * 4
    assert list(coherence.curve(stories, "SC-L, own").value) == pytest.approx([0.4] * 4)


def test_an_interval_is_that_of_a_mean() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.1, 200)
    curve = coherence.curve([told([], [x]) for x in draws], "SC-L")
    assert curve.high[0] - curve.low[0] == pytest.approx(2 * 1.96 * 0.1 / 200**0.5, rel=0.15)


def test_a_curve_has_the_interval_of_the_figures() -> None:
    """The same minute of the same stories, in a curve and as a number."""
    rng = np.random.default_rng(2)
    stories = [told([(int(right), 8) for right in rng.integers(0, 9, 16)], number=number) for number in range(8)]
    kept, heroes = coherence.estimates(stories, 16), coherence.curve(stories, "hero")
    shares, names = minute_figures([story.minutes for story in stories]), coherence.curve(stories, "named")
    for minute in (1, 4, 16):
        (figure,) = (each for name, each in kept.items() if name.startswith("hero") and name.endswith(f" {minute}"))
        assert (heroes.value[minute - 1], heroes.low[minute - 1], heroes.high[minute - 1]) == figure[:3]
        figure = shares[f"mentions of a hero that are right, share, minute {minute}"]
        assert (names.value[minute - 1], names.low[minute - 1], names.high[minute - 1]) == figure[:3]


def test_every_series_is_read_from_its_own_number() -> None:
    minute = Minute(1, 2, 10, 7, 8, 0.25, 0.5)
    story_scores = StoryScores(0, "leo", (minute,), (Span(0, 1, 0.6, 0.2),))
    values = {name: coherence.curve([story_scores], name).value[0] for name in coherence.SERIES}
    expected = {"named": 0.5, "hero": 0.5, "SC-L": 0.6, "SC-L, own": 0.4, "words": 0.7, "sentences": 0.8, "mentions": 2}
    assert values == pytest.approx(expected | {"repetition": 0.25, "auto-BLEU": 0.5})


# Decay


@given(start=st.floats(0.5, 1), drop=st.floats(0.1, 0.5), half=st.floats(0.5, 8), hole=st.integers(0, 15))
def test_a_decay_is_found_again(start: float, drop: float, half: float, hole: int) -> None:
    x = np.arange(1, 17)
    decay = Decay(start, start - drop, half)
    y = decay.at(x)
    y[hole] = np.nan
    found = coherence.fit(x, y)
    assert found == pytest.approx(decay, rel=0.02, abs=0.005)


def test_a_half_life_is_where_half_is_gone() -> None:
    assert Decay(1.0, 0.5, 3.0).at(np.array([0.0, 3.0, 1e9])) == pytest.approx([1, 0.75, 0.5])


def test_what_is_no_decay() -> None:
    flat = coherence.fit(range(8), [0.5] * 8)
    assert flat.at(np.arange(8)) == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(LabError, match="3 points"):
        coherence.fit(range(4), [1, 0.5, np.nan, 0.2])


def test_a_decay_has_intervals() -> None:
    rng = np.random.default_rng(1)
    truth = Decay(0.8, 0.4, 300.0)
    points = truth.at(100 * np.arange(20))
    stories = [told([], points + rng.normal(0, 0.03, 20)) for _ in range(12)]
    found, low, high = coherence.decay(stories, "SC-L", draws=100)
    for part in range(3):
        assert low[part] < found[part] < high[part] and abs(found[part] - truth[part]) < high[part] - low[part]


def test_what_was_published() -> None:
    published = coherence.published()
    table5 = {"SpeechSSM-2B": (0.549, 0.482, 0.471, 0.470), "Transformer": (0.533, 0.491, 0.464, 0.445)}
    for name, values in table5.items():
        assert tuple(published[name][word] for word in (0, 600, 1200, 1800)) == values
    assert all(max(points) <= 2000 and list(points)[:4] == [0, 200, 400, 600] for points in published.values())


# The command


def test_figures_of_a_report(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def measured(
        _: Any,
        models: dict[str, Any],
        numbers: range,
        encoder: Any,
        minutes: int,
        temperature: float,
        begun: Any,
    ) -> Report:
        asked.setdefault("temperatures", []).append(temperature)
        asked.update(models=sorted(models), numbers=list(numbers), minutes=minutes, begun=begun)
        return reported()

    monkeypatch.setenv("LAB_BUNDLE", str(tiny_bundle))
    monkeypatch.setattr(coherence, "measure", measured)
    monkeypatch.setattr(judges, "load", lambda spec: Bag())
    monkeypatch.setattr(coherence, "FOLDER", tmp_path)
    ssm: Any = SimpleNamespace(tokenizer=None)
    rows = of_language.of_coherence(ssm, None, 2)
    models = ["griffin", "griffin30", "transformer"]
    assert asked == {"temperatures": [0.5, 1.0], "models": models, "numbers": [0, 1], "minutes": 16, "begun": None}
    found = {(row.model, row.name): row for row in rows}
    name = "hero still right, chance 0.08, minute {}, 16-minute stories "
    told = found["griffin", name.format(4) + "at temperature 0.5"]
    assert told.value == (1 + 13 / 16) / 2 and (told.n, told.temperature, told.seed) == (2, 0.5, 0)
    assert told.low is not None and told.high is not None and told.low < told.value < told.high
    assert found["griffin", name.format(4) + "at temperature 1"].temperature == 1
    assert found["transformer", name.format(16) + "at temperature 0.5"].value == 1 / 32  # one has named nobody for long
    truth = found["tokenizer", name.format(1) + "as narrated"]
    assert truth.value == 1 and truth.temperature is None
    assert found["griffin", "mentions of a hero, minute 16, 16-minute stories at temperature 1"].value == 13
    again = "said again as first, chance 0.17, 20 to 60 s after it was last said, 16-minute stories as narrated"
    assert found["tokenizer", again].value == 0.5 and found["tokenizer", again].n == 2
    only_told = found[
        "transformer", "words in sentences that parse, share, minute 8, 16-minute stories at temperature 1"
    ]
    assert only_told.value == 0.8 and not only_told.kept and told.kept
    assert len(found) == len(rows) and len([row for row in rows if row.kept]) == 5 * (6 + 1)
    assert {row.report is None for row in rows} == {True, False}

    root = tmp_path / "bundle"
    with bundle.changing(root) as entries:
        entries |= {name: {"config": {}, "card": {}} for name in ("griffin", "transformer", "tokenizer")}
    monkeypatch.setattr(bundle, "digests", lambda root: dict.fromkeys(bundle.index(root), "0"))
    figures.record(root, [replace(row, command="lab measure coherence") for row in rows], "a machine")
    saved = Report.load(tmp_path / "coherence.json")
    assert (saved.command, saved.machine) == ("lab measure coherence", "a machine")
    assert saved.weights == {"griffin": "0", "transformer": "0"}
    card = json.loads((root / "bundle.json").read_text())["transformer"]["card"]["figures"]
    assert card[name.format(16) + "at temperature 0.5"]["value"] == 0.03125


def test_stories_for_choices_are_kept_nowhere(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun by a human-like voice, on stories that no figure is of, at a temperature of one's own, and briefly."""
    ssm: Any = SimpleNamespace(tokenizer=bundle.load(tiny_bundle, "tokenizer"))
    monkeypatch.setenv("LAB_BUNDLE", str(tiny_bundle))
    monkeypatch.setattr(judges, "load", lambda spec: Bag())
    number = splits.DEVELOPMENT[splits.WATCHED + 5]
    narrated(tmp_path / "ann", number)
    narrated(tmp_path / "ann", number + 1, seconds=10.5)  # which does not go on
    rows = of_language.of_coherence(ssm, None, 8, minutes=1, narrated=tmp_path, development=True, temperature=0.7)
    assert {(row.model, row.temperature, row.kept, row.report, row.n) for row in rows} >= {
        (model, 0.7, False, None, 1) for model in of_language.LANGUAGES
    }
    assert not any(row.kept or row.report or row.model == "tokenizer" for row in rows)
    name = "words, minute 1, 1-minute stories begun by human-like voices at temperature 0.7"
    (griffin,) = (row.value for row in rows if (row.model, row.name) == ("griffin", name))
    prompt = ssm.tokenizer.encode(narrated_folder.narrated(tmp_path).documents[0].read().samples()[:160_000])
    (stream,) = coherence.continued(bundle.load(tiny_bundle, "griffin"), prompt[None], 1, temperature=0.7)
    assert griffin == sum(10 <= start < 70 for start, _, _ in ssm.tokenizer.words(stream))
    (tmp_path / "ann" / f"story-{number}.json").unlink()
    with pytest.raises(LabError, match="goes on after 10 s; narrate longer ones"):
        of_language.of_coherence(ssm, None, 8, narrated=tmp_path, development=True)
    asked: list[Any] = []
    monkeypatch.setattr(coherence, "measure", lambda *args: asked.append(args[2:]) or reported())
    rows = of_language.of_coherence(ssm, None, 2, development=True)
    assert [list(numbers) for numbers, *_ in asked] == [[splits.DEVELOPMENT[100], splits.DEVELOPMENT[101]]] * 2
    assert not any(row.kept or row.report for row in rows) and {row.model for row in rows} >= {"tokenizer", "griffin"}


def test_a_curve_with_its_interval_and_its_decay() -> None:
    figure = pictures.coherence_decay(reported(), "hero")
    curves = {trace.name: trace for trace in figure.data if trace.mode == "lines+markers"}
    assert list(curves) == ["ground truth", "Griffin", "SpeechTransformer, slide-and-prompt"]
    expected = coherence.curve(reported().scores["griffin"], "hero")
    assert list(curves["Griffin"].y) == pytest.approx(expected.value, abs=1e-3)
    assert curves["Griffin"].line.color == style.CONTINUATION
    bands = [trace for trace in figure.data if trace.fill == "tonexty"]
    assert list(bands[1].y) == pytest.approx(expected.low, abs=1e-3)
    assert sum("half of the way in" in (trace.name or "") for trace in figure.data) == 3
    assert figure.layout.title.text == (
        "Hero still right<br>at the end: ground truth 1.00, Griffin 0.53, SpeechTransformer 0.03"
    )
    assert figure.layout.xaxis.title.text == "minute after the prompt"
    plain = pictures.coherence_decay(reported(), "SC-L", fitted=False)
    assert not any("fitted" in (trace.name or "") for trace in plain.data)
    assert pictures.describe(Decay(0.9, 0.5, 250), "SC-L") == "0.90 to 0.50, half of the way in 250 words"
    assert pictures.describe(Decay(0.9, 0, 2.54), "hero") == "0.90 to its bound 0, half of the way in 2.5 minutes"
    with pytest.raises(LabError, match="no series 'beauty'; there are named, hero"):
        pictures.coherence_decay(reported(), "beauty")


def test_every_story_has_a_row_of_the_map() -> None:
    drawn = pictures.coherence_map(reported())
    rows = dict(zip(drawn.data[0].y, np.asarray(drawn.data[0].z), strict=True))
    assert len(rows) == 6 + 3 and all(len(row) == 32 for row in rows.values())
    falling = [0.3 + 0.3 * 0.5**k for k in range(6)]  # above 0.1, what is like the openings of others
    np.testing.assert_allclose(rows["Griffin: story 1, leo"][:6], falling, atol=1e-3)
    assert all(np.isnan(rows["Griffin: story 1, leo"][6:])) and all(np.isnan(rows[" "]))
    assert (
        drawn.layout.yaxis.ticktext[1] == f"Griffin<br>{np.mean(falling):.2f}" and drawn.layout.yaxis.tickvals[1] == 4.5
    )
    silent = Report(16, "", {"griffin": (StoryScores(0, "leo", (), ()),)})
    assert pictures.coherence_map(silent).layout.yaxis.ticktext == ("Griffin<br>nothing said",)


def test_what_is_heard_has_a_row_on_the_clock() -> None:
    near, far = (Span(0.0, 4.0, 0.5, 0.1), Span(2.0, 6.0, 0.3, 0.1)), (Span(1.0, 2.0, 0.0, 0.1),)
    lane = pictures.coherence_lane({"near": near, "far": far}, 17.5)
    assert lane.values.shape == (2, 18) and lane.rate == 1 and lane.ends == ("near", "far")
    np.testing.assert_allclose(lane.values[0, 9:17], [0, 1, 1, 0.75, 0.75, 0.5, 0.5, 0])
    np.testing.assert_allclose(lane.values[1, 9:17], [0, 0, -0.25, 0, 0, 0, 0, 0])
    assert pictures.coherence_lane({"near": near}, 17.5).ends == ("near", "")


def test_fits_as_a_table() -> None:
    rows = pictures.coherence_fits(reported(), "SC-L", draws=20).splitlines()
    assert rows[0].endswith("| half of the way in, words |")
    assert rows[3] == "| Griffin | 0.70 (0.70 to 0.70) | 0.40 (0.40 to 0.40) | 100 (100 to 100) |"
    without = [told([], [0.5 - 0.02 * k + way * 0.03 * (k > 8) for k in range(12)]) for way in (-1, 1)]
    (row,) = pictures.coherence_fits(Report(16, "", {"transformer": tuple(without)}), "SC-L").splitlines()[2:]
    assert "| its bound 0 |" in row and "0.00" not in row  # no floor is in sight: 0 is how far the fit may look
    silent = Report(16, "", {"griffin": (StoryScores(0, "leo", tuple(minutes(*[(0, 0, 0, 0)] * 16)), ()),)})
    assert "0 points do not show a decay" in pictures.coherence_fits(silent, "words")
    level = Report(16, "", {"griffin": (told([(10, 10)] * 16, [0.5] * 6),)})
    assert pictures.coherence_fits(level, draws=5).endswith(
        "| its bound 1 | its bound 1 | start and floor not told apart by 1 stories |"
    )
    slow = told([(100 - k, 100) for k in range(16)], [0.5] * 6)  # a straight line, with no floor in sight
    assert pictures.coherence_fits(Report(16, "", {"griffin": (slow,) * 2}), draws=5).endswith(
        "| longer than was told |"
    )
    assert "Griffin none" in pictures.coherence_decay(silent, "words").layout.title.text


def test_published_curves_are_called_published() -> None:
    figure = pictures.coherence_published(reported())
    for trace in figure.data:
        assert trace.legendgroup == ("published" if trace.xaxis == "x2" else "here")
    right = {trace.name: list(trace.y) for trace in figure.data if trace.xaxis == "x2"}
    assert len(right) == len(coherence.published())
    assert right["SpeechSSM-2B"] == list(coherence.published()["SpeechSSM-2B"].values())
    assert "published" in figure.layout.annotations[1].text and "bag of words" in figure.layout.annotations[0].text
