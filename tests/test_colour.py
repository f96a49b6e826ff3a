"""Colours that PNG chunks, AVIF boxes and TIFF tags describe come out as an ICC profile."""

from __future__ import annotations

import io
import struct
import zlib

import images
import numpy as np
import pytest
from PIL import Image, ImageCms, features
from tiffs import tiff

from stfcodec.imageio import Picture, read_picture, write_picture
from stfcodec.imageio.by_format import avif
from stfcodec.imageio.colours import descriptions

pytestmark = pytest.mark.skipif(
    not features.check("littlecms2"), reason="Pillow without littlecms2"
)

D65 = (31270, 32900)
SRGB = (*D65, 64000, 33000, 30000, 60000, 15000, 6000)
ADOBE = (*D65, 64000, 33000, 21000, 71000, 15000, 6000)
P3 = (*D65, 68000, 32000, 26500, 69000, 15000, 6000)
COLOURS = [(200, 100, 50), (60, 140, 90), (128, 128, 128), (255, 255, 255), (0, 0, 0), (30, 60, 90)]

# From CSS Color 4: linear light of the space to linear light of sRGB.
TO_SRGB = {
    "P3": (
        (1.2249402, -0.2249402, 0),
        (-0.0420570, 1.0420570, 0),
        (-0.0196376, -0.0786361, 1.0982735),
    ),
    "BT.2020": (
        (1.6604910, -0.5876411, -0.0728499),
        (-0.1245505, 1.1328999, -0.0083494),
        (-0.0181508, -0.1005789, 1.1187297),
    ),
    "Adobe": ((1.3983558, -0.3983558, 0), (0, 1, 0), (0, -0.0429290, 1.0429290)),
    "sRGB": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def gama(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


def chrm(values: tuple[int, ...]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *values))


def cicp(*values: int) -> bytes:
    return chunk(b"cICP", bytes(values))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


SRGB_CHUNK = chunk(b"sRGB", b"\0")


def png(*chunks: bytes, gray: bool = False) -> bytes:
    pixels = np.uint8([COLOURS, COLOURS])
    data = images.file(Image.fromarray(pixels[..., 0] if gray else pixels), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def through_profile(picture: Picture) -> np.ndarray:
    """The picture's colours in sRGB, by littlecms."""
    image = Image.fromarray(picture.pixels[..., 0] if picture.gray else picture.pixels)
    assert picture.icc is not None
    profiles = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc)), ImageCms.createProfile("sRGB")
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    transform = ImageCms.buildTransform(*profiles, image.mode, "RGB", intent)
    return np.asarray(transform.apply(image)).astype(int)


def srgb_decoded(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_encoded(light: np.ndarray) -> np.ndarray:
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def expected(pixels: np.ndarray, space: str, exponent: float | None) -> np.ndarray:
    values = pixels / 255
    light = srgb_decoded(values) if exponent is None else values**exponent
    return np.rint(srgb_encoded(light @ np.array(TO_SRGB[space]).T) * 255)


@pytest.mark.parametrize(
    ("chunks", "space", "exponent"),
    [
        ((cicp(12, 13, 0, 1),), "P3", None),
        ((cicp(12, 1, 0, 1),), "P3", None),
        ((cicp(9, 14, 0, 1),), "BT.2020", None),
        ((cicp(9, 8, 0, 1),), "BT.2020", 1.0),
        ((cicp(1, 4, 0, 1),), "sRGB", 2.2),
        ((cicp(1, 5, 0, 1),), "sRGB", 2.8),
        ((cicp(2, 8, 0, 1),), "sRGB", 1.0),
        ((chrm(P3), gama(45455)), "P3", 2.2),
        ((chrm(P3),), "P3", None),
        ((chrm(ADOBE), gama(45455)), "Adobe", 2.2),
        ((gama(100000),), "sRGB", 1.0),
        ((gama(55556),), "sRGB", 1.8),
    ],
)
def test_png_colours(chunks: tuple[bytes, ...], space: str, exponent: float | None) -> None:
    picture = read_picture(png(*chunks))
    assert np.array_equal(picture.pixels[0], np.uint8(COLOURS))
    got = through_profile(picture)
    assert np.abs(got - expected(picture.pixels, space, exponent)).max() <= 2
    assert len(picture.notes) == 1 and "kept as an ICC profile" in picture.notes[0]
    assert len(picture.icc) < 700


@pytest.mark.parametrize(
    "chunks",
    [
        (),
        (SRGB_CHUNK,),
        (gama(45455),),
        (chrm(SRGB),),
        (chrm(SRGB), gama(45455)),
        (SRGB_CHUNK, chrm(SRGB), gama(45455)),
        (SRGB_CHUNK, chrm(P3), gama(100000)),  # sRGB comes first
        *[(cicp(1, transfer, 0, 1),) for transfer in (1, 2, 6, 13, 14, 15)],
        (cicp(1, 13, 0, 1), chrm(P3)),
        (cicp(2, 2, 0, 1),),
    ],
)
def test_srgb_in_any_words_needs_no_profile(chunks: tuple[bytes, ...]) -> None:
    for gray in (False, True):
        picture = read_picture(png(*chunks, gray=gray))
        assert (picture.icc, picture.notes) == (None, ())


def test_precedence_in_png() -> None:
    profile = images.srgb_profile()
    assert read_picture(png(iccp(profile), chrm(P3), gama(100000))).icc == profile
    assert read_picture(png(iccp(profile), chrm(P3), gama(100000))).notes == ()
    both = read_picture(png(cicp(12, 13, 0, 1), iccp(profile)))
    assert both.icc != profile and "cICP comes before it" in both.notes[0]
    assert read_picture(png(cicp(1, 13, 0, 1), iccp(profile))).icc is None
    hdr = read_picture(png(cicp(9, 16, 0, 1), iccp(profile)))
    assert hdr.icc == profile and "those of the ICC profile" in hdr.notes[0]


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ((9, 16, 0, 1), "PQ (HDR)"),
        ((9, 18, 0, 1), "HLG (HDR)"),
        ((99, 13, 0, 1), "primaries 99 and transfer 13"),
        ((1, 10, 0, 1), "primaries 1 and transfer 10"),
        ((12, 13, 1, 1), "matrix 1"),
        ((12, 13, 0, 0), "narrow range"),
    ],
)
def test_what_is_not_supported_is_noted(codes: tuple[int, ...], words: str) -> None:
    picture = read_picture(png(cicp(*codes)))
    assert picture.icc is None and words in picture.notes[0]
    assert "taken for sRGB" in picture.notes[0]


@pytest.mark.parametrize(
    "chunks",
    [
        (gama(0),),
        (gama(1),),
        (gama(2**32 - 1),),
        (chrm((0,) * 8),),
        (chrm((2**32 - 1,) * 8),),
        (chrm((*D65, 1, 0, 2, 0, 3, 0)),),
        (chrm((*D65, 30000, 30000, 30000, 30000, 30000, 30000)),),
        (chrm((90000, 5000, *SRGB[2:])),),
        (chrm((31270, 1, *SRGB[2:])), gama(45455)),
    ],
)
def test_nonsense_is_noted_and_taken_for_srgb(chunks: tuple[bytes, ...]) -> None:
    picture = read_picture(png(*chunks))
    assert picture.icc is None and "makes no sense" in picture.notes[0]
    assert np.array_equal(picture.pixels[0], np.uint8(COLOURS))


@pytest.mark.parametrize("body", [b"", b"\x0c", b"\x0c\x0d\0\1\0"])
def test_cicp_of_a_wrong_length_states_nothing(body: bytes) -> None:
    assert read_picture(png(chunk(b"cICP", body))).notes == ()


def test_grey_gets_a_grey_profile() -> None:
    picture = read_picture(png(gama(100000), gray=True))
    assert picture.gray and picture.icc[16:20] == b"GRAY"
    got = through_profile(picture)
    assert np.abs(got - expected(picture.pixels, "sRGB", 1.0)).max() <= 2
    assert read_picture(png(cicp(12, 13, 0, 1), gray=True)).icc is None  # grey has no primaries
    buffer = io.BytesIO()
    write_picture(picture, buffer)
    assert read_picture(buffer.getvalue()).icc == picture.icc


def test_profiles_are_read_back_and_alike_each_time() -> None:
    picture = read_picture(png(cicp(12, 13, 0, 1)))
    assert picture.icc == read_picture(png(cicp(12, 13, 0, 1))).icc
    opened = ImageCms.getOpenProfile(io.BytesIO(picture.icc)).profile
    assert opened.profile_description.strip() == "Display P3 primaries, sRGB curve"
    assert opened.xcolor_space == "RGB " and opened.version == pytest.approx(4.3)
    to_d50 = np.array(opened.chromatic_adaptation[0])
    white = np.linalg.inv(to_d50) @ opened.media_white_point[0]
    assert white[:2] / white.sum() == pytest.approx((0.3127, 0.3290), abs=1e-4)
    buffer = io.BytesIO()
    write_picture(picture, buffer)
    again = read_picture(buffer.getvalue())
    assert again.icc == picture.icc and again.notes == ()


def test_image_that_pillow_has_opened() -> None:
    image = Image.open(io.BytesIO(png(cicp(12, 13, 0, 1))))
    assert read_picture(image).icc == read_picture(png(cicp(12, 13, 0, 1))).icc


def test_tiff_tags() -> None:
    def tags(values: tuple[int, ...]) -> dict:
        more = {318: values[:2], 319: values[2:]}
        return {tag: (5, tuple(n for v in vs for n in (v, 100000))) for tag, vs in more.items()}

    pixels = np.uint8([COLOURS])
    assert read_picture(tiff(pixels, more=tags(SRGB))).notes == ()
    picture = read_picture(tiff(pixels, more=tags(P3)))
    assert np.abs(through_profile(picture) - expected(pixels, "P3", None)).max() <= 2


# AVIF


def avif_file() -> bytearray:
    pixels = np.uint8([COLOURS] * 8).repeat(8, axis=1)
    return bytearray(images.file(Image.fromarray(pixels), "AVIF", quality=100, subsampling="4:4:4"))


needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")


@needs_avif
@pytest.mark.parametrize(
    ("codes", "words"),
    [((1, 13), None), ((2, 2), None), ((12, 13), "Display P3"), ((9, 16), "PQ"), ((9, 18), "HLG")],
)
def test_avif_colours(codes: tuple[int, int], words: str | None) -> None:
    data = avif_file()
    assert read_picture(data).notes == ()
    struct.pack_into(">HH", data, data.index(b"nclx") + 4, *codes)
    picture = read_picture(data)
    assert bool(picture.icc) == (words == "Display P3")
    assert [words in note for note in picture.notes] == ([True] if words else [])


@needs_avif
def test_profile_of_an_avif_comes_before_its_box() -> None:
    profile = images.srgb_profile()
    data = bytearray(images.file(Image.new("RGB", (64, 64)), "AVIF", icc_profile=profile))
    if (at := data.find(b"nclx")) > 0:
        struct.pack_into(">HH", data, at + 4, 9, 16)
    picture = read_picture(data)
    assert picture.icc == profile and picture.notes == ()


def box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), name) + body


def boxes(primary: int, wide: bool = False) -> bytes:
    """Three properties, two of them colours, of which the third belongs to item 2."""
    colours = [
        box(b"colr", b"nclx", struct.pack(">HHHB", first, transfer, 0, 128))
        for first, transfer in ((9, 16), (12, 13))
    ]
    number = struct.Struct(">H" if wide else ">B")
    essential = 0x8000 if wide else 0x80
    item = ">I" if wide else ">H"
    associated = [
        struct.pack(item, n) + bytes([2]) + number.pack(essential | 1) + number.pack(n + 1)
        for n in (1, 2)
    ]
    ipma = struct.pack(">II", 0x01000001 if wide else 0, 2) + b"".join(associated)
    ipco = box(b"ipco", box(b"ispe", bytes(12)), *colours)
    pitm = box(b"pitm", bytes(4), struct.pack(">H", primary))
    meta = box(b"meta", bytes(4), pitm, box(b"iprp", ipco, box(b"ipma", ipma)))
    return box(b"ftyp", b"avif", bytes(4)) + meta + box(b"mdat", b"colrnclx" + bytes(20))


@pytest.mark.parametrize("wide", [False, True])
def test_colours_of_the_primary_item_count(wide: bool) -> None:
    assert avif.nclx(io.BytesIO(boxes(1, wide))) == (9, 16)
    assert avif.nclx(io.BytesIO(boxes(2, wide))) == (12, 13)
    assert avif.nclx(io.BytesIO(boxes(3, wide))) is None


def test_damaged_boxes_state_nothing_or_something() -> None:
    sound = boxes(2)
    for end in range(len(sound)):
        avif.nclx(io.BytesIO(sound[:end]))
    random = np.random.default_rng(3)
    for _ in range(3000):
        data = bytearray(sound)
        for at in random.integers(len(data), size=3):
            data[at] = random.integers(256)
        fp = io.BytesIO(data)
        fp.seek(5)
        codes = avif.nclx(fp)
        assert (codes is None or len(codes) == 2) and fp.tell() == 5


def test_every_pair_of_codes_gives_a_profile_or_a_note_or_is_srgb() -> None:
    for primaries in range(256):
        for transfer in range(0, 256, 1 if primaries < 24 else 51):
            notes: list[str] = []
            description = descriptions.from_code_points("here", primaries, transfer)
            made = descriptions.profile_for(description, None, False, notes)
            assert len(notes) <= 1 and (made is None or b"acsp" in made)
            if made is None and not notes:
                assert primaries in (1, 2) and transfer in (1, 2, 6, 13, 14, 15)
