"""Photographs, decoded once and kept as uint8 on the device that trains; random crops of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stfcodec.errors import ImageError, UsageError
from stfcodec.imageio import read_picture

EXTENSIONS = {".avif", ".png", ".jpg", ".jpeg", ".webp", ".ppm", ".tif", ".tiff"}

HELD_OUT = 10
"""Every so many photographs, in the order of their names, one is never trained on."""


def load_photographs(folder: Path, smallest: int, limit: int | None = None) -> list[Tensor]:
    """Every picture below `folder` whose sides are at least `smallest`, as (H, W, 3) uint8.

    Files that are not readable pictures are passed over. Raises UsageError when none is left.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS)[:limit]

    def load(path: Path) -> Tensor | None:
        try:
            pixels = read_picture(path).pixels
        except ImageError:
            return None
        if min(pixels.shape[:2]) < smallest:
            return None
        return torch.from_numpy(np.ascontiguousarray(pixels))

    Image.init()  # plugin registration is not thread-safe
    with ThreadPoolExecutor() as pool:
        photographs = [p for p in pool.map(load, paths) if p is not None]
    if not photographs:
        raise UsageError(f"{folder}: no picture of at least {smallest}x{smallest} to train on")
    return photographs


def divide(photographs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Those to train on, and those held out to see how training does; all serve as both where
    there are too few."""
    held = photographs[HELD_OUT - 1 :: HELD_OUT]
    if not held:
        return photographs, photographs
    return [p for i, p in enumerate(photographs) if i % HELD_OUT != HELD_OUT - 1], held


def shrink(photographs: list[Tensor], scale: float, smallest: int) -> list[Tensor]:
    """(H, W, 3) uint8, `scale` times as high and wide, of those that are then still `smallest`."""

    def resize(p: Tensor) -> Tensor:
        size = round(p.shape[1] * scale), round(p.shape[0] * scale)
        image = Image.fromarray(p.numpy()).resize(size, Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(image))

    chosen = [p for p in photographs if round(min(p.shape[:2]) * scale) >= smallest]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(resize, chosen))


class CropSampler:
    """Random crops, flipped at random; photographs are drawn in proportion to their area.

    Everything lies and happens on one device, and nothing of it is waited for.
    """

    def __init__(self, photographs: list[Tensor], device: torch.device, seed: int = 0) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device
        self.pixels = torch.cat([p.view(-1, 3) for p in photographs]).to(device)
        sides = torch.tensor([p.shape[:2] for p in photographs])
        areas = sides.prod(1)
        self.sides = sides.to(device)
        self.ends = areas.cumsum(0).to(device)
        self.starts = self.ends - areas.to(device)

    def __call__(self, batch: int, size: int) -> Tensor:
        """(batch, 3, size, size) float32 in 0…1, channels last in memory."""
        u = torch.rand(4, batch, generator=self.generator, device=self.device, dtype=torch.float64)
        chosen = torch.searchsorted(self.ends, (u[0] * self.ends[-1]).long(), right=True)
        height, width = self.sides[chosen].unbind(1)
        top = (u[1] * (height - size + 1)).long()
        left = (u[2] * (width - size + 1)).long()
        along = torch.arange(size, device=self.device)
        rows = top[:, None] + along
        cols = left[:, None] + torch.where(u[3, :, None] < 0.5, along.flip(0), along)
        places = (self.starts[chosen, None] + rows * width[:, None])[:, :, None] + cols[:, None]
        crops = self.pixels.index_select(0, places.flatten()).view(batch, size, size, 3)
        return crops.permute(0, 3, 1, 2).float() / 255


def middle_crops(photographs: list[Tensor], size: int, count: int) -> Tensor:
    """(count or fewer, 3, size, size) float32 in 0…1: the middles of photographs evenly chosen.

    Smaller, but still a multiple of 64, where a photograph is.
    """
    chosen = photographs[:: max(1, len(photographs) // count)][:count]
    size = min(size, *(min(p.shape[:2]) // 64 * 64 for p in chosen))
    crops = []
    for p in chosen:
        top, left = (p.shape[0] - size) // 2, (p.shape[1] - size) // 2
        crops.append(p[top : top + size, left : left + size])
    return torch.stack(crops).permute(0, 3, 1, 2).float() / 255


def calibration_crops(photographs: list[Tensor], size: int, batches: int) -> list[Tensor]:
    """The same crops every time: batches of (4, 3, size, size), for `fitting.make_coding`."""
    sampler = CropSampler(photographs, torch.device("cpu"))
    return [sampler(4, size) for _ in range(batches)]
