"""PNG chunks that Pillow does not expose, or whose length makes it refuse the picture."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from itertools import takewhile
from typing import IO, BinaryIO

from PIL import PngImagePlugin

from stfcodec.errors import ImageError
from stfcodec.imageio.by_format import png_profiles

MAGIC = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 13  # of the chunk IHDR
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_PILLOW_NAMES = {b"iCCP": "icc_profile", _XMP_KEYWORD: "xmp"}
_MAX_LARGE_BLOCKS = 8  # that are decompressed to their end


def chunks(fp: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and length of the data of each chunk, up to the end of the file."""
    offset = len(MAGIC)
    while True:
        fp.seek(offset)
        head = fp.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[:4], "big")
        yield head[4:], offset + 8, length
        offset += 12 + length


def check_plain_grey(data: bytes) -> None:
    """Raise ImageError unless this is a complete PNG of one 8-bit grey plane and nothing else.

    A palette, a transparent level, text, animation and bytes behind the end are refused.
    """
    if not data.startswith(MAGIC):
        raise ImageError("not a PNG")
    names, end = [], len(MAGIC)
    for name, at, length in chunks(io.BytesIO(data)):
        end = at + length + 4
        crc = zlib.crc32(data[at - 4 : at + length])
        if data[at + length : end] != crc.to_bytes(4, "big"):
            raise ImageError(f"chunk {name.decode('latin-1')!r} is damaged")
        names.append(name)
    kinds = (names[:1], set(names[1:-1]), names[-1:])
    if kinds != ([b"IHDR"], {b"IDAT"}, [b"IEND"]) or end != len(data):
        raise ImageError("not a plain PNG")
    if data[24:29] != b"\x08\0\0\0\0":
        raise ImageError("not one 8-bit grey plane")


def cicp(fp: IO[bytes]) -> bytes | None:
    """The four bytes of the cICP chunk; None if there is none before the pixels."""
    position = fp.tell()
    try:
        for name, at, length in chunks(fp):
            if name == b"cICP" and length == 4:
                fp.seek(at)
                return fp.read(4)
            if name == b"IDAT":
                break
    finally:
        fp.seek(position)
    return None


def has_credentials(fp: IO[bytes]) -> bool:
    """Whether there is a caBX chunk of C2PA before the pixels. The position is restored."""
    position = fp.tell()
    try:
        names = (name for name, _, _ in chunks(fp))
        return any(name == b"caBX" for name in takewhile(lambda name: name != b"IDAT", names))
    finally:
        fp.seek(position)


def with_chunk(data: memoryview, name: bytes, content: bytes) -> list[bytes | memoryview]:
    """The parts of a PNG file with a further chunk behind its header."""
    begin = len(MAGIC) + 12 + _HEADER_BYTES
    return [data[:begin], chunk(name, content), data[begin:]]


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk with its length and its CRC."""
    crc = zlib.crc32(content, zlib.crc32(name)).to_bytes(4, "big")
    return b"".join((len(content).to_bytes(4, "big"), name, content, crc))


def without_large_chunks(
    fp: BinaryIO, limit: int, notes: list[str]
) -> tuple[BinaryIO, dict[str, bytes]]:
    """The file without metadata chunks that are too large for Pillow, and the blocks in these.

    Pillow refuses a picture for compressed text or a profile of more than
    `PngImagePlugin.MAX_TEXT_CHUNK` bytes, and for text of more than `MAX_TEXT_MEMORY` in all.
    Profiles and XMP of up to `limit` bytes are returned by Pillow's names; notes name the others.
    """
    removed: list[tuple[int, int]] = []
    blocks: dict[str, bytes] = {}
    remaining, inflated = PngImagePlugin.MAX_TEXT_MEMORY, 0
    for name, at, length in chunks(fp):
        if name not in (*_TEXT_CHUNKS, b"iCCP", b"eXIf"):
            continue
        fp.seek(at)
        data = fp.read(min(length, limit))
        keyword, body, is_compressed = _parts(name, data)
        max_size = PngImagePlugin.MAX_TEXT_CHUNK if is_compressed else limit
        size = len(_inflated(body, min(max_size, remaining))) if is_compressed else length
        fits = size <= remaining or name not in _TEXT_CHUNKS
        if length <= limit and size <= max_size and fits:
            remaining -= size if name in _TEXT_CHUNKS else 0
            continue
        removed.append((at - 8, at + length + 4))
        kind = _pillow_name(name, keyword) if inflated < _MAX_LARGE_BLOCKS else None
        if is_compressed:
            remaining -= min(size, remaining)  # so that many of them take no time without end
        if is_compressed and kind:
            body, inflated = _inflated(body, limit), inflated + 1
        if length <= limit and kind and 0 < len(body) <= limit:
            blocks[kind] = body
        else:
            shown = "EXIF" if name == b"eXIf" else "ICC profile" if name == b"iCCP" else None
            shown = shown or f"text {keyword[:79].decode('latin-1')!r}"
            notes.append(f"too long and left out: {shown}")
    if not removed:
        fp.seek(0)
        return fp, {}
    return _without(fp, removed), blocks


def _pillow_name(name: bytes, keyword: bytes) -> str | None:
    """The name in `Image.info` of the block in a chunk; None if the chunk is no block."""
    if keyword.startswith(png_profiles.KEYWORD.encode()):
        return keyword.decode("latin-1")
    return _PILLOW_NAMES.get(name if name == b"iCCP" else keyword)


def _parts(name: bytes, data: bytes) -> tuple[bytes, bytes, bool]:
    """Keyword, content, and whether the content is compressed."""
    keyword, _, rest = data.partition(b"\0")
    if name in (b"iCCP", b"zTXt"):
        return keyword, rest[1:], True
    if name == b"iTXt":
        return keyword, rest[2:].split(b"\0", 2)[-1], rest[:1] == b"\1"
    return keyword, rest, False


def _inflated(data: bytes, limit: int) -> bytes:
    """The decompressed data, up to one byte more than `limit`; empty if it is damaged."""
    try:
        return zlib.decompressobj().decompress(data, limit + 1)
    except zlib.error:
        return b""


def _without(fp: BinaryIO, removed: list[tuple[int, int]]) -> BinaryIO:
    """A copy in memory without these ranges, each (begin, end)."""
    copy, offset = io.BytesIO(), 0
    for begin, end in removed:
        fp.seek(offset)
        copy.write(fp.read(begin - offset))
        offset = end
    fp.seek(offset)
    copy.write(fp.read())
    copy.seek(0)
    return copy
