"""Photographs to train on, and crops of them.

Photographs are decoded once, as uint8. Random crops are gathered on the training device.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stfcodec.errors import ImageError, UsageError
from stfcodec.formats import PICTURE_SUFFIXES
from stfcodec.imageio import read_picture, to_8_bits
from stfcodec.train.settings import Settings
from stfcodec.train.synthetic import synthetic_pictures

_HELD_OUT_INTERVAL = 10
"""Of so many photographs, in the order of their names, the last is not trained on."""


def find_pictures(folder: Path) -> list[Path]:
    """All picture files below `folder`, in the order of their names."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)


def load_photographs(folder: Path, min_side: int, limit: int | None = None) -> list[Tensor]:
    """The pictures below `folder` with sides of at least `min_side` pixels, each (H, W, 3) uint8.

    limit: look at the first so many files only. Unreadable files are skipped. Raises UsageError if
    no picture is left.
    """

    def load(path: Path) -> Tensor | None:
        try:
            pixels = to_8_bits(read_picture(path).pixels)
        except ImageError:
            return None
        if min(pixels.shape[:2]) < min_side:
            return None
        return torch.from_numpy(np.ascontiguousarray(pixels))

    Image.init()  # plugin registration is not thread-safe
    with ThreadPoolExecutor() as pool:
        photographs = [p for p in pool.map(load, find_pictures(folder)[:limit]) if p is not None]
    if not photographs:
        raise UsageError(f"{folder}: no picture of at least {min_side}x{min_side}")
    return photographs


def split_held_out(photographs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The photographs to train on, and those to validate with: every tenth.

    Fewer than ten photographs are used for both.
    """
    held_out = photographs[_HELD_OUT_INTERVAL - 1 :: _HELD_OUT_INTERVAL]
    if not held_out:
        return photographs, photographs
    last = _HELD_OUT_INTERVAL - 1
    return [p for i, p in enumerate(photographs) if i % _HELD_OUT_INTERVAL != last], held_out


def downscale(photographs: list[Tensor], scale: float, min_side: int) -> list[Tensor]:
    """Photographs (H, W, 3) uint8 at `scale` (0…1) of their width and height.

    Those with a side below `min_side` after that are left out.
    """

    def resize(p: Tensor) -> Tensor:
        size = round(p.shape[1] * scale), round(p.shape[0] * scale)
        image = Image.fromarray(p.numpy()).resize(size, Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(image))

    chosen = [p for p in photographs if round(min(p.shape[:2]) * scale) >= min_side]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(resize, chosen))


def training_pictures(photographs: list[Tensor], settings: Settings, min_side: int) -> list[Tensor]:
    """The photographs, downscaled ones and synthetic ones as the settings ask, (H, W, 3) uint8."""
    pictures = [*photographs]
    if settings.shrunk:
        pictures += downscale(photographs, settings.shrunk, min_side)
    side = 2 * min_side
    area = sum(p.shape[0] * p.shape[1] for p in pictures)
    count = round(settings.synthetic * area / side**2)
    return [*pictures, *synthetic_pictures(count, side)]


class CropSampler:
    """Draws random crops, each flipped left to right with probability ½.

    A photograph is drawn with a probability proportional to its area. All data and operations are
    on one device, and no operation waits for it.
    """

    def __init__(self, photographs: list[Tensor], device: torch.device, seed: int = 0) -> None:
        """photographs: (H, W, 3) uint8 each, at least as large as the crops."""
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device
        self.pixels = torch.cat([p.view(-1, 3) for p in photographs]).to(device)
        sides = torch.tensor([p.shape[:2] for p in photographs])
        areas = sides.prod(1)
        self.sides = sides.to(device)
        self.ends = areas.cumsum(0).to(device)
        """Index into `pixels` behind the last pixel of each photograph."""
        self.starts = self.ends - areas.to(device)

    def __call__(self, batch: int, size: int) -> Tensor:
        """Crops (batch, 3, size, size), float32 in 0…1, channels last in memory."""
        u = torch.rand(4, batch, generator=self.generator, device=self.device, dtype=torch.float64)
        chosen = torch.searchsorted(self.ends, (u[0] * self.ends[-1]).long(), right=True)
        height, width = self.sides[chosen].unbind(1)
        top = (u[1] * (height - size + 1)).long()
        left = (u[2] * (width - size + 1)).long()
        offsets = torch.arange(size, device=self.device)
        rows = top[:, None] + offsets
        columns = left[:, None] + torch.where(u[3, :, None] < 0.5, offsets.flip(0), offsets)
        row_starts = self.starts[chosen, None] + rows * width[:, None]
        indices = row_starts[:, :, None] + columns[:, None]
        crops = self.pixels.index_select(0, indices.flatten()).view(batch, size, size, 3)
        return crops.permute(0, 3, 1, 2).float() / 255


def centre_crops(photographs: list[Tensor], size: int, count: int) -> Tensor:
    """The centres of at most `count` evenly chosen photographs, (n, 3, size, size) in 0…1.

    `size` is a multiple of 64. It is reduced to a smaller one if a chosen photograph needs that.
    """
    chosen = photographs[:: max(1, len(photographs) // count)][:count]
    size = min(size, *(min(p.shape[:2]) // 64 * 64 for p in chosen))
    crops = []
    for p in chosen:
        top, left = (p.shape[0] - size) // 2, (p.shape[1] - size) // 2
        crops.append(p[top : top + size, left : left + size])
    return torch.stack(crops).permute(0, 3, 1, 2).float() / 255


def calibration_crops(photographs: list[Tensor], size: int, batches: int) -> list[Tensor]:
    """Batches of random crops (4, 3, size, size) for `coding_tables.fit_for_coding`.

    The same for the same photographs every time.
    """
    sampler = CropSampler(photographs, torch.device("cpu"))
    return [sampler(4, size) for _ in range(batches)]
