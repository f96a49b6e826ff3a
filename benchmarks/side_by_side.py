"""Pictures of a model at several qualities, beside the source and AVIF of the same size."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import stfcodec
from benchmarks.options import NEW_PATH, model_option, picture_argument, qualities_option
from stfcodec.compare import others
from stfcodec.metrics import psnr

_GAP, _LABEL_HEIGHT = 8, 20
Box = tuple[int, int, int, int]


@click.command()
@picture_argument
@click.argument("out", type=NEW_PATH)
@model_option
@qualities_option(1, 3, 6)
@click.option(
    "--crop", type=int, nargs=4, metavar="LEFT TOP WIDTH HEIGHT", help="Part to show, in pixels."
)
def main(
    picture: Path, out: Path, model: str, qualities: tuple[float, ...], crop: Box | None
) -> None:
    """Code PICTURE at each quality and write source, model and AVIF side by side to OUT.

    Each quality is a row. bpp and PSNR are of the whole picture. AVIF's file has about the size of
    the model's.
    """
    source = Image.open(picture).convert("RGB")
    matcher = others.SizeMatcher(others.AVIF, source)
    left, top, width, height = crop or (0, 0, *source.size)
    row_height = height + _LABEL_HEIGHT + _GAP
    sheet = Image.new("RGB", (3 * (width + _GAP) - _GAP, len(qualities) * row_height), "white")
    for row, quality in enumerate(qualities):
        data = stfcodec.encode(source, model=model, quality=quality)
        _, avif = matcher.match(len(data))
        cells = [
            ("source", source),
            (_label(f"{model} q{quality:g}", source, data), stfcodec.decode(data).convert("RGB")),
            (_label("AVIF", source, avif), Image.fromarray(others.decode(avif))),
        ]
        for column, (label, image) in enumerate(cells):
            if image is not source:
                label += f"  {psnr(np.asarray(source), np.asarray(image)):.2f} dB"
            x, y = column * (width + _GAP), row * row_height
            ImageDraw.Draw(sheet).text((x, y + 3), label, "black", ImageFont.load_default(13))
            part = image.crop((left, top, left + width, top + height))
            sheet.paste(part, (x, y + _LABEL_HEIGHT))
    sheet.save(out, quality=92, subsampling=0)


def _label(name: str, source: Image.Image, data: bytes) -> str:
    return f"{name}  {8 * len(data) / (source.width * source.height):.3f} bpp"


if __name__ == "__main__":
    main()
