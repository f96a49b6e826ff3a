"""Draws bits per latent position as heat maps, side by side on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stfcodec.geometry import DOWNSAMPLING_Y

_MIN_SIDE, _MAX_SIDE = 256, 2048
"""Longer sides are drawn with fewer pixels per position, shorter ones with more."""
_ANCHORS = (
    (0.00, (4, 4, 24)),
    (0.25, (74, 18, 110)),
    (0.50, (188, 48, 92)),
    (0.75, (248, 140, 40)),
    (1.00, (252, 252, 190)),
)
"""Colours of the scale, from few bits to many; their lightness rises steadily."""
_TOP_PERCENTILE = 99.5
"""Of all positions: where the scale ends, so that single positions do not darken the rest."""
_DARKEST = 0.25
"""Factor of the colours where the picture below is black."""
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


@dataclass(frozen=True)
class Panel:
    """One heat map of a drawing."""

    title: str
    bits: np.ndarray
    """Bits at each latent position, (h, w)."""
    size: tuple[int, int]
    """Width and height of the picture in pixels; positions beyond it are cut off."""
    pixels: np.ndarray | None = None
    """uint8 (H, W, 3): the picture to draw the map over."""


def draw(panels: Sequence[Panel]) -> Image.Image:
    """An RGB image with the panels from left to right, their titles, and the scale below.

    One position is one square of the map. Colours stand for bits per position, with the same scale
    in all panels.
    """
    top = scale_end([panel.bits for panel in panels])
    maps = [_map(panel, top) for panel in panels]
    text = _font(max(image.height for image in maps))
    line, gap = round(1.6 * text.size), round(0.8 * text.size)
    captions = [_wrap(panel.title, text, m.width) for panel, m in zip(panels, maps, strict=True)]
    head = line * max(caption.count("\n") + 1 for caption in captions) + gap
    unit = f"bits per position of {DOWNSAMPLING_Y} x {DOWNSAMPLING_Y} pixels"
    # Below a narrow map, the scale is wider than the map.
    wanted = text.getlength(f"0  {unit}  {top:g} and more")
    width = max(sum(m.width for m in maps) + gap * (len(maps) - 1), round(wanted)) + 2 * gap
    height = head + max(m.height for m in maps) + 2 * gap + 2 * line
    image = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(image)
    x = gap
    for caption, m in zip(captions, maps, strict=True):
        pen.multiline_text((x, gap // 2), caption, _INK, text, spacing=line - text.size)
        image.paste(m, (x, head))
        x += m.width + gap
    _draw_scale(image, text, (gap, height - 2 * line - gap // 2), width - 2 * gap, unit, top)
    return image


def scale_end(maps: Sequence[np.ndarray]) -> float:
    """The number of bits that the brightest colour stands for: 1, 2 or 5 times a power of ten, or
    between them."""
    bits = np.concatenate([bits.ravel() for bits in maps])
    wanted = max(float(np.percentile(bits, _TOP_PERCENTILE)), 1.0)
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(next(m * power for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if m * power >= wanted))


def _map(panel: Panel, top: float) -> Image.Image:
    """The map at the picture's size, or at a power of two of it where that is small or large."""
    side = DOWNSAMPLING_Y
    while max(panel.size) * side // DOWNSAMPLING_Y < _MIN_SIDE:
        side *= 2
    while side > 1 and max(panel.size) * side // DOWNSAMPLING_Y > _MAX_SIDE:
        side //= 2
    width, height = (max(1, round(n * side / DOWNSAMPLING_Y)) for n in panel.size)
    bits = panel.bits.repeat(side, 0).repeat(side, 1)[:height, :width]
    tinted = colours(bits / top)
    if panel.pixels is not None:
        gray = Image.fromarray(panel.pixels).convert("L").resize((width, height))
        light = _DARKEST + (1 - _DARKEST) * np.asarray(gray, dtype=np.float32) / 255
        tinted = (tinted * light[:, :, None]).astype(np.uint8)
    return Image.fromarray(tinted)


def colours(values: np.ndarray) -> np.ndarray:
    """The scale's colours of values in 0…1, uint8 (…, 3)."""
    places = [place for place, _ in _ANCHORS]
    bands = [
        np.interp(values, places, [colour[band] for _, colour in _ANCHORS]) for band in range(3)
    ]
    return np.stack(bands, -1).round().astype(np.uint8)


def _draw_scale(
    image: Image.Image,
    text: ImageFont.FreeTypeFont,
    corner: tuple[int, int],
    width: int,
    unit: str,
    top: float,
) -> None:
    pen = ImageDraw.Draw(image)
    x, y = corner
    height = round(text.size)
    bar = colours(np.linspace(0, 1, width)[None].repeat(height, 0))
    image.paste(Image.fromarray(bar), (x, y))
    below = y + height + 2
    pen.text((x, below), "0", _INK, text)
    pen.text((x + width // 2, below), unit, _INK, text, anchor="ma")
    pen.text((x + width, below), f"{top:g} and more", _INK, text, anchor="ra")


def _font(height: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font in a size that suits maps of this height."""
    font = ImageFont.load_default(size=min(max(height / 32, 11), 28))
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _wrap(title: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The title in lines that are not wider than the map, words permitting."""
    lines: list[str] = []
    for word in title.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)
