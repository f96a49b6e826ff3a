"""The Python API: its names, what it accepts as input, and settings that are checked once."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import stfcodec
from stfcodec import api, container
from stfcodec.settings import EncodeSettings


class Pipe(io.RawIOBase):
    """A binary file object that cannot seek."""

    def __init__(self, data: bytes) -> None:
        self.rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.rest.read(size)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    rows, cols = np.mgrid[:48, :80]
    return np.stack([rows + cols, 2 * rows, 3 * cols], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def coded(pixels: np.ndarray) -> bytes:
    return stfcodec.encode(pixels)


# Names --------------------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    assert sorted(stfcodec.__all__) == stfcodec.__all__
    assert dir(stfcodec) == stfcodec.__all__
    for name in stfcodec.__all__:
        assert getattr(stfcodec, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'imagine'"):
        stfcodec.imagine  # noqa: B018


@pytest.mark.parametrize("name", ["encode", "decode", "decode_picture", "load_model"])
def test_all_but_the_first_argument_are_keywords(name: str) -> None:
    first, *others = inspect.signature(getattr(stfcodec, name)).parameters.values()
    assert first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert {p.kind for p in others} == {inspect.Parameter.KEYWORD_ONLY}


def test_encode_takes_the_settings_and_has_their_defaults() -> None:
    _, *options = inspect.signature(stfcodec.encode).parameters.values()
    settings = EncodeSettings()
    assert {p.name: p.default for p in options} == vars(settings)


# Input --------------------------------------------------------------------------------------------


def test_pictures_come_as_file_objects(pixels: np.ndarray, coded: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    with path.open("rb") as file:
        file.read(5)
        assert stfcodec.encode(file) == coded, "the file is read from its start"
    data = path.read_bytes()
    for source in (path, str(path), data, io.BytesIO(data), Pipe(data)):
        assert stfcodec.encode(source) == coded  # type: ignore[arg-type]


def test_streams_come_as_file_objects(coded: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.stf"
    path.write_bytes(coded)
    wanted = stfcodec.decode(coded).tobytes()
    with path.open("rb") as file:
        file.read(5)
        assert stfcodec.decode(file).tobytes() == wanted, "the file is read from its start"
        assert stfcodec.info(file) == stfcodec.info(coded)
    for source in (path, str(path), bytearray(coded), io.BytesIO(coded), Pipe(coded)):
        assert stfcodec.decode(source).tobytes() == wanted  # type: ignore[arg-type]
    assert stfcodec.decode_picture(io.BytesIO(coded)).pixels.tobytes() == wanted


def test_files_are_held_to_the_limits(pixels: np.ndarray, coded: bytes, tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    small = stfcodec.Limits(bytes=100)
    for source in (png, Pipe(png.getvalue())):
        with pytest.raises(stfcodec.ImageError, match="over the limit of 100"):
            stfcodec.encode(source, limits=small)  # type: ignore[arg-type]
    path = tmp_path / "a.stf"
    path.write_bytes(coded)
    for source in (io.BytesIO(coded), Pipe(coded), path, str(path), coded):
        with pytest.raises(stfcodec.StreamError, match=r"more than 100 bytes|limit of 100"):
            stfcodec.decode(source, limits=small)  # type: ignore[arg-type]
    with pytest.raises(stfcodec.StfError, match="No such file") as found:
        stfcodec.decode(tmp_path / "none.stf", limits=small)
    assert not isinstance(found.value, stfcodec.StreamError)


def test_what_is_no_stream_is_not_read_whole() -> None:
    film = io.BytesIO(b"\0\0\0 ftypisom" + bytes(1000))
    with pytest.raises(stfcodec.StreamError, match="its signature is missing"):
        stfcodec.decode(film)
    assert film.tell() < 100


def test_text_files_are_refused() -> None:
    with pytest.raises(stfcodec.ImageError, match="open the file in binary mode"):
        stfcodec.encode(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(stfcodec.UsageError, match="open the file in binary mode"):
        stfcodec.decode(io.StringIO("text"))  # type: ignore[arg-type]


# Settings -----------------------------------------------------------------------------------------


def test_metadata_is_stripped(pixels: np.ndarray, coded: bytes) -> None:
    picture = stfcodec.Picture(pixels, icc=b"p" * 200, exif=b"MM\0*", xmp=b"<x/>")
    assert stfcodec.encode(picture, strip=True) == coded
    kept = container.read(stfcodec.encode(picture))
    assert (kept.icc, kept.exif, kept.xmp) == (picture.icc, picture.exif, picture.xmp)


def test_settings_are_checked_and_rounded_when_they_are_made() -> None:
    settings = EncodeSettings(quality=2.33749, effort=3.0)  # type: ignore[arg-type]
    assert (settings.quality, settings.effort) == (2.337, 3)
    assert isinstance(settings.effort, int)
    assert settings.model_info.name == settings.model
    with pytest.raises(FrozenInstanceError):
        settings.quality = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "jpeg"}, "unknown model"),
        ({"quality": 7}, "outside 1…6"),
        ({"model": "wacnn", "quality": 2.5}, "whole qualities only"),
        ({"effort": 101}, "whole number in 0…100"),
        ({"device": "gpu"}, "unknown device 'gpu'; choose auto, cpu, cuda"),
        ({"device": None}, "unknown device None"),
        ({"target": ("size", 5000)}, "is no target"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(stfcodec.UsageError, match=message):
        EncodeSettings(**options)


def test_one_set_of_settings_codes_many_pictures(pixels: np.ndarray, coded: bytes) -> None:
    settings = EncodeSettings()
    for _ in range(2):
        assert api.encode_with(pixels, settings) == coded


# Misuse -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "picture",
    [
        stfcodec.Picture(np.zeros((8, 8, 3), np.float32)),
        stfcodec.Picture(np.zeros((8, 8), np.uint8)),
        stfcodec.Picture(np.zeros((0, 8, 3), np.uint8)),
        stfcodec.Picture(np.zeros((8, 8, 3), np.uint8), alpha=np.zeros((8, 9), np.uint8)),
        stfcodec.Picture(np.zeros((8, 8, 3), np.uint8), xmp=bytes((16 << 20) + 1)),
    ],
)
def test_pictures_made_by_hand_are_checked(picture: stfcodec.Picture) -> None:
    with pytest.raises(stfcodec.ImageError):
        stfcodec.encode(picture)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: stfcodec.Target("banana", 5),
        lambda: stfcodec.Target("size", "5"),
        lambda: stfcodec.Limits(pixels=None),
        lambda: stfcodec.encode(np.zeros((8, 8, 3), np.uint8), quality="high"),
        lambda: stfcodec.encode(np.zeros((8, 8, 3), np.uint8), quality=None),
        lambda: stfcodec.encode(np.zeros((8, 8, 3), np.uint8), effort="x"),
        lambda: stfcodec.encode(np.zeros((8, 8, 3), np.uint8), target=("size", 5000)),
        lambda: stfcodec.decode(None),
        lambda: stfcodec.decode(10),
        lambda: stfcodec.info(open),
    ],
)
def test_misuse_is_told_in_one_line(misuse: Callable[[], object]) -> None:
    with pytest.raises(stfcodec.UsageError) as found:
        misuse()
    assert "\n" not in str(found.value)
