"""A second reader of the .stf container, written from docs/format.md alone.

It uses the standard library only and imports nothing of stfcodec. `test_format.py` holds the two
readers equal.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

START = b"\x89STF\r\n\x1a\n\x01"
METADATA_LIMIT = 16777216
CHUNK_LIMIT = 64
PIXEL_FORMATS = ((1, 8), (3, 8), (1, 16), (3, 16))
METADATA = {"iccp": "icc", "exif": "exif", "xmpm": "xmp", "iptc": "iptc"}
KNOWN = {"HEAD", "DATA", "alph", *METADATA}


class RefusedError(ValueError):
    """The data is not a stream of version 1, or a damaged one."""


def demand(condition: bool, rule: str) -> None:
    if not condition:
        raise RefusedError(rule)


class Fields:
    """Takes fields from the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.left = memoryview(data)

    def take(self, count: int) -> bytes:
        demand(count <= len(self.left), "ends early")
        taken, self.left = self.left[:count], self.left[count:]
        return bytes(taken)

    def unsigned(self, form: str) -> int:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def varint(self) -> int:
        digits = [self.unsigned("B")]
        while digits[-1] & 128 and len(digits) < 5:
            digits.append(self.unsigned("B"))
        value = sum((digit & 127) << 7 * place for place, digit in enumerate(digits))
        demand(not digits[-1] & 128 and value < 1 << 32, "varint is too long")
        demand(len(digits) == 1 or digits[-1] > 0, "varint is not in its shortest form")
        return value


def chunks(data: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Type, payload and CRC of each chunk up to DATA, after which nothing may follow."""
    fields = Fields(data)
    demand(fields.take(len(START)) == START, "signature or version")
    kind, count = "", 0
    while kind != "DATA":
        name = fields.take(4)
        demand(re.fullmatch(rb"[A-Za-z]{4}", name) is not None, "type is not four letters")
        kind, payload, crc = name.decode(), fields.take(fields.varint()), fields.unsigned(">I")
        demand(zlib.crc32(name + payload) == crc, "CRC does not fit")
        demand((kind == "HEAD") == (count == 0), "HEAD is first, and only there")
        demand(kind in KNOWN or kind[0].islower(), "unknown critical chunk")
        yield kind, payload, crc
        count += 1
        demand(count < CHUNK_LIMIT or kind == "DATA", "too many chunks")
    demand(not fields.left, "goes on after DATA")


def head(payload: bytes) -> dict[str, Any]:
    fields = Fields(payload)
    width, height, model = fields.varint(), fields.varint(), fields.varint()
    fingerprint, packed = fields.take(4), fields.unsigned(">H")
    form, quality = packed >> 13, packed & 0x1FFF
    demand(not fields.left, "HEAD is too long")
    demand(1 <= width < 1 << 24 and 1 <= height < 1 << 24, "size is outside its range")
    demand(1 <= model < 1 << 16, "model id is outside its range")
    demand(form < len(PIXEL_FORMATS), "pixel format is reserved")
    channels, bit_depth = PIXEL_FORMATS[form]
    demand(1000 <= quality <= 6000, "quality is outside its range")
    size = {"width": width, "height": height, "channels": channels, "bit_depth": bit_depth}
    return size | {"model_id": model, "fingerprint": fingerprint.hex(), "quality": quality / 1000}


def latents(payload: bytes) -> dict[str, Any]:
    fields = Fields(payload)
    z = fields.take(fields.varint())
    y = fields.take(max(0, len(fields.left) - 4))
    return {"z": z, "y": y, "checksum": fields.unsigned(">I")}


def inflate(payload: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(payload, METADATA_LIMIT + 1)
    except zlib.error as error:
        raise RefusedError("zlib stream is damaged") from error
    demand(len(data) <= METADATA_LIMIT, "metadata is too large")
    demand(inflater.eof and not inflater.unused_data, "zlib stream ends elsewhere")
    return data


def read(data: bytes) -> dict[str, Any]:
    """All that a stream states and holds; whether it is too large is for a decoder to say.

    Raises RefusedError for what is not one intact stream of version 1.
    """
    found = list(chunks(data))
    payloads = {kind: payload for kind, payload, _ in found if kind in KNOWN}
    demand(len(payloads) == sum(kind in KNOWN for kind, *_ in found), "known chunk appears twice")
    facts = head(payloads["HEAD"]) | latents(payloads["DATA"])
    blocks = {name: inflate(payloads[k]) for k, name in METADATA.items() if k in payloads}
    listed = [(kind, len(payload), crc) for kind, payload, crc in found]
    return facts | blocks | {"alpha": payloads.get("alph"), "chunks": listed}
