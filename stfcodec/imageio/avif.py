"""The colour description in the boxes of an AVIF file, which Pillow does not show."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

_BOXES = 1000  # looked at on one level
_LARGEST = 1 << 20  # of the directory of a still picture


def nclx(fp: IO[bytes]) -> tuple[int, int] | None:
    """H.273 codes for primaries and transfer of the primary item; None if there are none.

    Anything that cannot be parsed states nothing. The position in the file is kept.
    """
    position = fp.tell()
    try:
        return _of_primary_item(_meta(fp))
    except (struct.error, IndexError, OverflowError):
        return None
    finally:
        fp.seek(position)


def _meta(fp: IO[bytes]) -> bytes:
    """The content of the top-level box `meta`, without its version; empty if there is none."""
    at = 0
    for _ in range(_BOXES):
        fp.seek(at)
        head = fp.read(16)
        size, name = struct.unpack_from(">I4s", head)
        start = 8
        if size == 1:
            (size,), start = struct.unpack_from(">Q", head, 8), 16
        if name == b"meta":
            fp.seek(at + start + 4)
            return fp.read(max(0, min(size - start - 4, _LARGEST)) if size else _LARGEST)
        if size < start or size >= 1 << 62:
            break
        at += size
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    for _ in range(_BOXES):
        if at + 8 > len(data):
            return
        size, name = struct.unpack_from(">I4s", data, at)
        size = size or len(data) - at
        if size < 8:
            return
        yield name, data[at + 8 : at + size]
        at += size


def _of_primary_item(meta: bytes) -> tuple[int, int] | None:
    boxes = dict(_boxes(meta))
    item = boxes.get(b"pitm", b"")
    (primary,) = struct.unpack_from(">H" if item[:1] == b"\0" else ">I", item, 4)
    inside = dict(_boxes(boxes.get(b"iprp", b"")))
    properties = list(_boxes(inside.get(b"ipco", b"")))
    for index in _associated(inside.get(b"ipma", b""), primary):
        name, content = properties[index - 1] if index else (b"", b"")
        if name == b"colr" and content[:4] == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", content, 4)
            return primaries, transfer
    return None


def _associated(ipma: bytes, wanted: int) -> list[int]:
    """Numbers, from 1, of the properties that belong to an item."""
    (flags, count), at = struct.unpack_from(">II", ipma), 8
    for _ in range(count):
        (item,) = struct.unpack_from(">I" if flags >> 24 else ">H", ipma, at)
        at += 4 if flags >> 24 else 2
        amount, at = ipma[at], at + 1
        wide = flags & 1
        numbers = struct.unpack_from(f">{amount}{'H' if wide else 'B'}", ipma, at)
        if item == wanted:
            return [number & (0x7FFF if wide else 0x7F) for number in numbers]
        at += amount * (2 if wide else 1)
    return []
