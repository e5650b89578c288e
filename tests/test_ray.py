"""lab.corpora.engines.on_ray: a cluster makes the bytes that one process makes, whoever dies meanwhile."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from lab.corpora import engines, shards
from lab.corpora.shards import Source
from lab.errors import LabError
from tests.spoken import killed_once, niceness, refusing
from tests.test_shards import SOURCE, files


@pytest.fixture
def ray() -> Iterator[Any]:
    """Ray on this machine, which the engine starts."""
    yield (found := pytest.importorskip("ray"))
    found.shutdown()


def test_ray_makes_the_same_bytes_though_a_worker_is_killed(ray: Any, tmp_path: Path, tiny_bundle: Path) -> None:
    """What four processes make is in tests/test_shards.py. Whoever makes item 4 is killed, once."""
    died = tmp_path / "died"
    source = Source("noise", partial(killed_once, died, 4), range(8), range(0, 9, 2))
    shards.make(tmp_path / "ray", source, tiny_bundle, codes=True, workers=2, engine="ray")
    assert died.exists() and not psutil.pid_exists(int(died.read_text()))
    shards.make(tmp_path / "local", source, tiny_bundle, codes=True, workers=1)
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    assert list(engines.on_ray(niceness, [0], 1)) == [os.nice(0)]
    with pytest.raises(LabError, match=r"Ray gave up \(3 is refused; mend it\); when that is mended, the same"):
        list(engines.on_ray(refusing, [3], 1))


def test_ray_that_is_not_there_is_an_error(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="noise have no end, and Ray asks for it"):
        shards.make(tmp_path, SOURCE, tiny_bundle, engine="ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LabError, match=r"ray.* not installed; this needs `pip install speechssm-lab\[cluster\]`"):
        shards.make(tmp_path, replace(SOURCE, hours=None), tiny_bundle, engine="ray")


def test_a_machine_on_which_ray_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked for workers that are as important as we are, and to tell nobody."""
    asked: dict[str, Any] = {}

    def init(**options: Any) -> None:
        asked.update(options, told=os.environ["RAY_USAGE_STATS_ENABLED"])
        raise RuntimeError("The current node\ntimed out")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.setattr(engines, "require", lambda extra: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    with pytest.raises(LabError, match=r"Ray does not start .The current node timed out.; give --engine local"):
        list(engines.on_ray(refusing, [3], 2))
    assert asked["num_cpus"] == 2 and asked["told"] == "0" and asked["_system_config"] == {"worker_niceness": 0}


def test_a_cluster_that_does_not_answer_is_an_error(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: Ray itself asks for minutes, and then ends the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(LabError, match="no Ray cluster at 127.0.0.1:.*refused.*; start one, or unset RAY_ADDRESS"):
            list(engines.on_ray(refusing, [3], 1))
