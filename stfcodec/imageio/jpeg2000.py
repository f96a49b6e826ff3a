"""What Pillow does not check of JPEG 2000, whether all tiles are there, and does not show."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from stfcodec.errors import ImageError

_CODESTREAM = b"\xff\x4f\xff\x51"
_TILE_PART, _END_OF_ALL = 0xFF90, 0xFFD9
_BOXES = 1000  # looked at on one level
_MARKERS = 1 << 18  # of the main header and the parts of tiles
_LARGEST_SIZ = 38 + 3 * 64  # more channels are none of a picture's
_ENUMERATED, _RESTRICTED_ICC, _ANY_ICC = 1, 2, 3


@dataclass(frozen=True)
class _Size:
    """What the marker SIZ states; `bits` are those of the deepest channel."""

    width: int
    height: int
    tiles: int
    bits: int


def check(fp: IO[bytes], size: tuple[int, int]) -> None:
    """Raise ImageError unless the file holds all tiles of a picture of this size.

    OpenJPEG leaves out what is missing, but takes memory and time for it. The position in the
    file is kept.
    """
    position = fp.tell()
    try:
        at = _codestream(fp)
        stated = _size(fp, at)
        if (stated.width, stated.height) != size:
            other = f"{stated.width}x{stated.height}"
            raise ImageError(f"damaged: {size[0]}x{size[1]} in one header, {other} in another")
        held = _whole_tiles(fp, at, stated.tiles)
    except struct.error as error:
        raise ImageError("damaged or cut short: no header of JPEG 2000") from error
    finally:
        fp.seek(position)
    if held < stated.tiles:
        raise ImageError(f"damaged or cut short: holds {held} of {stated.tiles} tiles")


def bits_per_channel(fp: IO[bytes]) -> int:
    """Depth of the deepest channel, of a file that has passed `check`."""
    position = fp.tell()
    try:
        return _size(fp, _codestream(fp)).bits
    finally:
        fp.seek(position)


def colours(fp: IO[bytes]) -> int | bytes | None:
    """The code of an enumerated colour space, or an ICC profile; None if neither is stated.

    The first statement counts, as it does for the decoder, which skips profiles of any kind.
    """
    position, found = fp.tell(), None
    try:
        for name, at, end in _boxes(fp, 0, _end(fp)):
            if name == b"jp2c":
                break
            for inner, start, stop in _boxes(fp, at, end) if name == b"jp2h" else ():
                fp.seek(start)
                method = fp.read(3)[:1]
                if inner != b"colr" or stop < start + 3:
                    continue
                if method == bytes([_ENUMERATED]):
                    return int.from_bytes(fp.read(4), "big")
                if method == bytes([_RESTRICTED_ICC]):
                    return fp.read(stop - start - 3)
                if method == bytes([_ANY_ICC]) and not found:
                    found = fp.read(stop - start - 3)
    finally:
        fp.seek(position)
    return found


def _codestream(fp: IO[bytes]) -> int:
    """Offset of the codestream, which a file may be or hold in a box."""
    end = _end(fp)
    fp.seek(0)
    if fp.read(4) == _CODESTREAM:
        return 0
    return next((at for name, at, _ in _boxes(fp, 0, end) if name == b"jp2c"), end)


def _end(fp: IO[bytes]) -> int:
    fp.seek(0, os.SEEK_END)
    return fp.tell()


def _boxes(fp: IO[bytes], at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, and offsets of the begin and end of the content, of the boxes between two offsets."""
    for _ in range(_BOXES):
        fp.seek(at)
        head = fp.read(16)
        if at + 8 > end or len(head) < 8:
            return
        size, name = struct.unpack_from(">I4s", head)
        start = 8
        if size == 1 and len(head) == 16:
            (size,), start = struct.unpack_from(">Q", head, 8), 16
        size = size or end - at
        if size < start:
            return
        yield name, at + start, min(at + size, end)
        at = min(at + size, end)


def _size(fp: IO[bytes], at: int) -> _Size:
    fp.seek(at)
    data = fp.read(4 + _LARGEST_SIZ)
    right, lower, left, upper, *tile = struct.unpack_from(">8I", data, 8)
    (channels,) = struct.unpack_from(">H", data, 40)
    tile_width, tile_height, tiles_left, tiles_upper = tile
    begins = tiles_left <= left < tiles_left + tile_width
    begins = begins and tiles_upper <= upper < tiles_upper + tile_height
    if not data.startswith(_CODESTREAM) or not begins:
        raise ImageError("damaged: the header of JPEG 2000 makes no sense")
    across = -(-(right - tiles_left) // tile_width)
    down = -(-(lower - tiles_upper) // tile_height)
    depths = data[42 : 42 + 3 * channels : 3] or b"\x07"
    bits = max((depth & 127) + 1 for depth in depths)
    return _Size(right - left, lower - upper, across * down, bits)


def _whole_tiles(fp: IO[bytes], at: int, tiles: int) -> int:
    """How many tiles are there with as many parts as they state."""
    end = _end(fp)
    parts: dict[int, int] = {}
    stated: dict[int, int] = {}
    at += 2
    for _ in range(_MARKERS):
        fp.seek(at)
        head = fp.read(12)
        if len(head) < 4:
            break
        marker, length = struct.unpack_from(">HH", head)
        if marker == _TILE_PART and len(head) == 12:
            tile, size, _, count = struct.unpack_from(">HIBB", head, 4)
            size = size or end - at  # the last part may state none
            if size < len(head) or at + size > end:
                break
            if tile < tiles:
                parts[tile] = parts.get(tile, 0) + 1
                stated[tile] = max(count, stated.get(tile, 1))
            at += size
        elif parts or marker in (_TILE_PART, _END_OF_ALL) or marker < 0xFF00 or length < 2:
            break
        else:
            at += 2 + length
    return sum(count >= stated[tile] for tile, count in parts.items())
