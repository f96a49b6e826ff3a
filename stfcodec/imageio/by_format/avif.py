"""The colour description and the crop in the boxes of an AVIF file (ISO/IEC 14496-12, 23008-12).

Pillow exposes neither. It does tell of the rotation (irot) and the mirroring (imir), as an EXIF
orientation that replaces the one in the file.
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import IO

from stfcodec.imageio.by_format.boxes import MAX_META_BYTES, boxes, file_size


def nclx(fp: IO[bytes]) -> tuple[int, int] | None:
    """ITU-T H.273 codes of the primaries and the transfer function of the primary item.

    None if the file has none or cannot be parsed. The position in the file is restored.
    """
    for name, content in _primary_properties(fp):
        if name == b"colr" and content[:4] == b"nclx" and len(content) >= 8:
            primaries, transfer = struct.unpack_from(">HH", content, 4)
            return primaries, transfer
    return None


def crop(
    fp: IO[bytes], size: tuple[int, int], notes: list[str]
) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of what is to be shown of the stored pixels (box `clap`).

    size: width and height of the stored pixels. The crop comes before the rotation; None stands for
    all pixels. A box that asks for parts of pixels, or for more than there are, is added to
    `notes`. The position in the file is restored.
    """
    for name, content in _primary_properties(fp):
        if name == b"clap" and len(content) >= 32:
            across = _span(size[0], *struct.unpack(">IIiI", content[:8] + content[16:24]))
            down = _span(size[1], *struct.unpack(">IIiI", content[8:16] + content[24:32]))
            if across and down:
                return across[0], down[0], across[1], down[1]
            notes.append("crop (clap) of the AVIF makes no sense and is not applied")
    return None


def _span(
    full: int, size_over: int, size_under: int, offset_over: int, offset_under: int
) -> tuple[int, int] | None:
    """Where a crop begins and ends along one side of `full` pixels; None if it makes no sense.

    The size, and the offset of the crop's centre from the picture's, are given as fractions.
    """
    if not size_under or not offset_under:
        return None
    size, offset = Fraction(size_over, size_under), Fraction(offset_over, offset_under)
    begin = offset + (full - size) / 2
    if size.denominator != 1 or begin.denominator != 1:
        return None
    return (int(begin), int(begin + size)) if 0 <= begin < begin + size <= full else None


def _primary_properties(fp: IO[bytes]) -> list[tuple[bytes, bytes]]:
    """Name and content of each property of the primary item; empty if they cannot be parsed."""
    position = fp.tell()
    try:
        return _properties_in(_meta_box(fp))
    except (struct.error, IndexError, OverflowError):
        return []
    finally:
        fp.seek(position)


def _meta_box(fp: IO[bytes]) -> bytes:
    """The content of the top-level box `meta` behind its version; empty if there is none."""
    for name, begin, end in boxes(fp, 0, file_size(fp)):
        if name == b"meta":
            fp.seek(begin + 4)
            return fp.read(max(0, min(end - begin - 4, MAX_META_BYTES)))
    return b""


def _contents(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and content of each box."""
    return [(name, data[begin:end]) for name, begin, end in boxes(io.BytesIO(data), 0, len(data))]


def _properties_in(meta: bytes) -> list[tuple[bytes, bytes]]:
    parts = dict(_contents(meta))
    item = parts.get(b"pitm", b"")
    (primary,) = struct.unpack_from(">H" if item[:1] == b"\0" else ">I", item, 4)
    item_properties = dict(_contents(parts.get(b"iprp", b"")))
    properties = _contents(item_properties.get(b"ipco", b""))
    indices = _property_indices(item_properties.get(b"ipma", b""), primary)
    return [properties[index - 1] for index in indices if index]


def _property_indices(ipma: bytes, wanted: int) -> list[int]:
    """Indices, from 1, of the properties that the box `ipma` associates with an item."""
    (flags, items), offset = struct.unpack_from(">II", ipma), 8
    for _ in range(items):
        (item,) = struct.unpack_from(">I" if flags >> 24 else ">H", ipma, offset)
        offset += 4 if flags >> 24 else 2
        count, offset = ipma[offset], offset + 1
        is_wide = flags & 1
        indices = struct.unpack_from(f">{count}{'H' if is_wide else 'B'}", ipma, offset)
        if item == wanted:
            return [index & (0x7FFF if is_wide else 0x7F) for index in indices]
        offset += count * (2 if is_wide else 1)
    return []
