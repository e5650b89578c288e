"""One JupyterLab, one Chromium and one page a session, and in it one notebook at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.browser.lab import Notebook, Server, chromium, serve


class ByNotebook(LoadScopeScheduling):
    """One worker runs all of a file, or in test_notebooks.py all of a notebook, whose tests share a kernel.

    `--dist loadgroup` would do, but xdist 3.8 loses its groups under pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return test.partition("[")[2] if file.endswith("test_notebooks.py") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByNotebook:
    return ByNotebook(config, log)


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


@pytest.fixture(scope="module")
def notebook(request: pytest.FixtureRequest, server: Server, opened: Callable[..., Notebook]) -> Notebook:
    """A notebook of the module's CELLS, of which the first was run."""
    name = f"{request.module.__name__.rpartition('.')[2]}.ipynb"
    server.write(name, request.module.CELLS)
    notebook = opened(name)
    notebook.run(0)
    return notebook
