"""Damage done to streams, most of it behind sound framing: lengths and CRCs are right again, so
that the decoder has to find what is wrong."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache

from .stream import Chunk, Fields, assembled, framed, varint

Rng = random.Random

SIDES = (
    *(0, 1, 2, 63, 64, 65, 127, 128, 129, 192, 256, 1000, 4096, 8192, 11585, 16384, 32768),
    *(1 << 20, 1 << 21, (1 << 24) - 1, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1),
)
MODELS = (0, 1, 2, 3, 4, 5, 6, 7, 127, 128, 65535, 65536, (1 << 32) - 1)
QUALITIES = (0, 999, 1000, 1001, 1500, 3999, 5999, 6000, 6001, 8191)
METADATA = (b"iccp", b"exif", b"xmpm", b"iptc")


def mutated(seeds: Sequence[bytes], rng: Rng) -> bytes:
    """One of the seeds, damaged. Seeds are sound streams."""
    fields = Fields.of(rng.choice(seeds))
    other = Fields.of(rng.choice(seeds))
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 2, 3))):
        (damage,) = rng.choices(list(DEEP), list(DEEP.values()))
        damage(fields, other, rng)
    chunks = fields.chunks()
    if rng.random() < 0.15:
        damage_chunks(chunks, other.chunks(), rng)
    data = assembled(chunks) if rng.random() < 0.97 else _misframed(chunks, rng)
    return damaged(data, rng) if rng.random() < 0.07 else data


def damaged(data: bytes, rng: Rng) -> bytes:
    """Bytes with bits flipped, and runs of them replaced, cut out, doubled, reversed or cut off."""
    (count,) = rng.choices((1, 2, 4, 16), (60, 20, 15, 5))
    for _ in range(count):
        start = rng.randrange(len(data) + 1)
        run = data[start : start + rng.choice((1, 1, 1, 2, 4, 8, 64))]
        after = data[start + len(run) :]
        run = rng.choice(RUNS)(run, rng)
        data = data[:start] + run + (after if rng.random() < 0.95 else b"")
    return data


RUNS: tuple[Callable[[bytes, Rng], bytes], ...] = (
    lambda run, rng: bytes(byte ^ 1 << rng.randrange(8) for byte in run),
    lambda run, rng: bytes(byte ^ 1 << rng.randrange(8) for byte in run),
    lambda run, rng: rng.randbytes(len(run)),
    lambda run, rng: bytes(len(run)),
    lambda run, rng: b"\xff" * len(run),
    lambda run, rng: run * 2,
    lambda run, rng: b"",
    lambda run, rng: run[::-1],
    lambda run, rng: rng.randbytes(rng.choice((1, 4, 64))) + run,
)


# Chunks -------------------------------------------------------------------------------------------


def damage_chunks(chunks: list[Chunk], other: list[Chunk], rng: Rng) -> None:
    """Chunks dropped, doubled, swapped, resized, renamed or taken from another stream."""
    i, j = rng.randrange(len(chunks)), rng.randrange(len(chunks))
    kind, payload = chunks[i]
    match rng.randrange(7):
        case 0:
            del chunks[i]
        case 1:
            chunks.insert(j, chunks[i])
        case 2:
            chunks[i], chunks[j] = chunks[j], chunks[i]
        case 3:
            longer = payload + rng.randbytes(rng.choice((1, 4, 100)))
            chunks[i] = kind, rng.choice((longer, payload[: rng.randrange(len(payload) + 1)]))
        case 4:
            chunks[i] = kind, dict(other).get(kind, payload)
        case 5:
            kinds = (b"icon", b"TILE", b"HEAd", b"dATA", b"ab d", bytes(4), *METADATA, b"alph")
            chunks[i] = rng.choice(kinds), payload
        case 6:
            chunks[i:i] = [(b"icon", rng.randbytes(4))] * rng.choice((1, 61, 62, 63, 64, 1000))


def _misframed(chunks: list[Chunk], rng: Rng) -> bytes:
    """One chunk states a wrong length."""
    wrong = rng.randrange(len(chunks))
    size = rng.choice((0, 1, len(chunks[wrong][1]) + 1, 1 << 20, (1 << 32) - 1, 1 << 32))
    length = rng.choice((varint(size), b"\x80" * 5 + b"\0", b"\x80\0"))
    before, after = assembled(chunks[:wrong]), [framed(*chunk) for chunk in chunks[wrong + 1 :]]
    return before + framed(*chunks[wrong], length) + b"".join(after)


# Fields -------------------------------------------------------------------------------------------


def damage_size(fields: Fields, other: Fields, rng: Rng) -> None:
    """Any size, one like that of another stream, or one near the right one."""
    near = (-64, -1, 1, 64)
    if rng.random() < 0.3:
        fields.width, fields.height = other.width, other.height
    if rng.random() < 0.5:
        fields.width = rng.choice((*SIDES, *(max(0, fields.width + step) for step in near)))
    if rng.random() < 0.5:
        fields.height = rng.choice((*SIDES, *(max(0, fields.height + step) for step in near)))


def damage_model(fields: Fields, other: Fields, rng: Rng) -> None:
    """Another model, with or without the fingerprint that it has."""
    match rng.randrange(3):
        case 0:
            fields.model = rng.choice(MODELS)
        case 1:
            fields.model, fields.fingerprint = other.model, other.fingerprint
        case 2:
            fields.fingerprint = rng.randbytes(4)


def damage_format(fields: Fields, _: Fields, rng: Rng) -> None:
    """Another pixel format or quality."""
    form, quality = fields.packed >> 13, fields.packed & 0x1FFF
    if rng.random() < 0.5:
        form = rng.randrange(8) if rng.random() < 0.2 else rng.randrange(2)
    if rng.random() < 0.7:
        any_valid = rng.randrange(1000, 6001)
        quality = rng.choice(QUALITIES) if rng.random() < 0.5 else any_valid
    fields.packed = form << 13 | quality


def damage_z(fields: Fields, other: Fields, rng: Rng) -> None:
    fields.z = _coded(fields.z, rng.choice((other.z, other.y, fields.y)), rng)


def damage_y(fields: Fields, other: Fields, rng: Rng) -> None:
    fields.y = _coded(fields.y, rng.choice((other.y, other.z, fields.z)), rng)


def damage_checksum(fields: Fields, other: Fields, rng: Rng) -> None:
    fields.checksum = rng.choice((0, other.checksum, fields.checksum ^ 1 << rng.randrange(32)))


def _coded(data: bytes, other: bytes, rng: Rng) -> bytes:
    """A damaged range-coded payload. It mostly stays one of whole words and a possible state."""
    words = [data[i : i + 4] for i in range(0, len(data), 4)]
    cut = rng.randrange(len(words) + 1) * 4
    count = rng.choice((0, 1, 2, 8, 64, 1024))
    match rng.randrange(10):
        case 0:
            return damaged(data, rng)
        case 1:
            return data[:cut]
        case 2:
            return data + rng.choice((rng.randbytes(4), b"\xff" * 4, bytes(4))) * count
        case 3:
            return data[:cut] + other[cut:]
        case 4:
            return other
        case 5:
            return _state(rng.getrandbits(63)) + rng.randbytes(4 * count)
        case 6:
            return data[:8] + rng.choice((b"\xff", b"\0")) * (len(data) - 8)
        case 7:
            return _state(_escape(rng)) + rng.choice((rng.randbytes(4 * count), data[8:]))
        case 8:
            return data[:8] + b"".join(rng.sample(words[2:], len(words[2:])))
        case _:
            flipped = int.from_bytes(data[:8], "little") ^ 1 << rng.randrange(63)
            return _state(flipped) + data[8:]


def _state(value: int) -> bytes:
    """The two words that a payload begins with, in the range that a decoder accepts."""
    return (value % (1 << 63) | 1 << 31).to_bytes(8, "little")


def _escape(rng: Rng) -> int:
    """A state whose first symbol is beyond its table, if the escape's share is the least one, and
    has any value that the groups after it can give."""
    groups = rng.choice((0, 1, 6, 7, 7, 7, 8, 15))
    raw = rng.choice((0, 1, (1 << 27) - 1, 1 << 27, (1 << 28) - 1, rng.getrandbits(28)))
    return 0xFFFF | groups << 16 | raw << 20 | rng.getrandbits(15) << 48


# Optional chunks ----------------------------------------------------------------------------------


def damage_metadata(fields: Fields, _: Fields, rng: Rng) -> None:
    """Bombs, cut and damaged zlib streams, and blocks that are no EXIF, XMP or ICC."""
    packed = zlib.compress(rng.choice(BLOCKS)(rng), rng.choice((0, 1, 9)))
    if rng.random() < 0.1:
        packed = bomb(rng.choice((16 << 20, (16 << 20) + 1, 32 << 20)))
    match rng.randrange(4):
        case 0:
            packed = damaged(packed, rng)
        case 1:
            packed += rng.choice((b"\0", packed))
    _replace(fields, rng.choice(METADATA), packed)


BLOCKS: tuple[Callable[[Rng], bytes], ...] = (
    lambda rng: b"",
    lambda rng: rng.randbytes(rng.choice((1, 4, 128, 1000))),
    lambda rng: bytes(100_000),
    lambda rng: rng.choice((b"II*\0", b"MM\0*", b"Exif\0\0II*\0")) + rng.randbytes(60),
    lambda rng: b"<x:xmpmeta>" * rng.choice((1, 1000)),
)


@cache
def bomb(size: int) -> bytes:
    """A zlib stream of so many zeros."""
    return zlib.compress(bytes(size), 9)


def damage_alpha(fields: Fields, other: Fields, rng: Rng) -> None:
    """Planes of any size and depth, PNG with odd chunks, and damaged files."""
    size = fields.width, fields.height
    if rng.random() < 0.5 or fields.width * fields.height > 1 << 20:
        size = other.width, other.height
    alpha = png(*size, rng)
    if rng.random() < 0.3:
        alpha = damaged(alpha, rng)
    _replace(fields, b"alph", alpha)


def png(width: int, height: int, rng: Rng) -> bytes:
    """A PNG whose header and data mostly fit the size, and whose CRCs are right."""
    bits, colour = rng.choice(((8, 0), (8, 0), (8, 0), (1, 0), (4, 0), (16, 0), (8, 3), (8, 6)))
    row = 1 + (width * bits * (4 if colour == 6 else 1) + 7) // 8
    rows = rng.choice((height, height, height, 0, height // 2, 2 * height))
    rows = min(rows, (1 << 22) // row)
    filters = rng.choice((b"\0", b"\1", b"\2", b"\3", b"\4", b"\5"))
    lines = (filters + rng.randbytes(row - 1)) * rows
    stated = (
        rng.choice((width, width, width, 1, 20000)),
        rng.choice((height, height, height, 20000)),
    )
    chunks = [
        (
            b"IHDR",
            struct.pack(">IIBBBBB", *stated, bits, colour, 0, 0, rng.choice((0, 0, 0, 1, 2))),
        ),
        (b"IDAT", zlib.compress(lines, 1)),
        (b"IEND", b""),
    ]
    odd = (
        (b"iCCP", b"name\0\0" + bomb(32 << 20)),
        (b"zTXt", b"key\0\0" + bomb(32 << 20)),
        (b"iTXt", b"key\0\1\0\0\0" + bomb(32 << 20)),
        (b"tRNS", b"\0\1"),
        (b"PLTE", b"\0\1\2" * 256),
        (b"acTL", struct.pack(">II", rng.choice((0, 2, 1 << 31)), 0)),
        (b"eXIf", rng.randbytes(40)),
        (b"pHYs", rng.randbytes(3)),
        (b"IHDR", struct.pack(">IIBBBBB", 50000, 50000, 8, 0, 0, 0, 0)),
    )
    if rng.random() < 0.5:
        chunks.insert(rng.randrange(1, 3), rng.choice(odd))
    body = (
        struct.pack(">I", len(payload))
        + kind
        + payload
        + struct.pack(">I", zlib.crc32(kind + payload))
        for kind, payload in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _replace(fields: Fields, kind: bytes, payload: bytes) -> None:
    others = [chunk for chunk in fields.optional if chunk[0] != kind]
    fields.optional = [*others, (kind, payload)]


DEEP: dict[Callable[[Fields, Fields, Rng], None], int] = {
    damage_z: 30,
    damage_y: 30,
    damage_size: 12,
    damage_format: 6,
    damage_model: 5,
    damage_metadata: 6,
    damage_alpha: 8,
    damage_checksum: 3,
}
"""What is done to fields, and how often."""
