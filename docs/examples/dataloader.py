"""Feeds crops of a folder of .stf files to a training loop, and says how fast.

python docs/examples/dataloader.py FOLDER --workers 2
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import stfcodec


class StfFolder(Dataset[Tensor]):
    """Random square crops of the pictures below a folder: uint8 (3, side, side)."""

    def __init__(self, folder: str | Path, side: int) -> None:
        self.side = side
        self.paths = [
            path for path in sorted(Path(folder).rglob("*.stf")) if self._shorter_side(path) >= side
        ]

    @staticmethod
    def _shorter_side(path: Path) -> int:
        info = stfcodec.info(path)  # reads the file and decodes nothing
        return min(info.width, info.height)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        picture = stfcodec.decode_picture(self.paths[index], depth=8)
        pixels = torch.from_numpy(picture.pixels)  # (H, W, 3)
        height, width, _ = pixels.shape
        top = int(torch.randint(height - self.side + 1, ()))
        left = int(torch.randint(width - self.side + 1, ()))
        crop = pixels[top : top + self.side, left : left + self.side]
        return crop.permute(2, 0, 1).contiguous()  # else a worker sends the whole picture


def main() -> None:
    """Run through the folder once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2, help="processes that decode")
    parser.add_argument("--batch", type=int, default=8, help="crops in a batch")
    parser.add_argument("--side", type=int, default=256, help="pixels of a side of the crops")
    options = parser.parse_args()
    pictures = StfFolder(options.folder, options.side)
    if not len(pictures):
        parser.error(f"no .stf file of {options.side} pixels or more below {options.folder}")
    loader = DataLoader(
        pictures,
        batch_size=options.batch,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,  # they keep torch and the weights loaded
    )
    start = time.perf_counter()
    count = 0
    for batch in loader:
        x = batch.float() / 255  # (B, 3, side, side) in 0…1: a training step takes it from here
        count += len(x)
    seconds = time.perf_counter() - start
    print(f"{count} pictures in {seconds:.1f} s, {count / seconds:.1f} a second")


if __name__ == "__main__":
    main()
