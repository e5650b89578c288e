"""Links in the prose of a notebook that set what a figure below shows: `[four times](#set:four times the decay)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anywidget
import traitlets


class Links(anywidget.AnyWidget):
    """Nothing to see. A click on a link to one of `names` anywhere in the page calls `pressed` with the name.

    What stands behind `#set:` in the link is the name, with %20 for a space.
    """

    _esm = """
    function render({ model, el }) {
      const page = new AbortController();
      const press = (event) => {
        const href = event.target.closest?.("a")?.getAttribute("href") ?? "";
        const name = href.startsWith("#set:") && decodeURIComponent(href.slice(5));
        if (!model.get("names").includes(name)) return;
        event.preventDefault();
        event.stopPropagation();
        model.send({ name });
        el.closest(".jp-OutputArea")?.scrollIntoView({ block: "nearest" });
      };
      document.addEventListener("click", press, { capture: true, signal: page.signal });
      return () => page.abort();
    }
    export default { render };
    """
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, names: Iterable[str], pressed: Callable[[str], None]):
        super().__init__(names=list(names))
        self.on_msg(lambda _, message, buffers: pressed(message["name"]))
