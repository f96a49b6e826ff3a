"""From a `Stream` to the bytes of an .stf file."""

from __future__ import annotations

import zlib

from stfcodec.container.layout import (
    MAX_UINT32,
    METADATA_CHUNKS,
    PIXEL_FORMATS,
    QUALITY_SCALE,
    SIGNATURE,
    UINT16,
    UINT32,
    VERSION,
    Header,
    Stream,
    check_range,
)
from stfcodec.limits import MAX_METADATA


def write(stream: Stream) -> bytes:
    """Serialise `stream`. The same stream gives the same bytes (metadata: with the same zlib).

    Raises ValueError, naming field, value and range, for a field the format cannot hold.
    """
    stream.header.validate()
    check_range("checksum", stream.checksum, 0, MAX_UINT32)
    parts = [SIGNATURE, bytes([VERSION]), _chunk("HEAD", _pack_header(stream.header))]
    for kind, name in METADATA_CHUNKS.items():
        metadata: bytes | None = getattr(stream, name)
        if metadata is not None:
            check_range(f"length of {name}", len(metadata), 0, MAX_METADATA)
            parts.append(_chunk(kind, zlib.compress(metadata, 9)))
    if stream.alpha is not None:
        parts.append(_chunk("alph", stream.alpha))
    z_length = _varint("length of z", len(stream.z))
    checksum = UINT32.pack(stream.checksum)
    parts.append(_chunk("DATA", b"".join((z_length, stream.z, stream.y, checksum))))
    return b"".join(parts)


def _pack_header(header: Header) -> bytes:
    pixel_format = PIXEL_FORMATS.index((header.channels, header.bit_depth))
    return b"".join(
        (
            _varint("width", header.width),
            _varint("height", header.height),
            _varint("model_id", header.model_id),
            header.fingerprint,
            UINT16.pack(pixel_format << 13 | round(header.quality * QUALITY_SCALE)),
        )
    )


def _chunk(kind: str, payload: bytes) -> bytes:
    name = kind.encode("ascii")
    crc = zlib.crc32(payload, zlib.crc32(name))
    length = _varint(f"length of chunk {kind}", len(payload))
    return b"".join((name, length, payload, UINT32.pack(crc)))


def _varint(name: str, value: int) -> bytes:
    """Unsigned LEB128: seven bits a byte, lowest first, the top bit set on all but the last."""
    check_range(name, value, 0, MAX_UINT32)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
