"""Encode and decode one picture for real, and say what came of it: `make demo`."""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

import stfcodec
from stfcodec.allocator import keep_freed_memory
from stfcodec.codec import codec_for
from stfcodec.metrics import psnr
from stfcodec.models import locate, registry


@click.command()
@click.argument("picture", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path(".demo"), show_default=True)
@click.option("-q", "--quality", type=float, default=registry.DEFAULT_QUALITY, show_default=True)
@click.option("--beside", type=click.Path(path_type=Path), help="Write source and decoded here.")
def main(picture: Path, out: Path, quality: float, beside: Path | None) -> None:
    """Code PICTURE with every model whose weights are here; write both files into OUT."""
    keep_freed_memory()  # as the commands do
    out.mkdir(parents=True, exist_ok=True)
    original = Image.open(picture).convert("RGB")
    megapixels = original.width * original.height / 1e6
    click.echo(f"{picture}: {original.width}x{original.height}, quality {quality:g}")
    strip = [original]
    for info in stfcodec.list_models():
        if locate.status(info) == "missing":
            click.echo(f"  {info.name:<11} no weights here")
            continue
        codec_for(info, quality)  # loads and keeps it
        start = time.perf_counter()
        data = stfcodec.encode(picture, model=info.name, quality=quality)
        coded = time.perf_counter()
        decoded = stfcodec.decode(data)
        done = time.perf_counter()
        stream, copy = (out / f"{picture.stem}-{info.name}{s}" for s in (".stf", ".png"))
        stream.write_bytes(data)
        decoded.save(copy)
        strip.append(decoded.convert("RGB"))
        click.echo(
            f"  {info.name:<11} {len(data):>7} bytes  {8 * len(data) / megapixels / 1e6:.3f} bpp  "
            f"PSNR {psnr(np.asarray(original), np.asarray(decoded)):.2f} dB  "
            f"encode {coded - start:.2f} s  decode {done - coded:.2f} s  -> {stream}, {copy}"
        )
    if beside is not None:
        _side_by_side(strip).save(beside, quality=92, subsampling=0)


def _side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one size in a row, eight pixels apart, on white."""
    width, height = pictures[0].size
    row = Image.new("RGB", (len(pictures) * (width + 8) - 8, height), "white")
    for i, picture in enumerate(pictures):
        row.paste(picture, (i * (width + 8), 0))
    return row


if __name__ == "__main__":
    main()
