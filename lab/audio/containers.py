"""Files of audio whose headers tell a false length, or none: what a decoder has to see to read them to their end.

Streams, cut recordings and splitters leave such headers behind. libsndfile believes them: it stops early, or finds
nothing. Here the length is counted from the data, and the header mended in the bytes that are read, never in the file.
"""

from __future__ import annotations

import functools
import io
import os
import struct
from collections.abc import Iterator
from typing import IO

TAIL = 2**21  # bytes at the end in which the last frame or page begins: frames of FLAC reach some 400 kB
UNKNOWN = b"\xff\xff\xff\xff"  # libsndfile then takes what is there


class View(io.RawIOBase):
    """The bytes of a file from `begin` to `end`, with `prefix` before them and others at the places of `patches`.

    Damaged files make libsndfile seek to before the beginning, which is no error here: it would tell of that itself.
    An error of the file it would take for the end: `check` raises that.
    """

    failed: Exception | None = None

    def __init__(self, file: IO[bytes], begin: int, end: int, patches: dict[int, bytes], prefix: bytes = b""):
        self.file, self.shift, self.patches, self.prefix = file, begin - len(prefix), patches, prefix
        self.size, self.place = end - self.shift, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence])
        return self.place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        ahead = self.prefix[self.place : self.place + len(buffer)]
        wanted = min(len(buffer), self.size - self.place) - len(ahead)
        start = self.place + len(ahead) + self.shift  # in the file
        data = bytearray(ahead)
        if wanted > 0:
            try:
                self.file.seek(start)
                data += self.file.read(wanted)
            except Exception as error:
                self.failed = error
                return 0
        for at, patch in self.patches.items():
            for n, byte in enumerate(patch):
                if len(ahead) <= (index := at + n - start + len(ahead)) < len(data):
                    data[index] = byte
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)

    def check(self) -> None:
        """Raises what the file could not be read for."""
        if self.failed is not None:
            raise self.failed


def mend(file: IO[bytes], max_seconds: float | None = None) -> tuple[View, str]:
    """A view of the file that tells its true length, and what was wrong with its header, "" where nothing was.

    max_seconds: how much has to be countable at least.
    """
    end = size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    patches: dict[int, bytes] = {}
    complaint = ""
    if head[:4] in CHUNKS:
        patches, complaint = _chunks(file, size, *CHUNKS[head[:4]])
    elif head[:4] == b".snd" and head[8:12] == bytes(4):
        patches = {8: UNKNOWN}
    elif head[:4] == b"fLaC":
        patches, complaint = _flac(file, size)
    elif head[:4] == b"OggS":
        end = _last_page(file, size)
        complaint = "it is cut off in the middle of a page" if end < size else ""
    elif head[:3] == b"ID3" or len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _mp3(file, size, max_seconds)
    return View(file, 0, end, patches), complaint


# WAV, AIFF and CAF are chunks of a name, a length and so many bytes: the form of a length, the name of the chunk with
# the sound, and where the first begins.
CHUNKS = {b"RIFF": ("<I", b"data", 12), b"FORM": (">I", b"SSND", 12), b"caff": (">q", b"data", 8)}


def _chunks(file: IO[bytes], size: int, form: str, wanted: bytes, place: int) -> tuple[dict[int, bytes], str]:
    width = struct.calcsize(form)
    while place + 4 + width <= size:
        name, length = _chunk(file, place, form)
        begin = place + 4 + width
        there = size - begin
        if name != wanted:
            if length < 0:
                break
            place = begin + length + length % 2
            continue
        unknown = length <= 0 or length >= 2**31 - 2**16 and length > there  # as programs write it before they know
        if not unknown and (length >= there or _ends_in_chunks(file, begin + length + length % 2, size, form)):
            cut = f"it is cut off: {length} bytes of sound are promised, {there} are there" if length > there else ""
            return {}, cut
        true = struct.pack(form, there) if width == 8 else UNKNOWN
        complaint = "" if unknown else f"its header tells of {length} bytes of sound, {there} are there"
        return {place + 4: true}, complaint
    return {}, ""


def _chunk(file: IO[bytes], place: int, form: str) -> tuple[bytes, int]:
    file.seek(place)
    head = file.read(4 + struct.calcsize(form))
    return head[:4], struct.unpack(form, head[4:])[0]


def _ends_in_chunks(file: IO[bytes], place: int, size: int, form: str) -> bool:
    """Whether only whole chunks (tags, cue points) follow until the end; a byte of padding may be missing or extra."""
    while place + 4 + struct.calcsize(form) <= size:
        name, length = _chunk(file, place, form)
        if not name.isascii() or not name.decode().isprintable() or length < 0:
            return False
        place += 4 + struct.calcsize(form) + length + length % 2
    return abs(place - size) <= 1


# --- FLAC


def _flac(file: IO[bytes], size: int) -> tuple[dict[int, bytes], str]:
    """STREAMINFO, at byte 8, counts samples in 36 bits; the header of each frame says which samples it holds."""
    file.seek(0)
    info = file.read(42)
    file.seek(max(42, size - TAIL))
    tail = file.read()
    if len(info) < 42 or not (count := _last_sample(tail, int.from_bytes(info[8:10], "big"))):
        return {}, ""
    claimed = (info[21] & 15) << 32 | int.from_bytes(info[22:26], "big")
    if claimed == count:
        return {}, ""
    complaint = f"its header tells of {claimed} samples, {count} are there" if claimed else ""
    return {21: bytes([info[21] & 0xF0 | count >> 32]) + (count & 0xFFFFFFFF).to_bytes(4, "big")}, complaint


def _last_sample(data: bytes, block: int) -> int:
    """How many samples end with the last whole frame in `data`, the end of a FLAC file; 0 where there is none.

    block: samples of a frame where all have as many.
    """
    ends, place = [0], -1
    while (place := data.find(b"\xff", place + 1)) >= 0:
        if (frame := _flac_frame(data[place : place + 16], block)) is not None:
            first, length = frame
            if len(ends) == 1 or first == ends[-1]:  # it goes on where the frame before ended: no chance hit
                ends[-1] = first  # ... which was whole, then
                ends.append(first + length)
                last = place
    if len(ends) == 1:
        return 0
    return ends[-1] if _crc(data[last:], 16, 0x8005) == 0 else ends[-2]


def _flac_frame(head: bytes, block: int) -> tuple[int, int] | None:
    """The first sample of a frame and how many it has; None where no frame begins here (RFC 9639, 9.1)."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[3] & 1 or head[2] & 15 == 15 or head[2] < 16:
        return None
    extra = max(0, 7 - (head[4] ^ 0xFF).bit_length() - 1) if head[4] & 0x80 else 0  # bytes after the first: UTF-8
    number = head[4] & (0x7F if not extra else 0x3F >> extra)
    for byte in head[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
    place, code, rate = 5 + extra, head[2] >> 4, head[2] & 15
    if code in (6, 7):
        length = int.from_bytes(head[place : place + code - 5], "big") + 1
        place += code - 5
    else:
        length = 192 if code == 1 else 576 << code - 2 if code < 6 else 1 << code
    place += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if place >= len(head) or _crc(head[: place + 1], 8, 0x07):
        return None
    return (number if head[1] & 1 else number * (block or length)), length


@functools.cache
def _crc_table(bits: int, polynomial: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value >> bits - 1 else value << 1) & (1 << bits) - 1
        table.append(value)
    return table


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    """0 where the last bytes of `data` are its checksum."""
    table, value, mask = _crc_table(bits, polynomial), 0, (1 << bits) - 1
    for byte in data:
        value = (value << 8 & mask) ^ table[value >> bits - 8 ^ byte]
    return value


# --- Ogg


def _last_page(file: IO[bytes], size: int) -> int:
    """Where the last whole page ends."""
    begin = max(0, size - TAIL)
    file.seek(begin)
    data = file.read()
    place = len(data)
    while (place := data.rfind(b"OggS", 0, place)) >= 0:
        segments = data[place + 26] if place + 27 <= len(data) else 0
        end = place + 27 + segments + sum(data[place + 27 : place + 27 + segments])
        if segments and end <= len(data):
            return begin + end
    return size


# --- MP3

_KILOBITS = {  # layer III, by version: MPEG 1, and 2 or 2.5
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def _mp3_frame(head: bytes) -> tuple[int, float, int] | None:
    """Bytes and seconds of a layer III frame, and where a Xing header would stand in it; None where none begins."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or head[2] >> 4 in (0, 15) or head[2] & 12 == 12:
        return None
    version = head[1] >> 3 & 3
    if version == 1:
        return None
    first, mono = version == 3, head[3] >> 6 == 3
    rate = _HERTZ[version][head[2] >> 2 & 3]
    length = (144 if first else 72) * 1000 * _KILOBITS[first][head[2] >> 4] // rate + (head[2] >> 1 & 1)
    return length, (1152 if first else 576) / rate, 4 + ((17 if mono else 32) if first else (9 if mono else 17))


def _mp3(file: IO[bytes], size: int, max_seconds: float | None) -> tuple[View, str]:
    """Frames are counted and the count written where a Xing header has it, or into one of our own before them."""
    file.seek(0)
    data = file.read()
    begin = 0
    if data[:3] == b"ID3" and len(data) > 10:
        begin = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    places, seconds = [], 0.0
    for place, frame in _mp3_frames(data, begin):
        places.append(place)
        seconds += frame[1]
        if max_seconds is not None and seconds > 2 * max_seconds + 60:
            break  # as much as anybody asks for
    whole = View(file, 0, size, {}), ""
    if len(places) < 2:
        return whole
    first = places[0]
    _, duration, at = _mp3_frame(data[first : first + 4]) or (0, 0.0, 0)
    tag = data[first + at : first + at + 4]
    if tag in (b"Xing", b"Info"):
        claimed, count = int.from_bytes(data[first + at + 8 : first + at + 12], "big"), len(places) - 1
        enough = max_seconds is not None and claimed * duration > max_seconds + 1
        if not data[first + at + 7] & 1 or abs(claimed - count) <= 1 or enough:
            return whole
        complaint = f"its header tells of {claimed * duration:.1f} s, {count * duration:.1f} s are there"
        return View(file, 0, size, {first + at + 8: count.to_bytes(4, "big")}), complaint
    head = bytes([data[first], data[first + 1] | 1, data[first + 2] & 0xFD, data[first + 3]])
    length, _, at = _mp3_frame(head) or (0, 0.0, 0)
    info = head + bytes(at - 4) + b"Xing" + struct.pack(">2I", 1, len(places))
    return View(file, first, size, {}, info.ljust(length, b"\0")), ""


def _mp3_frames(data: bytes, place: int) -> Iterator[tuple[int, tuple[int, float, int]]]:
    while 0 <= place < len(data) - 4:
        frame = _mp3_frame(data[place : place + 4])
        if frame is not None and place + frame[0] <= len(data):
            yield place, frame
            place += frame[0]
        else:  # tags, or a damaged place: on where two frames follow each other
            place = data.find(b"\xff", place + 1)
            while place >= 0:
                frame = _mp3_frame(data[place : place + 4])
                if frame is not None and _mp3_frame(data[place + frame[0] : place + frame[0] + 4]) is not None:
                    break
                place = data.find(b"\xff", place + 1)
