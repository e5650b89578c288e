"""lab.bundle: what goes in comes out, to half precision or int8; what is missing, damaged or odd is an error."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from lab import bundle, cards
from lab.errors import LabError
from lab.language import Griffin, GriffinConfig
from lab.measure import figures
from lab.speech import SpeechSSM
from tests.test_audio import disk_of

TRAINING_ONLY = ("usage", "sums", "started")


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    entries = json.loads((root / "bundle.json").read_text())
    change(entries)
    (root / "bundle.json").write_text(json.dumps(entries))


NAMES = ("tokenizer", "griffin", "transformer", "soundstorm", "codec", "griffin30")  # of the fixture


@pytest.mark.parametrize("name", NAMES)
def test_what_goes_in_comes_out(tiny_bundle: Path, models: dict[str, nn.Module], name: str) -> None:
    """To half precision, 11 bits, or to int8, half of a step of 1 / 127 of a row's largest; vectors as they were."""
    given, loaded = models[name], bundle.load(tiny_bundle, name)
    assert type(loaded) is type(given) and loaded.config == given.config
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    theirs = loaded.state_dict()
    for key, value in given.state_dict().items():
        if key.rsplit(".", 1)[-1] in TRAINING_ONLY:
            continue
        assert theirs[key].dtype == value.dtype
        if value.ndim == 2 and name in ("griffin30", "transformer"):
            step = value.abs().amax(1, keepdim=True) / 127
            off = (theirs[key] - value).abs() / step
            assert 0.3 < off.max() <= 0.5001, key
        elif value.ndim > 1:
            torch.testing.assert_close(theirs[key], value, rtol=2**-11, atol=2**-24, msg=key)
        else:
            assert torch.equal(theirs[key], value), key


def test_what_was_rounded_stays_as_it_is(tiny_bundle: Path, tmp_path: Path) -> None:
    once = bundle.load(tiny_bundle, "transformer")
    bundle.save(tmp_path, "transformer", once, {}, int8=True)
    for key, value in bundle.load(tmp_path, "transformer").state_dict().items():
        torch.testing.assert_close(value, once.state_dict()[key], rtol=1e-6, atol=0, msg=key)
    on_disk = safetensors.torch.load_file(tmp_path / "transformer.safetensors")
    assert {value.dtype for value in on_disk.values() if value.ndim == 2} == {torch.int8}


def test_matrices_are_half_and_vectors_single_on_disk(tiny_bundle: Path) -> None:
    weights = safetensors.torch.load_file(tiny_bundle / "griffin.safetensors")
    assert any("decay" in key or "lambda" in key.lower() for key in weights)
    for key, value in weights.items():
        assert value.dtype == (torch.float16 if value.ndim > 1 else torch.float32), key


def test_averages_of_codebooks_stay_behind(tiny_bundle: Path) -> None:
    for name in ("tokenizer", "codec"):
        weights = safetensors.torch.load_file(tiny_bundle / f"{name}.safetensors")
        assert not [key for key in weights if key.rsplit(".", 1)[-1] in TRAINING_ONLY]
        assert any(key.endswith("codebook") for key in weights)


def test_index_and_size_and_description(tiny_bundle: Path, models: dict[str, nn.Module]) -> None:
    entries = bundle.index(tiny_bundle)
    assert entries.keys() == set(NAMES)
    assert bundle.size(tiny_bundle) == sum(path.stat().st_size for path in tiny_bundle.glob("*.safetensors"))
    for name, parameters, data in cards.describe(entries):
        assert parameters == sum(parameter.numel() for parameter in models[name].parameters())
        assert data == f"nothing, as it is no real {name}"


def test_saving_again_replaces_one_model(copy: Path, models: dict[str, nn.Module]) -> None:
    before = bundle.index(copy)
    bundle.save(copy, "griffin", models["griffin"], {"steps": 7})
    after = bundle.index(copy)
    assert after.pop("griffin")["card"] == {"steps": 7}
    del before["griffin"]
    assert after == before
    assert len(list(copy.iterdir())) == len(NAMES) + 1


def test_the_environment_names_the_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAB_BUNDLE", str(tmp_path))
    assert bundle.folder() == tmp_path
    monkeypatch.setenv("LAB_BUNDLE", "")
    assert bundle.folder().parts[-2:] == ("data", "bundle")


def damages() -> dict[str, tuple[Callable[[Path], object], str]]:
    """What may be wrong with the tokenizer of a bundle, and the words that must name it."""

    def config(**changes: Any) -> Callable[[Path], object]:
        return lambda root: edit(root, lambda entries: entries["tokenizer"]["config"].update(changes))

    def text(content: str | bytes) -> Callable[[Path], object]:
        content = content.encode() if isinstance(content, str) else content
        return lambda root: (root / "bundle.json").write_bytes(content)

    def weights(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
        def damage(root: Path) -> None:
            path = root / "tokenizer.safetensors"
            path.write_bytes(change(path.read_bytes()))

        return damage

    return {
        "no bundle": (shutil.rmtree, "there is no bundle in .*bundle; .*lab train all"),
        "a file for a folder": (lambda root: (shutil.rmtree(root), root.write_text("")), "there is no bundle in"),
        "no such model": (lambda root: edit(root, lambda e: e.pop("tokenizer")), "has no tokenizer; it has codec, gr"),
        "no weights": (lambda root: (root / "tokenizer.safetensors").unlink(), r"tokenizer\.safetensors is missing"),
        "truncated": (weights(lambda data: data[: len(data) // 2]), r"tokenizer\.safetensors is damaged"),
        "empty": (weights(lambda data: b""), r"tokenizer\.safetensors is damaged"),
        "not weights": (weights(lambda data: b"text" * 99), r"tokenizer\.safetensors is damaged"),
        "wider": (config(width=64), r"tokenizer\.safetensors does not fit the config"),
        "deeper": (config(blocks=2), r"tokenizer\.safetensors does not fit bundle\.json: before\.1"),
        "shallower": (config(blocks=0), r"tokenizer\.safetensors does not fit bundle\.json: before\.0"),
        "unknown field": (config(depth=3), r"bundle\.json: tokenizer cannot be built from its config: .*depth"),
        "nonsense": (config(width="wide"), r"bundle\.json: tokenizer cannot be built"),
        "negative": (config(width=-1), r"bundle\.json: tokenizer cannot be built"),
        "broken JSON": (text('{"tokenizer": {'), r"bundle\.json is damaged"),
        "not text": (text(b"\xff\xfe\x00"), r"bundle\.json is damaged"),
        "empty JSON": (text(""), r"bundle\.json is damaged"),
        "a list": (text("[]"), r"bundle\.json is damaged"),
        "no config": (text('{"tokenizer": {"card": {}}}'), r"bundle\.json is damaged \(tokenizer"),
        "unknown model": (
            text('{"mamba": {"config": {}, "card": {}}}'),
            r"bundle\.json is damaged \(mamba is a .mamba.; there are tokenizer, griffin",
        ),
    }


@pytest.mark.parametrize("name", damages())
def test_a_damaged_bundle_says_what_is_wrong(copy: Path, name: str) -> None:
    damage, message = damages()[name]
    damage(copy)
    with pytest.raises(LabError, match=message) as caught:
        bundle.load(copy, "tokenizer")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_bundle_that_cannot_be_written(tmp_path: Path, models: dict[str, nn.Module]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write to .*bundle.: Not a directory"):
        bundle.save(tmp_path / "file" / "bundle", "codec", models["codec"], {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("fails", ["weights", "index"])
def test_a_full_disk_leaves_no_half_file(copy: Path, models: dict[str, nn.Module], fails: str) -> None:
    size, card = {"weights": (10_000, {}), "index": (900_000, {"data": "x" * 10**6})}[fails]
    before = {path: path.read_bytes() for path in copy.iterdir()}  # the weights are the same, if they come so far
    with disk_of(size), pytest.raises(LabError, match="cannot write .*File too large"):
        bundle.save(copy, "codec", models["codec"], card)
    assert {path: path.read_bytes() for path in copy.iterdir()} == before


def test_a_damaged_index_is_not_written_over(copy: Path, models: dict[str, nn.Module]) -> None:
    (copy / "bundle.json").write_text("{")
    with pytest.raises(LabError, match="damaged"):
        bundle.save(copy, "codec", models["codec"], {})
    assert (copy / "bundle.json").read_text() == "{"


def test_models_that_were_not_trained_for_each_other(copy: Path, models: dict[str, nn.Module]) -> None:
    bundle.save(copy, "griffin", Griffin(GriffinConfig.preset("tiny", vocabulary=33)), {})
    with pytest.raises(LabError, match="tokenizer has 32 codes, the language model 33 and the voice 32"):
        SpeechSSM.load(copy)


def test_figures_are_recorded_in_the_cards(copy: Path) -> None:
    stoi = figures.Figure("codec", "STOI", 0.912345, low=0.9, high=0.92, n=8, command="lab measure codec --count 8")
    speed = figures.Figure("griffin", "speed", 2.0, temperature=0.5, seed=0, command="lab", uses=("tokenizer",))
    figures.record(copy, [stoi, speed], "a laptop, 2 cores")
    entries, digests = bundle.index(copy), bundle.digests(copy)
    told = entries["codec"]["card"]["figures"]["STOI"]
    assert date.fromisoformat(told.pop("date")) <= date.today()
    interval = {"low": 0.9, "high": 0.92, "n": 8}
    assert told == {"value": 0.9123, "machine": "a laptop, 2 cores", "command": "lab measure codec --count 8"} | (
        interval | {"weights": {"codec": digests["codec"]}}
    )
    told = entries["griffin"]["card"]["figures"]["speed"]
    assert (told["temperature"], told["seed"]) == (0.5, 0)
    assert told["weights"] == {name: digests[name] for name in ("griffin", "tokenizer")}
    assert entries["codec"]["card"]["data"]
    entries["codec"]["card"] |= {
        "steps": 900,
        "command": "lab train codec --warm",
        "before": {"steps": 2000, "before": {"steps": 1}},
    }
    shown = cards.table(cards.checked(entries, digests))
    assert "| codec | STOI | 0.9123 (0.9 to 0.92) | 8 | `lab measure codec --count 8` |" in shown
    assert "| griffin | speed, temperature 0.5 | 2 |" in shown
    assert "| codec | steps of training | 2,901 | | `lab train codec --warm` |" in shown
    assert len(list(copy.iterdir())) == len(NAMES) + 1


def test_stories_that_restart_are_called_so(copy: Path) -> None:
    """SpeechTransformer's of `lab measure coherence`; its likelihood needs no restart, and Griffin has none."""
    for model, what in (("transformer", "coherence"), ("transformer", "likelihood"), ("griffin", "coherence")):
        figures.record(copy, [figures.Figure(model, what, 0.5, command=f"lab measure {what} --count 8")], "a laptop")
    shown = cards.table(cards.checked(bundle.index(copy), bundle.digests(copy)))
    assert "| transformer, slide-and-prompt | coherence | 0.5 |" in shown
    assert "| transformer | likelihood | 0.5 |" in shown and "| griffin | coherence | 0.5 |" in shown
    assert "coherence" in bundle.index(copy)["transformer"]["card"]["figures"]  # stored under its own name


def test_a_figure_of_other_weights_is_not_printed(copy: Path, models: dict[str, nn.Module]) -> None:
    """Whichever of the models that decided it was trained again; one that tells of no weights is not verified."""
    of_both = figures.Figure("griffin", "parsed", 0.777, uses=("tokenizer",))
    figures.record(copy, [of_both, figures.Figure("codec", "STOI", 0.9)], "a laptop")
    with bundle.changing(copy) as entries:
        entries["soundstorm"]["card"]["figures"] = {"drift": {"value": 0.1, "command": "lab measure seams"}}

    def shown() -> str:
        return cards.table(cards.checked(bundle.index(copy), bundle.digests(copy)))

    assert "| 0.777 |" in shown() and "| 0.1, not verified |" in shown()
    tokenizer = deepcopy(models["tokenizer"])
    with torch.no_grad():
        next(parameter for name, parameter in tokenizer.named_parameters() if "ctc" in name).add_(1)
    bundle.save(copy, "tokenizer", tokenizer, {})
    assert "0.777" not in shown() and "| griffin | parsed | measure it again: tokenizer changed since |" in shown()
    assert "| 0.9 |" in shown()


def test_weights_that_are_missing_have_no_digest(copy: Path) -> None:
    (copy / "codec.safetensors").unlink()
    with pytest.raises(LabError, match="codec.safetensors in .* cannot be read: No such file"):
        bundle.digests(copy)


def test_any_number_of_models_of_a_kind(copy: Path, models: dict[str, nn.Module]) -> None:
    bundle.save(copy, "griffin-mine", models["griffin"], {"data": "mine"})
    assert type(bundle.load(copy, "griffin-mine")) is Griffin
    assert bundle.index(copy)["griffin-mine"]["kind"] == "griffin"
    with pytest.raises(LabError, match="a name without folders"):
        bundle.save(copy, "../griffin", models["griffin"], {})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])  # the last one is none in half precision
def test_weights_that_are_not_finite_are_not_saved(copy: Path, bad: float) -> None:
    before = {path: path.read_bytes() for path in copy.iterdir()}
    griffin = Griffin(GriffinConfig.preset("tiny", vocabulary=32))
    with torch.no_grad():
        griffin.embedding[3, 1] = bad
    for int8 in (False, True) if bad != 1e6 else (False,):
        with pytest.raises(LabError, match="griffin is not saved: embedding holds values that are not finite"):
            bundle.save(copy, "griffin", griffin, {}, int8=int8)
    assert {path: path.read_bytes() for path in copy.iterdir()} == before


def test_files_obey_the_umask(tmp_path: Path, models: dict[str, nn.Module]) -> None:
    old = os.umask(0o027)
    try:
        bundle.save(tmp_path / "bundle", "codec", models["codec"], {})
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "bundle").iterdir()} == {0o640}


def test_two_who_save_at_once_lose_nothing(tmp_path: Path, models: dict[str, nn.Module]) -> None:
    """The second waits while the first has read the index and not yet written it."""
    root = tmp_path / "bundle"
    with ThreadPoolExecutor() as pool:
        with bundle.changing(root) as entries:
            other = pool.submit(bundle.save, root, "codec", models["codec"], {})
            time.sleep(0.3)
            assert not other.done()
            entries["griffin"] = {"kind": "griffin", "config": {}, "card": {}}
        other.result()
    assert bundle.index(root).keys() == {"griffin", "codec"}
