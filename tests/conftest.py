"""What several rooms' tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

# both are read once, when lab.recurrence and triton are imported
os.environ["LAB_CHECK"] = "1"
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import pytest
from hypothesis import settings
from torch import nn

from lab import audio, bundle
from lab.corpora import Utterance, narration, narrators
from lab.corpora.shards import Source
from lab.language import Griffin, GriffinConfig, SpeechTransformer, TransformerConfig
from lab.tokens import Tokenizer, TokenizerConfig
from lab.voice import Codec, CodecConfig, SoundStorm, SoundStormConfig
from tests.spoken import spoken

# a shell that runs the tests in the background, or nohup, has them ignored, and every process that a test starts
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

settings.register_profile("lab", deadline=None, derandomize=True)  # neither a busy machine nor chance is a failure
settings.load_profile("lab")

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from a second thread, and on a busy machine wait for it at each op."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def real_speech() -> Path:
    """A folder of LibriSpeech: LAB_LIBRISPEECH, or the one beside the repository."""
    folder = Path(os.environ.get("LAB_LIBRISPEECH") or ROOT.parent / "shared" / "speech" / "librispeech")
    if not folder.is_dir():
        pytest.skip("no LibriSpeech here; set LAB_LIBRISPEECH to a folder of it")
    return folder


@pytest.fixture(scope="session")
def models() -> dict[str, nn.Module]:
    """The models of a bundle, tiny, of matching sizes and untrained, but with codebooks in use."""
    torch.manual_seed(0)
    tokenizer, codec = Tokenizer(TokenizerConfig.preset("tiny")), Codec(CodecConfig.preset("tiny"))
    noise = torch.randn(1, 400, 640) * 10 ** torch.empty(1, 400, 1).uniform_(-4, -1)  # of another loudness each token
    for _ in range(20):
        tokenizer.quantizer(tokenizer.narrow(tokenizer.features(tokenizer.mel(noise.flatten(1)))))
    for level in codec.quantizer.levels:
        level.codebook.normal_()
        level.started.fill_(True)
    made = {
        "tokenizer": tokenizer,
        "griffin": Griffin(GriffinConfig.preset("tiny", vocabulary=32)),
        "transformer": SpeechTransformer(TransformerConfig.preset("tiny", vocabulary=32, context=128)),
        "soundstorm": SoundStorm(SoundStormConfig.preset("tiny")),
        "codec": codec,
        "griffin30": Griffin(GriffinConfig.preset("tiny", vocabulary=32)),
    }
    return {name: model.eval().requires_grad_(False) for name, model in made.items()}


@pytest.fixture(scope="session")
def tiny_bundle(models: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those models on disk. Tests that change it take a copy."""
    root = tmp_path_factory.mktemp("bundle")
    for name, model in models.items():
        bundle.save(
            root, name, model, {"data": f"nothing, as it is no real {name}"}, int8=name in ("griffin30", "transformer")
        )
    return root


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """4 s by a held-out narrator."""
    return narrators.named("Celia").read("the rain began to fall, and the badger felt sleepy. good night, badger.")[
        : 4 * audio.SAMPLE_RATE
    ]


@pytest.fixture
def desk(tmp_path: Path, tiny_bundle: Path, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with prompt.wav and the tiny bundle in use."""
    monkeypatch.setenv("LAB_BUNDLE", str(tiny_bundle))
    monkeypatch.chdir(tmp_path)
    audio.save("prompt.wav", speech)
    return tmp_path


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sources without narrators, read in this process: the numbers that were read."""
    asked: list[int] = []

    def read(number: int) -> tuple[Utterance, ...]:
        asked.append(number)
        return spoken(number)

    monkeypatch.setattr(Source, "of", lambda name: Source(f"{name} noise", read, range(1000), range(0, 1001, 2), 1.0))
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setattr(narration, "development_story", lambda number, sentences: spoken(number)[0])
    return asked
