"""The .stf container: one coded picture as a signature, a version and checksummed chunks.

    stream   signature 8 bytes | version u8 | HEAD | iccp? exif? xmpm? alph? in any order | DATA
    chunk    type 4 letters | length varint | payload | CRC-32 of type and payload u32
    HEAD     width varint | height varint | model id varint | fingerprint 4 bytes
             | u16: pixel format (top 3 bits), quality in thousandths (low 13 bits)
    DATA     length of z varint | z | y | checksum of the decoded symbols u32
    iccp exif xmpm   a zlib stream of at most 16 MiB of metadata
    alph     a PNG file of mode L, kept as it is

Fixed-size integers are big-endian; a varint is unsigned LEB128 in its shortest form, below 2**32.
A chunk whose first letter is lower case may be skipped by a reader that does not know it.
docs/format.md is the full specification. Standard library only; z and y are opaque here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from .errors import StreamError
from .limits import DEFAULT_LIMITS, Limits

SIGNATURE = b"\x89STF\r\n\x1a\n"
VERSION = 1

MAX_SIDE = (1 << 24) - 1
MAX_MODEL_ID = 0xFFFF
MAX_UINT32 = 0xFFFF_FFFF
MAX_METADATA = 16 << 20  # bytes of one inflated metadata chunk: what a zlib bomb can cost
MAX_CHUNKS = 64
QUALITY_SCALE = 1000
FINGERPRINT_BYTES = 4

_PIXEL_FORMATS = ((1, 8), (3, 8))  # (channels, bits per channel) by pixel format code
_METADATA = {"iccp": "icc", "exif": "exif", "xmpm": "xmp"}  # chunk type: field of Stream
_KNOWN = {"HEAD", "DATA", "alph", *_METADATA}
_UINT16 = struct.Struct(">H")
_UINT32 = struct.Struct(">I")

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Header:
    """What must be known before decoding starts."""

    width: int  # pixels, 1..MAX_SIDE
    height: int  # pixels, 1..MAX_SIDE
    channels: int  # 1 grey | 3 RGB
    bit_depth: int  # bits per channel: 8
    model_id: int  # 1..MAX_MODEL_ID, see models/registry.py
    fingerprint: bytes  # first 4 bytes of the SHA-256 of the model's weights
    quality: float  # 1..6, a whole number of thousandths

    def validate(self) -> None:
        """Raise ValueError, naming field, value and range, unless every field is in range."""
        _check_range("width", self.width, 1, MAX_SIDE)
        _check_range("height", self.height, 1, MAX_SIDE)
        _check_range("model_id", self.model_id, 1, MAX_MODEL_ID)
        _check_range("quality", self.quality, 1, 6)
        if round(self.quality * QUALITY_SCALE) / QUALITY_SCALE != self.quality:
            # Rounded here, the decoder would use another gain than the encoder did.
            raise ValueError(f"quality is {self.quality!r}, must be rounded to thousandths")
        if (self.channels, self.bit_depth) not in _PIXEL_FORMATS:
            raise ValueError(
                f"channels x bit_depth is {self.channels} x {self.bit_depth}, must be one of "
                + ", ".join(f"{channels} x {bits}" for channels, bits in _PIXEL_FORMATS)
            )
        if len(self.fingerprint) != FINGERPRINT_BYTES:
            raise ValueError(
                f"fingerprint has {len(self.fingerprint)} bytes, must have {FINGERPRINT_BYTES}"
            )


@dataclass(frozen=True)
class Stream:
    """Everything an .stf file holds."""

    header: Header
    z: bytes  # rANS stream of the hyper-latents
    y: bytes  # rANS streams of the latents
    checksum: int  # CRC-32 of the decoded symbols, uint32
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    alpha: bytes | None = None  # a PNG file of mode L


@dataclass(frozen=True)
class ChunkInfo:
    type: str
    length: int  # bytes of payload
    crc: int  # CRC-32 of type and payload, uint32


@dataclass(frozen=True)
class StreamInfo:
    """What can be said of a stream without decoding it."""

    version: int
    width: int
    height: int
    channels: int
    bit_depth: int
    model_id: int
    fingerprint: str  # 8 hex digits
    quality: float
    z_bytes: int
    y_bytes: int
    overhead_bytes: int  # all that is neither z nor y, metadata and alpha included
    total_bytes: int
    bpp: float  # total bits per pixel
    has_alpha: bool
    chunks: tuple[ChunkInfo, ...]

    def to_json(self) -> dict[str, Any]:
        """The same fields as plain values for json.dumps; CRCs as 8 hex digits."""
        chunks = [asdict(chunk) | {"crc": f"{chunk.crc:08x}"} for chunk in self.chunks]
        return asdict(self) | {"chunks": chunks}


def sniff(data: Buffer) -> bool:
    """Whether `data` starts like an .stf stream; 8 bytes are enough to tell."""
    return bytes(data[: len(SIGNATURE)]) == SIGNATURE


# Writing ------------------------------------------------------------------------------------------


def write(stream: Stream) -> bytes:
    """Serialise `stream`. The same stream gives the same bytes (metadata: with the same zlib).

    Raises ValueError, naming field, value and range, for a field the format cannot hold.
    """
    stream.header.validate()
    _check_range("checksum", stream.checksum, 0, MAX_UINT32)
    parts = [SIGNATURE, bytes([VERSION]), _chunk("HEAD", _pack_header(stream.header))]
    for kind, name in _METADATA.items():
        metadata: bytes | None = getattr(stream, name)
        if metadata is not None:
            _check_range(f"length of {name}", len(metadata), 0, MAX_METADATA)
            parts.append(_chunk(kind, zlib.compress(metadata, 9)))
    if stream.alpha is not None:
        parts.append(_chunk("alph", stream.alpha))
    z_length = _varint("length of z", len(stream.z))
    checksum = _UINT32.pack(stream.checksum)
    parts.append(_chunk("DATA", b"".join((z_length, stream.z, stream.y, checksum))))
    return b"".join(parts)


def _pack_header(header: Header) -> bytes:
    pixel_format = _PIXEL_FORMATS.index((header.channels, header.bit_depth))
    return b"".join(
        (
            _varint("width", header.width),
            _varint("height", header.height),
            _varint("model_id", header.model_id),
            header.fingerprint,
            _UINT16.pack(pixel_format << 13 | round(header.quality * QUALITY_SCALE)),
        )
    )


def _chunk(kind: str, payload: bytes) -> bytes:
    name = kind.encode("ascii")
    crc = zlib.crc32(payload, zlib.crc32(name))
    length = _varint(f"length of chunk {kind}", len(payload))
    return b"".join((name, length, payload, _UINT32.pack(crc)))


def _varint(name: str, value: int) -> bytes:
    """Unsigned LEB128: seven bits a byte, lowest first, the top bit set on all but the last."""
    _check_range(name, value, 0, MAX_UINT32)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _check_range(name: str, value: float, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, must be {low}..{high}")


# Reading ------------------------------------------------------------------------------------------


def read(data: Buffer, limits: Limits = DEFAULT_LIMITS) -> Stream:
    """Parse and check a whole stream.

    Raises StreamError, and nothing else, if `data` is not exactly one intact stream of a version
    known here, or is over one of the limits. Memory taken stays within the size of `data` plus
    `limits.metadata` for each metadata chunk.
    """
    if len(data) > limits.bytes:
        raise StreamError(f"{len(data)} bytes are over the limit of {limits.bytes}")
    stream, _ = _parse(data, limits.metadata)
    refusal = limits.refuses(stream.header.width, stream.header.height)
    if refusal is not None:
        raise StreamError(refusal)
    return stream


def inspect(data: Buffer) -> StreamInfo:
    """Describe a stream without decoding it, of whatever size its picture is. Checks and raises
    what `read` does otherwise."""
    stream, chunks = _parse(data, MAX_METADATA)
    header, total = stream.header, len(data)
    return StreamInfo(
        version=VERSION,
        width=header.width,
        height=header.height,
        channels=header.channels,
        bit_depth=header.bit_depth,
        model_id=header.model_id,
        fingerprint=header.fingerprint.hex(),
        quality=header.quality,
        z_bytes=len(stream.z),
        y_bytes=len(stream.y),
        overhead_bytes=total - len(stream.z) - len(stream.y),
        total_bytes=total,
        bpp=8 * total / (header.width * header.height),
        has_alpha=stream.alpha is not None,
        chunks=chunks,
    )


def _parse(data: Buffer, max_metadata: int) -> tuple[Stream, tuple[ChunkInfo, ...]]:
    chunks: list[ChunkInfo] = []
    found: dict[str, memoryview] = {}
    for info, payload in _walk_chunks(data):
        kind = info.type
        if not chunks and kind != "HEAD":
            raise StreamError(f"the first chunk is {kind}, must be HEAD")
        if kind in found:
            raise StreamError(f"chunk {kind} appears twice")
        if kind in _KNOWN:
            found[kind] = payload
        elif kind[0].isupper():
            raise StreamError(f"chunk {kind} is needed but unknown here; update stfcodec")
        chunks.append(info)

    header = _parse_header(found["HEAD"])
    latents = _Cursor(found["DATA"], "chunk DATA")
    z = latents.take(latents.varint("length of z"), "z")
    y = latents.take(max(latents.left - _UINT32.size, 0), "y")
    checksum = latents.uint32("checksum")
    metadata = {
        _METADATA[k]: _inflate(k, p, max_metadata) for k, p in found.items() if k in _METADATA
    }
    alpha = bytes(found["alph"]) if "alph" in found else None
    return Stream(header, bytes(z), bytes(y), checksum, **metadata, alpha=alpha), tuple(chunks)


def _walk_chunks(data: Buffer) -> Iterator[tuple[ChunkInfo, memoryview]]:
    """Yield the chunks up to and with DATA, CRCs checked; whatever follows DATA is an error."""
    check_signature(data)
    cursor = _Cursor(memoryview(data), "stream")
    cursor.take(len(SIGNATURE), "signature")
    version = cursor.take(1, "version")[0]
    if version != VERSION:
        raise StreamError(
            f"format version is {version}, only version {VERSION} is known here; update stfcodec"
        )
    for _ in range(MAX_CHUNKS):
        start = cursor.position
        name = bytes(cursor.take(4, "chunk type"))
        if not name.isalpha():
            raise StreamError(f"damaged: no chunk type at byte {start}")
        kind = name.decode("ascii")
        payload = cursor.take(cursor.varint(f"length of {kind}"), f"chunk {kind}")
        crc = cursor.uint32(f"CRC of {kind}")
        if zlib.crc32(payload, zlib.crc32(name)) != crc:
            raise StreamError(f"damaged: chunk {kind} at byte {start} fails its CRC check")
        yield ChunkInfo(kind, len(payload), crc), payload
        if kind == "DATA":
            if cursor.left:
                raise StreamError(f"{cursor.left} bytes follow the end of the stream")
            return
    raise StreamError(f"no DATA among the first {MAX_CHUNKS} chunks")


def check_signature(data: Buffer) -> None:
    """Raises StreamError unless `data`, of which 8 bytes are enough, starts like a stream."""
    if sniff(data):
        return
    start = bytes(data[: len(SIGNATURE)])
    if SIGNATURE.startswith(start):
        raise StreamError(f"truncated: only {len(start)} bytes")
    if start[1:4] == SIGNATURE[1:4]:
        raise StreamError("damaged signature, as a text-mode transfer leaves it; copy it as binary")
    raise StreamError("not an .stf stream: its signature is missing")


def _parse_header(payload: memoryview) -> Header:
    cursor = _Cursor(payload, "chunk HEAD")
    width, height = cursor.varint("width"), cursor.varint("height")
    model_id = cursor.varint("model_id")
    fingerprint = bytes(cursor.take(FINGERPRINT_BYTES, "fingerprint"))
    (packed,) = _UINT16.unpack(cursor.take(_UINT16.size, "quality"))
    if cursor.left:
        raise StreamError(f"chunk HEAD is {cursor.left} bytes too long")
    pixel_format, thousandths = packed >> 13, packed & 0x1FFF
    if pixel_format >= len(_PIXEL_FORMATS):
        raise StreamError(f"pixel format {pixel_format} is unknown here; update stfcodec")
    channels, bits = _PIXEL_FORMATS[pixel_format]
    quality = thousandths / QUALITY_SCALE
    header = Header(width, height, channels, bits, model_id, fingerprint, quality)
    try:
        header.validate()
    except ValueError as error:
        raise StreamError(f"chunk HEAD: {error}") from error
    return header


def _inflate(kind: str, payload: memoryview, limit: int) -> bytes:
    """Inflate exactly one zlib stream, giving up once it exceeds `limit` or MAX_METADATA bytes."""
    limit = min(limit, MAX_METADATA)
    inflater = zlib.decompressobj()
    try:
        out = inflater.decompress(payload, limit + 1)
    except zlib.error as error:
        raise StreamError(f"chunk {kind}: its zlib stream is damaged") from error
    if len(out) > limit:
        raise StreamError(f"chunk {kind} inflates to more than {limit} bytes")
    if not inflater.eof or inflater.unused_data:
        raise StreamError(f"chunk {kind}: its zlib stream does not end where the chunk ends")
    return out


class _Cursor:
    """Reads fields from a buffer in order; a field that does not fit is a StreamError."""

    def __init__(self, data: memoryview, where: str) -> None:
        self.data = data
        self.where = where
        self.position = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, count: int, what: str) -> memoryview:
        """A view of the next `count` bytes: nothing is copied, whatever the stream claims."""
        if count > self.left:
            raise StreamError(
                f"truncated or damaged: {what} at byte {self.position} of the {self.where} "
                f"needs {count} bytes, {self.left} left"
            )
        self.position += count
        return self.data[self.position - count : self.position]

    def uint32(self, what: str) -> int:
        value: int = _UINT32.unpack(self.take(_UINT32.size, what))[0]
        return value

    def varint(self, what: str) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1, what)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > MAX_UINT32 or (byte == 0 and shift):
                    break
                return value
        raise StreamError(f"damaged: {what} in the {self.where} is not a proper varint")
