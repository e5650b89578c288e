"""One JupyterLab and one Chromium a session; a page for each notebook that a test opens."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.lab import Notebook, Server, chromium, serve


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


@pytest.fixture(scope="module")
def opened(server: Server, browser: Browser) -> Iterator[Callable[..., Notebook]]:
    """Opens a notebook of the server's root; its page and kernel end with the module."""
    notebooks: list[Notebook] = []

    def opens(name: str, **options: object) -> Notebook:
        notebooks.append(Notebook(browser, server, name, **options))  # type: ignore[arg-type]
        return notebooks[-1]

    yield opens
    for notebook in notebooks:
        notebook.close()
