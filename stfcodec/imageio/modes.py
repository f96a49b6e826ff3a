"""Converts images of all of Pillow's pixel modes to 8-bit grey or RGB, with or without alpha."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, TiffImagePlugin

from stfcodec.errors import ImageError
from stfcodec.imageio.by_format import jpeg2000

TARGET_MODES = {
    **{"1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA"},
    **{"RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA", "RGBa": "RGBA"},
    **{"CMYK": "RGB", "LAB": "RGB", "HSV": "RGB", "YCbCr": "RGB"},
}
GREY_AND_ALPHA = "LA;16B"
"""The raw mode of 16-bit grey with alpha in PNG, which Pillow opens as RGBA."""

_UNKNOWN_RANGE = {"I": "32-bit integers", "F": "floating-point numbers"}


def bits_per_channel(image: Image.Image) -> int:
    """Depth in the file for an image that is not loaded yet, else the depth that the image has.

    Loading reduces most depths above 8 silently.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (1,))))
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return 16 if is_deep_grey(image) else 8
    if image.format == "JPEG2000":
        return jpeg2000.bits_per_channel(image.fp) if image.fp else 8
    if image.format == "AVIF":
        return _avif_bits(image)
    if image.format in ("PNG", "PPM"):
        args = image.tile[0][3]
        if isinstance(args, tuple):  # PPM: (raw mode, largest value)
            return int(args[1]).bit_length()
        found = re.search(r";(\d+)", str(args))
        return int(found[1]) if found else 8
    return 8


def _avif_bits(image: ImageFile.ImageFile) -> int:
    """Depth by the codec configuration box `av1C`."""
    if (fp := image.fp) is None:
        return 8
    position = fp.tell()
    fp.seek(0)
    head = fp.read(1 << 16)
    fp.seek(position)
    box = head.find(b"av1C")
    flags = head[box + 6 : box + 7] if box >= 0 else b""
    high_bitdepth, twelve_bit = (flags[0] >> 6 & 1, flags[0] >> 5 & 1) if flags else (0, 0)
    return 12 if high_bitdepth and twelve_bit else 10 if high_bitdepth else 8


def is_deep_grey(image: Image.Image) -> bool:
    """Whether Pillow holds the image in one channel of 16 bits."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def is_grey_with_alpha(image: Image.Image) -> bool:
    """Whether an image not yet loaded is 16-bit grey with alpha. Pillow opens it as RGBA."""
    return any(tile[3] == GREY_AND_ALPHA for tile in getattr(image, "tile", ()))


def to_8_bits(image: Image.Image, bits: int, notes: list[str]) -> Image.Image:
    """A loaded image as mode L, LA, RGB or RGBA. What is lost is added to `notes`.

    bits: depth in the file. Raises ImageError if the values of the mode have no known range.
    """
    mode = image.mode
    if mode not in TARGET_MODES:
        kind = _UNKNOWN_RANGE.get(mode, "of an unknown kind")
        raise ImageError(f"pixels are {kind} (mode {mode}): convert to 8 or 16 bits first")
    if bits > 8 and image.format == "JPEG2000":
        # Pillow rounds up when it drops the low bits, and the brightest pixels wrap to black.
        raise ImageError(f"{bits}-bit colour JPEG 2000: convert it to 8 bits or to PNG first")
    if bits > 8:
        notes.append(f"{bits} bits per channel reduced to 8")
    key = usable_key(image, notes)
    if key is None and image.info.get("transparency") is not None:
        image = image.copy()
        del image.info["transparency"]
    if mode == "L" and key is not None:
        return _with_transparent_level(image, bits, key)
    if mode == "CMYK":
        return _from_cmyk(image, notes)
    if mode in ("LAB", "HSV", "YCbCr"):
        notes.append(f"{mode} converted to RGB")
    target = TARGET_MODES[mode]
    if mode in ("1", "RGB", "P") and image.has_transparency_data:
        if bits > 8:  # the transparent colour has all its bits, the pixels were reduced
            raise ImageError("16-bit RGB with one transparent colour: save with an alpha channel")
        target += "A"
    return image if mode == target else image.convert(target)


def usable_key(image: Image.Image, notes: list[str]) -> Any:
    """The transparent colour or level; None if there is none, or if it does not suit the mode.

    A host program may have set it to anything.
    """
    key = image.info.get("transparency")
    if key is None or _is_usable(key, image.mode):
        return key
    notes.append(f"transparency of no use for mode {image.mode} left out")
    return None


def _is_usable(key: object, mode: str) -> bool:
    if mode == "P" and isinstance(key, bytes):
        return len(key) <= 256
    if mode == "RGB":
        return isinstance(key, tuple) and len(key) == 3 and all(_is_level(level) for level in key)
    if mode in ("1", "L", "P") or mode.startswith("I"):
        return _is_level(key)
    return True  # not used for other modes


def _is_level(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= 0xFFFF


def _with_transparent_level(image: Image.Image, bits: int, key: int) -> Image.Image:
    """An image of mode L as LA. key: the transparent level, in the scale of the file."""
    if bits < 8:
        key = key * 255 // ((1 << bits) - 1)  # Pillow has scaled the pixels but not the key
    opaque = np.asarray(image) != key
    grey = image.copy()
    grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return grey


def _from_cmyk(image: Image.Image, notes: list[str]) -> Image.Image:
    """sRGB through the image's ICC profile, or by Pillow's formula without a usable one."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        notes.append("CMYK without a profile converted to RGB: colours may be off")
        return image.convert("RGB")
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            "CMYK",
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ImportError):  # damaged, not of CMYK; no lcms
        notes.append("CMYK converted to RGB without its unusable profile: colours may be off")
        return image.convert("RGB")
    notes.append("CMYK converted to sRGB through its profile, which is not kept")
    return transform.apply(image)
