"""Files that are unreadable for a reason of their kind are told apart from damaged ones."""

from __future__ import annotations

import io
import struct

import images
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from reading import refusal
from tiffs import tiff

from stfcodec.imageio import read_picture

SAMPLES = np.random.default_rng(0).integers(0, 256, (24, 32, 6)).astype(np.uint8)
DEEP = SAMPLES.astype(np.uint16) * 257


@pytest.mark.parametrize(
    ("samples", "options", "words"),
    [
        (DEEP[..., :2], {"extra": (2,)}, "16-bit grey in 2 channels"),
        (SAMPLES[..., :5], {"photometric": 5, "extra": (2,)}, "8-bit CMYK in 5 channels"),
        (DEEP[..., :5], {"extra": (2, 0)}, "16-bit RGB in 5 channels"),
        (DEEP[..., :3], {"photometric": 8}, "16-bit Lab in 3 channels"),
        (DEEP[..., :3] >> 4, {"bits": 12}, "12-bit RGB in 3 channels"),
        (SAMPLES[..., 0] > 99, {"photometric": 4, "bits": 1}, "1-bit mask in 1 channel is"),
        (SAMPLES[..., :3].astype("u4"), {}, "32-bit RGB in 3 channels"),
    ],
)
def test_tiffs_of_unsupported_pixels(samples: np.ndarray, options: dict, words: str) -> None:
    message = refusal(tiff(samples, **options))
    assert words in message and "not supported" in message and "damaged" not in message


def compressed_as(number: int) -> bytes:
    data = bytearray(tiff(SAMPLES[..., :3]))
    at = data.index(struct.pack("<HHI", 259, 3, 1))
    struct.pack_into("<H", data, at + 8, number)
    return bytes(data)


@pytest.mark.parametrize("number", [34712, 34887, 34661, 50002, 65000])
def test_tiffs_of_unsupported_compression(number: int) -> None:
    assert f"TIFF with compression {number}: save it" in refusal(compressed_as(number))
    assert "damaged" in refusal(compressed_as(8))


@pytest.mark.parametrize("kind", [1, 4, 5, 0])
def test_reduced_copies_are_no_pages(kind: int) -> None:
    """As scanners and map makers write them behind the picture."""
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer, new=True) as writer:
        for samples, subfile_type in ((SAMPLES, 0), (SAMPLES[::2, ::2], kind)):
            image = Image.fromarray(np.ascontiguousarray(samples[..., :3]))
            image.save(writer, "TIFF", tiffinfo={254: subfile_type})
            writer.newFrame()
    data = buffer.getvalue()
    if kind == 0:
        assert "holds 2 pages" in refusal(data)
        return
    picture = read_picture(data)
    assert np.array_equal(picture.pixels, SAMPLES[..., :3])
    assert picture.notes == ("not carried: 1 reduced copies or masks in the TIFF",)


# JPEG


def jpeg(marker: int = 0xC0, bits: int = 8) -> bytes:
    data = bytearray(images.file(Image.fromarray(SAMPLES[..., :3]), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    return bytes(data)


@pytest.mark.parametrize(
    ("marker", "words"),
    [(0xC5, "hierarchical"), (0xCD, "hierarchical"), (0xCB, "arithmetic"), (0xF7, "JPEG-LS")],
)
def test_jpegs_of_unsupported_kinds(marker: int, words: str) -> None:
    message = refusal(jpeg(marker))
    assert words in message and "not supported" in message and "damaged" not in message


def test_jpegs_of_12_bits_are_named() -> None:
    assert "12-bit" in refusal(jpeg(bits=12))


def test_damaged_jpegs_are_damaged() -> None:
    data = jpeg()
    for end in (10, data.index(b"\xff\xc0") + 4, len(data) // 2):
        assert "damaged" in refusal(data[:end])
    assert "damaged" in refusal(jpeg(0xC2))  # baseline data under a progressive header
    padded = data.replace(b"\xff\xc0", b"\xff\xff\xff\xc0")
    assert np.array_equal(read_picture(padded).pixels, read_picture(data).pixels)


def lossless_jpeg(levels: np.ndarray) -> bytes:
    """Lossless JPEG (process 14, predictor 1) of grey levels, with a Huffman code of 4 bits."""

    def segment(marker: int, *content: bytes) -> bytes:
        body = b"".join(content)
        return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body

    height, width = levels.shape
    bits = ""
    for y, x in np.ndindex(levels.shape):
        before = levels[y, x - 1] if x else levels[y - 1, 0] if y else 128
        difference = int(levels[y, x]) - int(before)
        size = abs(difference).bit_length()
        code = difference if difference > 0 else difference + (1 << size) - 1
        bits += f"{size:04b}" + (f"{code:0{size}b}" if size else "")
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    table = segment(0xC4, bytes([0, 0, 0, 0, 9, *bytes(12)]), bytes(range(9)))
    frame = segment(0xC3, struct.pack(">BHHB", 8, height, width, 1), bytes([1, 0x11, 0]))
    scan = segment(0xDA, bytes([1, 1, 0, 1, 0, 0]))
    return b"\xff\xd8" + table + frame + scan + data + b"\xff\xd9"


def test_lossless_jpeg_is_read() -> None:
    levels = SAMPLES[..., 0] // 4
    assert np.array_equal(read_picture(lossless_jpeg(levels)).pixels[..., 0], levels)


# PNG


def test_png_for_ios_is_named() -> None:
    data = images.file(Image.fromarray(SAMPLES[..., :3]), "PNG")
    chunk = b"\0\0\0\4CgBI\x50\0\x20\2\x2b\xd5\xb3\x7f"
    assert "made for iOS" in refusal(data[:8] + chunk + data[8:])


def test_damaged_pngs_are_damaged() -> None:
    data = images.file(Image.fromarray(SAMPLES[..., :3]), "PNG")
    for bad in (data[:20], data[: len(data) // 2], data[:29] + b"\0\0\0\0" + data[33:]):
        assert "damaged" in refusal(bad)
