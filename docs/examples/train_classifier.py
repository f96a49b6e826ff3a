"""Trains one classifier on .stf files and one on JPEG files of the same pictures, and compares.

python docs/examples/train_classifier.py SETS --photographs PHOTOGRAPHS

SETS/stf and SETS/jpeg have one folder per class. With --photographs they are made first, of squares
of each photograph, turned by 0, 90, 180 or 270 degrees: the classifier has to tell by how much.
Without, the folders are taken as they are. A fifth of the names is kept for the test.
"""

from __future__ import annotations

import argparse
import time
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

import stfcodec
from stfcodec.data import StfDataset
from stfcodec.formats import PICTURE_SUFFIXES
from stfcodec.imageio import read_picture

SIDE = 128


def make(sets: Path, photographs: Path, limit: int | None) -> None:
    """Write each photograph in four orientations, once as .stf and once as JPEG."""
    paths = sorted(p for p in photographs.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    for path in paths[:limit]:
        image = Image.fromarray(read_picture(path).pixels)
        short = min(image.size)
        left, top = ((n - short) // 2 for n in image.size)
        square = image.crop((left, top, left + short, top + short)).resize((SIDE, SIDE))
        for degrees in (0, 90, 180, 270):
            turned = square.rotate(degrees)
            for kind in ("stf", "jpeg"):
                (sets / kind / str(degrees)).mkdir(parents=True, exist_ok=True)
            (sets / "stf" / str(degrees) / f"{path.stem}.stf").write_bytes(stfcodec.encode(turned))
            turned.save(sets / "jpeg" / str(degrees) / f"{path.stem}.jpg", quality=75)


class JpegDataset(Dataset[tuple[Tensor, int]]):
    """What StfDataset(folder, labelled=True) is for .stf files."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.rglob("*.jpg"))
        self.classes = sorted({path.parent.name for path in self.files})

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.files[index]
        pixels = np.array(Image.open(path).convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1), self.classes.index(path.parent.name)


def network(classes: int) -> nn.Module:
    """A small convolutional network for pictures of any size."""
    layers: list[nn.Module] = []
    for c_in, c_out in ((3, 16), (16, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(c_in, c_out, 3, 2, 1), nn.BatchNorm2d(c_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, classes))


def is_test(path: Path) -> bool:
    """The same for all pictures of one name, so that no photograph is in both parts."""
    return zlib.crc32(path.stem.encode()) % 5 == 0


def train(dataset: StfDataset | JpegDataset, epochs: int, workers: int) -> tuple[float, float]:
    """Accuracy on the test part, and pictures a second of reading and training together."""
    parts: tuple[list[int], list[int]] = ([], [])
    for i, path in enumerate(dataset.files):
        parts[is_test(Path(str(path)))].append(i)
    if not all(parts):
        raise SystemExit("too few pictures for a training and a test part")
    torch.manual_seed(0)
    model = network(len(dataset.classes))
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    learning, testing = (
        DataLoader(Subset(dataset, part), 32, shuffle=part is parts[0], num_workers=workers)
        for part in parts
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, epochs * len(learning))
    start = time.perf_counter()
    for _ in range(epochs):
        for x, label in learning:
            loss = F.cross_entropy(model(x.float() / 255 - 0.5), label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    rate = epochs * len(parts[0]) / (time.perf_counter() - start)
    model.eval()
    with torch.inference_mode():
        right = sum(
            int((model(x.float() / 255 - 0.5).argmax(1) == label).sum()) for x, label in testing
        )
    return right / len(parts[1]), rate


def main() -> None:
    """Make the sets if asked to, train on each, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("sets", type=Path, metavar="SETS")
    parser.add_argument("--photographs", type=Path, help="folder of photographs to make SETS of")
    parser.add_argument("--limit", type=int, help="photographs to take of it")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=0, help="processes that decode")
    options = parser.parse_args()
    if options.photographs is not None:
        make(options.sets, options.photographs, options.limit)
    stf = StfDataset(options.sets / "stf", labelled=True)
    for kind, dataset in (("stf", stf), ("jpeg", JpegDataset(options.sets / "jpeg"))):
        accuracy, rate = train(dataset, options.epochs, options.workers)
        kilobytes = sum(Path(str(path)).stat().st_size for path in dataset.files) / 1000
        print(
            f"{kind}: {accuracy:.1%} right of {len(dataset.classes)} classes, {rate:.0f} pictures "
            f"a second, {kilobytes:.0f} kB"
        )


if __name__ == "__main__":
    main()
