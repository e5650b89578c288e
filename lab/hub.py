"""Folders on the Hugging Face hub, fetched and offered. What holds weights is safetensors, never a pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.extras import MissingExtra


def fetch(name: str, patterns: Sequence[str]) -> Path:
    """The folder in which huggingface_hub keeps the files of a repository, downloaded if needed.

    Raises MissingExtra without that package, LabError without a network where the files are not here yet, and for no
    such name.
    """
    hub = _hub(f"{name} is no folder, and fetching it from the hub")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(patterns)))
    except Exception as error:  # whatever the hub, the network or the disk says
        raise LabError(
            f"{name} is no folder and cannot be fetched from huggingface.co ({_said(error)}); where it asks for a "
            f"licence accept that there and run `hf auth login`; without a network give a folder with "
            f"{', '.join(patterns)}"
        ) from error


def push(name: str, files: Mapping[str, Path | bytes], private: bool) -> str:
    """Offers files by their names in one commit, in a repository that is made if need be: its address.

    Raises LabError as `fetch` does, and where one is not logged in.
    """
    hub = _hub("offering a bundle")
    try:
        operations = [hub.CommitOperationAdd(path, file) for path, file in files.items()]
        api = hub.HfApi()
        address = str(api.create_repo(name, private=private, exist_ok=True))
        api.create_commit(name, operations, commit_message="Offer a bundle of SpeechSSM Lab")
    except Exception as error:
        raise LabError(f"cannot offer {name} on huggingface.co ({_said(error)}); run `hf auth login` first") from error
    return address


def _hub(what: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise MissingExtra(f"{what} needs `pip install speechssm-lab[hub]`") from None
    return huggingface_hub


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
