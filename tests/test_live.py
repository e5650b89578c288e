"""lab.view.live without a page: what a worker does and sends, alone or for several stories, and the words it reads."""

from __future__ import annotations

import errno
import io
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab import audio, bundle
from lab.corpora import storyworld
from lab.errors import LabError
from lab.speech import Chunk
from lab.view import Player
from lab.view import live as room
from lab.view.live import Live
from tests.tones import chunks, tone


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], np.ndarray]]:
    """What stories send to their page: messages and samples."""
    messages: list[tuple[dict[str, Any], np.ndarray]] = []

    def send(self: Player, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        if content["kind"] != "alive":
            messages.append((content, np.frombuffer(b"".join(buffers or []), "<i2")))

    monkeypatch.setattr(Player, "send", send)
    return messages


def test_a_story_is_sent_without_a_gap_and_written(tmp_path: Path, sent: list) -> None:
    story = Player.live(chunks(6), "a story", file=tmp_path / "story.wav", cache_bytes=1000)
    story.wait(10)
    assert (story.state, story.made) == ("ended", 3.0)
    starts = [message["start"] for message, _ in sent]
    assert starts == [8000 * k for k in range(6)]
    np.testing.assert_allclose(np.concatenate([pcm for _, pcm in sent]) / 32767, tone(3), atol=1e-4)
    np.testing.assert_allclose(audio.load(tmp_path / "story.wav"), tone(3), atol=1e-4)
    gauges = sent[-1][0]["gauges"]
    assert gauges["made"] == 3 and gauges["speed"] > 1 and gauges["memory"] == [590_000, 75 * 1000]
    assert len(re.findall("<audio", story._repr_mimebundle_()[0]["text/html"])) == 1


def test_memory_has_a_point_a_second_however_long_a_chunk_lasts(sent: list) -> None:
    """25 tokens a second of 1000 bytes each in the cache; those of a page that came late are the same."""
    story = Player.live(chunks(2, size=24), cache_bytes=1000)
    story.wait(10)
    points = [[second, 590_000, 25_000 * second] for second in range(1, 49)]
    assert [len(message["memory"]) for message, _ in sent if message["memory"]] == [24, 24]
    assert [point for message, _ in sent for point in message["memory"]] == points
    sent.clear()
    story._answer(story, {"kind": "hello"}, [])
    assert sent[0][0]["memory"] == points


def test_memory_begins_with_a_state(sent: list) -> None:
    """What is spoken before, the prompt, then has points, too."""
    story = Player.live(replace(chunk, state_bytes=590_000 * (k > 0)) for k, chunk in enumerate(chunks(2, size=24)))
    story.wait(10)
    assert [len(message["memory"]) for message, _ in sent if message["kind"] == "sound"][:2] == [0, 48]
    assert {bytes_ for message, _ in sent for _, bytes_ in message["memory"]} == {590_000}


def test_stop_interrupts_the_piece_in_work_and_keeps_the_file(tmp_path: Path, sent: list) -> None:
    reached = threading.Event()

    def endless(k: int) -> None:
        if k == 2:
            reached.set()
            while True:
                time.sleep(0.01)

    story = Player.live(chunks(5, endless), file=tmp_path / "story.wav")
    assert reached.wait(10)
    story.stop()
    story.wait(10)
    assert not story._worker.is_alive()
    assert (story.state, story.made, len(audio.load(tmp_path / "story.wav"))) == ("stopped", 1.0, 16_000)


def test_the_next_story_ends_the_one_before(sent: list) -> None:
    first = Player.live(chunks(10_000, lambda k: time.sleep(0.01), size=0.01))
    second = Player.live(chunks(1))
    first.wait(10)
    second.wait(10)
    assert not first._worker.is_alive() and first.made < 100
    assert (first.state, second.state) == ("stopped", "ended")


def test_what_goes_wrong_is_told_and_raised(tmp_path: Path, sent: list) -> None:
    def fail(k: int) -> None:
        if k:
            raise LabError("the disk is full")

    story = Player.live(chunks(3, fail), file=tmp_path / "story.wav")
    with pytest.raises(LabError, match="the disk is full"):
        story.wait(10)
    assert story.state == "failed: the disk is full" and len(audio.load(tmp_path / "story.wav")) == 8000


def test_a_story_waits_for_its_listener(sent: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "AHEAD", 3.0)
    story = Player.live(chunks(20))
    for seconds, made in ((0.0, 3.5), (2.0, 5.5)):
        story.seconds = seconds
        end = time.monotonic() + 10
        while story.made < made and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.5)  # two of the worker's looks at the listener
        assert story.made == made and story.state == "generating"
    story.wait(10)
    assert story.made == 10


def test_the_page_hears_from_the_kernel_while_a_chunk_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[str] = []
    monkeypatch.setattr(Player, "send", lambda self, content, buffers=None: kinds.append(content["kind"]))
    Player.live(chunks(1, lambda k: time.sleep(1.5))).wait(10)
    assert kinds == ["alive", "alive", "sound"]
    time.sleep(0.1)
    assert kinds[3:] == []  # nothing more after the end


def test_a_closed_player_ends_its_story(sent: list) -> None:
    story = Player.live(chunks(10_000, lambda k: time.sleep(0.01), size=0.01))
    story.close()
    story.wait(10)
    assert story.state == "stopped" and not story._worker.is_alive()


class Full(io.BytesIO):
    """A disk that takes two chunks."""

    def write(self, data: Any) -> int:
        if self.tell() >= 32_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_behind_the_page_keeps_the_file(
    tmp_path: Path, sent: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room.tempfile, "TemporaryFile", Full)
    story = Player.live(chunks(3), file=tmp_path / "story.wav")
    with pytest.raises(LabError, match="cannot keep more than 1 s .* No space left"):
        story.wait(10)
    assert len(audio.load(tmp_path / "story.wav")) == 24_000


def test_the_worker_is_in_inference_mode_and_this_thread_is_not(sent: list) -> None:
    modes: list[bool] = []
    Player.live(chunks(1, lambda k: modes.append(torch.is_inference_mode_enabled()))).wait(10)
    assert modes == [True] and not torch.is_inference_mode_enabled()


def test_a_page_that_comes_late_gets_the_last_ten_minutes(sent: list) -> None:
    story = Player.live(chunks(13, size=60))
    story.wait(20)
    sent.clear()
    story._answer(story, {"kind": "hello"}, [])
    story._answer(story, {"kind": "want", "second": 30}, [])
    (hello, newest), (want, early) = sent
    assert hello["start"] == 180 * 16_000 and len(newest) == 600 * 16_000
    assert [row[0] for row in hello["memory"]] == [k + 1 for k in range(780)]
    assert want["start"] == 30 * 16_000 and len(early) == 20 * 16_000
    np.testing.assert_allclose(early / 32767, tone(780)[want["start"] :][: len(early)], atol=1e-4)
    assert isinstance(story, Live)


# --- several stories on one clock, and what they say


class Spells:
    """A tokenizer in which each second is a word, its number."""

    def words(self, tokens: torch.Tensor) -> list[tuple[float, float, str]]:
        return [(at / 25, at / 25 + 0.8, f"w{int(tokens[at]) // 25}") for at in range(0, len(tokens) - 24, 25)]


def spoken(count: int, size: float) -> Iterator[Chunk]:
    """Chunks with their tokens, of which each is its number in the story."""
    for k, chunk in enumerate(chunks(count, size=size)):
        yield Chunk(*list(vars(chunk).values())[:-1], tuple(range(int(25 * size * k), int(25 * size * (k + 1)))))


def test_several_stories_keep_abreast(sent: list) -> None:
    stories = Player.live({"one": spoken(6, 1.0), "two": spoken(3, 2.0)}, "two stories", tokenizer=Spells())
    stories.wait(10)
    assert [message["sound"] for message, _ in sent] == [0, 1, 0, 0, 1, 0, 0, 1, 0]  # always the one that is behind
    assert sent[3][0]["gauges"]["memory"] == [590_000, 590_000] and sent[0][0]["gauges"]["memory"] == [590_000, 0]
    assert (stories.made, stories.state) == (6.0, "ended")
    for number in (0, 1):
        pcm = np.concatenate([samples for message, samples in sent if message["sound"] == number])
        np.testing.assert_allclose(pcm / 32767, tone(6), atol=1e-4)
    first = next(message["read"] for message, _ in sent if message["sound"])
    assert first["start"] == 0 and [word for *_, word in first["words"]] == ["w0", "w1"]
    assert [word for *_, word in stories.transcripts["two"].words] == [f"w{k}" for k in range(6)]
    assert [(lane["kind"], lane["name"], lane["sound"]) for lane in stories._lanes] == [
        ("words", "one", "one"),
        ("words", "two", "two"),
    ]


def test_a_page_that_comes_late_gets_all_words(sent: list) -> None:
    stories = Player.live({"one": spoken(40, 1.0), "two": spoken(40, 1.0)}, tokenizer=Spells())
    stories.wait(10)
    sent.clear()
    stories._answer(stories, {"kind": "hello"}, [])
    assert [message["sound"] for message, _ in sent] == [0, 1]
    for message, _ in sent:
        assert message["read"]["start"] == 0 and len(message["read"]["words"]) == 40
    sent.clear()
    stories._answer(stories, {"kind": "want", "second": 3}, [])
    assert [(message["start"], message["read"]) for message, _ in sent] == [(48_000, None)] * 2


def test_what_was_told_is_kept(sent: list) -> None:
    stories = Player.live({"one": spoken(12, 1.0), "two": spoken(4, 3.0)}, "two stories", tokenizer=Spells())
    stories.wait(10)
    kept = stories.kept(clip=(4, 5))
    assert repr(kept) == "Player(12.0 s: one, two)" and kept.caption == "two stories"
    page = kept._page()
    assert [[word for *_, word in lane["spans"]] for lane in page["lanes"]] == [[f"w{k}" for k in range(4, 9)]] * 2
    assert len(re.findall("<audio", kept._repr_mimebundle_()[0]["text/html"])) == 2


def test_a_story_that_ends_early_holds_up_no_other(sent: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener is as far as the page lets him: as all that have not ended are, by what the page has heard."""
    monkeypatch.setattr(room, "AHEAD", 12.0)
    stories = Player.live({"short": chunks(10, size=1), "long": chunks(300, size=1)})
    end = time.monotonic() + 20
    while stories.state == "generating" and time.monotonic() < end:
        come = {message["sound"]: (message["start"] + len(pcm)) / 16_000 for message, pcm in list(sent)}
        ended = stories._live["ended"]
        stories.seconds = min((come.get(n, 0.0) for n in (0, 1) if n not in ended), default=stories.seconds)
        time.sleep(0.01)
    assert (stories.state, stories.made, stories._live["ended"]) == ("ended", 300.0, [0, 1])
    assert sent[-1][0]["gauges"]["made"] == 300


def test_a_long_chunk_of_one_story_holds_up_no_other(sent: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be ahead of a listener who cannot come after: there is no more of the other one."""
    monkeypatch.setattr(room, "AHEAD", 3.0)
    stories = Player.live({"one": chunks(9, size=1), "two": chunks(1, size=60)})
    end = time.monotonic() + 5
    while stories.made < 4 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.5)
    assert stories.made == 4 and stories.state == "generating"
    stories.stop()
    assert stories.made == 60  # all that there is can be heard


def test_nothing_is_sent_of_a_story_from_beyond_its_end(sent: list) -> None:
    """It would be as long then."""
    stories = Player.live({"short": chunks(2), "long": chunks(60)})
    stories.wait(10)
    sent.clear()
    stories._answer(stories, {"kind": "want", "second": 10}, [])
    assert [(message["sound"], message["start"]) for message, _ in sent] == [(1, 160_000)]


def test_a_chunk_without_tokens_has_no_words(sent: list) -> None:
    story = Player.live(chunks(2), tokenizer=bundle.load(bundle.folder(), "tokenizer"))
    story.wait(10)
    assert story.state == "ended" and story.transcripts[""].words == []
    assert [message["read"]["words"] for message, _ in sent] == [[], []]


def test_a_cast_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="give a tokenizer with the cast"):
        Player.live(chunks(1), file=tmp_path / "story.wav", cast=storyworld.story(1, 12).cast)
    assert not list(tmp_path.iterdir())


def test_several_stories_go_into_no_file_and_none_is_none(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="2 stories do not go into one file"):
        Player.live({"one": chunks(1), "two": chunks(1)}, file=tmp_path / "story.wav")
    with pytest.raises(LabError, match="0 stories are none to play"):
        Player.live({})
