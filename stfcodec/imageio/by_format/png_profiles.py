"""Blocks that ImageMagick and ExifTool write into PNG as text in hexadecimal digits.

The keyword is "Raw profile type NAME"; the text is the name, the number of bytes, and the digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stfcodec.imageio.metadata import exif, iptc
from stfcodec.imageio.metadata.blocks import Blocks

KEYWORD = "Raw profile type "
_TEXT = re.compile(r"\n?[^\n]*\n[ \t]*(\d{1,10})[ \t]*\n([0-9a-fA-F\s]*)\Z")
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_DIGITS_IN_LINE = 72


def blocks_in(info: Mapping[Any, Any]) -> Blocks:
    """What is in Pillow's `Image.info` as such texts. A note names those that are kept."""
    found, kept = Blocks(), []
    for keyword, text in info.items():
        if not isinstance(keyword, str) or not keyword.startswith(KEYWORD):
            continue
        data = _decoded(text)
        kind = _add(found, keyword.removeprefix(KEYWORD).lower(), data) if data else ""
        if kind:
            kept.append(f"text {keyword!r} kept as {kind}")
        elif kind is None:
            found.left_out.append(f"text {keyword!r}")
        else:
            found.notes.append(f"unreadable text {keyword!r} left out")
    if kept:
        found.notes.append(", ".join(kept))
    return found


def _decoded(text: object) -> bytes:
    """The bytes in a text; empty if it is damaged."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    match = _TEXT.match(text) if isinstance(text, str) else None
    try:
        data = bytes.fromhex(match[2]) if match else b""
    except ValueError:  # an odd number of digits
        return b""
    return data[: int(match[1])] if match and len(data) >= int(match[1]) else b""


def _add(found: Blocks, name: str, data: bytes) -> str | None:
    """Add a block; what it is. None if there is no place for it, empty if it is damaged."""
    if name in ("icc", "icm"):
        found.icc = data
        return "ICC profile"
    if name == "xmp" or (name == "app1" and data.startswith(_XMP_PREFIX)):
        found.xmp = data.removeprefix(_XMP_PREFIX)
        return "XMP"
    if name in ("exif", "app1"):
        found.exif = exif.without_prefix(data)
        return "EXIF"
    if name in ("iptc", "8bim", "photoshop"):
        record, has_others = iptc.from_resources(data)
        found.iptc = record or (data if iptc.is_record(data) else found.iptc)
        if has_others:
            found.left_out.append("Photoshop resources")
        return "IPTC" if found.iptc else None
    return None


def text(name: str, data: bytes) -> str:
    """The text with which ImageMagick and ExifTool find a block. name: the type, such as iptc."""
    digits = data.hex()
    lines = (digits[at : at + _DIGITS_IN_LINE] for at in range(0, len(digits), _DIGITS_IN_LINE))
    return "\n".join(("", name, f"{len(data):8d}", *lines, ""))
