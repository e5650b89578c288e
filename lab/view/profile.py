"""How much a notebook does: the environment variable LAB_PROFILE.

`smoke` is for tests, under a minute a notebook; `laptop`, the default, for readers, under five.
"""

from __future__ import annotations

import os
from importlib import metadata
from typing import TypeVar

import torch
from IPython.display import HTML, display

from lab import machine
from lab.errors import LabError
from lab.view import style

PROFILES = ("smoke", "laptop")
T = TypeVar("T")


def profile() -> str:
    """The name of the profile. LabError when LAB_PROFILE holds another one."""
    name = os.environ.get("LAB_PROFILE", "laptop")
    if name not in PROFILES:
        raise LabError(f"LAB_PROFILE is {name!r}; it can be {' or '.join(PROFILES)}")
    return name


def pick(smoke: T, laptop: T) -> T:
    """The one of the two that belongs to the profile."""
    return {"smoke": smoke, "laptop": laptop}[profile()]


def start() -> None:
    """Print what a notebook runs on in one line: versions, machine, profile.

    Figures take the page's colour of text, and what a cell frees is there for the next.
    """
    machine.keep_freed_memory()
    lab = metadata.version("speechssm-lab")
    print(f"lab {lab}, torch {torch.__version__}, {machine.name()}, profile {profile()}")
    display(HTML(style.PAGE))
