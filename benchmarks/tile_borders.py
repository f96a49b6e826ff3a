"""What tiles change: a picture decoded in small tiles against the same stream decoded in one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from PIL import Image

from stfcodec import imageio
from stfcodec.codec import codec_for
from stfcodec.metrics import psnr
from stfcodec.models import registry

_AMPLIFIED = 64


@click.command()
@click.argument("picture", type=click.Path(exists=True, path_type=Path))
@click.argument("difference", type=click.Path(path_type=Path))
@click.option("-m", "--model", default=registry.DEFAULT_MODEL, show_default=True)
@click.option("-q", "--quality", type=float, default=registry.DEFAULT_QUALITY, show_default=True)
@click.option("--core", default=256, show_default=True, help="Side of what is kept of a tile.")
def main(picture: Path, difference: Path, model: str, quality: float, core: int) -> None:
    """Codes PICTURE with tiles and without, both ways; prints PSNR and what tiles change.

    DIFFERENCE gets the decoders' difference around mid-grey, 64 times as large.
    """
    source = imageio.read_picture(picture)
    codec = codec_for(registry.by_name(model), quality)
    ways = {"one piece": replace(codec, core=1 << 20), "tiles": replace(codec, core=core)}
    decoded: dict[tuple[str, str], np.ndarray] = {}
    for there, encoder in ways.items():
        stream = encoder.encode(source, quality)
        for back, decoder in ways.items():
            pixels = decoded[there, back] = decoder.decode(stream).pixels
            decibels = psnr(source.pixels, pixels)
            size = len(stream.y) + len(stream.z)
            click.echo(f"encoded in {there}, decoded in {back}: {size} bytes, {decibels:.4f} dB")
    whole, tiled = (decoded["one piece", back].astype(int) for back in ways)
    change = tiled - whole
    share = np.mean(change != 0)
    click.echo(f"decoders differ in {share:.2%} of samples, by {np.abs(change).max()} at most")
    amplified = np.clip(128 + _AMPLIFIED * change, 0, 255).astype(np.uint8)
    Image.fromarray(amplified).save(difference)


if __name__ == "__main__":
    main()
