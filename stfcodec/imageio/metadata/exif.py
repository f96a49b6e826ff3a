"""EXIF blocks: what they say, and changes that leave every other byte where it is.

Nothing is moved, because offsets such as those in makers' notes would break. Text is never decoded.
Reference: CIPA DC-008 (Exif 2.32).
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction

from stfcodec.imageio.metadata import resolution as resolutions
from stfcodec.imageio.metadata.directories import (
    LONG,
    RATIONAL,
    SHORT,
    DirectoryError,
    DirectoryReader,
    Entry,
    Field,
    Fields,
    packed_directory,
)
from stfcodec.imageio.metadata.resolution import Resolution

PREFIX = b"Exif\0\0"
"""Stands before the block in some formats."""

CAMERA, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005
"""Tags that point to further directories."""

MAKERS_NOTE = 0x927C
RESOLUTION_TAGS = (282, 283, 296)
ORIENTATION = 0x0112
_SIZE_TAGS = ((256, 257), (0xA002, 0xA003), (0x1001, 0x1002))
"""Width and height, in the first directory, the camera's and that of interoperability."""
_SUBJECT_TAGS = (0x9214, 0xA214)  # area and location, in pixels of the unturned picture
_THUMBNAIL_OFFSETS, _THUMBNAIL_LENGTHS = (0x0201, 273), (0x0202, 279)


@dataclass(frozen=True)
class _Block:
    """A block that is being read or changed."""

    data: bytearray
    reader: DirectoryReader
    offset: int
    """Of the first directory."""
    entries: list[Entry]
    following: int
    """Offset of the second directory, that of the thumbnail; 0: there is none."""

    @classmethod
    def of(cls, exif: bytes) -> _Block:
        """Raises DirectoryError if the first directory is damaged."""
        reader = DirectoryReader.of(io.BytesIO(exif))
        if reader.is_big:
            raise DirectoryError
        offset = reader.first_offset()
        entries, following = reader.directory(offset)
        return cls(bytearray(exif), reader, offset, entries, following)

    def pack_into(self, offset: int, format: str, *values: int) -> None:
        struct.pack_into(self.reader.order + format, self.data, offset, *values)


def without_prefix(exif: bytes) -> bytes:
    """The block from its TIFF header on."""
    at = 0
    while exif.startswith(PREFIX, at):
        at += len(PREFIX)
    return exif[at:]


def orientation(exif: bytes) -> int:
    """1 to 8 as the first directory says; 1 if it says nothing. Raises DirectoryError."""
    block = _Block.of(exif)
    for entry in block.entries:
        if entry.tag == ORIENTATION:
            values = block.reader.integers(entry)
            return values[0] if values and 1 <= values[0] <= 8 else 1
    return 1


def upright(exif: bytes, size: tuple[int, int], turned: bool) -> bytes | None:
    """The block without orientation and with the size of the picture; None if nothing is in it.

    size: width and height of the upright picture. turned: the pixels were turned or mirrored, so
    the thumbnail and the places of subjects are left out. Raises DirectoryError.
    """
    block = _Block.of(exif)
    reader = block.reader
    camera = reader.subdirectory(block.entries, CAMERA)
    interoperability = reader.subdirectory(camera, INTEROPERABILITY)
    directories = (block.entries, camera, interoperability)
    for entries, tags in zip(directories, _SIZE_TAGS, strict=True):
        for entry in entries:
            if entry.tag in tags and entry.kind in (SHORT, LONG) and entry.count == 1:
                _set_integer(block, entry, size[tags.index(entry.tag)])
    others = [entry for entry in block.entries if entry.tag != ORIENTATION]
    following = 0 if turned else block.following
    if not others and not following:
        return None
    if turned:
        _remove(block, camera, _SUBJECT_TAGS)
    if len(others) < len(block.entries):
        _remove(block, block.entries, (ORIENTATION,))
    if turned and block.following:
        return _without_thumbnail(block, len(others))
    return bytes(block.data)


def _set_integer(block: _Block, entry: Entry, value: int) -> None:
    if value > 0xFFFF and entry.kind == SHORT:
        block.pack_into(entry.at + 2, "H", LONG)
        entry = Entry(entry.tag, LONG, 1, entry.at, entry.value_at)
    if entry.kind == SHORT:
        block.pack_into(entry.value_at, "HH", value, 0)
    else:
        block.pack_into(entry.value_at, "I", value)


def _remove(block: _Block, entries: list[Entry], tags: tuple[int, ...]) -> None:
    """Take tags out of a directory; those behind them move up, and the link to the next one."""
    if not any(entry.tag in tags for entry in entries):
        return
    begin, end = entries[0].at, entries[-1].at + 12
    kept = [block.data[e.at : e.at + 12] for e in entries if e.tag not in tags]
    link = bytes(block.data[end : end + 4]).ljust(4, b"\0")
    table = b"".join(kept) + link
    block.data[begin : end + 4] = table.ljust(end + 4 - begin, b"\0")
    block.pack_into(begin - 2, "H", len(kept))


def _without_thumbnail(block: _Block, entries_left: int) -> bytes:
    """The block without the link to the thumbnail and without its bytes."""
    block.pack_into(block.offset + 2 + 12 * entries_left, "I", 0)
    data, reader = block.data, block.reader
    try:
        entries, _ = reader.directory(block.following)
    except DirectoryError:
        return bytes(data)
    values = {entry.tag: reader.integers(entry) for entry in entries}
    ranges = [(block.following, block.following + 2 + 12 * len(entries) + 4)]
    for offsets, lengths in zip(_THUMBNAIL_OFFSETS, _THUMBNAIL_LENGTHS, strict=True):
        pairs = zip(values.get(offsets, ()), values.get(lengths, ()), strict=False)
        ranges += [(begin, begin + length) for begin, length in pairs]
    end_of_first = block.offset + 2 + 12 * len(block.entries) + 4
    # A thumbnail within the first directory is damage.
    sound = [r for r in ranges if end_of_first <= r[0] < r[1] <= len(data) + 4]
    for begin, end in reversed(_united(sound)):
        if end >= len(data):
            del data[begin:]
        else:
            data[begin:end] = bytes(end - begin)
    return bytes(data)


def _united(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same places in ranges that do not touch, in their order."""
    united: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if united and begin <= united[-1][1]:
            united[-1] = united[-1][0], max(united[-1][1], end)
        else:
            united.append((begin, end))
    return united


def without_thumbnail(exif: bytes) -> bytes:
    """The block without its thumbnail. Raises DirectoryError."""
    block = _Block.of(exif)
    return _without_thumbnail(block, len(block.entries)) if block.following else exif


def resolution(exif: bytes) -> Resolution | None:
    """The resolution in the first directory; None if there is none. Raises DirectoryError."""
    block = _Block.of(exif)
    return resolution_in(block.reader.fields(block.entries, 8), block.reader.order)


def resolution_in(fields: Fields, order: str) -> Resolution | None:
    """The resolution in the fields of a directory."""
    across, down, unit = (_number(fields.get(tag), order) for tag in RESOLUTION_TAGS)
    if across is None or down is None:
        return None
    return resolutions.stated(across, down, resolutions.INCH if unit is None else int(unit))


def _number(field: Field | None, order: str) -> Fraction | None:
    """A single value; None if it is no number."""
    formats = {SHORT: "H", LONG: "I", RATIONAL: "II", 11: "f", 12: "d"}
    if field is None or field.number != 1 or field.kind not in formats:
        return None
    values = struct.unpack(order + formats[field.kind], field.data)
    try:
        if field.kind == RATIONAL:
            return Fraction(*values)
        return Fraction(values[0]).limit_denominator(10000)
    except (ZeroDivisionError, ValueError, OverflowError):
        return None


def resolution_fields(resolution: Resolution, order: str) -> Fields:
    """The resolution as entries of a directory; none if they cannot hold it."""
    numbers = resolutions.rationals(resolution)
    if numbers is None:
        return {}
    data = [struct.pack(order + "II", *numbers[:2]), struct.pack(order + "II", *numbers[2:])]
    across, down = (Field(RATIONAL, 1, value) for value in data)
    unit = Field(SHORT, 1, struct.pack(order + "H", resolution.unit))
    return dict(zip(RESOLUTION_TAGS, (across, down, unit), strict=True))


def with_resolution(exif: bytes | None, resolution: Resolution) -> bytes | None:
    """The block with this resolution: a new one if there is none.

    A new first directory stands at the end of the block. Raises DirectoryError.
    """
    if exif is None:
        fields = resolution_fields(resolution, "<")
        return b"II*\0\x08\0\0\0" + packed_directory("<", fields, 8) if fields else None
    block = _Block.of(exif)
    order, at = block.reader.order, len(exif) + len(exif) % 2
    fields = resolution_fields(resolution, order)
    if not fields:
        return exif
    raw = raw_entries(exif, [e.tag for e in block.entries if e.tag not in RESOLUTION_TAGS])
    directory = bytearray(packed_directory(order, fields, at, raw))
    struct.pack_into(order + "I", directory, 2 + 12 * (len(fields) + len(raw)), block.following)
    old_end = block.offset + 2 + 12 * len(block.entries)
    block.data[block.offset : old_end] = bytes(old_end - block.offset)
    block.pack_into(4, "I", at)
    return bytes(block.data).ljust(at, b"\0") + bytes(directory)


def raw_entries(exif: bytes, tags: list[int] | tuple[int, ...]) -> list[bytes]:
    """The entries of these tags in the first directory, 12 bytes each. Raises DirectoryError."""
    entries = _Block.of(exif).entries
    return [exif[entry.at : entry.at + 12] for entry in entries if entry.tag in tags]


def holds_only_resolution(exif: bytes) -> bool:
    """Whether the block says nothing else. Raises DirectoryError."""
    block = _Block.of(exif)
    return not block.following and {e.tag for e in block.entries} <= set(RESOLUTION_TAGS)


def byte_order(exif: bytes) -> str:
    """As of `struct`. Raises DirectoryError."""
    return _Block.of(exif).reader.order
