"""lab.tokens: log-mel, windows and their filling, the receptive field, spelling, transcription."""

from __future__ import annotations

import math

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lab import protocols, windows
from lab.corpora import narrators
from lab.errors import LabError
from lab.nn.mel import mel_bands
from lab.tokens import TOKEN_HOP, Tokenizer, TokenizerConfig, ctc, mel

WINDOW, OVERLAP = 30, 10  # half the overlap, 5 tokens, is what the tiny encoder can see to one side


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Noise whose loudness changes from token to token, so that tokens differ."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(10 ** rng.uniform(-4, -1, samples // TOKEN_HOP + 1), TOKEN_HOP)[:samples]
    return (loudness * rng.standard_normal(samples)).astype(np.float32)


@pytest.fixture(scope="module")
def tokenizer(models: dict[str, nn.Module]) -> Tokenizer:
    assert isinstance(models["tokenizer"], Tokenizer)
    return models["tokenizer"]


def alone(tokenizer: Tokenizer, waveform: np.ndarray) -> Tensor:
    return tokenizer.tokenize(torch.from_numpy(waveform)[None])[0]


# Log-mel


@pytest.mark.parametrize(
    ("size", "bands", "lowest", "highest"),
    [(512, mel.BANDS, mel.LOWEST, mel.HIGHEST), (640, 80, 0.0, None), (64, 8, 0.0, None), (2048, 64, 1200.0, 7000.0)],
)
@pytest.mark.parametrize("equal_area", [False, True])
def test_the_bands_are_those_of_librosa(size, bands, lowest, highest, equal_area) -> None:
    norm = "slaney" if equal_area else None
    wanted = librosa.filters.mel(sr=16_000, n_fft=size, n_mels=bands, fmin=lowest, fmax=highest, norm=norm)
    found = mel_bands(16_000, size, bands, lowest, highest, equal_area=equal_area)
    assert np.array_equal(found, wanted)  # another bit may be another token


def test_a_frame_is_centred_on_its_samples() -> None:
    waveform = torch.zeros(1, 1600)
    waveform[0, 560] = 1.0  # the middle of frame 3
    frames = mel.LogMel()(waveform)
    assert frames.shape == (1, 10, mel.BANDS)
    energy = frames[0].exp().sum(-1)
    assert energy.argmax() == 3
    torch.testing.assert_close(energy[2], energy[4], rtol=0.01, atol=0)


def test_levelled_speech_is_of_zero_mean_and_unit_variance() -> None:
    speech = [who.read("the fox went home, and the moon came up.") for who in narrators.NAMED[:6]]
    frames = torch.cat([mel.LogMel()(torch.from_numpy(x[: len(x) // 160 * 160])[None])[0] for x in speech])
    assert abs(float(frames.mean())) < 0.2
    assert 0.85 < float(frames.std()) < 1.15


# Windows


@settings(max_examples=40)
@given(samples=st.integers(1, 120 * TOKEN_HOP))
def test_a_token_for_each_begun_40_ms(tokenizer: Tokenizer, samples: int) -> None:
    tokens = tokenizer.encode(noise(samples), WINDOW, OVERLAP)
    assert tokens.shape == (-(-samples // TOKEN_HOP),) and tokens.dtype == torch.int64
    assert 0 <= tokens.min() and tokens.max() < tokenizer.config.codes


@settings(max_examples=25)
@given(samples=st.integers(1, 120 * TOKEN_HOP))
def test_windows_are_tokenized_alone_and_keep_their_parts(tokenizer: Tokenizer, samples: int) -> None:
    waveform = noise(samples)
    tokens = tokenizer.encode(waveform, WINDOW, OVERLAP)
    endless = np.tile(waveform, 1 + 200 * TOKEN_HOP // samples)
    for part in windows.plan(len(tokens), WINDOW, OVERLAP):
        window = alone(tokenizer, endless[TOKEN_HOP * part.start : TOKEN_HOP * (part.start + WINDOW)])
        assert torch.equal(tokens[part.keep_start : part.keep_stop], window[part.kept()])


def test_the_end_hears_the_beginning_and_not_silence(tokenizer: Tokenizer) -> None:
    """Otherwise tokens would tell that the end is near (paper section 3.3, implicit EOS)."""
    waveform = noise(37 * TOKEN_HOP + 100)
    tokens = tokenizer.encode(waveform, WINDOW, OVERLAP)
    silence = np.zeros(WINDOW * TOKEN_HOP, np.float32)
    filled = {
        name: alone(tokenizer, np.concatenate([waveform, filling])[20 * TOKEN_HOP : 50 * TOKEN_HOP])[5:18]
        for name, filling in (("start", waveform), ("silence", silence))
    }
    assert torch.equal(tokens[25:], filled["start"])
    assert not torch.equal(tokens[25:], filled["silence"])
    other = waveform.copy()
    other[: 3 * TOKEN_HOP] = 0
    assert not torch.equal(tokenizer.encode(other, WINDOW, OVERLAP)[25:], tokens[25:])


def test_windows_change_nothing_where_half_the_overlap_is_enough(tokenizer: Tokenizer) -> None:
    waveform = noise(150 * TOKEN_HOP)
    tokens = tokenizer.encode(waveform, WINDOW, OVERLAP)
    assert torch.equal(tokens[:-5], alone(tokenizer, waveform)[:-5])
    starved = tokenizer.encode(waveform, WINDOW, 0)
    assert not torch.equal(starved[:-5], tokens[:-5])


def test_half_the_overlap_is_more_than_the_encoder_sees() -> None:
    """By gradient, at the shape that ships: every token that is kept has seen all that it can."""
    tokenizer = Tokenizer(TokenizerConfig.preset("lab")).eval()
    waveform = torch.from_numpy(noise(121 * TOKEN_HOP))[None].requires_grad_()
    tokenizer.features(tokenizer.mel(waveform))[0, 60].square().sum().backward()
    assert waveform.grad is not None
    seen = waveform.grad[0].nonzero()[:, 0]
    before, after = 60 * TOKEN_HOP - int(seen[0]), int(seen[-1]) - 61 * TOKEN_HOP
    reach = max(before, after) / TOKEN_HOP
    assert 34 < reach < 40  # 1.4 to 1.6 s: wide kernels are used to their ends
    assert reach <= windows.TOKENIZATION.overlap / 2


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(0, np.float32), "the waveform is empty"),
        (np.zeros(640, np.int16), "is of int16; give floats"),
        ([0.0] * 640, "is of type list"),
        (np.zeros((1, 640), np.float32), r"shape \(1, 640\); give one channel"),
        (np.full(640, np.nan, np.float32), "NaN or infinite samples"),
    ],
)
def test_waveforms_that_are_none_are_refused(tokenizer: Tokenizer, waveform: np.ndarray, message: str) -> None:
    with pytest.raises(LabError, match=message):
        tokenizer.encode(waveform)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([0, -1], "token -1 is not one of the 32, 0 to 31"),
        (torch.tensor([32]), "token 32 is not one of the 32"),
        (np.array([0.5]), "tokens must be integers, not float64"),
        (torch.zeros(1, 4, dtype=torch.long), r"tokens must be \(T,\), not \(1, 4\)"),
        ([], "the length is 0"),
        (None, "tokens must be integers in a tensor, an array or a list, not None"),
    ],
)
def test_tokens_that_it_has_not_are_refused(tokenizer: Tokenizer, tokens: Tensor, message: str) -> None:
    for ask in (tokenizer.transcribe, tokenizer.words):
        with pytest.raises(LabError, match=message):
            ask(tokens)


def test_padding_does_not_move_the_centre() -> None:
    torch.manual_seed(0)
    padded, plain = (Tokenizer(TokenizerConfig.preset("tiny")) for _ in range(2))
    plain.load_state_dict(padded.state_dict())
    features = torch.randn(2, 20, 32)
    speech = torch.arange(20) < torch.tensor([[20], [12]])
    narrow = padded.narrow(features, speech)
    alone = plain.narrow(features[speech][None])
    torch.testing.assert_close(narrow[speech], alone[0])
    assert not narrow[~speech].any()
    torch.testing.assert_close(padded.centre.running_mean, plain.centre.running_mean)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_a_batch_that_is_not_finite_moves_neither_centre_nor_codebook(value: float) -> None:
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig.preset("tiny"))
    good, bad = torch.randn(2, 50, 32), torch.randn(2, 50, 32)
    bad[0, 7, 3] = value
    for number in range(3):
        before = {name: buffer.clone() for name, buffer in tokenizer.named_buffers()}
        tokenizer.quantizer(tokenizer.narrow(bad))
        for name, buffer in tokenizer.named_buffers():
            assert torch.equal(buffer, before[name]), (number, name)
        tokenizer.quantizer(tokenizer.narrow(good))
        assert tokenizer.quantizer.started == number + 1
        assert tokenizer.centre.num_batches_tracked == number + 1


def test_an_unknown_preset_is_an_error() -> None:
    with pytest.raises(LabError, match="no preset 'huge'; there are lab, tiny"):
        TokenizerConfig.preset("huge")
    assert TokenizerConfig.preset("tiny", codes=8).codes == 8


# Spelling


@given(st.text(ctc.CHARACTERS))
def test_what_is_spelled_can_be_read(text: str) -> None:
    """CTC needs a blank between equal letters; more of them change nothing."""
    frames = [index for character in ctc.labels(text) for index in (character, character, ctc.BLANK)]
    assert ctc.decode(torch.tensor(frames, dtype=torch.int64)) == " ".join(text.split())


@given(st.text())
def test_spelling_drops_what_it_has_no_character_for(text: str) -> None:
    indices = ctc.labels(text)
    assert all(1 <= index < ctc.CLASSES for index in indices)
    kept = "".join(character for character in text.lower() if character in ctc.CHARACTERS)
    assert indices == ctc.labels(kept) and len(indices) == len(kept)


@pytest.mark.parametrize(
    ("frames", "text"),
    [("__hh_ee_l_ll__o", "hello"), ("aabb", "ab"), ("a_a", "aa"), (" a  b_ ", "a b"), ("____", ""), ("", "")],
)
def test_repeats_merge_and_blanks_drop(frames: str, text: str) -> None:
    indices = [ctc.BLANK if frame == "_" else ctc.labels(frame)[0] for frame in frames]
    assert ctc.decode(torch.tensor(indices, dtype=torch.int64)) == text


def test_words_are_from_their_first_letter_to_their_last() -> None:
    frames = "__hh_ii  __a_ _ b_b"
    indices = [ctc.BLANK if frame == "_" else ctc.labels(frame)[0] for frame in frames]
    found = ctc.words(torch.tensor(indices, dtype=torch.int64))
    assert found == [(2, 7, "hi"), (11, 12, "a"), (16, 19, "bb")]


@pytest.mark.parametrize("length", [1, 17, 750, 2000])
def test_transcribe_reads_what_each_token_spells(length: int) -> None:
    """A tokenizer whose token k is character k; beyond 750 tokens in windows."""
    spells = Tokenizer(TokenizerConfig(width=32, kernel=1, blocks=0, blocks_after=0, codes=29, code_width=29)).eval()
    with torch.no_grad():
        spells.quantizer.codebook.copy_(torch.eye(29))
        for layer in (spells.ctc_head[0], spells.ctc_head[-1]):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
    tokens = torch.randint(29, (length,), generator=torch.Generator().manual_seed(length))
    assert spells.transcribe(tokens) == ctc.decode(tokens)
    assert [(round(25 * start), round(25 * stop), word) for start, stop, word in spells.words(tokens)] == ctc.words(
        tokens
    )
    assert F.one_hot(spells.quantizer.nearest(torch.eye(29)), 29).equal(torch.eye(29, dtype=torch.int64))


def test_it_can_be_replaced_by_any_tokenizer(models: dict[str, nn.Module]) -> None:
    assert isinstance(models["tokenizer"], protocols.Tokenizer) and isinstance(models["codec"], protocols.Codec)
    assert not isinstance(models["codec"], protocols.Tokenizer) and not isinstance(models["griffin"], protocols.Codec)
