"""What Pillow does not tell of a JPEG 2000 file: missing tiles, the depth, the colour description.

Reference: ISO/IEC 15444-1 (codestream in annex A, JP2 boxes in annex I).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO

from stfcodec.errors import ImageError
from stfcodec.imageio.by_format.boxes import boxes, file_size

_CODESTREAM = b"\xff\x4f\xff\x51"
_TILE_PART, _END_OF_CODESTREAM = 0xFF90, 0xFFD9  # markers SOT and EOC
_MAX_MARKERS = 1 << 18  # of the main header and the tile-parts
_MAX_SIZ_BYTES = 38 + 3 * 64  # of a picture with 64 channels
_ENUMERATED, _RESTRICTED_ICC, _ANY_ICC = 1, 2, 3


@dataclass(frozen=True)
class _Size:
    """The content of the marker segment SIZ."""

    width: int
    height: int
    tiles: int
    bits: int
    """Of the deepest channel."""


def check_tiles(fp: IO[bytes], size: tuple[int, int]) -> None:
    """Raise ImageError unless the file holds all tiles of a picture of this size (width, height).

    OpenJPEG accepts missing tiles, and takes memory and time for them. The position in the file is
    restored.
    """
    position = fp.tell()
    try:
        offset = _codestream_offset(fp)
        header = _size(fp, offset)
        if (header.width, header.height) != size:
            other = f"{header.width}x{header.height}"
            raise ImageError(f"damaged: {size[0]}x{size[1]} in one header, {other} in another")
        complete = _complete_tiles(fp, offset, header.tiles)
    except struct.error as error:
        raise ImageError("damaged or cut short: no header of JPEG 2000") from error
    finally:
        fp.seek(position)
    if complete < header.tiles:
        raise ImageError(f"damaged or cut short: holds {complete} of {header.tiles} tiles")


def bits_per_channel(fp: IO[bytes]) -> int:
    """Depth of the deepest channel of a file that has passed `check_tiles`."""
    position = fp.tell()
    try:
        return _size(fp, _codestream_offset(fp)).bits
    finally:
        fp.seek(position)


def colour_description(fp: IO[bytes]) -> int | bytes | None:
    """The number of an enumerated colour space or an ICC profile; None if the file has neither.

    The first of several is returned, an unrestricted profile only if there is nothing else. The
    decoder makes the same choice. The position in the file is restored.
    """
    position, found = fp.tell(), None
    try:
        for name, begin, end in boxes(fp, 0, file_size(fp)):
            if name == b"jp2c":
                break
            for inner, inner_begin, inner_end in boxes(fp, begin, end) if name == b"jp2h" else ():
                fp.seek(inner_begin)
                method = fp.read(3)[:1]
                content_size = inner_end - inner_begin - 3
                if inner != b"colr" or content_size < 0:
                    continue
                if method == bytes([_ENUMERATED]):
                    return int.from_bytes(fp.read(4), "big")
                if method == bytes([_RESTRICTED_ICC]):
                    return fp.read(content_size)
                if method == bytes([_ANY_ICC]) and not found:
                    found = fp.read(content_size)
    finally:
        fp.seek(position)
    return found


def _codestream_offset(fp: IO[bytes]) -> int:
    """Offset of the codestream, which is either the whole file or in a box `jp2c`."""
    end = file_size(fp)
    fp.seek(0)
    if fp.read(4) == _CODESTREAM:
        return 0
    return next((begin for name, begin, _ in boxes(fp, 0, end) if name == b"jp2c"), end)


def _size(fp: IO[bytes], codestream: int) -> _Size:
    """The size of the codestream at an offset. Raises ImageError if it makes no sense."""
    fp.seek(codestream)
    data = fp.read(4 + _MAX_SIZ_BYTES)
    right, bottom, left, top, *tile = struct.unpack_from(">8I", data, 8)
    (channels,) = struct.unpack_from(">H", data, 40)
    tile_width, tile_height, tiles_left, tiles_top = tile
    in_first_tile = tiles_left <= left < tiles_left + tile_width
    in_first_tile = in_first_tile and tiles_top <= top < tiles_top + tile_height
    if not data.startswith(_CODESTREAM) or not in_first_tile:
        raise ImageError("damaged: the header of JPEG 2000 makes no sense")
    across = -(-(right - tiles_left) // tile_width)
    down = -(-(bottom - tiles_top) // tile_height)
    depths = data[42 : 42 + 3 * channels : 3] or b"\x07"
    bits = max((depth & 127) + 1 for depth in depths)
    return _Size(right - left, bottom - top, across * down, bits)


def _complete_tiles(fp: IO[bytes], codestream: int, tiles: int) -> int:
    """How many of the tiles have as many tile-parts as their headers say."""
    end = file_size(fp)
    found_parts: dict[int, int] = {}
    expected_parts: dict[int, int] = {}
    offset = codestream + 2
    for _ in range(_MAX_MARKERS):
        fp.seek(offset)
        head = fp.read(12)
        if len(head) < 4:
            break
        marker, length = struct.unpack_from(">HH", head)
        if marker == _TILE_PART and len(head) == 12:
            tile, size, _, count = struct.unpack_from(">HIBB", head, 4)
            size = size or end - offset  # 0: the last tile-part reaches to the end
            if size < len(head) or offset + size > end:
                break
            if tile < tiles:
                found_parts[tile] = found_parts.get(tile, 0) + 1
                expected_parts[tile] = max(count, expected_parts.get(tile, 1))
            offset += size
            continue
        in_main_header = not found_parts and marker not in (_TILE_PART, _END_OF_CODESTREAM)
        if not in_main_header or marker < 0xFF00 or length < 2:
            break
        offset += 2 + length
    return sum(count >= expected_parts[tile] for tile, count in found_parts.items())
