"""Samples of more than 8 bits a channel, in full: Pillow has no mode for colours of that depth.

Of colours in PNG and TIFF files Pillow unpacks the first byte of each 16-bit sample, or the second
one if it is told the other byte order. So a second image of the same file gives the low bytes. Grey
is in Pillow's mode I;16, and PGM and PPM files hold plain samples.
"""

from __future__ import annotations

import sys
from typing import IO, BinaryIO, cast

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from stfcodec.errors import ImageError
from stfcodec.imageio import modes
from stfcodec.imageio.picture import Picture, grey
from stfcodec.imageio.pillow import open_image, undecoded_file

PEAK = 65535
_WHITE_IS_ZERO = 0
_PLANAR, _SEPARATE = 284, 2
_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_CHANNELS = ("RGB", "RGBA", "RGBX", "R", "G", "B", "A")
"""Raw modes that Pillow unpacks in both byte orders: interleaved channels, and single planes."""


def samples(
    image: Image.Image, bits: int, is_from_file: bool, notes: list[str]
) -> np.ndarray | None:
    """The samples of an image: uint16 (H, W, 1 to 4), grey or RGB, with alpha or without.

    None if it has no more than 8 bits, or if they cannot be had in full. bits: depth in the file.
    is_from_file: the image was opened here. Of those of a host program, which may have loaded them,
    Pillow's own pixels count, so that an image is coded alike whenever it is coded. Values span
    0…65535. Raises ImageError and what Pillow raises.
    """
    if bits <= 8:
        return None
    fp = undecoded_file(image) if is_from_file else None
    if fp and image.format == "PPM" and _tile(image).codec_name == "ppm":
        return _portable(image, fp)
    if modes.is_deep_grey(image):
        image.load()
        return _grey(image, bits, modes.usable_key(image, notes))
    return _in_two_bytes(image, fp, notes) if fp else None


def samples_of(picture: Picture) -> np.ndarray:
    """The samples of a picture of 16 bits: uint16 (H, W, 1 to 4), with alpha if it has some."""
    pixels = grey(picture.pixels)[..., None] if picture.gray else picture.pixels
    if picture.alpha is None:
        return pixels
    return np.concatenate([pixels, picture.alpha[..., None] * np.uint16(PEAK // 255)], axis=2)


def _grey(image: Image.Image, bits: int, key: int | None) -> np.ndarray:
    """key: the transparent level in the scale of the file; None if there is none."""
    values, peak = np.asarray(image).astype(np.uint32), PEAK
    opaque = None if key is None else values != key
    if image.format == "JPEG2000":  # Pillow has shifted them, which leaves white below 65535
        values, peak = values >> np.uint32(16 - bits), (1 << bits) - 1
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        peak = (1 << bits) - 1
        values = np.minimum(values, peak)
        if image.tag_v2.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO:
            values = peak - values  # Pillow inverts 8-bit values only
    planes = [_spread(values, peak)]
    if opaque is not None:
        planes.append(opaque * np.uint16(PEAK))
    return np.stack(planes, axis=2)


def _spread(values: np.ndarray, peak: int) -> np.ndarray:
    """Values of 0…peak, rounded to uint16 values of 0…65535."""
    return ((values.astype(np.uint32) * PEAK + peak // 2) // peak).astype(np.uint16)


def _portable(image: Image.Image, fp: IO[bytes]) -> np.ndarray:
    """The samples of a binary PGM or PPM, two bytes each, the high one first.

    Pillow's decoder, which is written in Python, is not needed: it takes seconds a megapixel.
    """
    args = _tile(image).args
    assert isinstance(args, tuple)
    peak, channels = int(args[1]), 3 if image.mode == "RGB" else 1
    fp.seek(_tile(image).offset)
    data = fp.read(2 * channels * image.width * image.height)
    if len(data) < 2 * channels * image.width * image.height:
        raise ImageError("damaged or cut short: image file is truncated")
    values = np.frombuffer(data, ">u2").reshape(image.height, image.width, channels)
    return _spread(np.minimum(values, peak), peak)


def _tile(image: Image.Image) -> ImageFile._Tile:
    """The first tile of an image that is not decoded."""
    assert isinstance(image, ImageFile.ImageFile)
    return image.tile[0]


def _in_two_bytes(image: Image.Image, fp: IO[bytes], notes: list[str]) -> np.ndarray | None:
    """The samples of a PNG or TIFF file, from two images of it."""
    assert isinstance(image, ImageFile.ImageFile)
    raw_modes = [_raw_mode(tile) for tile in image.tile]
    if image.format not in ("PNG", "TIFF") or not all(map(_other_order, raw_modes)):
        return None
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _has_compressed_planes(image):
        return None
    position = fp.tell()
    twin = open_image(cast(BinaryIO, fp), [image.format])
    twin.tile = [_with_raw_mode(tile, _other_order(_raw_mode(tile))) for tile in twin.tile]
    twin.load()
    low = np.asarray(twin)
    fp.seek(position)
    image.load()
    if raw_modes[0] == modes.GREY_AND_ALPHA:  # high and low byte of grey, then of alpha
        return _joined(low[..., ::2], low[..., 1::2])
    pixels = _joined(np.asarray(image), low)
    key = modes.usable_key(image, notes) if image.mode == "RGB" else None
    if key is None:
        return pixels
    opaque = (pixels != np.array(key)).any(axis=2, keepdims=True)
    return np.concatenate([pixels, opaque * np.uint16(PEAK)], axis=2)


def _joined(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    joined: np.ndarray = high * np.uint16(256) + low
    return joined


def _has_compressed_planes(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether libtiff reads planes, for which Pillow does not ask the raw mode."""
    return image.tag_v2.get(_PLANAR) == _SEPARATE and image.tile[0].codec_name == "libtiff"


def _raw_mode(tile: ImageFile._Tile) -> str:
    return str(tile.args[0] if isinstance(tile.args, tuple) else tile.args)


def _other_order(raw_mode: str) -> str:
    """The raw mode that unpacks the other byte of each sample; empty if there is none."""
    if raw_mode == modes.GREY_AND_ALPHA:
        return "RGBA"
    channels, _, order = raw_mode.partition(";16")
    if channels not in _CHANNELS or order not in _OTHER_ORDER:
        return ""
    return f"{channels};16{_OTHER_ORDER[order]}"


def _with_raw_mode(tile: ImageFile._Tile, raw_mode: str) -> ImageFile._Tile:
    if isinstance(tile.args, tuple):
        return tile._replace(args=(raw_mode, *tile.args[1:]))
    return tile._replace(args=raw_mode)
