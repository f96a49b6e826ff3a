"""Demonstration, `make demo`: encodes and decodes one picture with every model."""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

import stfcodec
from benchmarks.options import NEW_PATH, picture_argument, quality_option
from stfcodec.allocator import keep_freed_memory
from stfcodec.metrics import psnr
from stfcodec.models import locate


@click.command()
@picture_argument
@quality_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".demo"),
    show_default=True,
    help="Folder for the .stf files and the decoded pictures.",
)
@click.option("--beside", type=NEW_PATH, help="File for source and decoded pictures side by side.")
def main(picture: Path, quality: float, out: Path, beside: Path | None) -> None:
    """Encode and decode PICTURE with every model that has weights here.

    Prints size, bits per pixel, PSNR, and seconds of both directions.
    """
    from stfcodec.codec import codec_for

    keep_freed_memory()  # as the commands do
    out.mkdir(parents=True, exist_ok=True)
    original = Image.open(picture).convert("RGB")
    megapixels = original.width * original.height / 1e6
    click.echo(f"{picture}: {original.width}x{original.height}, quality {quality:g}")
    pictures = [original]
    for info in stfcodec.list_models():
        if locate.status(info) == "missing":
            click.echo(f"  {info.name:<11} no weights here")
            continue
        codec_for(info, quality)  # loads the weights before the clock starts
        start = time.perf_counter()
        data = stfcodec.encode(picture, model=info.name, quality=quality)
        encoded = time.perf_counter()
        decoded = stfcodec.decode(data)
        done = time.perf_counter()
        stream, copy = (out / f"{picture.stem}-{info.name}{s}" for s in (".stf", ".png"))
        stream.write_bytes(data)
        decoded.save(copy)
        pictures.append(decoded.convert("RGB"))
        click.echo(
            f"  {info.name:<11} {len(data):>7} bytes  {8 * len(data) / megapixels / 1e6:.3f} bpp  "
            f"PSNR {psnr(np.asarray(original), np.asarray(decoded)):.2f} dB  "
            f"encode {encoded - start:.2f} s  decode {done - encoded:.2f} s  -> {stream}, {copy}"
        )
    if beside is not None:
        _side_by_side(pictures).save(beside, quality=92, subsampling=0)


def _side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one size in a row on white, eight pixels apart."""
    width, height = pictures[0].size
    row = Image.new("RGB", (len(pictures) * (width + 8) - 8, height), "white")
    for i, picture in enumerate(pictures):
        row.paste(picture, (i * (width + 8), 0))
    return row


if __name__ == "__main__":
    main()
