"""The photographs that no training run sees, as a folder of pictures to measure on."""

from __future__ import annotations

from pathlib import Path

import click
from PIL import Image

from benchmarks.options import EXISTING_FOLDER

_LEAST_SIDE = 256


@click.command()
@click.argument("photographs", type=EXISTING_FOLDER)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--max-side", type=click.IntRange(min=1), help="Cut the middle out of larger ones.")
def main(photographs: Path, out: Path, max_side: int | None) -> None:
    """Write the held-out tenth of PHOTOGRAPHS into the folder OUT, as PNG files.

    PHOTOGRAPHS is a folder that `stfcodec train` trains on.
    """
    from benchmarks.pictures import middle_crop
    from stfcodec.train.data import load_photographs, split_held_out

    _, held_out = split_held_out(load_photographs(photographs, _LEAST_SIDE))
    out.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(held_out, 1):
        image = pixels.numpy()
        if max_side is not None:
            image = middle_crop(image, max_side)
        Image.fromarray(image).save(out / f"{number:03}.png")
    click.echo(f"{out}: {len(held_out)} photographs")


if __name__ == "__main__":
    main()
