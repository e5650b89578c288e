"""Judges that listen: adapters on tiny random checkpoints, the real ones where LAB_JUDGES is their folder."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

pytest.importorskip("transformers")
from transformers import (  # noqa: E402
    GenerationConfig,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WavLMConfig,
    WavLMForXVector,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode  # noqa: E402

from lab import judges  # noqa: E402
from lab.audio import SAMPLE_RATE  # noqa: E402
from lab.errors import LabError  # noqa: E402

TEXT = "the rain began to fall, and the badger felt sleepy. good night, badger."  # what `speech` says
TINY: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONV: dict[str, Any] = {
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 8, 8),
    "conv_stride": (8, 8, 5),  # 320 samples, as in the large ones
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wav2vec2-tiny")
    letters = {letter: k for k, letter in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGH"])}
    (folder / "vocab.json").write_text(json.dumps(letters))
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**TINY, **CONV, vocab_size=len(letters), pad_token_id=0))
    nn.init.normal_(model.lm_head.weight)
    model.lm_head.bias.data[1:4] = -100  # no trained one says <s>
    model.save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(folder / "vocab.json")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wavlm-tiny")
    tdnn: dict[str, Any] = {"tdnn_dim": (16, 16, 32), "tdnn_kernel": (5, 3, 1), "tdnn_dilation": (1, 2, 1)}
    WavLMForXVector(WavLMConfig(**TINY, **CONV, **tdnn, xvector_output_dim=16)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of transformers; its tokens are bytes, those that Whisper has besides, and times."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("whisper-tiny")
    letters = {letter: k for k, letter in enumerate(bytes_to_unicode().values())}
    roles = "startoftranscript en translate transcribe startoflm startofprev nospeech notimestamps".split()
    times = [f"{k / 50:.2f}" for k in range(1501)]
    special = [f"<|{name}|>" for name in ["endoftext", *roles, *times]]
    tokenizer = WhisperTokenizer(vocab=letters, merges=[])
    tokenizer.add_tokens(special, special_tokens=True)
    at = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ["endoftext", *roles]}
    size: dict[str, Any] = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_target_positions": 448}
    heads: dict[str, Any] = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ends = {f"{role}_token_id": at["endoftext"] for role in ("pad", "bos", "eos")}
    config = WhisperConfig(
        **size,
        **heads,
        **ends,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        vocab_size=len(tokenizer),
        decoder_start_token_id=at["startoftranscript"],
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    model = WhisperForConditionalGeneration(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    model.generation_config = GenerationConfig(
        **ends,
        decoder_start_token_id=at["startoftranscript"],
        is_multilingual=True,
        max_length=32,
        no_timestamps_token_id=at["notimestamps"],
        prev_sot_token_id=at["startofprev"],
        lang_to_id={"<|en|>": at["en"]},
        task_to_id={"transcribe": at["transcribe"], "translate": at["translate"]},
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ge2e(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    lstm, linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)
    weights = {f"lstm.{key}": value for key, value in lstm.state_dict().items()}
    weights |= {f"linear.{key}": value for key, value in linear.state_dict().items()}
    path = tmp_path_factory.mktemp("ge2e") / "pretrained.pt"
    torch.save({"model_state": weights | {"similarity_weight": torch.ones(1)}}, path)
    return path


@pytest.fixture(scope="module")
def real() -> Path:
    folder = os.environ.get("LAB_JUDGES")
    if not folder:
        pytest.skip("set LAB_JUDGES to a folder of outside judges")
    return Path(folder)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


def greedy(folder: Path, waveform: np.ndarray) -> str:
    """CTC written out: the best token a frame, repeats and blanks left out."""
    model = Wav2Vec2ForCTC.from_pretrained(folder).eval()
    normal = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    with torch.no_grad():
        best = model(torch.from_numpy(normal)[None]).logits[0].argmax(-1).unique_consecutive()
    letters = {k: letter for letter, k in json.loads((folder / "vocab.json").read_text()).items()}
    return "".join(letters[int(k)] for k in best if k >= 4).replace("|", " ").strip().lower()


def test_wav2vec2_reads_windows_one_by_one(wav2vec2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 180 s; here of 2 s, the last with what is left, which is too short to be read where it is under 0.1 s."""
    judge = judges.load(f"wav2vec2:{wav2vec2}")
    assert judge.window == 180 * SAMPLE_RATE
    monkeypatch.setattr(type(judge), "window", 2 * SAMPLE_RATE)
    waveform = noise(4.5)
    expected = [greedy(wav2vec2, waveform[start : start + 2 * SAMPLE_RATE]) for start in (0, 32_000, 64_000)]
    assert all(expected) and judge.transcribe(waveform) == " ".join(expected)
    assert judge.transcribe(waveform[: 64_000 + 1_599]) == " ".join(expected[:2])


def test_wavlm_takes_the_mean_of_equal_pieces(wavlm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = judges.load(f"wavlm:{wavlm}")
    waveform = noise(4)
    halves = [judge.embed_speaker(half) for half in np.split(waveform, 2)]
    assert [half.shape for half in halves] == [(16,), (16,)] and np.linalg.norm(halves[0]) == pytest.approx(1, abs=1e-5)
    assert halves[0] @ halves[1] < 1 - 1e-6
    monkeypatch.setattr(type(judge), "piece", 3 * SAMPLE_RATE)  # 4 s are two pieces of 2 s
    mean = halves[0] + halves[1]
    np.testing.assert_allclose(judge.embed_speaker(waveform), mean / np.linalg.norm(mean), atol=1e-5)


def test_ge2e_takes_the_mean_of_windows(ge2e: Path) -> None:
    """One by one: 160 frames every 77; less than a window is read as it is, and what is soft made louder."""
    judge = judges.load(f"ge2e:{ge2e}")

    def one_by_one(waveform: np.ndarray) -> np.ndarray:
        mel = librosa.feature.melspectrogram(y=waveform, sr=16000, n_fft=400, hop_length=160, n_mels=40).T
        vectors = []
        for start in range(0, max(1, len(mel) - 159), 77):
            _, (hidden, _) = judge.lstm(torch.from_numpy(mel[start : start + 160])[None])
            vector = torch.relu(judge.linear(hidden[-1]))[0].numpy()
            vectors.append(vector / np.linalg.norm(vector))
        return np.mean(vectors, 0) / np.linalg.norm(np.mean(vectors, 0))

    for seconds in (1.0, 1.6, 4.3, 60.0):
        np.testing.assert_allclose(judge.embed_speaker(noise(seconds)), one_by_one(noise(seconds)), atol=1e-5)
    soft = 0.1 * noise(2)
    loud = soft * (10**-1.5 / np.sqrt(np.square(soft).mean()))
    np.testing.assert_allclose(judge.embed_speaker(soft), one_by_one(loud), atol=1e-4)


def test_whisper_of_transformers_hears_beyond_30_s(whisper: Path) -> None:
    judge = judges.load(f"hf-whisper:{whisper}")
    for seconds in (2, 31):
        heard = judge.transcribe(noise(seconds))
        assert isinstance(heard, str) and "<|" not in heard and heard == judge.transcribe(noise(seconds))


def test_faster_whisper_hears(whisper: Path, tmp_path: Path) -> None:
    converters = pytest.importorskip("ctranslate2.converters")
    pytest.importorskip("faster_whisper")
    folder = tmp_path / "whisper-converted"
    converters.TransformersConverter(str(whisper)).convert(str(folder))
    with pytest.raises(LabError, match="tokenizer.json not found in it"):
        judges.load(f"whisper:{folder}")
    (folder / "tokenizer.json").write_bytes((whisper / "tokenizer.json").read_bytes())
    judge = judges.load(f"whisper:{folder}")
    heard = judge.transcribe(noise(2))
    assert isinstance(heard, str) and "<|" not in heard and heard == judge.transcribe(noise(2))
    assert judge.name == "whisper:whisper-converted" and len(judge.provenance()["weights"]) == 12


def test_dnsmos_judges_pieces(speech: np.ndarray) -> None:
    pytest.importorskip("speechmos")
    judge = judges.load("dnsmos")
    once = judge.predict_mos(speech)
    assert 2.5 < once < 4.5 and judge.predict_mos(noise(4)) < once - 0.5
    piece = np.resize(speech, 144_160)
    assert judge.predict_mos(piece) == pytest.approx(once)
    both = [judge.predict_mos(piece), judge.predict_mos(noise(9.01))]
    assert judge.predict_mos(np.concatenate([piece, noise(9.01), noise(4.5)])) == pytest.approx(np.mean(both))
    with pytest.raises(LabError, match="dnsmos without 'model.onnx'"):
        judges.load("dnsmos:model.onnx")


def test_without_distillmos_a_line_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distillmos", None)
    with pytest.raises(LabError, match="distillmos is not installed; `pip install --no-deps distillmos"):
        judges.load("distillmos")


def test_distillmos_judges_pieces(tmp_path: Path) -> None:
    pytest.importorskip("xls_r_sqa")
    from lab.judges.mos import _distillmos

    torch.manual_seed(0)
    model = _distillmos().ConvTransformerSQAModel(load_weights=False).eval()
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pt")
    judge = judges.load(f"distillmos:{tmp_path / 'weights.pt'}")
    first, second = noise(8), noise(8, seed=1) ** 3
    with torch.no_grad():
        each = [float(model(torch.from_numpy(piece)[None])) for piece in (first, second)]
    assert each[0] != pytest.approx(each[1], abs=1e-4)
    assert judge.predict_mos(np.concatenate([first, second, noise(3)])) == pytest.approx(np.mean(each), abs=1e-5)


@pytest.mark.parametrize("kind", ["wav2vec2", "hf-whisper", "wavlm", "ge2e", "dnsmos"])
def test_what_cannot_be_judged(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "dnsmos":
        pytest.importorskip("speechmos")
        judge = judges.load(kind)
    else:
        judge = judges.load(f"{kind}:{request.getfixturevalue(kind.removeprefix('hf-'))}")
    ask = next(getattr(judge, name) for name in ("transcribe", "embed_speaker", "predict_mos") if hasattr(judge, name))
    for waveform, told in [
        (noise(0), "0.00 s are too short"),
        (noise(0.09), "0.09 s are too short"),
        (np.full(32_000, 0.5, np.float32), "2.00 s of silence"),  # and a constant
        (np.full(32_000, np.nan, np.float32), "NaN"),
        (np.zeros((2, 16_000), np.float32), "shape"),
    ]:
        with pytest.raises(LabError, match=told):
            ask(waveform)


@pytest.mark.parametrize("kind", ["whisper", "hf-whisper", "wav2vec2", "wavlm", "ge2e", "distillmos"])
def test_a_missing_checkpoint(kind: str, tmp_path: Path) -> None:
    pytest.importorskip({"whisper": "faster_whisper", "distillmos": "xls_r_sqa"}.get(kind, "torch"))
    for path in (tmp_path / "nowhere", tmp_path):  # an empty folder
        with pytest.raises(LabError, match=f"^judge '{kind}:{path}': ") as error:
            judges.load(f"{kind}:{path}")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind, other", [("wav2vec2", "wavlm"), ("wavlm", "wav2vec2"), ("hf-whisper", "wav2vec2")])
def test_a_checkpoint_of_another_architecture(kind: str, other: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(LabError, match=f"^judge '{kind}:.* to be had: "):
        judges.load(f"{kind}:{request.getfixturevalue(other)}")


def test_a_checkpoint_without_a_head(wav2vec2: Path, tmp_path: Path) -> None:
    """wav2vec2-base, which was not taught to read: transformers would draw the missing weights at random."""
    Wav2Vec2ForCTC.from_pretrained(wav2vec2).wav2vec2.save_pretrained(tmp_path)
    for path in wav2vec2.iterdir():
        if path.suffix == ".json" and path.name != "config.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(LabError, match="it lacks 2 weights of a Wav2Vec2ForCTC, such as lm_head"):
        judges.load(f"wav2vec2:{tmp_path}")


def test_weights_by_their_published_names(wav2vec2: Path, tmp_path: Path) -> None:
    """Published checkpoints name the norm of a convolution as torch did before 2.0, and some lack what masks inputs."""
    shutil.copytree(wav2vec2, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "model.safetensors"
    norm = "wav2vec2.encoder.pos_conv_embed.conv."
    older = {f"{norm}parametrizations.weight.original{k}": f"{norm}weight_{part}" for k, part in enumerate("gv")}
    weights = {older.get(key, key): value for key, value in load_file(path).items()}
    assert set(older.values()) <= set(weights) and weights.pop("wav2vec2.masked_spec_embed") is not None
    save_file(weights, path, {"format": "pt"})
    heard = judges.load(f"wav2vec2:{tmp_path}").transcribe(noise(2))
    assert heard and heard == judges.load(f"wav2vec2:{wav2vec2}").transcribe(noise(2))


def test_other_weights_are_refused(tmp_path: Path, ge2e: Path) -> None:
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"model_state": {"lstm.weight_ih_l0": torch.zeros(1)}}, tmp_path / "half.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("text.pt", "half.pt", "list.pt"):
        with pytest.raises(LabError, match=f"{name} does not hold Resemblyzer's weights"):
            judges.load(f"ge2e:{tmp_path / name}")
    pytest.importorskip("xls_r_sqa")
    with pytest.raises(LabError, match="holds no weights of DistillMOS"):
        judges.load(f"distillmos:{ge2e}")


@pytest.mark.parametrize("spec, module", [("whisper:base", "faster_whisper"), ("dnsmos", "speechmos")])
def test_a_missing_package(spec: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "lab.judges.whisper", raising=False)
    with pytest.raises(LabError, match=rf"^judge '{spec}' lacks a package \(.*{module}.*speechssm-lab\[judges\]"):
        judges.load(spec)


def test_the_real_judges(real: Path, speech: np.ndarray) -> None:
    pytest.importorskip("faster_whisper")
    heard = judges.load(f"whisper:{real / 'whisper-base'}").transcribe(speech).lower()
    assert heard.startswith("the rain began to fall")
    told = judges.load(f"distillmos:{real / 'distillmos' / 'distill_mos_v7.pt'}")
    assert told.predict_mos(speech) > told.predict_mos(speech + noise(4)[: len(speech)]) + 0.3
