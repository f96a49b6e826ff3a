"""EXIF blocks keep their bytes, and say nothing that is not true of the picture."""

from __future__ import annotations

import io
import struct
import time
from dataclasses import replace
from typing import Any

import images
import numpy as np
import pytest
from PIL import Image
from reading import read, written
from tiffs import Tags, directory, tiff

from stfcodec.imageio import read_picture, write_picture
from stfcodec.imageio.metadata import exif
from stfcodec.imageio.metadata.directories import DirectoryError
from stfcodec.limits import Limits

RGB = images.pixels()
IMAGE = Image.fromarray(RGB)
TEXT = "© Café 東京".encode()
NOTE = b"Canon\0" + bytes(range(60))


def camera_block(order: str = "<", orientation: int = 6, size: tuple[int, int] = (9, 6)) -> bytes:
    """Texts in UTF-8, sizes in three directories, a maker's note, GPS, a thumbnail at the end."""
    head = 8
    # Type, number of values, values or bytes. Offsets of directories are filled in below.
    main: dict[int, Any] = {
        **{256: (4, 1, size[0]), 257: (3, 1, size[1]), 270: (2, 0, TEXT + b"\0")},
        **{271: (2, 0, b"Cam\0"), 274: (3, 1, orientation), 315: (2, 0, TEXT + b"\0")},
        **{33432: (2, 0, TEXT + b"\0"), 34665: (4, 1, 0), 34853: (4, 1, 0)},
    }
    camera: dict[int, Any] = {
        **{
            0x9003: (2, 0, b"2024:01:02 03:04:05\0"),
            0x9214: (3, 0, struct.pack(order + "4H", 1, 2, 3, 4)),
        },
        **{0x927C: (7, 0, NOTE), 0x9286: (7, 0, b"UNICODE\0" + TEXT), 0xA002: (4, 1, size[0])},
        **{0xA003: (3, 1, size[1]), 0xA005: (4, 1, 0), 0xA434: (2, 0, TEXT + b"\0")},
    }
    inner: dict[int, Any] = {1: (2, 0, b"R98\0"), 0x1001: (3, 1, size[0]), 0x1002: (3, 1, size[1])}
    gps: dict[int, Any] = {1: (2, 0, b"N\0"), 0x1D: (2, 0, b"2024:01:02\0")}
    thumbnail: dict[int, Any] = {0x103: (3, 1, 6), 0x201: (4, 1, 0), 0x202: (4, 1, 500)}
    made: dict[str, int] = {}
    for _ in range(2):  # offsets are known the second time
        data, at = b"", head
        main[34665], main[34853] = (4, 1, made.get("camera", 0)), (4, 1, made.get("gps", 0))
        camera[0xA005] = (4, 1, made.get("inner", 0))
        thumbnail[0x201] = (4, 1, made.get("jpeg", 0))
        parts = {"main": main, "camera": camera, "inner": inner, "gps": gps, "second": thumbnail}
        for name, fields in parts.items():
            following = made.get("second", 0) if name == "main" else 0
            made[name] = at
            part = packed(fields, at, order, following)
            data, at = data + part, at + len(part)
        made["jpeg"] = at
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", head)
    return start + data + b"\xff\xd8THUMB" + bytes(493)


def packed(fields: dict[int, Any], at: int, order: str, following: int) -> bytes:
    table, tail = struct.pack(order + "H", len(fields)), b""
    tail_at = at + 2 + 12 * len(fields) + 4
    for tag, (kind, number, value) in sorted(fields.items()):
        data = value if number == 0 else struct.pack(order + {3: "H", 4: "I"}[kind], value)
        number = number or len(data) // (2 if kind == 3 else 1)
        if len(data) > 4:
            data, tail = struct.pack(order + "I", tail_at + len(tail)), tail + data
            tail += bytes(len(tail) % 2)
        table += struct.pack(order + "HHI", tag, kind, number) + data.ljust(4, b"\0")
    return table + struct.pack(order + "I", following) + tail


def tags(block: bytes) -> Image.Exif:
    found = Image.Exif()
    found.load(block)
    return found


def note_of(block: bytes) -> tuple[int, bytes]:
    """Offset and bytes of the maker's note."""
    at = block.index(NOTE)
    return at, tags(block).get_ifd(0x8769)[0x927C]


# Sizes, thumbnails


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_sizes_are_those_of_the_picture(format: str, orientation: int, order: str) -> None:
    block = camera_block(order, orientation)
    picture = read(IMAGE, format, exif=b"Exif\0\0" + block)
    found = tags(picture.exif)
    width, height = (6, 9) if orientation > 4 else (9, 6)
    assert picture.pixels.shape == (height, width, 3)
    assert (found[256], found[257]) == (width, height)
    camera = found.get_ifd(0x8769)
    assert (camera[0xA002], camera[0xA003]) == (width, height)
    inner = found.get_ifd(0xA005)
    assert (inner[0x1001], inner[0x1002]) == (width, height)
    assert 274 not in found and (0x9214 in camera) == (orientation == 1)
    assert note_of(picture.exif) == (block.index(NOTE), NOTE)
    assert (b"THUMB" in picture.exif) == (orientation == 1)
    assert len(picture.exif) < len(block) - 490 or orientation == 1
    assert found.get_ifd(0x8825)[0x1D] == "2024:01:02"


def test_sizes_of_another_picture_are_put_right() -> None:
    picture = read(IMAGE, exif=camera_block(orientation=1, size=(4000, 3000)))
    camera = tags(picture.exif).get_ifd(0x8769)
    assert (camera[0xA002], camera[0xA003]) == (9, 6)
    wide = read(Image.new("L", (70_000, 1)), exif=camera_block(orientation=8, size=(9, 9)))
    camera = tags(wide.exif).get_ifd(0x8769)
    assert (camera[0xA002], camera[0xA003]) == (1, 70_000)


def test_true_blocks_are_left_alone() -> None:
    block = camera_block(orientation=1)
    once = read(IMAGE, exif=block).exif
    assert once != block and len(once) == len(block)  # without orientation
    assert read(IMAGE, exif=once).exif == once


def test_a_thumbnail_before_other_data_is_overwritten() -> None:
    block = camera_block()
    at, end = block.index(b"\xff\xd8THUMB"), len(block)
    longer = block + b"behind"
    picture = read(IMAGE, exif=longer)
    assert picture.exif.endswith(b"behind") and len(picture.exif) == len(longer)
    assert not any(picture.exif[at:end])


@pytest.mark.parametrize("order", "<>")
def test_damage_in_inner_directories_spoils_nothing(order: str) -> None:
    sound = camera_block(order)
    random = np.random.default_rng(3)
    for _ in range(300):
        data = bytearray(sound[:600])
        for _ in range(3):
            data[random.integers(8, 600)] = random.integers(256)
        try:
            block = exif.upright(bytes(data), (9, 6), turned=True)
        except DirectoryError:
            continue
        assert block is None or len(block) <= len(data) + 4
        if block:
            exif.resolution(block)
            exif.holds_only_resolution(block)
            write_picture(replace(read_picture(RGB), exif=block), io.BytesIO(), "TIFF")


# Text, and TIFF


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("target", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_bytes_of_texts_and_notes_go_through(target: str, order: str) -> None:
    block = camera_block(order, 1)
    picture = read(IMAGE, exif=block)
    data = written(picture, target)
    again = read_picture(data)
    for tag, value in ((270, TEXT), (315, TEXT), (33432, TEXT)):
        raw = exif.raw_entries(again.exif, (tag,))
        at = struct.unpack(order + "I", raw[0][8:])[0]
        assert again.exif[at : at + len(value) + 1] == value + b"\0"
    assert again.exif.count(TEXT) == picture.exif.count(TEXT) == 5
    assert note_of(again.exif) == note_of(block)
    camera = tags(again.exif).get_ifd(0x8769)
    assert camera[0x9286] == b"UNICODE\0" + TEXT
    assert tags(again.exif).get_ifd(0xA005)[1] == "R98"
    assert tags(again.exif).get_ifd(0x8825)[1] == "N"
    assert np.abs(again.pixels.astype(int) - RGB).max() < (40 if target == "JPEG" else 1)
    if target == "TIFF":
        assert data[:2] == (b"II" if order == "<" else b"MM") and b"THUMB" not in data
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image), RGB) and image.n_frames == 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("order", "<>")
def test_tiff_of_all_modes(order: str, channels: int) -> None:
    picture = read_picture(images.pixels(5, 7, 3))
    grey = read_picture(images.pixels(5, 7, 1)) if channels < 3 else picture
    alpha = images.pixels(5, 7, 1) if channels in (2, 4) else None
    wanted = replace(grey, alpha=alpha, exif=camera_block(order, 1, (7, 5)), icc=None)
    again = read_picture(written(wanted, "TIFF"))
    assert np.array_equal(again.pixels, wanted.pixels) and again.gray == wanted.gray
    assert np.array_equal(again.alpha, alpha) if alpha is not None else again.alpha is None
    assert again.notes == ()


@pytest.mark.parametrize("order", "<>")
def test_tiff_without_descriptive_tags_gains_no_exif(order: str) -> None:
    for more in ({}, {254: (4, (0,))}, {274: (3, (6,))}):
        picture = read_picture(tiff(RGB, order, more=more))
        assert picture.exif is None and picture.notes == ()
        assert write_picture(picture, io.BytesIO(), "PPM") == ()


def tiff_with(note: bytes, note_at: int, order: str = "<") -> bytes:
    """A TIFF whose maker's note lies at an offset behind the picture."""
    data = tiff(RGB, order, more={34665: (4, (2000,)), 271: (1, (1,))})
    table = struct.pack(order + "HHHII", 1, 0x927C, 7, len(note), note_at) + bytes(4)
    assert len(data) < 2000
    data = data.ljust(2000, b"\0") + table
    return data.ljust(note_at, b"\0") + note


@pytest.mark.parametrize("order", "<>")
def test_makers_notes_of_tiff_keep_their_offset_or_are_named(order: str) -> None:
    for at in (2020, 3001, 59_900):
        picture = read_picture(tiff_with(NOTE, at, order))
        assert note_of(picture.exif) == (at, NOTE) and picture.notes == ()
        assert note_of(written(picture, "TIFF"))[0] == at
    far = read_picture(tiff_with(NOTE, 70_000, order))
    assert far.exif is None or NOTE not in far.exif
    assert far.notes == ("not carried: maker's note",)
    movable = b"Apple iOS\0" + NOTE
    kept = read_picture(tiff_with(movable, 70_000, order))
    assert tags(kept.exif).get_ifd(0x8769)[0x927C] == movable and kept.notes == ()
    assert len(kept.exif) < 1000


def test_big_tiff() -> None:
    image = images.file(
        IMAGE, "TIFF", big_tiff=True, tiffinfo={270: "Tower", 305: "s"}, dpi=(300, 300)
    )
    picture = read_picture(image)
    assert tags(picture.exif)[270] == "Tower"
    assert exif.resolution(picture.exif).across == 300
    assert np.array_equal(picture.pixels, RGB)


def test_tiff_that_pillow_has_loaded() -> None:
    picture = read(IMAGE, exif=camera_block(orientation=1))
    image = Image.open(io.BytesIO(written(picture, "TIFF")))
    image.load()
    again = read_picture(image)
    assert again.exif.count(TEXT) >= 3 and tags(again.exif)[271] == "Cam"
    plain = Image.open(io.BytesIO(images.file(IMAGE, "TIFF")))
    plain.load()
    assert read_picture(plain).exif is None


def test_texts_of_windows_and_ratings_are_descriptive() -> None:
    title = "Büro".encode("utf-16-le")
    more: Tags = {
        0x9C9B: (1, tuple(title)),
        0x4746: (3, (5,)),
        316: (1, (65, 0)),
        700: (1, (60, 62)),
    }
    picture = read_picture(tiff(RGB, more=more))
    assert title in picture.exif and tags(picture.exif)[0x4746] == 5
    assert picture.xmp == b"<>"
    assert title in written(picture, "TIFF")


def test_tags_that_cannot_be_carried_are_named() -> None:
    more: Tags = {33550: (1, (1,)), 33922: (1, (1,)), 50838: (4, (1,)), 37724: (1, (1,))}
    assert read_picture(tiff(RGB, more=more)).notes == (
        "not carried: GeoTIFF tags, Photoshop layers, ImageJ metadata",
    )


def test_long_exif_is_left_out_of_jpeg_alone() -> None:
    long = directory({271: (1, (1,))}, 8) + bytes(70_000)
    picture = replace(read_picture(RGB), exif=b"II*\0\x08\0\0\0" + long)
    assert write_picture(picture, io.BytesIO(), "JPEG") == ("JPEG cannot hold: exif",)
    for format in ("PNG", "WEBP", "TIFF"):
        assert write_picture(picture, io.BytesIO(), format) == ()


def test_hostile_blocks_take_little_time() -> None:
    begin = time.process_time()
    assert exif.without_prefix(exif.PREFIX * 500_000 + b"II*") == b"II*"
    size, many = 4 << 20, 4096
    # A second directory whose thumbnail has 4096 strips, all of them the same.
    second = struct.pack("<HHHIIHHIII", 2, 273, 4, many, 80, 279, 4, many, 80 + 4 * many, 0)
    first = struct.pack("<4sIHHHII", b"II*\0", 8, 1, 271, 2, 1, 0) + struct.pack("<I", 26)
    strips = struct.pack("<I", 80 + 8 * many) * many + struct.pack("<I", size) * many
    block = (first + second).ljust(80, b"\0") + strips + b"x" * size + b"end of it"
    assert exif.without_thumbnail(block) == block[:22] + bytes(34) + block[56 : 80 + 8 * many] + (
        bytes(size) + b"end of it"
    )
    assert time.process_time() - begin < 3


@pytest.mark.filterwarnings("ignore:Tag data larger than file")
def test_overlapping_values_of_tiff_are_not_multiplied() -> None:
    data = tiff(RGB, more={34665: (4, (0,))})
    data = tiff(RGB, more={34665: (4, (len(data),))})
    entries = [struct.pack("<HHII", 0x9000 + n, 7, 400, 0) for n in range(10)]
    picture = read_picture(
        data + struct.pack("<H", 10) + b"".join(entries) + bytes(4), Limits(metadata=1000)
    )
    assert picture.exif is None
    assert picture.notes == ("too long and left out: EXIF of 4000 bytes",)


def test_exif_that_cannot_be_read_is_left_out_of_tiff() -> None:
    for block in (b"rubbish", b"II*\0\xff\xff\xff\xff", b"II+\0\x08\0\0\0" + bytes(20)):
        picture = replace(read_picture(RGB), exif=block)
        assert write_picture(picture, io.BytesIO(), "TIFF") == ("TIFF cannot hold: exif",)
        assert np.array_equal(read_picture(written(picture, "TIFF")).pixels, RGB)
        written(picture, "PNG")
