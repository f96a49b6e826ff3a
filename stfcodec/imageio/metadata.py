"""ICC, EXIF and XMP blocks: carried as raw bytes, without the orientation once it is applied."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image, ImageFile, PngImagePlugin

from stfcodec.imageio.pillow import is_pillows

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PREFIX = b"Exif\0\0"
_XMP_TAG = 700
_ICC_HEADER = 128  # bytes
_RAW_EXIF = "Raw profile type exif"
_Base, _IFD = ExifTags.Base, ExifTags.IFD

# The first directory of a TIFF file mixes what describes the picture with how it is stored.
_DESCRIPTIVE = (
    *(_Base.ImageDescription, _Base.Make, _Base.Model, _Base.Software, _Base.DateTime),
    *(_Base.Artist, _Base.Copyright),
)


class _UnreadableError(Exception):
    """An EXIF block breaks the rules of its format."""


@dataclass(frozen=True)
class Metadata:
    """Raw blocks, and how pixels as stored are turned upright (None: they are)."""

    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    upright: Image.Transpose | None


def read(
    image: Image.Image, limit: int, notes: list[str], profile: bytes | None = None
) -> Metadata:
    """Take the blocks of a loaded image; adds what could not be carried to `notes`.

    Blocks of more than `limit` bytes are left out. `profile` is one that Pillow does not show.
    """
    info = image.info
    exif, orientation = None, 1
    try:
        orientation = image.getexif().get(_Base.Orientation, 1)  # XMP's, if EXIF has none
        exif = _without_orientation(_exif(image), rotated=orientation in _UPRIGHT)
    except Exception as error:  # a bad block, on which Pillow raises anything, spoils no picture
        if not isinstance(error, _UnreadableError) and not is_pillows(error):
            raise
        notes.append("unreadable EXIF left out")
    # Inks have a profile that does not describe the RGB that they become.
    icc = None if image.mode in ("CMYK", "LAB") else _profile(image, profile, limit, notes)
    xmp = _block("XMP", info.get("xmp"), limit, notes)
    if xmp:
        xmp = re.sub(rb"(tiff:Orientation(?:>|=[\"']))[2-8]", rb"\g<1>1", xmp)
    left_out = ["Photoshop block"] if info.get("photoshop") else []
    if info.get("comment") and image.format != "JPEG2000":  # there the encoder's own signature
        left_out.append("comment")
    text = {key for key in getattr(image, "text", ()) if not key.startswith(("XML:", "Raw pro"))}
    left_out += [f"text {key!r}" for key in sorted(text)]
    if left_out:
        notes.append(f"not carried: {', '.join(left_out)}")
    exif = _block("EXIF", exif, limit, notes)
    return Metadata(icc, exif, xmp, _UPRIGHT.get(orientation))


def _block(name: str, value: object, limit: int, notes: list[str]) -> bytes | None:
    """The bytes of a block, if they are bytes, any at all, and not too many."""
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


def _profile(image: Image.Image, found: bytes | None, limit: int, notes: list[str]) -> bytes | None:
    """The ICC profile, unless it has fewer bytes than it states.

    Where a file's is damaged, Pillow gives none at all under its name.
    """
    profile = image.info.get("icc_profile") or found
    stated = isinstance(image, ImageFile.ImageFile) and "icc_profile" in image.info
    if not profile and (stated or found is not None):
        notes.append("unreadable ICC profile left out")
    icc = _block("ICC profile", profile, limit, notes)
    length = int.from_bytes(icc[:4], "big") if icc and icc[36:40] == b"acsp" else 0
    if icc and len(icc) < max(_ICC_HEADER, length):
        notes.append("ICC profile that is cut short left out")
        return None
    return icc


def _exif(image: Image.Image) -> bytes:
    if image.format == "TIFF":
        exif: object = _descriptive(image.getexif()).tobytes()
    elif "exif" in image.info:
        exif = image.info["exif"]
    else:
        exif = _of_text(str(image.info.get(_RAW_EXIF, "")))
    if not isinstance(exif, bytes):  # the host program may have put anything there
        raise _UnreadableError
    while exif.startswith(_PREFIX):
        exif = exif[len(_PREFIX) :]
    return exif


def _of_text(text: str) -> bytes:
    """The block in the hexadecimal digits that follow three lines of text."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError as error:
        raise _UnreadableError from error


def _without_orientation(exif: bytes, rotated: bool) -> bytes | None:
    """Cut the tag out of the first directory, moving nothing else.

    Writing the block anew would break what points into it, such as makers' notes. The link to a
    thumbnail goes too if the picture was `rotated`, as the thumbnail was not. None: nothing left.
    """
    if not exif:
        return None
    order, start, count = _first_directory(exif)
    first, end = start + 2, start + 2 + 12 * count
    entries = [exif[at : at + 12] for at in range(first, end, 12)]
    tag = struct.pack(order + "H", _Base.Orientation)
    kept = [entry for entry in entries if not entry.startswith(tag)]
    link = bytes(4) if rotated else exif[end : end + 4].ljust(4, b"\0")
    if not kept and link == bytes(4):
        return None
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + link
    return exif[:start] + directory.ljust(2 + 12 * count + 4, b"\0") + exif[end + 4 :]


def _first_directory(exif: bytes) -> tuple[str, int, int]:
    """Byte order, offset, and how many entries it has."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        raise _UnreadableError
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
    except struct.error as error:
        raise _UnreadableError from error
    if start + 2 + 12 * count > len(exif):
        raise _UnreadableError
    return order, start, count


def _descriptive(exif: Image.Exif) -> Image.Exif:
    kept = Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in exif:
            kept[tag] = exif[tag]
    for directory in (_IFD.Exif, _IFD.GPSInfo):
        tags = exif.get_ifd(directory) if directory in exif else {}
        kept.get_ifd(directory).update({k: v for k, v in tags.items() if k != _IFD.Interop})
    return kept


def pillow_info(icc: bytes | None, exif: bytes | None, xmp: bytes | None) -> dict[str, bytes]:
    """The blocks that are there, by the names Pillow knows them."""
    blocks = {"icc_profile": icc, "exif": exif and _PREFIX + exif, "xmp": xmp}
    return {name: block for name, block in blocks.items() if block}


def save_options(info: dict[str, bytes], name: str) -> dict[str, Any]:
    """Pillow's `save` arguments that write the blocks of `pillow_info` in the format `name`."""
    options: dict[str, Any] = dict(info)
    if name == "TIFF":
        exif = Image.Exif()
        exif.load(options.pop("exif", b""))
        tags = _descriptive(exif)  # the rest could contradict how this file is stored
        if "xmp" in options:
            tags[_XMP_TAG] = options.pop("xmp")
        options["exif"] = tags.tobytes()
    if name == "PNG" and "xmp" in options:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp"))
    return options
