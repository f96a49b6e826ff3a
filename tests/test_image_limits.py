"""Reading stays within its limits, leaves the host's settings alone and tells bugs from damage."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import images
import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile, PngInfo
from reading import read, refusal

from stfcodec import imageio
from stfcodec.imageio import modes, read_picture
from stfcodec.imageio.by_format import tiff_metadata, tiff_write
from stfcodec.imageio.colours import descriptions
from stfcodec.imageio.metadata import exif, reading
from stfcodec.limits import Limits

RGB = images.pixels()


def test_pixel_limit_is_checked_before_decoding() -> None:
    huge = b"P6 50000 40000 255\n"
    assert "limit" in refusal(huge)
    assert "cut short" in refusal(huge[:2] + b" 5 4 255\n")
    data = images.file(Image.new("L", (100, 100)), "PNG")
    assert "100x100" in refusal(data, limits=Limits(pixels=128 * 128 - 1))  # padded to 64s
    read_picture(data, Limits(pixels=128 * 128))
    refusal(np.zeros((100, 100), np.uint8), limits=Limits(pixels=9999))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_pillows_own_limit_and_warnings_stay_the_hosts(
    format: str, compression: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compression and format != "TIFF":
        return
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    filters = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(Image.new("L", (100, 100)), format, compression=compression)
    assert Image.MAX_IMAGE_PIXELS == 100 and warnings.filters == filters


def test_a_picture_that_comes_opened_is_still_bound_by_pillows_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = Image.open(io.BytesIO(images.file(Image.new("L", (100, 100)), "TIFF")))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "limit of Pillow" in refusal(image)


def test_a_warning_made_an_error_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(self: object) -> None:
        raise UserWarning("odd")

    monkeypatch.setattr(PngImageFile, "load", warn)
    with pytest.raises(UserWarning, match="odd"):
        read(Image.fromarray(RGB))


def test_bugs_are_not_taken_for_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes, "TARGET_MODES", None)
    with pytest.raises(TypeError):
        read(Image.fromarray(RGB))
    monkeypatch.undo()
    monkeypatch.setattr(PngImageFile, "load_prepare", lambda self: b"" + 1)
    assert "damaged" in refusal(images.file(Image.fromarray(RGB), "PNG"))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *[(modes, "to_8_bits"), (descriptions, "description_in"), (descriptions, "profile_for")],
        *[(exif, "orientation"), (exif, "upright"), (exif, "resolution")],
        *[(reading, "blocks_in"), (reading, "checked_block")],
    ],
)
@pytest.mark.parametrize(
    "bug", [lambda: np.zeros(3).reshape(2), lambda: struct.unpack("I", b""), lambda: {}[1]]
)
def test_bugs_that_show_in_a_library_are_not_taken_for_damage(
    module: object, name: str, bug: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, lambda *_, **__: bug())
    with pytest.raises((ValueError, struct.error, KeyError)):
        read(Image.fromarray(RGB), exif=images.exif(1))


def test_bugs_of_metadata_in_tiff_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = read(Image.fromarray(RGB), exif=images.exif(1))
    data = images.file(Image.fromarray(RGB), "TIFF", exif=b"Exif\0\0" + images.exif(1))
    monkeypatch.setattr(tiff_metadata, "packed_directory", lambda *_: {}[1])
    monkeypatch.setattr(tiff_write, "packed_directory", lambda *_: {}[1])
    with pytest.raises(KeyError):
        imageio.write_picture(picture, io.BytesIO(), "TIFF")
    with pytest.raises(KeyError):
        read_picture(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "JPEG2000", "GIF", "BMP"])
def test_the_host_has_told_pillow_to_accept_cut_files(
    format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images.file(Image.fromarray(RGB), format)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for source in (data, Image.open(io.BytesIO(data))):
        (note,) = read_picture(source).notes
        assert "LOAD_TRUNCATED_IMAGES" in note
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert read_picture(RGB).notes == ()


@pytest.mark.parametrize("format", ["WEBP", "AVIF", "QOI", "JPEG2000"])
def test_files_that_are_refused_when_cut_whatever_the_host_has_set(
    format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images.file(Image.fromarray(images.pixels(64, 64)), format)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for end in range(0, len(data) * 9 // 10, 97):
        refusal(data[:end])


def test_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(modes, "to_8_bits", exhausted)
    assert "memory of this machine" in refusal(images.file(Image.fromarray(RGB), "PNG"))


def test_byte_limit(tmp_path: Path) -> None:
    data = images.file(Image.fromarray(RGB), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    limits = Limits(bytes=len(data) - 1)
    for source in (data, path, io.BytesIO(data)):
        read_picture(source, Limits(bytes=len(data)))
        assert f"limit of {limits.bytes}" in refusal(source, limits=limits)


def test_endless_pipe_is_not_read_whole() -> None:
    class Endless:
        count = 0

        def read(self, size: int) -> bytes:
            self.count += size
            return bytes(size)

    pipe = Endless()
    assert "limit of 5000000" in refusal(pipe, limits=Limits(bytes=5_000_000))
    assert pipe.count < 8_000_000


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_metadata_over_the_limit_is_left_out(format: str) -> None:
    block = images.exif(1) + bytes(500)
    data = images.file(
        Image.fromarray(RGB),
        format,
        exif=b"Exif\0\0" + block,
        icc_profile=images.srgb_profile() + bytes(500),
        **({"xmp": images.XMP + b" " * 500} if format != "PNG" else {}),
    )
    picture = read_picture(data, Limits(metadata=400))
    assert (picture.icc, picture.xmp) == (None, None)
    kinds = {"ICC profile"} | ({"XMP"} if format in ("JPEG", "WEBP") else set())
    kinds |= {"EXIF"} if format != "TIFF" else set()  # which is taken apart and becomes small
    assert {kind for kind in kinds if kind in "".join(picture.notes)} == kinds
    assert read_picture(data).notes == ()


def test_png_blocks_too_long_for_pillow() -> None:
    icc, xmp = (
        images.srgb_profile() + bytes(2 << 20),
        images.XMP.replace(b"6", b"1") + b" " * (2 << 20),
    )
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp, zip=True)
    text.add_text("Title", "x" * (2 << 20), zip=True)
    text.add_text("Author", "y" * (2 << 20))
    data = images.file(Image.fromarray(RGB), "PNG", icc_profile=icc, pnginfo=text)
    picture = read_picture(data)
    assert np.array_equal(picture.pixels, RGB)
    assert picture.icc == icc and len(picture.xmp) == len(xmp)
    assert picture.notes == ("too long and left out: text 'Title'", "not carried: text 'Author'")
    few = read_picture(data, Limits(metadata=1 << 20))
    assert (few.icc, few.xmp) == (None, None) and "ICC profile" in "".join(few.notes)


def test_png_text_of_many_blocks() -> None:
    text = PngInfo()
    for _ in range(70):
        text.add_text("Title", "x" * (1 << 20), zip=True)
    picture = read(Image.fromarray(RGB), pnginfo=text)
    assert np.array_equal(picture.pixels, RGB) and "too long" in picture.notes[0]
