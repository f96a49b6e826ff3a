"""ICC, EXIF and XMP blocks: taken from a Pillow image, and written into a file.

They are kept as raw bytes, except for the orientation. Reading applies it to the pixels and removes
it from the blocks.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image, ImageFile, PngImagePlugin

from stfcodec.imageio.pillow import raised_by_pillow

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_PREFIX = b"Exif\0\0"
_XMP_TAG = 700
_ICC_HEADER_BYTES = 128
_PNG_TEXT_EXIF = "Raw profile type exif"
_Base, _IFD = ExifTags.Base, ExifTags.IFD

# Of the first directory of a TIFF file: the others say how the file stores the picture.
_DESCRIPTIVE_TAGS = (
    *(_Base.ImageDescription, _Base.Make, _Base.Model, _Base.Software, _Base.DateTime),
    *(_Base.Artist, _Base.Copyright),
)


class _UnreadableError(Exception):
    """An EXIF block is damaged."""


@dataclass(frozen=True)
class Metadata:
    """The blocks of a file, without orientation."""

    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    transpose: Image.Transpose | None
    """What turns the stored pixels upright; None if they are upright."""


def read_metadata(
    image: Image.Image, limit: int, notes: list[str], profile: bytes | None = None
) -> Metadata:
    """The blocks of a loaded image. What cannot be kept is added to `notes`.

    limit: bytes; longer blocks are left out. profile: an ICC profile that Pillow does not expose.
    """
    info = image.info
    exif, orientation = None, 1
    try:
        orientation = image.getexif().get(_Base.Orientation, 1)  # XMP's, if EXIF has none
        exif = without_orientation(exif_block(image), rotated=orientation in _TRANSPOSES)
    except Exception as error:  # Pillow may raise anything on a bad block
        if not isinstance(error, _UnreadableError) and not raised_by_pillow(error):
            raise
        notes.append("unreadable EXIF left out")
    # Pixels of these modes become RGB, which their profile does not describe.
    icc = None if image.mode in ("CMYK", "LAB") else _icc_profile(image, profile, limit, notes)
    xmp = checked_block("XMP", info.get("xmp"), limit, notes)
    if xmp:
        xmp = re.sub(rb"(tiff:Orientation(?:>|=[\"']))[2-8]", rb"\g<1>1", xmp)
    left_out = ["Photoshop block"] if info.get("photoshop") else []
    if info.get("comment") and image.format != "JPEG2000":  # where the encoder signs
        left_out.append("comment")
    text = {key for key in getattr(image, "text", ()) if not key.startswith(("XML:", "Raw pro"))}
    left_out += [f"text {key!r}" for key in sorted(text)]
    if left_out:
        notes.append(f"not carried: {', '.join(left_out)}")
    exif = checked_block("EXIF", exif, limit, notes)
    return Metadata(icc, exif, xmp, _TRANSPOSES.get(orientation))


def checked_block(name: str, value: object, limit: int, notes: list[str]) -> bytes | None:
    """A block as bytes; None, with a note, if it is of another type or longer than the limit."""
    block = value.encode() if isinstance(value, str) else value
    if not block:
        return None
    if not isinstance(block, bytes):  # a TIFF tag of another type
        notes.append(f"unreadable {name} left out")
        return None
    if len(block) > limit:
        notes.append(f"too long and left out: {name} of {len(block)} bytes")
        return None
    return block


def _icc_profile(
    image: Image.Image, other: bytes | None, limit: int, notes: list[str]
) -> bytes | None:
    """The ICC profile, unless it has fewer bytes than its header says.

    other: the profile to take if Pillow has none. Pillow's entry for a damaged profile is None.
    """
    profile = image.info.get("icc_profile") or other
    is_in_file = isinstance(image, ImageFile.ImageFile) and "icc_profile" in image.info
    if not profile and (is_in_file or other is not None):
        notes.append("unreadable ICC profile left out")
    icc = checked_block("ICC profile", profile, limit, notes)
    length = int.from_bytes(icc[:4], "big") if icc and icc[36:40] == b"acsp" else 0
    if icc and len(icc) < max(_ICC_HEADER_BYTES, length):
        notes.append("ICC profile that is cut short left out")
        return None
    return icc


def exif_block(image: Image.Image) -> bytes:
    """The EXIF block from its TIFF header on; of a TIFF file, a new one of its descriptive tags."""
    if image.format == "TIFF":
        exif: object = descriptive_tags(image.getexif()).tobytes()
    elif "exif" in image.info:
        exif = image.info["exif"]
    else:
        exif = _from_png_text(str(image.info.get(_PNG_TEXT_EXIF, "")))
    if not isinstance(exif, bytes):  # the host program may have put anything there
        raise _UnreadableError
    while exif.startswith(_EXIF_PREFIX):
        exif = exif[len(_EXIF_PREFIX) :]
    return exif


def _from_png_text(text: str) -> bytes:
    """A block written as text by ImageMagick: hexadecimal digits behind three lines."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError as error:
        raise _UnreadableError from error


def without_orientation(exif: bytes, rotated: bool) -> bytes | None:
    """The block without the orientation tag of its first directory; None if nothing else is in it.

    Nothing is moved, because offsets such as those in makers' notes would break. If the picture was
    `rotated`, the link to the thumbnail, which was not, is removed too. Raises an error if the
    block is damaged.
    """
    if not exif:
        return None
    order, offset, count = _first_directory(exif)
    entries_begin, entries_end = offset + 2, offset + 2 + 12 * count
    entries = [exif[at : at + 12] for at in range(entries_begin, entries_end, 12)]
    tag = struct.pack(order + "H", _Base.Orientation)
    others = [entry for entry in entries if not entry.startswith(tag)]
    link = bytes(4) if rotated else exif[entries_end : entries_end + 4].ljust(4, b"\0")
    if not others and link == bytes(4):
        return None
    directory = struct.pack(order + "H", len(others)) + b"".join(others) + link
    padded = directory.ljust(2 + 12 * count + 4, b"\0")
    return exif[:offset] + padded + exif[entries_end + 4 :]


def _first_directory(exif: bytes) -> tuple[str, int, int]:
    """Byte order as of `struct`, offset, and number of entries."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        raise _UnreadableError
    try:
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, offset)
    except struct.error as error:
        raise _UnreadableError from error
    if offset + 2 + 12 * count > len(exif):
        raise _UnreadableError
    return order, offset, count


def descriptive_tags(exif: Image.Exif) -> Image.Exif:
    """The tags that describe the picture rather than how a file stores it."""
    descriptive = Image.Exif()
    for tag in _DESCRIPTIVE_TAGS:
        if tag in exif:
            descriptive[tag] = exif[tag]
    for directory in (_IFD.Exif, _IFD.GPSInfo):
        tags = exif.get_ifd(directory) if directory in exif else {}
        known = {k: v for k, v in tags.items() if k != _IFD.Interop}
        descriptive.get_ifd(directory).update(known)
    return descriptive


def info_blocks(icc: bytes | None, exif: bytes | None, xmp: bytes | None) -> dict[str, bytes]:
    """The blocks that are not None, by their names in Pillow's `Image.info`."""
    blocks = {"icc_profile": icc, "exif": exif and _EXIF_PREFIX + exif, "xmp": xmp}
    return {name: block for name, block in blocks.items() if block}


def save_options(info: dict[str, bytes], name: str) -> dict[str, Any]:
    """Arguments for Pillow's `save` that write the blocks of `info_blocks` in a format."""
    options: dict[str, Any] = dict(info)
    if name == "TIFF":
        exif = Image.Exif()
        exif.load(options.pop("exif", b""))
        tags = descriptive_tags(exif)  # others could contradict how this file is stored
        if "xmp" in options:
            tags[_XMP_TAG] = options.pop("xmp")
        options["exif"] = tags.tobytes()
    if name == "PNG" and "xmp" in options:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp"))
    return options
