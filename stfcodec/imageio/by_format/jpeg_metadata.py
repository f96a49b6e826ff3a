"""Metadata segments of JPEG files that Pillow does not read, join or write."""

from __future__ import annotations

import re
from typing import IO

from PIL import Image

from stfcodec.imageio.metadata import extended_xmp, iptc, resolution, xmp
from stfcodec.imageio.metadata.blocks import Blocks
from stfcodec.imageio.metadata.resolution import Resolution

_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_ICC_PREFIX = b"ICC_PROFILE\0"
_MAX_CONTENT = 65_533  # bytes of a segment
MAX_EXIF = _MAX_CONTENT
"""Bytes with the prefix."""
MAX_XMP = _MAX_CONTENT - len(_XMP_PREFIX)
MAX_IPTC = 65_000
MAX_ICC = 255 * (_MAX_CONTENT - len(_ICC_PREFIX) - 2)
"""In 255 segments, each with two bytes for its number and for theirs."""

# By marker: contents that are read, that only describe the coding, or that other notes name.
_KNOWN_SEGMENTS = {
    "APP0": (b"JFIF\0", b"JFXX\0", b"AVI1"),
    "APP1": (b"Exif\0\0", _XMP_PREFIX, extended_xmp.SEGMENT_PREFIX),
    "APP2": (_ICC_PREFIX, b"MPF\0"),
    "APP12": (b"Ducky",),
    "APP13": (b"Photoshop 3.0\0",),
    "APP14": (b"Adobe",),
    "COM": (b"",),
}
_GAIN_MAP = b"urn:iso:std:iso:ts:21496"
_FILM = re.compile(rb"ftyp(?:mp4|iso|qt  |M4V|avc|3gp|hvc)|MotionPhoto_Data")
_READ_BYTES, _OVERLAP_BYTES = 1 << 20, 16


def blocks_in(image: Image.Image, fp: IO[bytes] | None, limit: int) -> Blocks:
    """Extended XMP, IPTC, and what is not carried.

    fp: the file; None if it is closed already. limit: bytes of a block. The position in the file is
    restored.
    """
    segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
    found = Blocks()
    packet = image.info.get("xmp")
    extension = [s for _, s in segments if s.startswith(extended_xmp.SEGMENT_PREFIX)]
    if extension and isinstance(packet, bytes):
        found.xmp = extended_xmp.joined(packet, extension, limit)
        if found.xmp is None:
            found.notes.append("unreadable extension of XMP left out")
    photoshop = (s for name, s in segments if name == "APP13" and iptc.is_resources(s))
    resources = b"".join(map(iptc.without_prefix, photoshop))
    found.iptc, has_others = iptc.from_resources(resources)
    if has_others:
        found.left_out.append("Photoshop resources")
    others = [s for s in segments if not s[1].startswith(_KNOWN_SEGMENTS.get(s[0], ()))]
    has_credentials = any(name == "APP11" and b"c2pa" in content for name, content in others)
    found.left_out += [_described(*segment, has_credentials) for segment in others]
    if fp is not None and _holds_film(fp):
        found.left_out.append(xmp.MOTION)
    return found


def _described(name: str, content: bytes, has_credentials: bool) -> str:
    """As notes name a segment. The boxes of APP11 may go on in further segments."""
    if name == "APP2" and content.startswith(_GAIN_MAP):
        return xmp.GAIN_MAP
    if name == "APP11" and content.startswith(b"JP") and has_credentials:
        return xmp.CREDENTIALS
    return f"segment {name}"


def _holds_film(fp: IO[bytes]) -> bool:
    """Whether a film follows the picture, as in motion photos of phones."""
    position, before = fp.tell(), b""
    try:
        fp.seek(0)
        while part := fp.read(_READ_BYTES):
            if _FILM.search(before + part):
                return True
            before = part[-_OVERLAP_BYTES:]
    finally:
        fp.seek(position)
    return False


def with_resolution(data: memoryview, stated: Resolution) -> bool:
    """Write into the JFIF segment with which Pillow begins a file; False: it cannot hold it."""
    field = resolution.jfif_field(stated)
    if field is None or bytes(data[6:11]) != b"JFIF\0":
        return False
    data[13:18] = field
    return True


def xmp_segment(content: bytes) -> bytes:
    """The segment with a content of `extended_xmp.segments`."""
    return _segment(1, content)


def iptc_segment(record: bytes) -> bytes:
    """The segment with an IPTC record of at most `MAX_IPTC` bytes."""
    return _segment(13, iptc.jpeg_content(record))


def _segment(number: int, content: bytes) -> bytes:
    """An APPn segment. number: n. content: at most 65533 bytes."""
    return bytes((0xFF, 0xE0 + number)) + (len(content) + 2).to_bytes(2, "big") + content
