"""Synthetic training pictures: flat colours, gradients, and text and boxes as on screens.

A codec trained on photographs alone turns a white page grey and gives text ringing artefacts.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_LETTERS = "etaoinshrdlucmfwypvbgkqjxzETAOINSHR0123456789.,:;-()   "


def synthetic_pictures(count: int, size: int, seed: int = 0) -> list[Tensor]:
    """Pictures (size, size, 3) uint8: a third of them gradients, the others like screens."""
    rng = np.random.default_rng(seed)
    kinds = (_screen, _gradient, _screen)
    return [torch.from_numpy(kinds[i % len(kinds)](rng, size)) for i in range(count)]


def paste_rectangles(crops: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Paste a rectangle of one random colour onto a `share` (0…1) of the crops.

    crops: (B, 3, H, W) in 0…1. Half of the rectangles span the height of the crop, half its width.
    Two in five are grey. Components are multiples of 1/255, and a third of them are 0 or 1. No
    operation waits for the device.
    """
    B, _, H, W = crops.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=crops.device)

    colour, is_grey = uniform(B, 3), uniform(B, 1) < 0.4
    colour = torch.where(is_grey, colour[:, :1], colour) * 1.5 - 0.25
    colour = colour.clamp(0, 1).mul(255).round() / 255
    extent = (uniform(2, B) * 2).clamp(max=1)
    begin = uniform(2, B) * (1 - extent)
    inside = (uniform(B) < share)[:, None, None]
    for axis, side in enumerate((H, W)):
        position = (torch.arange(side, device=crops.device) + 0.5) / side
        first, last = begin[axis, :, None], (begin + extent)[axis, :, None]
        inside_along_axis = (position >= first) & (position < last)
        inside = inside & inside_along_axis.unsqueeze(2 - axis)
    return torch.where(inside[:, None], colour[:, :, None, None], crops)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Random: white, black, a grey, a corner of the RGB cube, or any colour."""
    kind = rng.random()
    if kind < 0.25:
        return 255, 255, 255
    if kind < 0.35:
        return 0, 0, 0
    if kind < 0.5:
        grey = int(rng.integers(256))
        return grey, grey, grey
    r, g, b = (255 * rng.integers(0, 2, 3) if kind < 0.7 else rng.integers(0, 256, 3)).tolist()
    return r, g, b


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    """A linear gradient between two colours, in any direction."""
    first, second = (np.array(_colour(rng), float) for _ in range(2))
    angle = rng.random() * 2 * np.pi
    axis = np.linspace(-1, 1, size)
    position = np.cos(angle) * axis[:, None] + np.sin(angle) * axis
    weight = (position - position.min()) / np.ptp(position)
    return np.round(first + (second - first) * weight[:, :, None]).astype(np.uint8)


def _screen(rng: np.random.Generator, size: int) -> np.ndarray:
    """Boxes, lines and text on a background of one colour."""
    image = Image.new("RGB", (size, size), _colour(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 10))):
        x, y, w, h = (int(v) for v in rng.integers(0, size, 4))
        outline = _colour(rng) if rng.random() < 0.5 else None
        draw.rectangle((x, y, x + w // 2, y + h // 3), _colour(rng), outline)
    for _ in range(int(rng.integers(0, 6))):
        ends = tuple(int(v) for v in rng.integers(0, size, 4))
        draw.line(ends, _colour(rng), int(rng.integers(1, 4)))
    for _ in range(int(rng.integers(4, 14))):
        font = ImageFont.load_default(float(rng.integers(9, 32)))
        text = "".join(rng.choice(list(_LETTERS), int(rng.integers(5, 60))))
        x, y = (int(v) for v in rng.integers(0, size, 2))
        draw.text((x // 2, y), text, _colour(rng), font)
    return np.array(image)
