"""Bundles on the Hugging Face hub, with a folder in its place."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml

from lab import SpeechSSM, bundle, cards
from lab.errors import LabError
from lab.paths import data_folder
from tests.commands import lab, refused


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What is offered as user/name lies there and is fetched from there."""
    root = tmp_path / "hub"

    class Api:
        def create_repo(self, name: str, private: bool, exist_ok: bool) -> str:
            assert exist_ok
            (root / name).mkdir(parents=True, exist_ok=True)
            return f"https://hub/{name}{' (private)' if private else ''}"

        def create_commit(self, name: str, operations: Sequence[Any], commit_message: str) -> None:
            for each in operations:
                data = each.path_or_fileobj
                (root / name / each.path_in_repo).write_bytes(
                    data if isinstance(data, bytes) else Path(data).read_bytes()
                )

    def snapshot_download(name: str, allow_patterns: Sequence[str]) -> str:
        if not (root / name).is_dir():
            raise ConnectionError("no network")
        return shutil.copytree(root / name, tmp_path / "cache", ignore=lambda *_: ["README.md"], dirs_exist_ok=True)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    bundle._fetched.cache_clear()
    yield root
    bundle._fetched.cache_clear()


def test_what_is_offered_can_be_spoken_with(hub: Path, desk: Path, tiny_bundle: Path) -> None:
    result = lab("push", "ann/owl", "--private", "--json")
    assert result.exit_code == 0 and '"https://hub/ann/owl (private)"' in result.stdout, result.output
    names = {f"{name}.safetensors" for name in bundle.index(tiny_bundle)}
    assert {path.name for path in (hub / "ann/owl").iterdir()} == names | {"bundle.json", "digests.json", "README.md"}
    card = (hub / "ann/owl/README.md").read_text()
    assert "hf://ann/owl" in card and "| griffin | " in card and "nothing, as it is no real griffin" in card
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "unknown"  # nobody said what these learnt from
    assert cards.licence(bundle.digests(data_folder() / "bundle")) == "apache-2.0"
    ours, theirs = SpeechSSM.load(tiny_bundle), SpeechSSM.load("hf://ann/owl")
    assert bundle.fingerprint(ours.tokenizer) == bundle.fingerprint(theirs.tokenizer)
    result = lab("tokens", "prompt.wav", "--bundle", "hf://ann/owl")
    assert result.exit_code == 0, result.output


def test_what_came_damaged_is_an_error(hub: Path, desk: Path) -> None:
    assert lab("push", "ann/owl").exit_code == 0
    path = hub / "ann/owl/griffin.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(LabError, match="griffin of hf://ann/owl is not what was offered; delete .*cache"):
        SpeechSSM.load("hf://ann/owl")
    os.remove(hub / "ann/owl/digests.json")
    shutil.rmtree(hub.parent / "cache")
    with pytest.raises(LabError, match="hf://ann/owl is no bundle: its digests.json cannot be read"):
        SpeechSSM.load("hf://ann/owl")


def test_without_a_network_or_the_package(hub: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="ann/none is no folder and cannot be fetched .*no network.*give a folder with"):
        SpeechSSM.load("hf://ann/none")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(LabError, match=r"ann/none is no folder, .* needs `pip install speechssm-lab\[hub\]`"):
        SpeechSSM.load("hf://ann/none")
    refused("offering a bundle needs `pip install speechssm-lab[hub]`", "push", "ann/owl")
