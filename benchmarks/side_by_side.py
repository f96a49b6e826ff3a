"""What a model's pictures look like at low, middle and high quality, beside AVIF at the same size.

python -m benchmarks.side_by_side PICTURE OUT.jpg --model wacnn-lite --crop 300 150 384 256
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import stfcodec
from benchmarks.coders import AVIF
from stfcodec.metrics import psnr
from stfcodec.models import registry

_GAP, _LABEL = 8, 20
Box = tuple[int, int, int, int]


@click.command()
@click.argument("picture", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("-m", "--model", default=registry.DEFAULT_MODEL, show_default=True)
@click.option(
    "-q", "--quality", "qualities", type=float, multiple=True, default=(1, 3, 6), show_default=True
)
@click.option(
    "--crop", type=int, nargs=4, metavar="LEFT TOP WIDTH HEIGHT", help="Show this part only."
)
def main(
    picture: Path, out: Path, model: str, qualities: tuple[float, ...], crop: Box | None
) -> None:
    """Code PICTURE at each quality and write the strip to OUT: source, model, AVIF in each row.

    bpp and PSNR are of the whole picture. AVIF (Pillow, 4:4:4, speed 6) gets the largest file
    that is no larger than the model's.
    """
    source = Image.open(picture).convert("RGB")
    left, top, width, height = crop or (0, 0, *source.size)
    row_height = height + _LABEL + _GAP
    strip = Image.new("RGB", (3 * (width + _GAP) - _GAP, len(qualities) * row_height), "white")
    for row, quality in enumerate(qualities):
        data = stfcodec.encode(source, model, quality)
        avif = _avif_up_to(source, len(data))
        cells = [
            ("source", source),
            (_label(f"{model} q{quality:g}", source, data), stfcodec.decode(data).convert("RGB")),
            (_label("AVIF", source, avif), Image.fromarray(AVIF.decode(avif))),
        ]
        for column, (label, image) in enumerate(cells):
            if image is not source:
                label += f"  {psnr(np.asarray(source), np.asarray(image)):.2f} dB"
            x, y = column * (width + _GAP), row * row_height
            ImageDraw.Draw(strip).text((x, y + 3), label, "black", ImageFont.load_default(13))
            strip.paste(image.crop((left, top, left + width, top + height)), (x, y + _LABEL))
    strip.save(out, quality=92, subsampling=0)


def _label(name: str, source: Image.Image, data: bytes) -> str:
    return f"{name}  {8 * len(data) / (source.width * source.height):.3f} bpp"


def _avif_up_to(image: Image.Image, size: int) -> bytes:
    """The AVIF of the highest quality whose file has at most `size` bytes."""
    array = np.asarray(image)
    low, high, best = 0, 100, AVIF.encode(array, 0)
    while low < high:
        middle = (low + high + 1) // 2
        data = AVIF.encode(array, middle)
        if len(data) <= size:
            low, best = middle, data
        else:
            high = middle - 1
    return best


if __name__ == "__main__":
    main()
