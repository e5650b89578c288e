"""One JupyterLab, one Chromium and one page a session, and in it one notebook at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.lab import Notebook, Server, chromium, serve


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `--dist loadgroup`: one worker runs all of a file, whose tests share a notebook."""
    for item in items:
        if item.path.parent == Path(__file__).parent and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("lab")) as started:
        yield started


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium runs as root in a container only without its sandbox
        launched = playwright.chromium.launch(executable_path=chromium(), headless=True, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def opened(server: Server, browser: Browser) -> Callable[..., Notebook]:
    """Opens a notebook of the server's root, in place of the one before, whose kernel ends."""
    notebook = Notebook(browser, server)

    def opens(name: str, *, kernel: bool = True) -> Notebook:
        notebook.open(name, kernel=kernel)
        return notebook

    return opens
