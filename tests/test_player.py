"""lab.view.player without a page: what is sent to it, what a worker does, and what stands for it in a cold notebook."""

from __future__ import annotations

import base64
import io
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from lab import audio
from lab.errors import LabError
from lab.speech import Chunk
from lab.view import Curve, Marks, Player, Ribbon, Words
from lab.view import player as room
from lab.view.player import Live, interval, loudness_gains, poster


def tone(seconds: float, level: float = 0.3, hertz: float = 440) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * 16_000)) / 16_000)).astype(np.float32)


def telling(count: int, work: Callable[[int], Any] = lambda k: None, size: float = 0.5) -> Iterator[Chunk]:
    whole = tone(count * size)
    for k in range(count):
        work(k)
        samples = whole[int(k * size * 16_000) : int((k + 1) * size * 16_000)]
        yield Chunk(samples, (k + 1) * size, int(25 * size * (k + 1)), 590_000)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], np.ndarray]]:
    """What a story sends to its page: messages and samples."""
    messages: list[tuple[dict[str, Any], np.ndarray]] = []

    def send(self: Player, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        messages.append((content, np.frombuffer(b"".join(buffers or []), "<i2")))

    monkeypatch.setattr(Player, "send", send)
    return messages


# --- sounds and tracks


def test_samples_reach_the_page_as_they_are() -> None:
    waveform = tone(1)
    (sound,) = Player(waveform)._sounds
    assert sound["gain"] == 0
    np.testing.assert_allclose(np.frombuffer(sound["pcm"], "<i2") / 32767, waveform, atol=0.5 / 32767 + 1e-7)


def test_sounds_are_turned_down_to_the_quietest() -> None:
    sounds = [tone(1, 0.3), tone(1, 0.1), tone(1, 0.2), np.zeros(16_000, np.float32)]
    gains = loudness_gains(sounds)
    assert gains == [pytest.approx(-9.54, abs=0.02), 0, pytest.approx(-6.02, abs=0.02), 0]
    levels = [audio.level(sound * 10 ** (gain / 20)) for sound, gain in zip(sounds[:3], gains[:3], strict=True)]
    assert np.ptp(levels) < 0.02


def test_tracks_become_lanes() -> None:
    tracks = [
        Curve("norm", [0, 1], [2, np.nan], "dB", "#123456"),
        (Curve("a", [0], [1]), Curve("b", [0], [2])),
        Marks("pokes", [1, 2]),
        Ribbon("tokens", torch.tensor([3, 500])),
        Words("words", [(0.12345, 1, "owl")]),
    ]
    norm, both, marks, ribbon, words = Player(tone(1), tracks, seams=[0.5])._lanes
    (line,) = norm["lines"]
    assert (norm["name"], norm["unit"], line["colour"]) == ("norm", "dB", "#123456")
    np.testing.assert_array_equal(np.frombuffer(line["values"], np.float32), np.float32([2, np.nan]))
    assert [line["name"] for line in both["lines"]] == ["a", "b"]
    assert marks["times"] == [1.0, 2.0]
    assert np.frombuffer(ribbon["values"], np.uint16).tolist() == [3, 500] and ribbon["rate"] == 25
    assert words["spans"] == [[0.123, 1.0, "owl"]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Player(np.zeros((2, 5), np.float32)), r"shape \(2, 5\)"),
        (lambda: Player({"a": tone(1), "b": np.full(9, np.nan, np.float32)}), "b holds NaN"),
        (lambda: Player(np.zeros(0, np.float32)), "holds no samples"),
        (lambda: Player(tone(1), blind=True), "two sounds or more"),
        (lambda: Player(tone(1), [Curve("norm", [0, 1], [2])]), "times .* and values"),
    ],
)
def test_what_cannot_be_shown(make: Callable[[], Player], said: str) -> None:
    with pytest.raises(LabError, match=said):
        make()


def test_the_interval_of_a_vote() -> None:
    # by statsmodels' proportion_confint(8, 10, method="wilson")
    assert interval(8, 10) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert interval(0, 0) == (0, 1)
    pair = Player({"a": tone(1), "b": tone(1)}, blind=True)
    pair.votes = {"a": 8, "b": 2, "no difference": 5}
    assert pair.verdict()["a"] == (8, *interval(8, 10)) and pair.verdict()["b"] == (2, *interval(2, 10))


# --- a cold notebook


def test_a_poster_and_clips_stand_for_the_player() -> None:
    pair = Player({"low": tone(20), "high": tone(20, hertz=880)}, caption="two <tones>")
    data, _ = pair._repr_mimebundle_()
    page = data["text/html"]
    assert "<source" not in page and "two &lt;tones&gt;" in page and len(page) < 100_000
    clips = re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', page)
    heard = [soundfile.read(io.BytesIO(base64.b64decode(clip)))[0] for clip in clips]
    assert [round(len(clip) / 16_000) for clip in heard] == [8, 8]  # 15 s in all
    assert data["text/plain"] == "Player(20.0 s: low, high)"  # the same in every run


def test_the_poster_is_dark_where_there_is_sound() -> None:
    """Half a second of silence, then a tone of 2 kHz: a quarter of the height of the spectrogram."""
    png = poster(np.concatenate([np.zeros(8000, np.float32), tone(0.5, hertz=2000)]))
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth = struct.unpack(">IIB", png[16:25])
    length = struct.unpack(">I", png[33:37])[0]
    rows = np.frombuffer(zlib.decompress(png[41 : 41 + length]), np.uint8).reshape(height, 1 + width // 2)[:, 1:]
    shades = np.stack([rows >> 4, rows & 15], -1).reshape(height, width)
    assert (width, height, depth) == (640, 112, 4)
    spectrogram = shades[48:]
    assert spectrogram[:, :300].min() == 15  # white
    assert spectrogram[:, 340:].mean(1).argmin() in (47, 48)  # rows of 125 Hz from 8 kHz down
    assert shades[24, 500] < 15 and shades[24, 100] < 15 and shades[10, 100] == 15


# --- a story that is being told


def test_a_story_is_sent_without_a_gap_and_written(tmp_path: Path, sent: list) -> None:
    story = Player.live(telling(6), "a story", file=tmp_path / "story.wav", cache_bytes=1000)
    story.wait(10)
    assert (story.state, story.made) == ("ended", 3.0)
    starts = [message["start"] for message, _ in sent]
    assert starts == [8000 * k for k in range(6)]
    np.testing.assert_allclose(np.concatenate([pcm for _, pcm in sent]) / 32767, tone(3), atol=1e-4)
    np.testing.assert_allclose(audio.load(tmp_path / "story.wav"), tone(3), atol=1e-4)
    gauges = sent[-1][0]["gauges"]
    assert gauges["made"] == 3 and gauges["speed"] > 1 and gauges["memory"] == [590_000, 62 * 1000]
    assert len(re.findall("<audio", story._repr_mimebundle_()[0]["text/html"])) == 1


def test_stop_interrupts_the_piece_in_work_and_keeps_the_file(tmp_path: Path, sent: list) -> None:
    reached = threading.Event()

    def endless(k: int) -> None:
        if k == 2:
            reached.set()
            while True:
                time.sleep(0.01)

    story = Player.live(telling(5, endless), file=tmp_path / "story.wav")
    assert reached.wait(10)
    story.stop()
    story.wait(10)
    assert not story._worker.is_alive()
    assert (story.state, story.made, len(audio.load(tmp_path / "story.wav"))) == ("stopped", 1.0, 16_000)


def test_the_next_story_ends_the_one_before(sent: list) -> None:
    first = Player.live(telling(10_000, lambda k: time.sleep(0.01), size=0.01))
    second = Player.live(telling(1))
    first.wait(10)
    second.wait(10)
    assert not first._worker.is_alive() and first.made < 100
    assert (first.state, second.state) == ("stopped", "ended")


def test_what_goes_wrong_is_told_and_raised(tmp_path: Path, sent: list) -> None:
    def fail(k: int) -> None:
        if k:
            raise LabError("the disk is full")

    story = Player.live(telling(3, fail), file=tmp_path / "story.wav")
    with pytest.raises(LabError, match="the disk is full"):
        story.wait(10)
    assert story.state == "failed: the disk is full" and len(audio.load(tmp_path / "story.wav")) == 8000


def test_a_story_waits_for_its_listener(sent: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "AHEAD", 3.0)
    story = Player.live(telling(20))
    for seconds, made in ((0.0, 3.5), (2.0, 5.5)):
        story.seconds = seconds
        end = time.monotonic() + 10
        while story.made < made and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.5)  # two of the worker's looks at the listener
        assert story.made == made and story.state == "telling"
    story.wait(10)
    assert story.made == 10


def test_the_worker_is_in_inference_mode_and_this_thread_is_not(sent: list) -> None:
    modes: list[bool] = []
    Player.live(telling(1, lambda k: modes.append(torch.is_inference_mode_enabled()))).wait(10)
    assert modes == [True] and not torch.is_inference_mode_enabled()


def test_a_page_that_comes_late_gets_the_last_ten_minutes(sent: list) -> None:
    story = Player.live(telling(13, size=60))
    story.wait(20)
    sent.clear()
    story._answer(story, {"kind": "hello"}, [])
    story._answer(story, {"kind": "want", "second": 30}, [])
    (hello, newest), (want, early) = sent
    assert hello["start"] == 180 * 16_000 and len(newest) == 600 * 16_000
    assert [row[0] for row in hello["memory"]] == [60 * (k + 1) for k in range(13)]
    assert want["start"] == 30 * 16_000 and len(early) == 20 * 16_000
    np.testing.assert_allclose(early / 32767, tone(780)[want["start"] :][: len(early)], atol=1e-4)
    assert isinstance(story, Live)
