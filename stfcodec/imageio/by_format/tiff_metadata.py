"""Metadata in the first directory of a TIFF file: a new EXIF block of it, XMP and IPTC.

Values are copied as bytes. Pillow would decode texts, and replace letters beyond ASCII.
"""

from __future__ import annotations

import struct
from typing import IO

from stfcodec.imageio.metadata import exif, iptc, xmp
from stfcodec.imageio.metadata.blocks import Blocks
from stfcodec.imageio.metadata.directories import (
    LONG,
    DirectoryError,
    DirectoryReader,
    Entry,
    Field,
    Fields,
    packed_directory,
)

XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
"""Tags of blocks."""

DESCRIPTIVE_TAGS = (
    *(269, 270, 271, 272, 285, 305, 306, 315, 316, 33432),  # texts
    *(0x4746, 0x4749, *range(0x9C9B, 0x9CA0)),  # of Windows: rating, texts in UTF-16
)
"""Of the first directory: what describes the picture rather than how a file stores it."""

_LEFT_OUT = {
    **dict.fromkeys((33550, 33922, 34264, 34735, 42112, 42113), "GeoTIFF tags"),
    **{37724: "Photoshop layers", 50838: "ImageJ metadata", 52545: xmp.CREDENTIALS},
}
_HEADER_BYTES = 8
_MAX_NOTE_END = 60_000  # so that the block fits into JPEG
# Makers' notes whose offsets count from their own beginning.
_MOVABLE_NOTES = (
    *(b"Apple iOS\0", b"FUJIFILM", b"Nikon\0\2", b"OLYMPUS\0", b"OM SYSTEM\0", b"PENTAX \0"),
    *(b"LEICA\0\2", b"SIGMA\0", b"FOVEON\0"),
)


def blocks_in(fp: IO[bytes], limit: int) -> Blocks:
    """What a file holds; nothing if its first directory is damaged.

    limit: bytes of a value. Longer ones are left out and named. The position in the file is
    restored.
    """
    position, found = fp.tell(), Blocks()
    try:
        reader = DirectoryReader.of(fp)
        entries, _ = reader.directory(reader.first_offset())
        fields = _fields(reader, entries, limit, found.notes)
        found.exif = _exif_block(reader, entries, fields, limit, found)
        found.xmp = _trimmed(fields.get(XMP))
        if IPTC in fields:
            found.iptc = iptc.from_tiff(fields[IPTC].data)
        if PHOTOSHOP in fields:
            record, has_others = iptc.from_resources(fields[PHOTOSHOP].data)
            found.iptc = found.iptc or record
            found.left_out += ["Photoshop resources"] if has_others else []
        found.left_out += [_LEFT_OUT[e.tag] for e in entries if e.tag in _LEFT_OUT]
        for entry in entries:
            if entry.tag == exif.ORIENTATION:
                found.orientation = (*reader.integers(entry), 1)[0]
        if found.orientation is None:
            found.orientation = xmp.orientation(found.xmp or b"")
    except DirectoryError:
        pass
    finally:
        fp.seek(position)
    return found


def _fields(reader: DirectoryReader, entries: list[Entry], limit: int, notes: list[str]) -> Fields:
    """The fields that are used. Those that are too long are named."""
    names = {XMP: "XMP", IPTC: "IPTC", PHOTOSHOP: "Photoshop resources"}
    names |= {tag: f"TIFF tag {tag}" for tag in DESCRIPTIVE_TAGS}
    file_end = reader.end()
    notes += [
        f"too long and left out: {names[entry.tag]} of {entry.size} bytes"
        for entry in entries
        if entry.tag in names and limit < entry.size <= file_end
    ]
    described = [e for e in entries if e.tag in (*exif.RESOLUTION_TAGS, *DESCRIPTIVE_TAGS)]
    blocks = [entry for entry in entries if entry.tag in (XMP, IPTC, PHOTOSHOP)]
    return _fields_of_exif(reader, described, limit, notes) | reader.fields(blocks, limit)


def _fields_of_exif(
    reader: DirectoryReader, entries: list[Entry], limit: int, notes: list[str]
) -> Fields:
    """The fields of a directory; none if they are longer than a block may be.

    Values may overlap, so a small file may state many times its own size.
    """
    size = sum(entry.size for entry in entries if entry.size <= limit)
    if size > limit:
        notes.append(f"too long and left out: EXIF of {size} bytes")
        return {}
    return reader.fields(entries, limit)


def _trimmed(packet: Field | None) -> bytes | None:
    """XMP without the zero bytes with which some writers end it."""
    return packet.data.rstrip(b"\0") or None if packet else None


def _exif_block(
    reader: DirectoryReader, entries: list[Entry], fields: Fields, limit: int, found: Blocks
) -> bytes | None:
    """A block of the descriptive tags and of the directories of EXIF; None if there are none."""
    main = {tag: field for tag, field in fields.items() if tag in DESCRIPTIVE_TAGS}
    stated = exif.resolution_in(fields, reader.order)
    if stated is not None:
        main |= exif.resolution_fields(stated, reader.order)
    camera_entries = reader.subdirectory(entries, exif.CAMERA)
    inner_entries = reader.subdirectory(camera_entries, exif.INTEROPERABILITY)
    gps_entries = reader.subdirectory(entries, exif.GPS)
    camera, inner, gps = (
        _fields_of_exif(reader, found_entries, limit, found.notes)
        for found_entries in (camera_entries, inner_entries, gps_entries)
    )
    camera.pop(exif.INTEROPERABILITY, None)
    block = _Block(reader.order)
    note = camera.get(exif.MAKERS_NOTE)
    if note is not None and not note.data.startswith(_MOVABLE_NOTES):
        at = next(e.value_at for e in camera_entries if e.tag == exif.MAKERS_NOTE)
        if _HEADER_BYTES <= at <= _MAX_NOTE_END - len(note.data) and len(note.data) > 4:
            block.reserve(at, note.data)
        elif len(note.data) > 4:
            del camera[exif.MAKERS_NOTE]
            found.left_out.append("maker's note")
    if inner:
        camera[exif.INTEROPERABILITY] = block.add(inner)
    if camera:
        main[exif.CAMERA] = block.add(camera)
    if gps:
        main[exif.GPS] = block.add(gps)
    return block.finished(main) if main else None


class _Block:
    """An EXIF block that grows by whole directories, around a note that keeps its offset."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.data = bytearray(_HEADER_BYTES)
        self.note_at, self.note = 0, b""

    def reserve(self, at: int, note: bytes) -> None:
        """Have these bytes at this offset, before any directory is added."""
        self.note_at, self.note = at, note

    def add(self, fields: Fields) -> Field:
        """Place a directory; the field that points to it."""
        at = len(self.data) + len(self.data) % 2
        directory = self._directory(fields, at)
        if at < self.note_at + len(self.note) and at + len(directory) > self.note_at:
            self._add_note()
            at = len(self.data) + len(self.data) % 2
            directory = self._directory(fields, at)
        self.data = self.data.ljust(at, b"\0") + directory
        return Field(LONG, 1, struct.pack(self.order + "I", at))

    def _directory(self, fields: Fields, at: int) -> bytes:
        """The directory, with the note where it was rather than behind the table."""
        if not self.note or exif.MAKERS_NOTE not in fields:
            return packed_directory(self.order, fields, at)
        fields = dict(fields)
        kind, count, _ = fields.pop(exif.MAKERS_NOTE)
        pointer = struct.pack(self.order + "HHII", exif.MAKERS_NOTE, kind, count, self.note_at)
        return packed_directory(self.order, fields, at, [pointer])

    def _add_note(self) -> None:
        self.data = self.data.ljust(self.note_at, b"\0")[: self.note_at] + self.note

    def finished(self, fields: Fields) -> bytes:
        """The whole block, with its first directory."""
        pointer = self.add(fields)
        if len(self.data) < self.note_at + len(self.note):
            self._add_note()
        self.data[:4] = b"II*\0" if self.order == "<" else b"MM\0*"
        self.data[4:8] = pointer.data
        return bytes(self.data)
