"""A real JupyterLab in a real Chromium: what the tests of this folder drive.

The server has a token, a random port and Jupyter directories of its own. The page may reach nothing but that server:
other requests are aborted and kept in `Notebook.external`. Pictures go to out/browser.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, ConsoleMessage, Error, Locator, Page, Route

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "out" / "browser"
OPEN = """async path => {
    const panel = await jupyterapp.commands.execute("docmanager:open", {path});
    await panel.context.ready;
}"""
CLOSE = """async () => {
    const panel = jupyterapp.shell.currentWidget;
    await panel?.sessionContext?.shutdown();
    panel?.dispose();
}"""
STATUS = "status => jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === status"
RUN = """index => {
    const notebook = jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = index; notebook.deselectAll(); window.done = null;
    jupyterapp.commands.execute("notebook:run-cell").then(() => { window.done = index });
}"""
# What JupyterLab 4 raises of a notebook that is closed, at times after the next was opened: a promise is rejected, and
# `shutdown_reply` of its kernel comes when `session` is null (SessionContext._onIopubMessage).
CLOSED = ("Disposed", "Cannot read properties of null (reading 'kernel')")
FORGOTTEN = "promise was garbage collected"  # at times, of a notebook opened while JupyterLab disposes of another
ERRORS = """() => jupyterapp.shell.currentWidget.content.widgets.flatMap((cell, index) =>
    [...Array(cell.model.outputs?.length || 0).keys()].map(i => cell.model.outputs.get(i).toJSON())
        .filter(({output_type}) => output_type === "error").map(({ename, evalue}) => [index, `${ename}: ${evalue}`]))"""


class Server:
    """A JupyterLab whose files are in `root`."""

    def __init__(self, url: str, token: str, root: Path):
        self.url, self.token, self.root = url, token, root

    def write(self, name: str, cells: Sequence[str]) -> Path:
        """A notebook of code cells that was never run."""
        path = self.root / name
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}  # else the page asks for one
        nbformat.write(notebook, path)
        return path


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Starts a JupyterLab below `folder`, waits for it, and ends it with all its kernels."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, root, own = secrets.token_hex(16), folder / "root", {"IPYTHONDIR": str(folder / "ipython")}
    root.mkdir()
    for kind in ("CONFIG", "DATA", "RUNTIME"):
        own[f"JUPYTER_{kind}_DIR"] = str(folder / kind.lower())
    settings = folder / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')  # else it asks, over the page
    options = f"""--no-browser --allow-root --ip=127.0.0.1 --port={port} --port-retries=0 --expose-app-in-browser
        --IdentityProvider.token={token} --ServerApp.root_dir={root} --LabApp.news_url=None
        --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate""".split()
    env = {"OMP_NUM_THREADS": "1", "LAB_PROFILE": "smoke", **os.environ, **own}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=env, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(f"{url}/api/status?token={token}", process, folder / "server.log")
            yield Server(url, token, root)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise RuntimeError("these tests need Chromium on the PATH, such as Debian's package chromium")


class Notebook:
    """One notebook at a time in a page that is loaded once, as JupyterLab takes 6 s of processor time to load.

    external, console: what was asked of other servers, and errors, since the notebook was opened.
    """

    def __init__(self, browser: Browser, server: Server):
        self.external: list[str] = []
        self.console: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": 1280, "height": 1400})
        self.page.set_default_timeout(60_000)
        self.page.route("**/*", self._routed)
        self.page.on("console", self._logged)
        self.page.on("pageerror", lambda error: None if str(error) in CLOSED else self.console.append(str(error)))
        self.page.goto(f"{server.url}/lab?token={server.token}&reset")
        self.page.wait_for_function("() => window.jupyterapp")
        self.page.evaluate("() => jupyterapp.restored.then(() => jupyterapp.shell.collapseLeft())")

    def open(self, name: str, *, kernel: bool = True) -> None:
        """Opens a notebook of the server's root, in place of the one before; kernel: waits until it is idle."""
        self.close()
        self.console.clear(), self.external.clear()
        try:
            self.page.evaluate(OPEN, name)
        except Error as error:
            if FORGOTTEN not in error.message:
                raise
            self.page.evaluate(OPEN, name)
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        if kernel:
            self.page.wait_for_function(STATUS, arg="idle")

    def _routed(self, route: Route) -> None:
        url = route.request.url
        if url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            route.continue_()
        else:
            self.external.append(url)
            route.abort()

    def _logged(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.console.append(message.text)

    def start(self, index: int) -> None:
        """Begins to run a cell, and does not wait."""
        self.page.evaluate(RUN, index)

    def run(self, index: int) -> Locator:
        """Runs a cell, waits for the end of that run, and gives the cell."""
        self.start(index)
        self.page.wait_for_function("index => window.done === index", arg=index)
        return self.cell(index)

    def run_all(self) -> bool:
        """Runs all cells; False if one raised, and the rest did not run."""
        return self.page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")

    def cell(self, index: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def errors(self) -> list[tuple[int, str]]:
        """Index of the cell and message of every error among the outputs."""
        return [tuple(error) for error in self.page.evaluate(ERRORS)]

    def evaluate(self, code: str) -> Any:
        """What an expression is in the kernel, by way of JSON, without a cell."""
        script = """code => new Promise(done => {
            const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            const future = kernel.requestExecute({code: "", user_expressions: {value: code}, store_history: false});
            future.onReply = reply => done(reply.content.user_expressions.value);
        })"""
        value = self.page.evaluate(script, f"__import__('json').dumps({code})")
        assert value["status"] == "ok", value
        return json.loads(value["data"]["text/plain"][1:-1].replace("\\\\", "\\"))

    def theme(self, dark: bool) -> None:
        name = "JupyterLab Dark" if dark else "JupyterLab Light"
        self.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
        self.page.wait_for_function(f"() => document.body.dataset.jpThemeLight === '{str(not dark).lower()}'")

    def picture(self, name: str, of: Locator | None = None) -> Path:
        """A PNG in out/browser, of the page or of an element."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        path = PICTURES / f"{name}.png"
        (of or self.page).screenshot(path=path)
        return path

    def close(self) -> None:
        """Closes the notebook and ends its kernel, so that the next one has the processor to itself."""
        self.page.evaluate(CLOSE)
