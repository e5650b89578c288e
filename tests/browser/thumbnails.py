"""The README's pictures of the notebooks, from what test_notebooks.py saw in JupyterLab: `make thumbnails`.

That test leaves out/browser/NAME.png, the first player or figure of each notebook after a run.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.browser.lab import PICTURES, ROOT
from tests.notebooks.execute import FOLDER
from tests.notebooks.static import indexed

SIZE = 480, 300  # twice as wide as the README shows them, for dense displays


def thumbnail(source: Path, target: Path) -> None:
    """Shrink to the width of SIZE and keep the top: 10 to 40 kB."""
    picture = Image.open(source).convert("RGB")
    height = round(picture.height * SIZE[0] / picture.width)
    shrunk = picture.resize((SIZE[0], height), Image.Resampling.LANCZOS)
    page = Image.new("RGB", SIZE, "white")
    page.paste(shrunk, (0, max(0, (SIZE[1] - height) // 2)))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(indexed(page))


if __name__ == "__main__":
    for notebook in sorted(FOLDER.glob("*.ipynb")):
        target = ROOT / "data" / "pictures" / "notebooks" / f"{notebook.stem}.png"
        thumbnail(PICTURES / f"{notebook.stem}.png", target)
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1e3:.0f} kB")
