"""ICC, EXIF, XMP and IPTC blocks of a file, as `Picture` carries them.

They are kept as raw bytes, except for what would not be true any more: the orientation, which is
applied to the pixels, sizes, and claims of pictures or films that the file held besides.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO, Any

from PIL import ExifTags, Image, ImageFile

from stfcodec.imageio.by_format import (
    boxes,
    gif,
    jpeg_metadata,
    png,
    png_profiles,
    tiff_metadata,
    webp,
)
from stfcodec.imageio.metadata import exif, resolution, xmp
from stfcodec.imageio.metadata.blocks import Blocks
from stfcodec.imageio.metadata.directories import DirectoryError
from stfcodec.imageio.metadata.xml_tree import XmlError
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
_LIES_DOWN = (5, 6, 7, 8)  # orientations that exchange width and height
_ICC_HEADER_BYTES = 128
_PNG_XMP = "XML:com.adobe.xmp"
_MAX_NAMES, _MAX_KEY = 20, 79  # in one note; letters of a PNG keyword
_WITH_FURTHER_PICTURES = ("JPEG", "MPO", "AVIF")
"""Formats that may hold what XMP claims. In a file of another format the claim was wrong before."""


@dataclass(frozen=True)
class Metadata:
    """The blocks of a file, without orientation."""

    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    iptc: bytes | None
    transpose: Image.Transpose | None
    """What turns the stored pixels upright; None if they are upright."""


def blocks_in(image: Image.Image, limit: int) -> Blocks:
    """What Pillow does not tell of a file. The image is opened and not loaded yet.

    limit: bytes of a block.
    """
    fp: IO[bytes] | None = getattr(image, "fp", None)
    if not isinstance(image, ImageFile.ImageFile) or fp is None or fp.closed:
        fp = None
    if image.format in ("JPEG", "MPO"):
        return jpeg_metadata.blocks_in(image, fp, limit)
    if fp is None:
        return Blocks()
    match image.format:
        case "TIFF":
            return tiff_metadata.blocks_in(fp, limit)
        case "JPEG2000":
            return boxes.jpeg_2000_blocks(fp, limit)
        case "AVIF":
            return boxes.avif_blocks(fp, limit)
        case "GIF":
            return gif.blocks_in(fp, limit)
        case "WEBP":
            return webp.blocks_in(fp)
        case "PNG" if png.has_credentials(fp):
            return Blocks(left_out=[xmp.CREDENTIALS])
    return Blocks()


def read_metadata(
    image: Image.Image,
    found: Blocks,
    size: tuple[int, int],
    limit: int,
    notes: list[str],
    profile: bytes | None = None,
) -> Metadata:
    """The blocks of a loaded image. What cannot be kept is added to `notes`.

    found: as of `blocks_in`. size: width and height of the picture before it is turned upright.
    limit: bytes; longer blocks are left out. profile: an ICC profile that Pillow does not expose.
    """
    info, texts = image.info, png_profiles.blocks_in(image.info)
    left_out = found.left_out + texts.left_out
    notes += found.notes + texts.notes
    profiles = (p for p in (profile, found.icc, texts.icc) if p is not None)
    # Pixels of these modes become RGB, which their profile does not describe.
    icc = (
        None
        if image.mode in ("CMYK", "LAB")
        else _icc_profile(image, next(profiles, None), limit, notes)
    )
    try:
        block = _exif_block(image, found) or texts.exif
        oriented = info["exif"] if image.format == "AVIF" and "exif" in info else block
        orientation = exif.orientation(exif.without_prefix(oriented)) if oriented else None
    except DirectoryError:
        notes.append("unreadable EXIF left out")
        block = orientation = None
    packet = _xmp_packet(image, found, texts)
    packet = checked_block("XMP", packet, limit, notes)
    if orientation is None:  # a block without orientation says that the pixels are upright
        is_turned_otherwise = image.format in ("AVIF", "TIFF")
        orientation = 1 if is_turned_otherwise or not packet else xmp.orientation(packet)
    applied = orientation
    if image.format == "TIFF":  # which Pillow has turned
        applied, orientation = found.orientation or 1, 1
    if orientation in _LIES_DOWN:
        size = size[1], size[0]
    block = _upright_exif(image, block, size, applied, notes)
    if packet:
        packet, claimed = _upright_xmp(packet, size, applied in _TRANSPOSES, notes)
        left_out += [name for name in claimed if _may_hold(image.format, name)]
    left_out += _described_text(image)
    if left_out:
        notes.append(f"not carried: {_listed(left_out)}")
    return Metadata(
        icc,
        checked_block("EXIF", block, limit, notes),
        packet,
        checked_block("IPTC", found.iptc or texts.iptc, limit, notes),
        _TRANSPOSES.get(orientation),
    )


def _exif_block(image: Image.Image, found: Blocks) -> bytes | None:
    """The block in the file, as it is. Raises DirectoryError if it is no bytes."""
    if found.exif is not None:
        return found.exif
    if image.format == "TIFF" and found.orientation is None:
        return _exif_of_loaded_tiff(image)
    block = image.info.get("exif")
    if block is not None and not isinstance(block, bytes):  # put there by the host program
        raise DirectoryError
    return exif.without_prefix(block) if block else None


def _exif_of_loaded_tiff(image: Image.Image) -> bytes | None:
    """From the tags that Pillow has kept of a file that is closed. Raises DirectoryError."""
    try:
        tags, kept = image.getexif(), Image.Exif()
        for tag in tiff_metadata.DESCRIPTIVE_TAGS:
            if tag in tags:
                value = tags[tag]
                kept[tag] = value.encode("latin-1", "replace") if isinstance(value, str) else value
        for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            known = tags.get_ifd(directory) if directory in tags else {}
            kept.get_ifd(directory).update(
                {tag: value for tag, value in known.items() if tag != ExifTags.IFD.Interop}
            )
        block = exif.without_prefix(kept.tobytes())
    except Exception as error:  # Pillow may raise anything on a bad block
        if not raised_by_pillow(error):
            raise
        raise DirectoryError from error
    return tiff_metadata.blocks_in(io.BytesIO(block), len(block)).exif


def _xmp_packet(image: Image.Image, found: Blocks, texts: Blocks) -> Any:
    if found.xmp or (image.format == "TIFF" and found.orientation is not None):
        return found.xmp
    return image.info.get("xmp") or image.info.get(_PNG_XMP) or texts.xmp


def _upright_exif(
    image: Image.Image,
    block: bytes | None,
    size: tuple[int, int],
    orientation: int,
    notes: list[str],
) -> bytes | None:
    """The block as it is true of the upright picture, with the resolution that the file states.

    orientation: that of the stored pixels.
    """
    try:
        block = exif.upright(block, size, orientation in _TRANSPOSES) if block else None
        known = exif.resolution(block) if block else None
        wanted = resolution.stated_in(image.info, image.format)
        if wanted is None or (known is not None and wanted.is_close(known)):
            wanted = known
        if wanted is not None and orientation in _LIES_DOWN:
            wanted = wanted.turned()
        return block if wanted in (None, known) else exif.with_resolution(block, wanted)
    except DirectoryError:
        notes.append("unreadable EXIF left out")
        return None


def _upright_xmp(
    packet: bytes, size: tuple[int, int], turned: bool, notes: list[str]
) -> tuple[bytes | None, list[str]]:
    """The packet as it is true of the upright picture, and what it claimed besides."""
    try:
        return xmp.without_claims(xmp.upright(packet, size), turned)
    except XmlError:
        notes.append("unreadable XMP left out")
        return None, []


def _listed(names: list[str]) -> str:
    """The names, each once, as far as they fit into a note."""
    distinct = list(dict.fromkeys(names))
    more = len(distinct) - _MAX_NAMES
    return ", ".join(distinct[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _may_hold(format: str | None, name: str) -> bool:
    is_picture = name in (xmp.GAIN_MAP, xmp.MOTION, xmp.DEPTH_MAP)
    return not is_picture or format in _WITH_FURTHER_PICTURES


def _described_text(image: Image.Image) -> list[str]:
    """Comments and texts, which there is no place for."""
    text = getattr(image, "text", {})
    kept = (_PNG_XMP, png_profiles.KEYWORD)
    names = [f"text {key[:_MAX_KEY]!r}" for key in sorted(text) if not key.startswith(kept)]
    if image.info.get("comment") and image.format != "JPEG2000":  # where the encoder signs
        names.insert(0, "comment")
    return names


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
