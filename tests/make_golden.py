"""Writes tests/golden and tests/bad anew, from the embedded weights: `python -m tests.make_golden
--write`.

To be run when weights, their fingerprint or the format change, and at no other time: the golden
files are there to show that what was coded once still decodes. The bad files are made of the
golden ones, see `make_bad`; their messages are recorded, so the difference is to be read.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
from itertools import product
from pathlib import Path

import numpy as np

from stfcodec import api, codec, container, imageio
from stfcodec.imageio import Picture
from tests import images, make_bad

GOLDEN = Path(__file__).parent / "golden"
MODELS = ("wacnn-lite", "stf-lite")
QUALITIES = (1.0, 3.5, 6.0)
SIZES = ((1, 1), (70, 50), (130, 65))
KINDS = ("rgb", "grey", "rgba", "full")
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def pixels(width: int, height: int) -> np.ndarray:
    """A ramp, waves that grow finer, and a flat rectangle: uint8 (H, W, 3)."""
    y, x, c = np.mgrid[:height, :width, :3]
    wave = (x * x // 40 + y * (c + 1)) % 64
    values = 60 + x + y // 2 + 20 * c + np.minimum(wave, 64 - wave)
    values[height // 3 : height // 2, width // 4 : width // 2] = (200, 30, 90)
    return np.clip(values, 0, 255).astype(np.uint8)


def exif() -> bytes:
    """A block with a camera's name and nothing else."""
    return struct.pack("<4sIHHHI4sI", b"II*\0", 8, 1, 0x010F, 2, 4, b"Cam\0", 0)


def icc() -> bytes:
    """sRGB without the date at which the profile was made."""
    profile = bytearray(images.srgb_profile())
    profile[24:36] = struct.pack(">6H", 2022, 1, 1, 0, 0, 0)
    return bytes(profile)


def picture(kind: str, width: int, height: int) -> Picture:
    """The source picture of one golden file."""
    rgb = pixels(width, height)
    if kind == "grey":
        return Picture(rgb[..., :1].repeat(3, axis=2), gray=True)
    if kind == "rgba":
        return Picture(rgb, alpha=np.ascontiguousarray(255 - rgb[..., 0]))
    if kind == "full":
        return Picture(rgb, icc=icc(), exif=exif(), xmp=XMP)
    return Picture(rgb)


def write_golden() -> None:
    """Twelve streams in which every two of model, quality, size and kind meet, their pictures as
    PNG, and what is expected of them."""
    expected = {}
    for (i, quality), (j, kind) in product(enumerate(QUALITIES), enumerate(KINDS)):
        model, (width, height) = MODELS[(i + j) % 2], SIZES[(i + j) % 3]
        name = f"{model}-{quality:g}-{width}x{height}-{kind}"
        data = api.encode(picture(kind, width, height), model=model, quality=quality, device="cpu")
        header, checksum = container.read(data).header, container.read(data).checksum
        (GOLDEN / f"{name}.stf").write_bytes(data)
        with (GOLDEN / f"{name}.png").open("wb") as file:
            imageio.write_picture(api.decode_picture(data, device="cpu"), file)
        expected[name] = {
            "model": model,
            "quality": quality,
            "fingerprint": header.fingerprint.hex(),
            "checksum": f"{checksum:08x}",
        }
    (GOLDEN / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", required=True, help="replace the files")
    parser.parse_args()
    os.environ[codec.PRECISION] = "float32"
    for folder in (GOLDEN, make_bad.BAD):
        for old in folder.glob("*.*"):
            old.unlink()
    write_golden()
    make_bad.write_bad(GOLDEN)


if __name__ == "__main__":
    main()
