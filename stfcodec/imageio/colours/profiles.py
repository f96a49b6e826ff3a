"""Fits ICC profiles to pixels, and uses them through littlecms.

A profile for grey means nothing for RGB pixels, and one for RGB means nothing for grey ones:
readers refuse or ignore it.
"""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
from PIL import Image, ImageCms

from stfcodec.imageio.colours import icc
from stfcodec.imageio.picture import Picture

RGB = tuple[int, int, int]
"""A colour, 0…255 each."""

_GRAY, _RGB = b"GRAY", b"RGB "
_NAMES = {_GRAY: "grey", _RGB: "RGB", b"CMYK": "CMYK", b"Lab ": "Lab"}
_CURVES = {_GRAY: (b"kTRC",), _RGB: (b"rTRC", b"gTRC", b"bTRC")}
_TABLES = (b"A2B0", b"A2B1", b"A2B2")
"""Tags of lookup tables, which come before a curve."""
_HEADER_BYTES = 132  # with the number of tags
_MAX_TAGS = 100
_SAME_LEVELS = 2  # between colours that are taken for equal


def fitted(profile: bytes | None, gray: bool, notes: list[str]) -> bytes | None:
    """The profile if it is one for pixels of this kind.

    Else a profile of the same curve for them, where there is one curve; else None. Both are added
    to `notes`. Data that is no ICC profile is returned as it is.
    """
    if profile is None or len(profile) < _HEADER_BYTES or profile[36:40] != b"acsp":
        return profile
    space, wanted = profile[16:20], _GRAY if gray else _RGB
    if space == wanted:
        return profile
    kinds = f"{_NAMES.get(space, 'another space')} on {_NAMES[wanted]} pixels"
    curve = _curve(profile, _CURVES[space]) if space in _CURVES else None
    if curve is None:
        notes.append(f"ICC profile of {kinds} left out")
        return None
    notes.append(f"ICC profile of {kinds} replaced by one of the same curve for them")
    name = f"curve of a profile for {_NAMES[space]}"
    return icc.with_tone_curve(name, icc.SRGB_COLOURS, curve, gray)


def with_fitted_profile(picture: Picture) -> Picture:
    """The picture with a profile that suits its pixels, as of `fitted`, whose notes it gets."""
    notes: list[str] = []
    profile = fitted(picture.icc, picture.gray, notes)
    return replace(picture, icc=profile, notes=(*picture.notes, *notes))


def _curve(profile: bytes, names: tuple[bytes, ...]) -> bytes | None:
    """The data of the tags with these names if it is one and the same curve, of light."""
    (count,) = struct.unpack_from(">I", profile, 128)
    tags = {}
    for entry in range(_HEADER_BYTES, _HEADER_BYTES + 12 * min(count, _MAX_TAGS), 12):
        if entry + 12 > len(profile):
            break
        name, offset, length = struct.unpack_from(">4sII", profile, entry)
        tags[name] = profile[offset : offset + length]
    curves = {tags.get(name, b"") for name in names}
    curve = curves.pop()
    is_of_light = profile[20:24] == b"XYZ " and not any(name in tags for name in _TABLES)
    if curves or not is_of_light or len(curve) < 12 or curve[:4] not in (b"curv", b"para"):
        return None
    return curve


def means_srgb(profile: bytes, gray: bool) -> bool:
    """Whether pixels mean the same without this profile, as far as can be told.

    True if it cannot be used: then nobody else can use it.
    """
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    image = Image.fromarray(levels[None] if gray else cube)
    shown = _transformed(image, profile, None)
    if shown is None:
        return True
    differences = np.asarray(shown).astype(int) - np.asarray(image.convert("RGB"))
    return bool(np.abs(differences).max() <= _SAME_LEVELS)


def from_srgb(colour: RGB, profile: bytes) -> RGB:
    """An sRGB colour in the space of a profile for RGB; itself if the profile cannot be used."""
    shown = _transformed(Image.new("RGB", (1, 1), colour), None, profile)
    if shown is None:
        return colour
    red, green, blue = np.asarray(shown)[0, 0].tolist()
    return red, green, blue


def _transformed(
    image: Image.Image, source: bytes | None, target: bytes | None
) -> Image.Image | None:
    """The image, RGB or grey, converted to RGB between two profiles; None stands for sRGB.

    Returns None if a profile cannot be used, or if Pillow is built without littlecms.
    """
    try:
        begin, end = (
            ImageCms.ImageCmsProfile(io.BytesIO(data)) if data else ImageCms.createProfile("sRGB")
            for data in (source, target)
        )
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        return ImageCms.buildTransform(begin, end, image.mode, "RGB", intent).apply(image)
    except (ImageCms.PyCMSError, OSError, ImportError):
        return None
