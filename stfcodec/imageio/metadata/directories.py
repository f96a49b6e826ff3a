"""Directories of TIFF files and of EXIF blocks: their entries, with values as raw bytes.

Reference: TIFF revision 6.0 (Adobe, 1992); BigTIFF has wider counts and offsets.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import IO, NamedTuple

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
"""Field types."""

_MAX_ENTRIES = 4096  # of a directory, and values of an entry
# By field type: bytes of a value. Types above 13 are those of BigTIFF.
VALUE_BYTES = dict.fromkeys((1, 2, 6, 7), 1) | {3: 2, 8: 2, 4: 4, 9: 4, 11: 4, 13: 4}
VALUE_BYTES |= dict.fromkeys((5, 10, 12, 16, 17, 18), 8)
_BIG_TYPES = (16, 17, 18)
# By field type: unsigned integers as of `struct`.
_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


class DirectoryError(ValueError):
    """There is no directory where one should be, or it is cut short."""


@dataclass(frozen=True)
class Entry:
    """One tag of a directory."""

    tag: int
    kind: int
    """Field type."""
    count: int
    """Of values."""
    at: int
    """Offset of the entry."""
    value_at: int
    """Offset of its first value."""

    @property
    def size(self) -> int:
        """Bytes of all values; huge for an unknown field type."""
        return VALUE_BYTES.get(self.kind, 1 << 64) * self.count


class Field(NamedTuple):
    """What an entry says, wherever its values lie."""

    kind: int
    """Field type."""
    number: int
    """Of values."""
    data: bytes
    """The values in the byte order of their file."""


Fields = dict[int, Field]
"""By tag."""


@dataclass(frozen=True)
class DirectoryReader:
    """Reads the directories of one file or block."""

    fp: IO[bytes]
    order: str
    """Byte order as of `struct`."""
    is_big: bool
    """BigTIFF."""

    @classmethod
    def of(cls, fp: IO[bytes]) -> DirectoryReader:
        """Raises DirectoryError unless the file begins with a TIFF header."""
        fp.seek(0)
        head = fp.read(4)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None:
            raise DirectoryError
        return cls(fp, order, b"+" in head[2:])

    def first_offset(self) -> int:
        """Offset of the first directory. Raises DirectoryError."""
        return self._numbers(8 if self.is_big else 4, self.offset_format)[0]

    @property
    def offset_format(self) -> str:
        return "Q" if self.is_big else "I"

    def directory(self, offset: int) -> tuple[list[Entry], int]:
        """The entries of a directory, and the offset of the next one; 0: there is none.

        Entries behind the 4096th are left out. Raises DirectoryError if the table is cut short.
        """
        head_bytes, entry_bytes, inline_bytes = (8, 20, 8) if self.is_big else (2, 12, 4)
        (count,) = self._numbers(offset, "Q" if self.is_big else "H")
        first = offset + head_bytes
        read = min(count, _MAX_ENTRIES)
        table = self._bytes(first, entry_bytes * read)
        if len(table) < entry_bytes * read:
            raise DirectoryError
        entries = []
        layout = struct.Struct(f"{self.order}HH{self.offset_format * 2}")
        for number, (tag, kind, values, pointer) in enumerate(layout.iter_unpack(table)):
            at = first + entry_bytes * number
            is_inline = VALUE_BYTES.get(kind, 1 << 64) * values <= inline_bytes
            value_at = at + entry_bytes - inline_bytes if is_inline else pointer
            entries.append(Entry(tag, kind, values, at, value_at))
        try:
            (following,) = self._numbers(first + entry_bytes * count, self.offset_format)
        except DirectoryError:  # some writers end a block before it
            following = 0
        return entries, following

    def subdirectory(self, entries: list[Entry], tag: int) -> list[Entry]:
        """The entries of the directory that a tag points to; none if it is absent or damaged."""
        for entry in entries:
            offsets = self.integers(entry) if entry.tag == tag else ()
            if offsets and offsets[0]:
                try:
                    return self.directory(offsets[0])[0]
                except DirectoryError:
                    return []
        return []

    def data(self, entry: Entry, limit: int) -> bytes | None:
        """The raw values; None if they are more than `limit` bytes, or the file ends before."""
        if entry.size > limit:
            return None
        data = self._bytes(entry.value_at, entry.size)
        return data if len(data) == entry.size else None

    def integers(self, entry: Entry) -> tuple[int, ...]:
        """The values; none if they are no unsigned integers, too many or unreadable."""
        if entry.kind not in _FORMATS or not 0 < entry.count <= _MAX_ENTRIES:
            return ()
        try:
            return self._numbers(entry.value_at, _FORMATS[entry.kind] * entry.count)
        except DirectoryError:
            return ()

    def fields(self, entries: list[Entry], limit: int) -> Fields:
        """Those entries that a classic TIFF file can hold, with readable values up to `limit`.

        Of several entries of one tag the last counts.
        """
        found = {}
        for entry in {entry.tag: entry for entry in entries}.values():
            data = None if entry.kind in _BIG_TYPES else self.data(entry, limit)
            if data is not None:
                found[entry.tag] = Field(entry.kind, entry.count, data)
        return found

    def end(self) -> int:
        """Size of the file."""
        return self.fp.seek(0, os.SEEK_END)

    def _numbers(self, offset: int, format: str) -> tuple[int, ...]:
        size = struct.calcsize(self.order + format)
        data = self._bytes(offset, size)
        if len(data) < size:
            raise DirectoryError
        return struct.unpack(self.order + format, data)

    def _bytes(self, offset: int, size: int) -> bytes:
        try:
            self.fp.seek(offset)
            return self.fp.read(size)
        except (OverflowError, ValueError):  # an offset beyond what files can have
            return b""


def packed_directory(order: str, fields: Fields, at: int, raw: list[bytes] | None = None) -> bytes:
    """A classic directory to be placed at `at`, an even offset, with its larger values behind it.

    raw: further entries of 12 bytes, whose values lie elsewhere already. There is no next
    directory.
    """
    count = len(fields) + len(raw or [])
    tail_at, tail = at + 2 + 12 * count + 4, bytearray()
    entries = list(raw or [])
    for tag, (kind, values, data) in fields.items():
        value = data
        if len(data) > 4:
            value = struct.pack(order + "I", tail_at + len(tail))
            tail += data + bytes(len(data) % 2)
        entries.append(struct.pack(order + "HHI", tag, kind, values) + value.ljust(4, b"\0"))
    entries.sort(key=lambda entry: struct.unpack(order + "H", entry[:2]))
    return struct.pack(order + "H", count) + b"".join(entries) + bytes(4) + tail
