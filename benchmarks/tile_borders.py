"""Effect of tiles: a picture coded in small tiles against the same one coded in one piece."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from PIL import Image

from benchmarks.options import NEW_PATH, model_option, picture_argument, quality_option
from stfcodec.metrics import psnr
from stfcodec.models import registry

_AMPLIFICATION = 64


@click.command()
@picture_argument
@click.argument("difference", type=NEW_PATH)
@model_option
@quality_option
@click.option(
    "--core",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    default=256,
    show_default=True,
    help="Side of a tile without its overlap.",
)
def main(picture: Path, difference: Path, model: str, quality: float, core: int) -> None:
    """Encode and decode PICTURE with tiles and without.

    Prints PSNR of the four combinations. DIFFERENCE gets the difference between the two decoders on
    one stream, 64 times as large, around mid-grey.
    """
    from stfcodec import imageio
    from stfcodec.codec import codec_for

    source = imageio.read_picture(picture)
    codec = codec_for(registry.by_name(model), quality)
    codecs = {"one piece": replace(codec, core=1 << 20), "tiles": replace(codec, core=core)}
    decoded: dict[tuple[str, str], np.ndarray] = {}
    for encoded_in, encoder in codecs.items():
        stream = encoder.encode(source, quality)
        size = len(stream.y) + len(stream.z)
        for decoded_in, decoder in codecs.items():
            pixels = decoded[encoded_in, decoded_in] = decoder.decode(stream).pixels
            click.echo(
                f"encoded in {encoded_in}, decoded in {decoded_in}: {size} bytes, "
                f"{psnr(source.pixels, pixels):.4f} dB"
            )
    whole, tiled = (decoded["one piece", decoded_in].astype(int) for decoded_in in codecs)
    change = tiled - whole
    share = np.mean(change != 0)
    click.echo(f"decoders differ in {share:.2%} of samples, by {np.abs(change).max()} at most")
    amplified = np.clip(128 + _AMPLIFICATION * change, 0, 255).astype(np.uint8)
    Image.fromarray(amplified).save(difference)


if __name__ == "__main__":
    main()
