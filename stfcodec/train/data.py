"""Photographs, decoded once and kept as uint8 in memory; random crops cut from them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from stfcodec.errors import ImageError, UsageError
from stfcodec.imageio import read_picture

_EXTENSIONS = {".avif", ".png", ".jpg", ".jpeg", ".webp", ".ppm", ".tif", ".tiff"}


def load_photographs(folder: Path, smallest: int, limit: int | None = None) -> list[Tensor]:
    """Every picture below `folder` whose sides are at least `smallest`, as (3, H, W) uint8.

    Files that are not readable pictures are passed over. Raises UsageError when none is left.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _EXTENSIONS)[:limit]

    def load(path: Path) -> Tensor | None:
        try:
            pixels = read_picture(path).pixels
        except ImageError:
            return None
        if min(pixels.shape[:2]) < smallest:
            return None
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    Image.init()  # plugin registration is not thread-safe
    with ThreadPoolExecutor() as pool:
        photographs = [p for p in pool.map(load, paths) if p is not None]
    if not photographs:
        raise UsageError(f"{folder}: no picture of at least {smallest}x{smallest} to train on")
    return photographs


def place(photographs: list[Tensor], device: torch.device) -> list[Tensor]:
    """The photographs on a GPU where they take less than half of its free memory; else as is."""
    if device.type != "cuda":
        return photographs
    free, _ = torch.cuda.mem_get_info(device)
    fits = 2 * sum(p.numel() for p in photographs) < free
    return [p.to(device) for p in photographs] if fits else photographs


class CropSampler:
    """Random crops, flipped at random; photographs are drawn in proportion to their area."""

    def __init__(self, photographs: list[Tensor], generator: torch.Generator) -> None:
        self.photographs, self.generator = photographs, generator
        self.areas = torch.tensor([float(p[0].numel()) for p in photographs])

    def __call__(self, batch: int, size: int) -> Tensor:
        """(batch, 3, size, size) float32 in 0…1, channels last, where the photographs are."""
        chosen = torch.multinomial(self.areas, batch, True, generator=self.generator)
        crops = [self._crop(self.photographs[i], size) for i in chosen.tolist()]
        return (torch.stack(crops).float() / 255).contiguous(memory_format=torch.channels_last)

    def _crop(self, photograph: Tensor, size: int) -> Tensor:
        _, H, W = photograph.shape
        u = torch.rand(3, generator=self.generator).tolist()
        top, left = int(u[0] * (H - size + 1)), int(u[1] * (W - size + 1))
        crop = photograph[:, top : top + size, left : left + size]
        return crop.flip(2) if u[2] < 0.5 else crop


def calibration_crops(photographs: list[Tensor], size: int, batches: int) -> list[Tensor]:
    """The same crops every time: batches of (4, 3, size, size), for `fitting.make_coding`."""
    sampler = CropSampler(photographs, torch.Generator().manual_seed(0))
    return [sampler(4, size) for _ in range(batches)]
