"""What alpha hides decides nothing; opaque alpha is no obstacle; a background flattens."""

from __future__ import annotations

import io
from dataclasses import replace

import images
import numpy as np
import pytest
from PIL import Image, ImageCms, features
from reading import written

import stfcodec
from stfcodec.errors import ImageError, UsageError
from stfcodec.imageio import (
    Picture,
    on_background,
    parse_colour,
    read_picture,
    without_hidden_colours,
    without_metadata,
)

HEIGHT, WIDTH = 90, 130
needs_littlecms = pytest.mark.skipif(
    not features.check("littlecms2"), reason="Pillow without littlecms2"
)


def disc(hidden: np.ndarray | None = None, gray: bool = False) -> Picture:
    """A patterned disc with a soft edge, the colours in `hidden` around it."""
    y, x, c = np.mgrid[:HEIGHT, :WIDTH, :3]
    radius = np.hypot(y - 45, x - 60)
    pixels = (120 + 40 * np.sin(x / 9) + 40 * np.cos(y / 7) + (0 if gray else 20) * c).astype("u1")
    alpha = np.clip((35 - radius[..., 0]) * 64 + 128, 0, 255).astype(np.uint8)
    if hidden is not None:
        pixels = np.where(alpha[..., None] == 0, hidden, pixels).astype(np.uint8)
    return Picture(pixels, gray=gray, alpha=alpha)


NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3))
GREEN = np.broadcast_to([0, 255, 0], (HEIGHT, WIDTH, 3))


# Colours under alpha 0


@pytest.mark.parametrize("hidden", [NOISE, GREEN, None])
@pytest.mark.parametrize("gray", [False, True])
def test_hidden_colours_decide_nothing(hidden: np.ndarray | None, gray: bool) -> None:
    if hidden is not None and gray:
        hidden = hidden[..., 1:2].repeat(3, axis=2)
    picture = disc(hidden, gray)
    before = picture.pixels.copy()
    filled = without_hidden_colours(picture)
    seen = picture.alpha > 0
    assert np.array_equal(filled.pixels[seen], before[seen])
    assert np.array_equal(picture.pixels, before) and filled.alpha is picture.alpha
    assert np.array_equal(filled.pixels, without_hidden_colours(disc(GREEN, gray)).pixels) or gray
    black = without_hidden_colours(disc(np.zeros((HEIGHT, WIDTH, 3)), gray))
    assert np.array_equal(filled.pixels, black.pixels)
    if gray:
        assert (filled.pixels == filled.pixels[..., :1]).all()


def test_the_filling_goes_on_from_the_edge_and_is_smooth() -> None:
    filled = without_hidden_colours(disc(NOISE)).pixels.astype(int)
    whole = disc().pixels.astype(int)
    alpha = disc().alpha
    near = (alpha == 0) & (np.roll(alpha, 1, axis=1) > 0)
    assert np.abs(filled - whole)[near].max() < 24
    hidden = (alpha == 0)[:, :-1]
    assert np.abs(np.diff(filled, axis=1))[hidden].max() < 32
    assert whole.min() <= filled.min() and filled.max() <= whole.max()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (3, 2), (17, 64)])
def test_one_seen_pixel_fills_all(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)
    alpha = np.zeros(shape, np.uint8)
    assert not without_hidden_colours(Picture(pixels, alpha=alpha)).pixels.any()
    pixels[-1, 0], alpha[-1, 0] = (10, 200, 30), 1
    filled = without_hidden_colours(Picture(pixels, alpha=alpha)).pixels
    assert (filled == (10, 200, 30)).all()


def test_streams_do_not_depend_on_hidden_colours() -> None:
    streams = {stfcodec.encode(disc(hidden), quality=6) for hidden in (NOISE, GREEN, None)}
    assert len(streams) == 1
    clear = [
        stfcodec.encode(Picture(pixels.astype(np.uint8), alpha=np.zeros((HEIGHT, WIDTH), np.uint8)))
        for pixels in (NOISE, GREEN)
    ]
    assert clear[0] == clear[1]


def test_a_hidden_colour_does_not_bleed_into_the_edge() -> None:
    picture = disc(GREEN)
    decoded = stfcodec.decode_picture(stfcodec.encode(picture, quality=6))
    assert np.array_equal(decoded.alpha, picture.alpha)
    edge = picture.alpha == 255
    edge &= np.hypot(*(np.mgrid[:HEIGHT, :WIDTH] - np.array([45, 60])[:, None, None])) > 30
    errors = decoded.pixels[edge].astype(float) - picture.pixels[edge]
    assert np.sqrt((errors**2).mean()) < 3


def test_a_picture_that_nobody_can_see_is_noted() -> None:
    picture = read_picture(np.zeros((4, 5, 4), np.uint8))
    assert len(picture.notes) == 1 and "transparent everywhere" in picture.notes[0]
    assert read_picture(images.pixels(channels=4)).notes == ()


# Opaque alpha


def test_opaque_alpha_is_not_coded() -> None:
    rgb = images.pixels(20, 30)
    opaque = np.dstack([rgb, np.full((20, 30), 255, np.uint8)])
    assert stfcodec.encode(opaque) == stfcodec.encode(rgb)
    opaque[3, 4, 3] = 254
    assert stfcodec.decode(stfcodec.encode(opaque)).mode == "RGBA"


@pytest.mark.parametrize("format", ["JPEG", "BMP", "PPM"])
def test_opaque_alpha_is_no_obstacle(format: str) -> None:
    """As streams of earlier versions have it."""
    alpha = np.full((6, 9), 255, np.uint8)
    for channels in (1, 3):
        picture = read_picture(images.pixels(channels=channels))
        assert written(replace(picture, alpha=alpha), format) == written(picture, format)
    alpha[0, 0] = 254
    with pytest.raises(ImageError, match=r"no transparency: write one of PNG.* --background"):
        written(replace(picture, alpha=alpha), format)


# Background


@pytest.mark.parametrize("text", ["red", "RED", "#f00", "#ff0000", "rgb(255,0,0)", "#ff0000ff"])
def test_colours(text: str) -> None:
    assert parse_colour(text) == (255, 0, 0)


@pytest.mark.parametrize("text", ["", "rde", "#ff", "#ff00000", "255,0,0", "#gggggg"])
def test_unknown_colours(text: str) -> None:
    with pytest.raises(UsageError, match="give a CSS name, #rgb or #rrggbb"):
        parse_colour(text)
    with pytest.raises(UsageError, match="background"):
        stfcodec.decode(b"never looked at", background=text)


@pytest.mark.parametrize("text", ["rgb(300,0,0)", "rgb(0,99999,0)", "hsl(0,100%,300%)"])
def test_colours_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="above 255"):
        parse_colour(text)


def test_transparent_backgrounds_are_refused() -> None:
    with pytest.raises(UsageError, match="not opaque"):
        parse_colour("#ff000080")


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (255, 99, 71)])
def test_pixels_are_mixed_as_stored(colour: tuple[int, int, int]) -> None:
    y, x = np.mgrid[:256, :256]
    picture = Picture(np.dstack([x, 255 - x, x // 2]).astype(np.uint8), alpha=y.astype(np.uint8))
    flat = on_background(picture, "#{:02x}{:02x}{:02x}".format(*colour))
    share = picture.alpha[..., None] / 255
    expected = picture.pixels * share + np.array(colour) * (1 - share)
    assert np.abs(flat.pixels - expected).max() <= 0.5 + 1e-9
    assert flat.alpha is None and not flat.gray and flat.pixels.dtype == np.uint8


def test_grey_stays_grey_on_grey() -> None:
    picture = disc(gray=True)
    assert on_background(picture, "white").gray and on_background(picture, "#777").gray
    red = on_background(picture, "red")
    assert not red.gray and red.pixels[0, 0].tolist() == [255, 0, 0]


def test_what_is_opaque_has_no_background() -> None:
    picture = read_picture(images.pixels())
    opaque = replace(picture, alpha=np.full((6, 9), 255, np.uint8))
    for one in (picture, opaque):
        flat = on_background(one, "red")
        assert flat.alpha is None and np.array_equal(flat.pixels, picture.pixels)


@needs_littlecms
def test_the_background_is_a_colour_of_srgb_whatever_the_profile() -> None:
    grey = replace(disc(gray=True), icc=images.grey_profile(1.8))
    for colour, is_gray in (("#808080", True), ("tomato", False)):
        flat = on_background(grey, colour)
        assert flat.gray == is_gray and flat.icc[16:20] == (b"GRAY" if is_gray else b"RGB ")
        pixel = flat.pixels[:1, :1, 0] if is_gray else flat.pixels[:1, :1]
        profile = ImageCms.ImageCmsProfile(io.BytesIO(flat.icc))
        shown = ImageCms.profileToProfile(
            Image.fromarray(pixel), profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        assert np.abs(np.asarray(shown)[0, 0].astype(int) - parse_colour(colour)).max() <= 2
    unusable = on_background(replace(disc(), icc=b"profile" * 30), "tomato")
    assert unusable.pixels[0, 0].tolist() == [255, 99, 71]


def test_background_and_strip_of_the_api() -> None:
    picture = replace(disc(), icc=images.srgb_profile(), xmp=b"<x/>")
    data = stfcodec.encode(picture)
    image = stfcodec.decode(data, background="#00f", strip=True)
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (0, 0, 255) and not image.info
    plain = stfcodec.decode_picture(data)
    assert plain.alpha is not None and plain.icc == picture.icc and plain.xmp == b"<x/>"
    assert stfcodec.decode(data, background="blue").info["icc_profile"] == picture.icc


# Metadata left out


@needs_littlecms
def test_stripping_a_profile_of_other_colours_is_noted() -> None:
    rgb, grey = read_picture(images.pixels()), read_picture(images.pixels(channels=1))
    silent = (
        replace(rgb, icc=images.srgb_profile()),
        replace(rgb, exif=b"MM\0*", xmp=b"<x/>"),
        replace(rgb, icc=b"profile" * 30),
        rgb,
    )
    for picture in silent:
        stripped = without_metadata(picture)
        assert (stripped.icc, stripped.exif, stripped.xmp, stripped.notes) == (None, None, None, ())
    for picture in (
        replace(grey, icc=images.grey_profile(1.8)),
        replace(rgb, icc=images.rgb_profile(1.0)),
    ):
        (note,) = without_metadata(picture).notes
        assert "taken for sRGB" in note
