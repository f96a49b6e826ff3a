"""Streams as fields that may hold anything, put together with right lengths and CRCs."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

START = b"\x89STF\r\n\x1a\n\x01"

Chunk = tuple[bytes, bytes]
"""Type and payload."""


def varint(value: int) -> bytes:
    """Unsigned LEB128 in its shortest form."""
    if value < 128:
        return bytes([value])
    return bytes([value % 128 + 128]) + varint(value // 128)


def framed(kind: bytes, payload: bytes, length: bytes | None = None) -> bytes:
    """A chunk with a right CRC; `length` stands in for the right length."""
    crc = struct.pack(">I", zlib.crc32(kind + payload))
    return kind + (varint(len(payload)) if length is None else length) + payload + crc


def assembled(chunks: list[Chunk]) -> bytes:
    """A file of these chunks."""
    return START + b"".join(framed(*chunk) for chunk in chunks)


def take_varint(data: bytes) -> tuple[int, bytes]:
    """The number at the front of sound data, and what follows it."""
    end = next(place for place, byte in enumerate(data) if byte < 128) + 1
    return sum((byte & 127) << 7 * place for place, byte in enumerate(data[:end])), data[end:]


def split(data: bytes) -> list[Chunk]:
    """The chunks of a sound file."""
    chunks, left = [], data[len(START) :]
    while left:
        length, rest = take_varint(left[4:])
        chunks.append((left[:4], rest[:length]))
        left = rest[length + 4 :]
    return chunks


@dataclass
class Fields:
    """Every field of a stream; `optional` are the chunks between HEAD and DATA."""

    width: int
    height: int
    model: int
    fingerprint: bytes
    packed: int
    z: bytes
    y: bytes
    checksum: int
    optional: list[Chunk] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes) -> Fields:
        """The fields of a sound file."""
        (_, head), *optional, (_, latents) = split(data)
        width, head = take_varint(head)
        height, head = take_varint(head)
        model, head = take_varint(head)
        z_length, latents = take_varint(latents)
        return cls(
            width=width,
            height=height,
            model=model,
            fingerprint=head[:4],
            packed=int.from_bytes(head[4:], "big"),
            z=latents[:z_length],
            y=latents[z_length:-4],
            checksum=int.from_bytes(latents[-4:], "big"),
            optional=optional,
        )

    def chunks(self) -> list[Chunk]:
        sizes = varint(self.width) + varint(self.height) + varint(self.model)
        head = sizes + self.fingerprint + struct.pack(">H", self.packed)
        data = varint(len(self.z)) + self.z + self.y + struct.pack(">I", self.checksum)
        return [(b"HEAD", head), *self.optional, (b"DATA", data)]

    def bytes(self) -> bytes:
        return assembled(self.chunks())
