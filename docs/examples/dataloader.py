"""Feeds crops of a folder of .stf files to a training loop, and says how fast.

python docs/examples/dataloader.py FOLDER --workers 2
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from torch.utils.data import DataLoader

import stfcodec
from stfcodec.data import RandomCrop, StfDataset


def large_enough(folder: Path, side: int) -> list[Path]:
    """The files of pictures that have a crop of this side. Decodes nothing."""
    infos = {path: stfcodec.info(path) for path in sorted(folder.rglob("*.stf"))}
    return [path for path, info in infos.items() if min(info.width, info.height) >= side]


def main() -> None:
    """Run through the folder once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2, help="processes that decode")
    parser.add_argument("--batch", type=int, default=8, help="crops in a batch")
    parser.add_argument("--side", type=int, default=256, help="pixels of a side of the crops")
    options = parser.parse_args()
    files = large_enough(options.folder, options.side)
    if not files:
        parser.error(f"no .stf file of {options.side} pixels or more below {options.folder}")
    loader = DataLoader(
        StfDataset(files, view=RandomCrop(options.side)),
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
