"""IPTC records, and the Photoshop resources in which JPEG, PNG and TIFF keep them.

A record is what Picture and streams carry: data sets of IPTC IIM 4, each beginning with 1C.
"""

from __future__ import annotations

import struct

_SEGMENT_PREFIX = b"Photoshop 3.0\0"
_RESOURCE_SIGNATURES = (b"8BIM", b"MeSa", b"PHUT", b"DCSR", b"AgHg")
_RECORD = 0x0404
# Copies of what is elsewhere: resolution, thumbnails, ICC profile, EXIF, XMP, a digest of IPTC.
_COPIES = (0x03ED, 0x0409, 0x040C, 0x040F, 0x0422, 0x0423, 0x0424, 0x0425)
_DATA_SET = 0x1C


def without_prefix(segment: bytes) -> bytes:
    """Photoshop resources without what stands before them in JPEG."""
    return segment.removeprefix(_SEGMENT_PREFIX)


def is_resources(data: bytes) -> bool:
    """Whether the data begins as Photoshop resources do, with or without JPEG's prefix."""
    return data.startswith((_SEGMENT_PREFIX, *_RESOURCE_SIGNATURES))


def from_resources(data: bytes) -> tuple[bytes | None, bool]:
    """The record among Photoshop resources, and whether there are others than copies.

    A resource that is cut short ends the list.
    """
    data, at = without_prefix(data), 0
    record, has_others = None, False
    while data[at : at + 4] in _RESOURCE_SIGNATURES and at + 7 <= len(data):
        (kind,) = struct.unpack_from(">H", data, at + 4)
        name_bytes = 1 + data[at + 6]
        size_at = at + 6 + name_bytes + name_bytes % 2
        if size_at + 4 > len(data):
            break
        (size,) = struct.unpack_from(">I", data, size_at)
        content = data[size_at + 4 : size_at + 4 + size]
        if kind == _RECORD and len(content) == size and is_record(content):
            record = record or content
        has_others |= kind not in (_RECORD, *_COPIES)
        at = size_at + 4 + size + size % 2
    return record, has_others


def is_record(data: bytes) -> bool:
    """Whether the data begins as an IPTC record does."""
    return data[:1] == bytes([_DATA_SET])


def from_tiff(data: bytes) -> bytes | None:
    """The record in a TIFF tag. Some writers have swapped its bytes by fours."""
    if not is_record(data) and data[3:4] == bytes([_DATA_SET]):
        whole = len(data) // 4 * 4
        data = b"".join(data[at : at + 4][::-1] for at in range(0, whole, 4))
    return data if is_record(data) else None


def resources(record: bytes) -> bytes:
    """Photoshop resources with this record alone."""
    head = b"8BIM" + struct.pack(">HHI", _RECORD, 0, len(record))
    return head + record + bytes(len(record) % 2)


def jpeg_content(record: bytes) -> bytes:
    """The content of the APP13 segment with this record."""
    return _SEGMENT_PREFIX + resources(record)
