"""The pictures of figures that notebooks store."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageColor

from lab.view import style
from tests.notebooks.static import indexed


def test_a_picture_keeps_the_colours_of_its_smallest_points():
    """Beside a spectrogram of as many greys as a palette has."""
    pixels = np.full((400, 600, 3), 255, np.uint8)
    pixels[:300] = np.random.default_rng(0).integers(117, 256, (300, 600, 1))
    colours = [style.PROMPT, style.CONTINUATION, style.SEAM]
    for number, colour in enumerate(colours):
        pixels[350, number : number + 30 * len(colours) : len(colours)] = ImageColor.getrgb(colour)
    found = np.asarray(Image.open(io.BytesIO(indexed(Image.fromarray(pixels)))).convert("RGB")).astype(int)
    for number, colour in enumerate(colours):
        assert np.abs(found[350, number] - ImageColor.getrgb(colour)).max() < 16
