"""AVIF pictures come upright and cropped, as their boxes say, whatever EXIF and XMP say."""

from __future__ import annotations

import io
import struct

import images
import numpy as np
import pytest
from PIL import Image, features

from stfcodec.imageio import read_picture
from stfcodec.imageio.by_format import avif

pytestmark = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")

WIDTH, HEIGHT = 64, 48
CORNERS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
TURNED = {  # corners from the top left, row by row, by EXIF orientation
    1: ("red", "green", "blue", "white"),
    2: ("green", "red", "white", "blue"),
    3: ("white", "blue", "green", "red"),
    4: ("blue", "white", "red", "green"),
    5: ("red", "blue", "green", "white"),
    6: ("blue", "red", "white", "green"),
    7: ("white", "green", "blue", "red"),
    8: ("green", "white", "red", "blue"),
}


def quarters() -> np.ndarray:
    pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for n, colour in enumerate(CORNERS.values()):
        rows = slice(HEIGHT // 2) if n < 2 else slice(HEIGHT // 2, None)
        pixels[rows, slice(WIDTH // 2) if n % 2 == 0 else slice(WIDTH // 2, None)] = colour
    return pixels


def file(orientation: int = 1, alpha: bool = False, **options: object) -> bytes:
    """A file whose boxes turn it, as Pillow writes an EXIF orientation."""
    image = Image.fromarray(quarters())
    if alpha:
        image.putalpha(200)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Cam"
    return images.file(
        image, "AVIF", quality=100, subsampling="4:4:4", **{"exif": exif.tobytes(), **options}
    )


def corners(pixels: np.ndarray) -> tuple[str, ...]:
    found = []
    for pixel in (pixels[3, 3], pixels[3, -4], pixels[-4, 3], pixels[-4, -4]):
        distances = {n: np.abs(pixel.astype(int) - c).max() for n, c in CORNERS.items()}
        found.append(min(distances, key=distances.__getitem__))
    return tuple(found)


def with_crop(data: bytes, *numbers: int) -> bytes:
    """The file with a box `clap` of these eight numbers among the primary item's properties."""
    box = struct.pack(">I4s4IiIiI", 40, b"clap", *numbers)
    meta, iloc = data.index(b"meta") - 4, data.index(b"iloc") - 4
    iprp, ipco, ipma = (data.index(name) - 4 for name in (b"iprp", b"ipco", b"ipma"))
    added = len(box) + 1

    def longer(at: int, by: int) -> None:
        struct.pack_into(">I", changed, at, struct.unpack_from(">I", data, at)[0] + by)

    changed = bytearray(data)
    for at, by in ((meta, added), (iprp, added), (ipco, len(box)), (ipma, 1)):
        longer(at, by)
    assert data[iloc + 8 : iloc + 14] == bytes([0, 0, 0, 0, 0x44, 0])  # offsets of 4 bytes
    (items,) = struct.unpack_from(">H", data, iloc + 14)
    for n in range(items):
        longer(iloc + 16 + 14 * n + 6, added)
    properties, at = 0, ipco + 8
    while at < ipma:
        at, properties = at + struct.unpack_from(">I", data, at)[0], properties + 1
    count = ipma + 18  # of the first item's associations
    changed[count] += 1
    association = bytes([0x80 | (properties + 1)])
    return bytes(
        changed[:ipma] + box + changed[ipma : count + 1] + association + changed[count + 1 :]
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_and_mirroring_are_applied_once(orientation: int) -> None:
    picture = read_picture(file(orientation))
    assert corners(picture.pixels) == TURNED[orientation]
    assert picture.pixels.shape == ((HEIGHT, WIDTH, 3) if orientation < 5 else (WIDTH, HEIGHT, 3))
    exif = Image.Exif()
    exif.load(picture.exif)
    assert 0x0112 not in exif and exif[0x010F] == "Cam" and picture.notes == ()


def test_boxes_overrule_the_orientation_in_exif_and_xmp() -> None:
    by_xmp = read_picture(file(xmp=images.XMP))
    assert corners(by_xmp.pixels) == TURNED[1]
    assert b"<tiff:Orientation>1<" in by_xmp.xmp
    exif = Image.Exif()
    exif[0x0128] = 6  # becomes an orientation, which Pillow would write as a box
    data = file(exif=exif.tobytes())
    old, new = (struct.pack(">HHIH", tag, 3, 1, 6) for tag in (0x0128, 0x0112))
    if old not in data:
        old, new = (struct.pack("<HHIH", tag, 3, 1, 6) for tag in (0x0128, 0x0112))
    assert data.count(old) == 1
    by_exif = read_picture(data.replace(old, new))
    assert corners(by_exif.pixels) == TURNED[1] and by_exif.exif is None


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(
    ("numbers", "box"),
    [
        ((32, 1, 24, 1, 0, 1, 0, 1), (16, 12, 48, 36)),
        ((32, 1, 24, 1, -16, 1, -12, 1), (0, 0, 32, 24)),
        ((64, 2, 48, 2, 32, 2, 24, 2), (32, 24, 64, 48)),
        ((21, 1, 11, 1, -3, 2, 7, 2), (20, 22, 41, 33)),
        ((64, 1, 48, 1, 0, 1, 0, 1), (0, 0, 64, 48)),
    ],
)
def test_crop(numbers: tuple[int, ...], box: tuple[int, ...], alpha: bool) -> None:
    left, top, right, bottom = box
    whole, cropped = (
        read_picture(file(alpha=alpha)),
        read_picture(with_crop(file(alpha=alpha), *numbers)),
    )
    assert np.array_equal(cropped.pixels, whole.pixels[top:bottom, left:right])
    assert (cropped.alpha is not None) == alpha
    if alpha:
        assert cropped.alpha.shape == cropped.pixels.shape[:2]
    assert cropped.notes == ()


def test_crop_comes_before_the_rotation() -> None:
    data = with_crop(file(6), 40, 1, 20, 1, -12, 1, -14, 1)
    picture = read_picture(data)
    assert picture.pixels.shape == (40, 20, 3)
    assert corners(picture.pixels)[1] == "red" and corners(picture.pixels)[3] == "green"


@pytest.mark.parametrize(
    "numbers",
    [
        (32, 0, 24, 1, 0, 1, 0, 1),
        (0, 1, 24, 1, 0, 1, 0, 1),
        (65, 1, 48, 1, 0, 1, 0, 1),
        (32, 1, 24, 1, 17, 1, 0, 1),
        (32, 1, 24, 1, 0, 1, -(2**31), 1),
        (31, 1, 24, 1, 0, 1, 0, 1),  # half pixels on both sides
        (2**32 - 1, 2**32 - 1, 24, 1, 0, 1, 0, 2**32 - 1),
    ],
)
def test_a_crop_that_makes_no_sense_is_noted(numbers: tuple[int, ...]) -> None:
    picture = read_picture(with_crop(file(), *numbers))
    assert picture.notes == ("crop (clap) of the AVIF makes no sense and is not applied",)
    assert picture.pixels.shape == (HEIGHT, WIDTH, 3)


def test_positions_in_the_file_are_restored() -> None:
    fp = io.BytesIO(with_crop(file(), 32, 1, 24, 1, 0, 1, 0, 1))
    fp.seek(7)
    assert avif.crop(fp, (WIDTH, HEIGHT), []) == (16, 12, 48, 36) and fp.tell() == 7
    assert avif.crop(io.BytesIO(b"no boxes"), (WIDTH, HEIGHT), []) is None


def test_grey_and_premultiplied_alpha() -> None:
    grey = read_picture(images.file(Image.fromarray(images.pixels(48, 64, 1)), "AVIF"))
    assert (grey.pixels == grey.pixels[..., :1]).all()  # RGB to Pillow before 12
    image = Image.fromarray(quarters())
    image.putalpha(Image.fromarray(np.full((HEIGHT, WIDTH), 128, np.uint8)))
    for premultiplied in (False, True):
        data = images.file(image, "AVIF", quality=100, alpha_premultiplied=premultiplied)
        picture = read_picture(data)
        assert corners(picture.pixels) == TURNED[1] and abs(int(picture.alpha[5, 5]) - 128) <= 1
        assert np.abs(picture.pixels[3, 3].astype(int) - CORNERS["red"]).max() < 9
