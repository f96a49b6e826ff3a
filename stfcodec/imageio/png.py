"""PNG chunks that Pillow does not show, or for whose length it would refuse the picture."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import IO, BinaryIO

from PIL import PngImagePlugin

from stfcodec.errors import ImageError

MAGIC = b"\x89PNG\r\n\x1a\n"
_XMP = b"XML:com.adobe.xmp"
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_WANTED = {b"iCCP": "icc_profile", _XMP: "xmp"}  # by Pillow's names


def chunks(fp: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and length of the data of each chunk, as far as the file goes."""
    at = len(MAGIC)
    while True:
        fp.seek(at)
        head = fp.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[:4], "big")
        yield head[4:], at + 8, length
        at += 12 + length


def check_plain(data: bytes) -> None:
    """Raise ImageError unless this is a whole PNG of one 8-bit grey plane, with nothing beside it:
    no palette, transparent level, text, animation, or bytes after its end."""
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
    """The four bytes of the cICP chunk, which stands before the pixels."""
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


def without_large_blocks(
    fp: BinaryIO, limit: int, notes: list[str]
) -> tuple[BinaryIO, dict[str, bytes]]:
    """The file without the blocks that Pillow has no room for, and what was wanted of them.

    Pillow refuses a picture for compressed text or a profile of more than
    `PngImagePlugin.MAX_TEXT_CHUNK` bytes, and for text of more than `MAX_TEXT_MEMORY` in all.
    Profiles and XMP of up to `limit` bytes are returned by Pillow's names, the rest is noted.
    """
    left_out: list[tuple[int, int]] = []
    wanted: dict[str, bytes] = {}
    room = PngImagePlugin.MAX_TEXT_MEMORY
    for name, at, length in chunks(fp):
        if name not in (*_TEXT, b"iCCP", b"eXIf"):
            continue
        fp.seek(at)
        data = fp.read(min(length, limit))
        key, body, packed = _parts(name, data)
        most = PngImagePlugin.MAX_TEXT_CHUNK if packed else limit
        size = len(_inflated(body, min(most, room))) if packed else length
        if length <= limit and size <= most and (size <= room or name not in _TEXT):
            room -= size if name in _TEXT else 0
            continue
        left_out.append((at - 8, at + length + 4))
        kind = _WANTED.get(name if name == b"iCCP" else key)
        if packed and kind:
            body = _inflated(body, limit)
        if length <= limit and kind and 0 < len(body) <= limit:
            wanted[kind] = body
        else:
            shown = "EXIF" if name == b"eXIf" else "ICC profile" if name == b"iCCP" else None
            shown = shown or f"text {key[:79].decode('latin-1')!r}"
            notes.append(f"too long and left out: {shown}")
    if not left_out:
        fp.seek(0)
        return fp, {}
    return _without(fp, left_out), wanted


def _parts(name: bytes, data: bytes) -> tuple[bytes, bytes, bool]:
    """Keyword, content, and whether the content is compressed."""
    key, _, rest = data.partition(b"\0")
    if name in (b"iCCP", b"zTXt"):
        return key, rest[1:], True
    if name == b"iTXt":
        return key, rest[2:].split(b"\0", 2)[-1], rest[:1] == b"\1"
    return key, rest, False


def _inflated(data: bytes, limit: int) -> bytes:
    """Up to one byte more than `limit`; nothing if it is damaged."""
    try:
        return zlib.decompressobj().decompress(data, limit + 1)
    except zlib.error:
        return b""


def _without(fp: BinaryIO, left_out: list[tuple[int, int]]) -> BinaryIO:
    copy, at = io.BytesIO(), 0
    for start, end in left_out:
        fp.seek(at)
        copy.write(fp.read(start - at))
        at = end
    fp.seek(at)
    copy.write(fp.read())
    copy.seek(0)
    return copy
