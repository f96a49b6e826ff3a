"""Boxes of the files of JPEG 2000 and AVIF, and the metadata in them.

Reference: ISO/IEC 15444-1 (JP2), 14496-12 and 23008-12 (AVIF).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import IO

from stfcodec.imageio.metadata import exif, xmp
from stfcodec.imageio.metadata.blocks import Blocks

_MAX_BOXES = 1000  # read on one level
MAX_META_BYTES = 1 << 20
"""Of the box `meta` of AVIF that is looked at."""
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_IPTC = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_EXIF = (b"JpgTiffExif->JP2", bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e"))
_CREDENTIALS = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_GEO = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")
_GAIN_MAPS = (b"aux:hdrgainmap\0", b"urn:iso:std:iso:ts:21496")


_Extents = list[tuple[int, int]]
"""Offset and length of each part of an item's data."""


def boxes(fp: IO[bytes], offset: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Of each box between two offsets: its name, and where its content begins and ends."""
    for _ in range(_MAX_BOXES):
        fp.seek(offset)
        head = fp.read(16)
        if offset + 8 > end or len(head) < 8:
            return
        size, name = struct.unpack_from(">I4s", head)
        header_size = 8
        if size == 1 and len(head) == 16:
            (size,), header_size = struct.unpack_from(">Q", head, 8), 16
        size = size or end - offset
        if size < header_size:
            return
        yield name, offset + header_size, min(offset + size, end)
        offset = min(offset + size, end)


def file_size(fp: IO[bytes]) -> int:
    """Size of the file, whose position moves to its end."""
    return fp.seek(0, os.SEEK_END)


def jpeg_2000_blocks(fp: IO[bytes], limit: int) -> Blocks:
    """What a JP2 file holds. limit: bytes of a block. The position in the file is restored."""
    position, found = fp.tell(), Blocks()
    try:
        for name, begin, end in boxes(fp, 0, file_size(fp)):
            if name == b"xml ":
                found.left_out.append("XML box")
            if name != b"uuid":
                continue
            fp.seek(begin)
            kind, size = fp.read(16), end - begin - 16
            content = fp.read(size) if 0 < size <= limit else b""
            if kind == _XMP:
                found.xmp = content
            elif kind in _EXIF:
                found.exif = exif.without_prefix(content)
            elif kind == _IPTC:
                found.iptc = content
            else:
                found.left_out.append("georeference" if kind == _GEO else "UUID box")
            if size > limit:
                found.notes.append(f"too long and left out: metadata of {size} bytes")
    finally:
        fp.seek(position)
    return found


def avif_blocks(fp: IO[bytes], limit: int) -> Blocks:
    """What an AVIF file holds; of XMP and ICC Pillow tells.

    EXIF is that of the file: Pillow changes it where its orientation is not that of the boxes.
    limit: bytes of a block. The position in the file is restored.
    """
    position, found, has_meta = fp.tell(), Blocks(), False
    try:
        for name, begin, end in boxes(fp, 0, file_size(fp)):
            fp.seek(begin)
            if name == b"uuid" and fp.read(16) == _CREDENTIALS:
                found.left_out.append(xmp.CREDENTIALS)
            if name == b"meta" and not has_meta and end - begin <= MAX_META_BYTES:
                has_meta = True  # the decoder ignores further ones
                _read_meta(fp, begin + 4, end, limit, found)
    except (struct.error, IndexError, OverflowError):
        pass  # Pillow has read the file; what else is in it stays unknown
    finally:
        fp.seek(position)
    return found


def _read_meta(fp: IO[bytes], begin: int, end: int, limit: int, found: Blocks) -> None:
    fp.seek(begin)
    content = fp.read(end - begin)
    inner = {name: (at, to) for name, at, to in boxes(fp, begin, end)}
    types = _item_types(fp, *inner[b"iinf"]) if b"iinf" in inner else {}
    if b"tmap" in types.values() or any(name in content for name in _GAIN_MAPS):
        found.left_out.append(xmp.GAIN_MAP)
    exif_items = [item for item, kind in types.items() if kind == b"Exif"]
    if len(exif_items) == 1 and b"iloc" in inner:
        at, to = inner[b"iloc"]
        item = _locations(content[at - begin : to - begin]).get(exif_items[0])
        data = _item_data(fp, item, limit) if item else b""
        if len(data) > 4:
            (skipped,) = struct.unpack_from(">I", data)
            found.exif = exif.without_prefix(data[4 + skipped :]) or None


def _item_types(fp: IO[bytes], begin: int, end: int) -> dict[int, bytes]:
    """Type of each item by its number, from the box `iinf`."""
    fp.seek(begin)
    is_wide = fp.read(1) != b"\0"
    types = {}
    for name, at, to in boxes(fp, begin + (8 if is_wide else 6), end):
        fp.seek(at)
        head = fp.read(min(to - at, 16))
        if name == b"infe" and head[:1] in (b"\2", b"\3"):
            layout = ">4xHxx4s" if head[0] == 2 else ">4xIxx4s"
            number, kind = struct.unpack_from(layout, head)
            types[number] = kind
    return types


def _locations(iloc: bytes) -> dict[int, _Extents]:
    """Where each item lies in the file, from the content of the box `iloc`."""
    version, sizes = iloc[0], struct.unpack_from(">H", iloc, 4)[0]
    offset_bytes, length_bytes = sizes >> 12, sizes >> 8 & 15
    base_bytes, index_bytes = sizes >> 4 & 15, sizes & 15 if version else 0
    wide = 4 if version == 2 else 2
    at = 6

    def number(size: int) -> int:
        nonlocal at
        at += size
        if at > len(iloc):
            raise IndexError
        return int.from_bytes(iloc[at - size : at], "big")

    items = {}
    for _ in range(min(number(wide), _MAX_BOXES)):
        item = number(wide)
        method = number(2) & 15 if version else 0
        number(2)  # another file
        base, extents = number(base_bytes), []
        for _ in range(min(number(2), _MAX_BOXES)):
            number(index_bytes)
            offset = base + number(offset_bytes)
            extents.append((offset, number(length_bytes)))
        if method == 0:  # offsets in the file
            items[item] = extents
    return items


def _item_data(fp: IO[bytes], item: _Extents, limit: int) -> bytes:
    """The data of an item; empty if it is longer than `limit`."""
    if sum(length for _, length in item) > limit:
        return b""
    parts = []
    for offset, length in item:
        fp.seek(offset)
        parts.append(fp.read(length))
    return b"".join(parts)
