"""lab.corpora.phones: alignments on disk, and what is said in each frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lab import audio
from lab.corpora import librispeech, phones
from lab.corpora.phones import SILENCE, UNKNOWN, Phone
from lab.errors import LabError

ROWS = """utterance,tier,start_s,end_s,label
7-10-0000,word,0.000,0.500,oh
7-10-0000,phone,0.000,0.090,sil
7-10-0000,phone,0.090,0.300,OW1
7-10-0000,phone,0.300,0.400,spn
7-10-0000,phone,0.400,0.500,
"""


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    folder = tmp_path / "7" / "10"
    folder.mkdir(parents=True)
    (folder / "7-10.trans.txt").write_text("7-10-0000 OH\n7-10-0001 OH\n")
    for number in range(2):
        audio.save(folder / f"7-10-000{number}.flac", 0.1 * np.sin(np.arange(8000 + number), dtype=np.float32))
    (folder / "7-10.alignment.csv").write_text(ROWS)
    return folder


def test_phones_of_aligned_utterances(chapter: Path) -> None:
    ((utterance, found),) = phones.aligned(chapter)
    assert utterance.text == "oh" and len(utterance.waveform) == 8000
    assert found == [
        Phone(SILENCE, 0, 0.09),
        Phone("OW", 0.09, 0.3),
        Phone(UNKNOWN, 0.3, 0.4),
        Phone(SILENCE, 0.4, 0.5),
    ]


def test_no_alignment_is_nothing_to_compare(chapter: Path) -> None:
    (chapter / "7-10.alignment.csv").unlink()
    assert list(phones.aligned(chapter)) == []


@pytest.mark.parametrize("row", ["7-10-0000,phone,zero,1,AH0", "7-10-0000,phone,0"])
def test_a_damaged_alignment_is_an_error(chapter: Path, row: str) -> None:
    (chapter / "7-10.alignment.csv").write_text(ROWS + row + "\n")
    with pytest.raises(LabError, match="line 7: .* is not utterance,tier,start,end,label"):
        list(phones.aligned(chapter))


def test_labels_are_of_the_middles() -> None:
    found = [Phone("A", 0.02, 0.05), Phone("B", 0.05, 0.14), Phone("C", 0.2, 0.26)]
    # middles at 0.02, 0.06, 0.10, 0.14 (where B ends), 0.18, 0.22, 0.26 (where C ends), 0.30
    silences = [SILENCE, SILENCE], SILENCE
    assert phones.labels(found, 8, 25) == ["A", "B", "B", *silences[0], "C", *([silences[1]] * 2)]
    assert phones.labels([], 2, 25) == [SILENCE, SILENCE]


def test_real_alignments_fit_their_audio(real_speech: Path) -> None:
    chapter = next(folder for folder in librispeech.chapters(real_speech) if any(folder.glob("*.alignment.csv")))
    utterance, found = next(phones.aligned(chapter))
    assert found[-1].stop == pytest.approx(utterance.seconds, abs=0.1)
    samples = utterance.samples()
    said = np.array(phones.labels(found, len(samples) // 160, 100))
    power = np.square(samples[: len(said) * 160].reshape(-1, 160)).mean(1)
    assert np.median(power[said == SILENCE]) < 0.05 * np.median(power[said != SILENCE])
