"""What photographs do not teach: flat colours, gradients, text and boxes as on screens.

A codec trained on photographs alone turns a white page grey and makes text ring.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_LETTERS = "etaoinshrdlucmfwypvbgkqjxzETAOINSHR0123456789.,:;-()   "


def synthetic_pictures(count: int, size: int, seed: int = 0) -> list[Tensor]:
    """(size, size, 3) uint8 each: in turn screens, gradients, screens."""
    rng = np.random.default_rng(seed)
    kinds = (_screen, _gradient, _screen)
    return [torch.from_numpy(kinds[i % len(kinds)](rng, size)) for i in range(count)]


def paste_flat(crops: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """crops (B, 3, H, W) in 0…1, a rectangle of one colour on this share of them.

    Half of the rectangles span the crop's height, half its width. Colours are multiples of 1/255,
    two in five grey; each component is 0 or 1 in a third of them. Nothing waits for the device.
    """
    B, _, H, W = crops.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=crops.device)

    colour, grey = uniform(B, 3), uniform(B, 1) < 0.4
    colour = torch.where(grey, colour[:, :1], colour) * 1.5 - 0.25
    colour = colour.clamp(0, 1).mul(255).round() / 255
    extent = (uniform(2, B) * 2).clamp(max=1)
    start = uniform(2, B) * (1 - extent)
    pasted = (uniform(B) < share)[:, None, None]
    for axis, side in enumerate((H, W)):
        place = (torch.arange(side, device=crops.device) + 0.5) / side
        first, last = start[axis, :, None], (start + extent)[axis, :, None]
        along = (place >= first) & (place < last)
        pasted = pasted & along.unsqueeze(2 - axis)
    return torch.where(pasted[:, None], colour[:, :, None, None], crops)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """White, black, grey, a corner of the cube of colours, or any."""
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
    """From one colour to another, in any direction."""
    low, high = (np.array(_colour(rng), float) for _ in range(2))
    angle = rng.random() * 2 * np.pi
    along = np.linspace(-1, 1, size)
    place = np.cos(angle) * along[:, None] + np.sin(angle) * along
    share = (place - place.min()) / np.ptp(place)
    return np.round(low + (high - low) * share[:, :, None]).astype(np.uint8)


def _screen(rng: np.random.Generator, size: int) -> np.ndarray:
    """Boxes, lines and text on a plain ground."""
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
