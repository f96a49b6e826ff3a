"""JPEG 2000 is read whole or refused, with the colours that its boxes state."""

from __future__ import annotations

import io
import struct
import time

import images
import numpy as np
import pytest
from PIL import Image, ImageFile, features
from reading import refusal

from stfcodec.imageio import read_picture
from stfcodec.imageio.by_format import jpeg2000

pytestmark = pytest.mark.skipif(
    not features.check_codec("jpg_2000"), reason="Pillow without OpenJPEG"
)

RGB = images.pixels(70, 100)
START_OF_TILE = b"\xff\x90\0\x0a"


def coded(raw: bool = True, **options) -> bytes:
    return images.file(Image.fromarray(RGB), "JPEG2000", no_jp2=raw, **options)


def tiles(data: bytes) -> list[int]:
    """Offsets of the parts of tiles in a codestream or file."""
    at, found = data.index(START_OF_TILE), []
    while data.startswith(START_OF_TILE, at):
        found.append(at)
        at += struct.unpack_from(">I", data, at + 6)[0]
    return found


def without_lengths(data: bytes, last: int) -> bytes:
    return data[: last + 6] + bytes(4) + data[last + 10 :]


def in_two_parts(data: bytes, at: int, count: int) -> bytes:
    """The tile at this offset split behind its header, as two parts of so many stated."""
    size, index = struct.unpack_from(">I", data, at + 6)[0], data[at + 4 : at + 6]
    content = data[at + 14 : at + size]
    pieces = (content, b"")
    made = b""
    for number, piece in enumerate(pieces):
        part = struct.pack(">IBB", 14 + len(piece), number, count)
        made += START_OF_TILE + index + part + b"\xff\x93" + piece
    return data[:at] + made + data[at + size :]


@pytest.mark.parametrize("raw", [True, False])
def test_whole_files_are_read(raw: bool) -> None:
    for options in ({}, {"tile_size": (32, 32)}, {"tile_size": (32, 32), "offset": (5, 3)}):
        data = coded(raw, **options)
        picture = read_picture(data)
        assert np.array_equal(picture.pixels, RGB) and picture.notes == ()
        starts = tiles(data)
        assert len(starts) == (12 if "tile_size" in options else 1)
        assert np.array_equal(read_picture(without_lengths(data, starts[-1])).pixels, RGB)
        assert np.array_equal(read_picture(Image.open(io.BytesIO(data))).pixels, RGB)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("lenient", [True, False])
def test_missing_tiles_are_counted(
    raw: bool, lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    data = coded(raw, tile_size=(32, 32))
    for held, start in enumerate(tiles(data)):
        for cut in (data[:start] + b"\xff\xd9", data[: start + 20] + b"\xff\xd9"):
            assert f"holds {held} of 12 tiles" in refusal(cut)
            assert f"holds {held} of 12 tiles" in refusal(Image.open(io.BytesIO(cut)))


def test_tiles_of_several_parts() -> None:
    data = coded(tile_size=(32, 32))
    for count in (0, 2):
        parts = in_two_parts(data, tiles(data)[3], count)
        assert np.array_equal(read_picture(parts).pixels, RGB)
    assert "holds 11 of 12" in refusal(in_two_parts(data, tiles(data)[3], 3))
    twice = data[:-2] + data[tiles(data)[-1] : -2] + b"\xff\xd9"
    lacking = twice.replace(data[tiles(data)[2] : tiles(data)[3]], b"")
    assert "holds 11 of 12" in refusal(lacking)


def test_a_tiny_file_that_claims_a_large_picture_costs_nothing() -> None:
    data = bytearray(images.file(Image.new("RGB", (64, 64)), "JPEG2000", no_jp2=True))
    struct.pack_into(">II", data, 8, 11000, 11000)
    begin = time.process_time()
    assert "holds 1 of 29584 tiles" in refusal(bytes(data))
    assert time.process_time() - begin < 1


def test_headers_that_contradict_each_other() -> None:
    data = bytearray(coded(raw=False))
    at = data.index(b"ihdr") + 4
    struct.pack_into(">II", data, at, 60, 100)
    assert "100x60 in one header, 100x70 in another" in refusal(bytes(data))


def test_headers_without_sense() -> None:
    data = bytearray(coded())
    struct.pack_into(">II", data, 24, 0, 0)
    assert "makes no sense" in refusal(bytes(data))
    boxed = coded(raw=False)
    assert "cut short" in refusal(boxed[: boxed.index(b"jp2c") - 4])
    for end in range(boxed.index(b"jp2c"), tiles(boxed)[0] + 12):
        refusal(boxed[:end] + b"\xff\xd9")


def test_endless_parts_are_not_walked_for_long() -> None:
    header = coded()
    part = START_OF_TILE + struct.pack(">HIBB", 7, 14, 0, 0) + b"\xff\x93"
    data = header[: tiles(header)[0]] + part * 400_000
    begin = time.process_time()
    assert "holds 0 of 1" in refusal(data)
    assert time.process_time() - begin < 5


def test_depth_is_found_behind_a_long_header() -> None:
    data = bytes.fromhex(images.WHITE_JPEG_2000_10_BITS)
    boxed = coded(raw=False)
    start = boxed.index(b"jp2c") - 4
    filler = struct.pack(">I4s", 8 + 100_000, b"free") + bytes(100_000)
    at = boxed.index(b"ihdr") + 4
    head = boxed[:at] + struct.pack(">IIHB", 2, 2, 3, 9) + boxed[at + 11 : start]
    file = head + filler + struct.pack(">I4s", 0, b"jp2c") + data
    assert "10-bit colour" in refusal(file)
    assert jpeg2000.bits_per_channel(io.BytesIO(file)) == 10
