"""lab.view.player without a page: what is sent to it, what a worker does, and what stands for it in a cold notebook."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from lab import audio
from lab.errors import LabError
from lab.speech import Chunk
from lab.view import Causes, Curve, Heat, Marks, Player, Ribbon, Trajectory, Words, listen
from lab.view import player as room
from lab.view.player import interval, loudness_gains
from lab.view.sound import poster
from tests.tones import chunks, tone


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
        Marks("changes", [1, 2]),
        (Marks("right", [1], "#123456", "a"), Marks("wrong", [2], sound="a")),
        Ribbon("tokens", torch.tensor([3, 500])),
        Words("words", [(0.12345, 1, "owl")], "a"),
    ]
    norm, both, marks, two, ribbon, words = Player(tone(1), tracks, seams=[0.5])._lanes
    (line,) = norm["lines"]
    assert (norm["name"], norm["unit"], line["colour"]) == ("norm", "dB", "#123456")
    np.testing.assert_array_equal(np.frombuffer(line["values"], np.float32), np.float32([2, np.nan]))
    assert [line["name"] for line in both["lines"]] == ["a", "b"]
    assert marks["name"] == "changes" and [group["times"] for group in marks["groups"]] == [[1.0, 2.0]]
    assert (two["name"], two["sound"], words["sound"]) == ("", "a", "a")
    told = [(group["name"], group["times"], group["colour"]) for group in two["groups"]]
    assert told == [("right", [1.0], "#123456"), ("wrong", [2.0], "#D55E00")]
    assert np.frombuffer(ribbon["values"], np.uint16).tolist() == [3, 500] and ribbon["rate"] == 25
    assert words["spans"] == [[0.123, 1.0, "owl"]]


def test_maps_are_sent_as_shades() -> None:
    shares = np.array([[1, 0.5, 2], [0, 0.5, -1]])
    heat, causes = Player(tone(1), [Heat("held", shares, 3, ("1 s", "9 s")), Causes("whence", shares, 3)])._lanes
    for lane in (heat, causes):
        assert (lane["rows"], lane["rate"]) == (2, 3) and list(lane["values"]) == [255, 128, 255, 0, 128, 0]
    assert (heat["ends"], causes["colour"]) == (["1 s", "9 s"], "#E69F00")


def test_a_path_is_sent_as_it_is() -> None:
    path = np.array([[0.5, -1], [2, 3], [-7, 1e-3]])
    (lane,) = Player(tone(1), [Trajectory("h", path, ("across", "up"), 3)])._lanes
    assert (lane["kind"], lane["rate"], lane["axes"], lane["colour"]) == ("trajectory", 3, ["across", "up"], "#E69F00")
    np.testing.assert_array_equal(np.frombuffer(lane["values"], np.float32).reshape(-1, 2), np.float32(path))


WHOLE = tone(1)
REFUSED = {
    "int16": ((WHOLE * 32767).astype(np.int16), "is of int16; give floats"),
    "int32": ((WHOLE * 2**31).astype(np.int32), "is of int32"),
    "uint8": ((128 + 100 * WHOLE).astype(np.uint8), "is of uint8"),
    "whole numbers as floats": (np.round(WHOLE * 32767), "peaks at 98"),
    "bool": (WHOLE > 0, "is of bool"),
    "complex": (WHOLE.astype(np.complex64), "is of complex64"),
    "int16 tensor": (torch.from_numpy((WHOLE * 32767).astype(np.int16)), "is of int16"),
    "stereo": (np.stack([WHOLE, WHOLE]), r"shape \(2, 16000\)"),
    "NaN": (np.full(9, np.nan), "NaN or infinite"),
    "infinite": (np.full(9, np.inf), "NaN or infinite"),
    "list": ([0.1, 0.2], "of type list"),
    "bytes": (b"1234", "of type bytes"),
    "path": (Path("prompt.wav"), "of type PosixPath"),
    "None": (None, "of type NoneType"),
}


def live_error(waveform: Any) -> None:
    Player.live([Chunk(waveform, 1.0, 25, 590_000)]).wait(10)


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("door", [Player, listen, poster, lambda wave: loudness_gains([wave]), live_error])
def test_every_door_refuses_what_is_no_waveform(door: Callable[[Any], Any], kind: str) -> None:
    waveform, message = REFUSED[kind]
    with pytest.raises(LabError, match=message) as caught:
        door(waveform)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wave", [WHOLE.astype(np.float64), torch.from_numpy(WHOLE), WHOLE.astype(np.float16)])
def test_floats_of_any_width_play_at_their_level(wave: Any) -> None:
    (sound,) = Player(wave)._sounds
    assert np.abs(np.frombuffer(sound["pcm"], "<i2") / 32767 - WHOLE).max() < 3e-4


def shown(*tracks: Any, **options: Any) -> Callable[[], Player]:
    return lambda: Player(WHOLE, tracks, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Player({"a": WHOLE, "b": np.full(9, np.nan, np.float32)}), "b holds NaN"),
        (lambda: Player(np.zeros(0, np.float32)), "holds no samples"),
        (lambda: Player({}), "holds no samples"),
        (lambda: Player({1: WHOLE, "1": WHOLE}), "one name"),
        (lambda: Player({"no difference": WHOLE, "b": WHOLE}, blind=True), "one name"),
        (lambda: Player(WHOLE, blind=True), "two sounds or more"),
        (lambda: Player({str(k): WHOLE for k in range(27)}, blind=True), "of 27 sounds .* 26 at most"),
        (lambda: Player(WHOLE).seek(np.nan), "finite"),
        (shown(seams=[0.5, np.nan]), "seams holds nan"),
        (shown("waveform"), "is no track"),
        (shown(()), "is no track"),
        (shown((Curve("a", [0], [1]), Marks("b", [1]))), "is no track"),
        (shown(Curve("norm", [0, 1], [2])), "times .* and values"),
        (shown(Curve("norm", [1, 0], [2, 3])), "goes back from 1 to 0 s"),
        (shown(Curve("norm", [0, np.nan], [2, 3])), "holds nan s"),
        (shown(Curve("norm", [0, 1], ["2", "3"])), "give numbers"),
        (shown(Curve("norm", [0, 1], [2, 3], colour="red")), "'red' is no colour"),
        (shown(Marks("seams", [[1, 2]])), "give numbers"),
        (shown(Marks("seams", [np.inf])), "holds inf s"),
        (shown(Trajectory("h", np.zeros((3, 3)), ("x", "y"))), r"shape \(3, 3\); give \(n, 2\)"),
        (shown(Trajectory("h", np.zeros((0, 2)), ("x", "y"))), r"give \(n, 2\)"),
        (shown(Trajectory("h", np.array([[0, np.nan]]), ("x", "y"))), "not finite"),
        (shown(Trajectory("h", np.zeros((3, 2)), ("x", "y"), 0)), "positive rate"),
        (shown(Ribbon("tokens", [-1, 2])), "holds -1 to 2"),
        (shown(Ribbon("tokens", [70_000])), "holds 70000"),
        (shown(Ribbon("tokens", [0.5])), "give whole numbers"),
        (shown(Ribbon("tokens", [1], rate=0)), "positive rate"),
        (shown(Heat("held", np.ones(3))), r"'held' is of shape \(3,\); give \(rows, n\)"),
        (shown(Heat("held", np.ones((0, 3)))), r"is of shape \(0, 3\)"),
        (shown(Heat("held", [[np.nan]])), "'held' holds nan"),
        (shown(Causes("whence", [[True]])), "give numbers"),
        (shown(Causes("whence", [[1.0]], rate=0)), "positive rate"),
        (shown(Words("words", [(0, 1)])), "not .start, stop, text. each"),
        (shown(Words("words", [(1, 2, "owl"), (0, 1, "the")])), "goes back"),
        (shown(Words("words", [(1, 0.5, "owl")])), "'owl' stops before it starts"),
        (lambda: Player.live(None), "cannot play NoneType live"),
        (lambda: Player.live(WHOLE), "cannot play ndarray live"),
        (lambda: Player.live(chunks(1), file="story.mp5"), "its name must end in"),
        (lambda: listen(WHOLE[:0]), "holds no samples"),
        (lambda: listen(WHOLE, seconds=-1), "positive length"),
        (lambda: listen(WHOLE, seconds=np.nan), "positive length"),
    ],
)
def test_what_cannot_be_shown(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(LabError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_page_has_a_letter_for_each_blind_sound() -> None:
    (letters,) = re.findall(r'LETTERS = "(\w+)"', room.CODE)
    assert letters == room.LETTERS
    Player({letter: WHOLE for letter in letters}, blind=True)


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
    assert "<source" not in page and "two &lt;tones&gt;" in page and len(page) < 200_000
    clips = re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', page)
    heard = [soundfile.read(io.BytesIO(base64.b64decode(clip)))[0] for clip in clips]
    assert [round(len(clip) / 16_000) for clip in heard] == [20, 20]  # 40 s in all
    assert data["text/plain"] == "Player(20.0 s: low, high)"  # the same in every run


def test_clips_are_of_the_stretch_that_the_point_needs() -> None:
    step = np.concatenate([tone(10), tone(10, hertz=880)])
    curve, words = Curve("c", [1.0, 9.5, 15.0], [1.0, 2.0, 3.0]), Words("w", [(1, 2, "no"), (9.0, 9.5, "yes")])
    shares = np.tile(np.arange(20) / 255, (20, 5)) + np.arange(20)[:, None] / 255  # 5 columns a second
    maps = Heat("h", shares, 5), Causes("c", shares, 5)
    path = Trajectory("t", np.arange(200).reshape(100, 2), ("x", "y"), 5)
    lanes = (curve, words, Marks("m", [10.0, 19.0]), Ribbon("r", np.arange(500)), *maps, path)
    player = Player({"quiet": 0.1 * step, "loud": step}, tracks=lanes, seams=[10.0, 19.0], clip=(8.0, 4.0))
    data, _ = player._repr_mimebundle_()
    quiet, loud = (
        soundfile.read(io.BytesIO(base64.b64decode(clip)))[0]
        for clip in re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', data["text/html"])
    )
    assert "8 to 12 s" in data["text/html"]
    for heard in (quiet, loud):
        assert abs(len(heard) / 16_000 - 4) < 0.2
        power = np.abs(np.fft.rfft(heard[:16_000]))[[440, 880]], np.abs(np.fft.rfft(heard[-16_000:]))[[440, 880]]
        assert [p.argmax() for p in power] == [0, 1]  # it begins before the step and ends after it
    assert abs(audio.level(np.float32(quiet)) - audio.level(np.float32(loud))) < 0.5  # matched, as the player has them
    page = json.loads(json.dumps(data[room.PAGE]))
    lines, spoken, marks, ribbon, heat, causes, along = page["lanes"]
    (line,) = lines["lines"]
    assert np.frombuffer(base64.b64decode(line["times"]), np.float32).tolist() == [1.5]
    assert spoken["spans"] == [[1.0, 1.5, "yes"]] and marks["groups"][0]["times"] == page["seams"] == [2.0]
    assert np.frombuffer(base64.b64decode(ribbon["values"]), np.uint16).tolist() == list(range(200, 300))
    for lane, rows in ((heat, 20), (causes, 4)):  # of the causes only those in the clip
        shades = np.frombuffer(base64.b64decode(lane["values"]), np.uint8).reshape(rows, 20)
        np.testing.assert_array_equal(shades, np.round(255 * shares[slice(8, 12) if rows == 4 else slice(20), 40:60]))
    assert np.frombuffer(base64.b64decode(along["values"]), np.float32).tolist() == list(range(80, 120))
    with pytest.raises(LabError, match="behind the end"):
        Player(step, clip=(30.0, 4.0))


@pytest.mark.parametrize(("rate", "count", "last"), [(5, 20, 19), (0.1, 2, 1), (5, 45, 44)])
def test_a_path_that_ends_before_a_clip_stays_where_it_ends(rate: float, count: int, last: int) -> None:
    """The page draws no path without a point."""
    path = Trajectory("t", np.arange(2 * count).reshape(count, 2), ("x", "y"), rate)
    (lane,) = Player(tone(20), [path], clip=(8.8, 2.0))._page()["lanes"]
    assert np.frombuffer(base64.b64decode(lane["values"]), np.float32).tolist() == [2 * last, 2 * last + 1]


def test_a_blind_comparison_is_blind_when_it_is_stored() -> None:
    secret = Player({"codec": tone(5), "model": tone(5, hertz=880)}, blind=True, caption="which is better?")
    data, _ = secret._repr_mimebundle_()
    assert not re.search("codec|model", data["text/plain"] + data["text/html"] + json.dumps(data[room.PAGE]))
    turned = Player({"model": tone(5, hertz=880), "codec": tone(5)}, blind=True, caption="which is better?")
    assert turned._repr_mimebundle_()[0]["text/html"] == data["text/html"]  # their order says nothing either


def test_the_poster_is_clear_where_there_is_none() -> None:
    """Half a second of silence, then a tone of 2 kHz: a quarter of the height of the spectrogram."""
    png = poster(np.concatenate([np.zeros(8000, np.float32), tone(0.5, hertz=2000)]))
    picture = Image.open(io.BytesIO(png))
    assert (picture.size, picture.mode) == ((640, 112), "P")
    shades = np.asarray(picture)
    ink = np.asarray(picture.convert("RGBA"))
    assert (ink[..., 3] == 255 - 17 * shades.astype(int)).all() and len(np.unique(ink[..., :3])) == 1  # of one colour
    spectrogram = shades[48:]
    assert spectrogram[:, :300].min() == 15  # clear
    assert spectrogram[:, 340:].mean(1).argmin() in (47, 48)  # rows of 125 Hz from 8 kHz down
    assert shades[24, 500] < 15 and shades[24, 100] < 15 and shades[10, 100] == 15
