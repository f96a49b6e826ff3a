"""TIFF of every layout is read as what it holds or refused by name, as are raw photographs."""

from __future__ import annotations

import io
import itertools
import struct
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image
from reading import refusal
from tiffs import Tags, directory, tiff

from stfcodec.errors import ImageError
from stfcodec.imageio import read_picture

Y, X, C = np.mgrid[:40, :52, :6]
SAMPLES = ((X * 5 + Y * 3 + C * 60) % 256).astype(np.uint8)
DEEP = SAMPLES.astype(np.uint16) * 257 ^ 0x37
GREY, DEEP_GREY = SAMPLES[..., 0], DEEP[..., 0]

LAYOUTS = [
    {"order": order, "compressed": compressed, "predictor": predictor, **shape}
    for order, (compressed, predictor), shape in itertools.product(
        "<>",
        [(False, False), (True, False), (True, True)],
        [{"rows": 0}, {"rows": 7}, {"tile": 16}],
    )
]


def is_read_as(data: bytes, expected: np.ndarray, within: float = 1.0) -> bool:
    """`expected`: (H, W) grey, (H, W, 2) with alpha, RGB or RGBA, 0 to 255."""
    picture = read_picture(data)
    planes = [picture.pixels[..., 0]] if picture.gray else [picture.pixels]
    planes += [] if picture.alpha is None else [picture.alpha]
    if picture.pixels.dtype == np.uint16:
        planes[0] = planes[0] / 257
    got = np.dstack(planes).astype(float)
    expected = np.atleast_3d(expected)
    return got.shape == expected.shape and bool(np.abs(got - expected).max() <= within)


# Separate planes


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("samples", [SAMPLES, DEEP], ids=["8", "16"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_planes_and_interleaved_channels(samples: np.ndarray, channels: int, planar: bool) -> None:
    expected = samples[..., :channels] / (1 if samples is SAMPLES else 257)
    for layout in LAYOUTS:
        extra = (2,) if channels == 4 else ()
        data = tiff(samples[..., :channels], planar=planar, extra=extra, **layout)
        assert is_read_as(data, expected), layout
        if samples is DEEP and not (planar and channels > 1 and layout["compressed"]):
            picture = read_picture(data)  # libtiff takes planes apart to 8 bits
            assert (picture.pixels == DEEP[..., : min(channels, 3)]).all()


def test_planes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(DEEP[..., :3], planar=True))
    assert np.array_equal(read_picture(path).pixels, DEEP[..., :3])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_one_plane_apart_is_no_plane_apart(bits: int, white_is_zero: bool) -> None:
    levels = GREY >> (8 - bits)
    expected = levels * (255 / ((1 << bits) - 1))
    for layout in LAYOUTS:
        if layout["predictor"]:
            continue
        data = tiff(
            levels,
            bits=bits % 8,
            planar=True,
            photometric=0 if white_is_zero else 1,
            **layout,
        )
        assert is_read_as(data, 255 - expected if white_is_zero else expected), layout


def test_planes_of_16_bit_inks_are_refused() -> None:
    data = tiff(DEEP[..., :4], planar=True, photometric=5)
    assert "16-bit TIFF with separate planes: save it" in refusal(data)


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (2, {"extra": (2,)}),  # grey with alpha: Pillow gives junk for alpha if compressed
        (2, {"extra": (1,)}),
        (4, {"extra": (), "compressed": True}),  # alpha without a name: junk as well
        (4, {"extra": (), "tile": 16}),
        (4, {"extra": (1,), "compressed": False}),
        (5, {"extra": (2, 0)}),
        (3, {"photometric": 8}),  # Lab: its signs are lost
    ],
)
def test_planes_that_pillow_garbles_are_refused(channels: int, options: dict) -> None:
    for compressed in {options.get("compressed", False), options.get("compressed", True)}:
        data = tiff(SAMPLES[..., :channels], planar=True, **{**options, "compressed": compressed})
        assert "8-bit TIFF with separate planes: save it" in refusal(data)


def test_planes_of_an_image_that_pillow_has_opened() -> None:
    for order in "<>":
        image = Image.open(io.BytesIO(tiff(DEEP[..., :3], planar=True, order=order)))
        with pytest.raises(ImageError, match="16-bit TIFF with separate planes"):
            read_picture(image)
    image = Image.open(io.BytesIO(tiff(SAMPLES[..., :3], planar=True)))
    assert np.array_equal(read_picture(image).pixels, SAMPLES[..., :3])


# Other kinds


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("channels", [1, 3])
def test_signed_and_floating_samples_are_refused_by_name(dtype: str, channels: int) -> None:
    kind = "signed" if dtype[0] == "i" else "floating-point"
    message = refusal(tiff(SAMPLES[..., :channels].astype(dtype)))
    assert f"{8 * int(dtype[1])}-bit {kind}" in message


@pytest.mark.parametrize("bits", [1, 2, 4, 12])
def test_depths_of_grey(bits: int) -> None:
    levels = DEEP_GREY >> (16 - bits)
    for layout in LAYOUTS:
        if not layout["predictor"] and (bits < 12 or layout["order"] == "<"):
            data = tiff(levels, bits=bits, **layout)
            assert is_read_as(data, levels * (255 / ((1 << bits) - 1))), layout
    assert "TIFF" in refusal(tiff(levels, bits=6))


@pytest.mark.parametrize("depth", [8, 16])
def test_premultiplied_alpha(depth: int) -> None:
    alpha = np.maximum(SAMPLES[..., 3:4], 40).astype(int)
    colours = SAMPLES[..., :3] * alpha // 255
    samples = np.dstack([colours, alpha]).astype(np.uint8)
    expected = np.dstack([np.minimum(colours * 255 / alpha, 255), alpha])
    data = tiff(samples if depth == 8 else samples.astype(np.uint16) * 257, extra=(1,))
    assert is_read_as(data, expected)


@pytest.mark.parametrize("extra", [(0,), (0, 0), (2, 0)])
def test_extra_channels_are_left_out_with_a_note(extra: tuple[int, ...]) -> None:
    wanted = 4 if extra[0] == 2 else 3
    data = tiff(SAMPLES[..., : 3 + len(extra)], extra=extra)
    assert is_read_as(data, SAMPLES[..., :wanted])
    assert f"extra channels of the TIFF ({3 + len(extra) - wanted})" in read_picture(data).notes[0]
    assert read_picture(tiff(SAMPLES[..., :4], extra=(2,))).notes == ()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes(bits: int) -> None:
    table = np.random.default_rng(0).integers(0, 256, (1 << bits, 3))
    more: Tags = {320: (3, tuple(int(v) * 257 for v in table.T.ravel()))}
    levels = GREY >> (8 - bits)
    data = tiff(levels, bits=bits % 8, photometric=3, more=more)
    assert is_read_as(data, table[levels])


def test_subsampled_colour_differences() -> None:
    ycc = np.asarray(Image.fromarray(SAMPLES[..., :3]).convert("YCbCr"))
    whole: Tags = {530: (3, (1, 1))}
    if int(PIL.__version__.split(".")[0]) >= 13:  # older ones refuse it
        assert is_read_as(tiff(ycc, photometric=6, more=whole), SAMPLES[..., :3], within=3)
    for more in ({}, {530: (3, (2, 2))}, {530: (3, (2, 1))}):
        assert "subsampled YCbCr" in refusal(tiff(ycc, photometric=6, more=more))


def test_reversed_bits() -> None:
    mirror = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
    data = tiff(SAMPLES[..., :3], more={266: (3, (2,))})
    end = 8 + SAMPLES[..., :3].size
    assert is_read_as(data[:8] + data[8:end].translate(mirror) + data[end:], SAMPLES[..., :3])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("planar", [False, True])
def test_orientation_with_planes(orientation: int, planar: bool) -> None:
    data = tiff(DEEP[..., :3], planar=planar, more={274: (3, (orientation,))})
    shape = (52, 40, 3) if orientation > 4 else (40, 52, 3)
    assert read_picture(data).pixels.shape == shape


# Raw photographs


def raw(
    first: Tags | None = None, below: Tags | None = None, chained: bool = False, order: str = "<"
) -> bytes:
    """A small RGB picture with a larger directory below it or behind it."""
    small = SAMPLES[:8, :8, :3].copy()
    at = 8
    tags: Tags = {256: (4, (600,)), 257: (4, (400,)), 258: (3, (16,)), 262: (3, (1,))}
    other = directory(tags | (below or {}), 8, order)
    start = at + len(other)
    pixels = start + 400
    main: Tags = {
        256: (4, (8,)),
        257: (4, (8,)),
        258: (3, (8, 8, 8)),
        259: (3, (1,)),
        262: (3, (2,)),
        273: (4, (pixels,)),
        277: (3, (3,)),
        278: (4, (8,)),
        279: (4, (small.size,)),
    }
    if not chained:
        main[330] = (4, (at,))
    table = directory(main | (first or {}), start, order, at if chained else 0)
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, start)
    return head + other + table.ljust(400, b"\0") + small.tobytes()


REDUCED: Tags = {254: (4, (1,))}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("first", "below"),
    [
        (REDUCED, {262: (3, (32803,))}),  # NEF, ARW, DNG
        ({}, {262: (3, (34892,))}),  # linear DNG
        ({50706: (1, (1, 4, 0, 0))}, {}),
        ({262: (3, (32803,))}, {}),  # PEF
    ],
)
def test_raw_photographs_are_refused(first: Tags, below: Tags, order: str) -> None:
    for chained in (False, True):
        data = raw(first, below, chained, order)
        assert "raw photograph" in refusal(data)
        assert "develop it to TIFF or PNG" in refusal(data)


def test_reduced_copy_of_a_larger_picture_is_refused() -> None:
    assert "reduced copy" in refusal(raw(REDUCED))


def test_canon_raw_photograph() -> None:
    data = bytearray(raw())
    at = struct.unpack_from("<I", data, 4)[0] + 4
    data = data[:4] + struct.pack("<I", at + 4) + b"CR\2\0" + data[8:]  # all offsets off by 4
    assert "raw photograph" in refusal(bytes(data))


@pytest.mark.parametrize(
    "head", [b"IIU\0", b"IIRO", b"IIRS", b"FUJIFILMCCD-RAW 0201", b"\0\0\0\x18ftypcrx \0\0\0\1"]
)
def test_raw_photographs_that_are_no_tiff(head: bytes) -> None:
    assert "raw photograph" in refusal(head + bytes(100))


@pytest.mark.parametrize("order", "<>")
def test_thumbnails_and_pyramids_below_a_picture_are_no_raw_photograph(order: str) -> None:
    for below in ({}, REDUCED, {262: (3, (2,)), **REDUCED}, {262: (3, (6,))}):
        assert is_read_as(raw({}, below, order=order), SAMPLES[:8, :8, :3])


def test_directories_in_a_ring() -> None:
    assert is_read_as(raw({}, {330: (4, (8,))}), SAMPLES[:8, :8, :3])


@pytest.mark.filterwarnings("default")  # Pillow warns of damage
def test_damaged_directories_are_read_or_refused() -> None:
    random = np.random.default_rng(2)
    sound = [raw(), tiff(DEEP[:9, :9, :3], planar=True), tiff(GREY, compressed=True, tile=16)]
    for data, _ in itertools.product(sound, range(150)):
        flipped = bytearray(data)
        flipped[random.integers(len(data))] ^= 1 << int(random.integers(8))
        try:
            read_picture(flipped)
        except ImageError:
            continue
    for data in sound:
        for end in range(0, len(data) - 200, 37):
            refusal(data[:end])
