"""Pictures a second of reading .stf files back into a training pipeline, beside JPEG.

The pictures of a folder are encoded once, as .stf at the default quality and as JPEG at quality 75.
Each way then reads all of them, after a run that is not timed, so that workers have started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import click
import numpy as np
from PIL import Image

from benchmarks.markdown import table
from benchmarks.options import crop_option, folder_argument, model_option
from benchmarks.pictures import read_folder

_CROP = 256
_AT_ONCE = 8


@click.command()
@folder_argument
@model_option
@crop_option()
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    multiple=True,
    default=(0, 1),
    show_default=True,
    help="Processes of DataLoader; may be repeated.",
)
def main(folder: Path, model: str, crop: int | None, workers: tuple[int, ...]) -> None:
    """Read the pictures in FOLDER back in every way."""
    import stfcodec

    pictures = read_folder(folder, crop=crop)
    if min(min(picture.shape[:2]) for picture in pictures) < _CROP:
        raise click.UsageError(f"every picture needs {_CROP} pixels a side")
    with TemporaryDirectory() as name:
        files = []
        for number, pixels in enumerate(pictures):
            files.append(Path(name) / f"{number:05}.stf")
            files[-1].write_bytes(stfcodec.encode(pixels, model=model))
            Image.fromarray(pixels).save(files[-1].with_suffix(".jpg"), quality=75)
        rows = [
            (way, f"{len(pictures) / seconds:.1f}", f"{seconds / len(pictures) * 1000:.0f} ms")
            for way, seconds in _times(files, workers)
        ]
    for line in table(("read", "pictures a second", "time of one"), rows):
        click.echo(line)


def _times(files: list[Path], workers: tuple[int, ...]) -> Iterable[tuple[str, float]]:
    """The seconds that each way takes for all files."""
    import stfcodec
    from stfcodec.data import RandomCrop, StfDataset, View, decode_batch

    yield "`stfcodec.decode` in a loop", _seconds(lambda: map(stfcodec.decode, files))
    infos = [stfcodec.info(path) for path in files]
    side = min(min(info.width, info.height) for info in infos)  # batches need one size
    view = View((0, 0, side, side))

    def batches(at_once: int) -> Iterator[Any]:
        for i in range(0, len(files), at_once):
            yield decode_batch(files[i : i + at_once], view=view)

    for at_once in (1, _AT_ONCE):
        seconds = _seconds(partial(batches, at_once))
        yield f"`decode_batch` of {at_once}, crops of {side}×{side}", seconds
    ways: tuple[tuple[str, View | RandomCrop], ...] = (
        ("whole", View()),
        (f"random {_CROP}×{_CROP}", RandomCrop(_CROP)),
        ("1/8", View(scale=Fraction(1, 8))),
    )
    for count in workers:
        for way, part in ways:
            dataset = StfDataset(files, view=part)
            yield f"`StfDataset`, {way}, {count} workers", _loaded(dataset, count)
        jpeg = _Jpeg([path.with_suffix(".jpg") for path in files])
        yield f"JPEG by Pillow, whole, {count} workers", _loaded(jpeg, count)


class _Jpeg:
    """A dataset of JPEG files, as people write it."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Any:
        import torch

        pixels = np.array(Image.open(self._files[index]).convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _seconds(start: Callable[[], Iterable[Any]]) -> float:
    """Of an iteration over everything, after another one, in which workers start."""
    for _ in start():
        pass
    before = perf_counter()
    for _ in start():
        pass
    return perf_counter() - before


def _loaded(dataset: Any, workers: int) -> float:
    """Of one run of DataLoader over a dataset, by workers that have begun."""
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    return _seconds(lambda: loader)


if __name__ == "__main__":
    main()
