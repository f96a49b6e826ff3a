"""From the bytes of an .stf file to a `Stream`: nothing but an intact stream is accepted."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from stfcodec.container.layout import (
    FINGERPRINT_BYTES,
    KNOWN_CHUNKS,
    MAX_CHUNKS,
    MAX_UINT32,
    METADATA_CHUNKS,
    PIXEL_FORMATS,
    QUALITY_SCALE,
    SIGNATURE,
    UINT16,
    UINT32,
    VERSION,
    ChunkInfo,
    Header,
    Stream,
    StreamInfo,
)
from stfcodec.errors import StreamError
from stfcodec.limits import DEFAULT_LIMITS, MAX_METADATA, Limits

Buffer = bytes | bytearray | memoryview


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
        if kind in KNOWN_CHUNKS:
            found[kind] = payload
        elif kind[0].isupper():
            raise StreamError(f"chunk {kind} is needed but unknown here; update stfcodec")
        chunks.append(info)

    header = _parse_header(found["HEAD"])
    latents = _Cursor(found["DATA"], "chunk DATA")
    z = latents.take(latents.varint("length of z"), "z")
    y = latents.take(max(latents.left - UINT32.size, 0), "y")
    checksum = latents.uint32("checksum")
    metadata = {
        METADATA_CHUNKS[k]: _inflate(k, p, max_metadata)
        for k, p in found.items()
        if k in METADATA_CHUNKS
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


def has_signature(data: Buffer) -> bool:
    """Whether `data`, of which 8 bytes are enough, starts like a stream."""
    return bytes(data[: len(SIGNATURE)]) == SIGNATURE


def check_signature(data: Buffer) -> None:
    """Raise StreamError unless `data`, of which 8 bytes are enough, starts like a stream."""
    if has_signature(data):
        return
    start = bytes(data[: len(SIGNATURE)])
    if not start:
        raise StreamError("the file is empty")
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
    (packed,) = UINT16.unpack(cursor.take(UINT16.size, "quality"))
    if cursor.left:
        raise StreamError(f"chunk HEAD is {cursor.left} bytes too long")
    pixel_format, thousandths = packed >> 13, packed & 0x1FFF
    if pixel_format >= len(PIXEL_FORMATS):
        raise StreamError(f"pixel format {pixel_format} is unknown here; update stfcodec")
    channels, bits = PIXEL_FORMATS[pixel_format]
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
        value: int = UINT32.unpack(self.take(UINT32.size, what))[0]
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
