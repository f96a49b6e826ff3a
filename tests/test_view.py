"""Parts and reduced copies: what they show, what they cost, and views that no picture has."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import HEIGHT, WIDTH, Command, one_error
from photographs import crop as photograph
from PIL import Image

import stfcodec
from stfcodec import api, tiling
from stfcodec.codec import Codec, codec_for
from stfcodec.errors import UsageError
from stfcodec.metrics import psnr
from stfcodec.models import registry
from stfcodec.models.base import Stage
from stfcodec.models.build import build
from stfcodec.view import View

SIZE = (300, 420)
CROPS = [(0, 0, 420, 300), (0, 0, 1, 1), (419, 299, 1, 1), (130, 70, 64, 50), (3, 0, 9, 300)]


def part(pixels: np.ndarray, crop: tuple[int, int, int, int]) -> np.ndarray:
    left, top, width, height = crop
    return pixels[top : top + height, left : left + width]


def means(pixels: np.ndarray, divisor: int) -> np.ndarray:
    """Means of whole squares, float (⌊H/divisor⌋, ⌊W/divisor⌋, 3)."""
    height, width = (side // divisor for side in pixels.shape[:2])
    blocks = pixels[: height * divisor, : width * divisor]
    return blocks.reshape(height, divisor, width, divisor, 3).mean((1, 3))


@pytest.fixture(scope="module")
def data() -> bytes:
    return api.encode(photograph(SIZE), quality=4)


@pytest.mark.parametrize("crop", CROPS)
def test_a_crop_is_that_part_of_the_picture(data: bytes, crop: tuple[int, int, int, int]) -> None:
    whole = api.decode_picture(data).pixels.astype(int)
    found = api.decode_picture(data, crop=crop).pixels
    assert found.shape == (crop[3], crop[2], 3) and found.flags["C_CONTIGUOUS"]
    assert np.abs(found - part(whole, crop)).max() <= 1  # floats may differ in their last bits


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wacnn", "stf"])
def test_a_crop_of_the_published_networks(name: str) -> None:
    torch.manual_seed(0)
    model = build(registry.by_name(name)).eval()
    stages = model.synthesis_stages(3.0)
    y_hat = torch.randn(1, 320 if name == "wacnn" else 384, 44, 4)
    with torch.inference_mode():
        whole = tiling.run(stages, y_hat, 1 << 20)
        found, rows, _ = tiling.run_part(stages, y_hat, 1 << 20, slice(450, 500), slice(0, 64))
    assert 0 < rows.start <= 450 - sum(stage.margin for stage in stages)
    assert found.shape[2:] == (rows.stop - rows.start, 64)
    kept = slice(450 - rows.start, 500 - rows.start)
    assert torch.allclose(found[:, :, kept], whole[:, :, 450:500], atol=1e-4)


def test_a_crop_takes_the_tiles_it_needs(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = codec_for(registry.by_name("wacnn-lite"), 4.0)
    seen: list[int] = []
    run_part = tiling.run_part

    def counting(stages: list[Stage], y_hat: torch.Tensor, *arguments: object) -> object:
        found = run_part(stages, y_hat, *arguments)  # type: ignore[arg-type]
        seen.append(found[0].shape[2] * found[0].shape[3])
        return found

    monkeypatch.setattr(tiling, "run_part", counting)
    assert isinstance(codec, Codec)
    wide = api.encode(photograph((100, 100)).repeat(16, axis=1), quality=4)
    api.decode_picture(wide, crop=(800, 20, 10, 10))
    assert seen == [128 * (960 - 640)]  # of 128 × 1664


@pytest.mark.parametrize("divisor", [2, 4])
def test_halves_and_quarters_are_means(data: bytes, divisor: int) -> None:
    whole = api.decode_picture(data).pixels
    found = api.decode_picture(data, scale=Fraction(1, divisor)).pixels
    assert found.shape == (-(-300 // divisor), -(-420 // divisor), 3)
    expected = means(whole, divisor)
    assert np.abs(found[: len(expected), : expected.shape[1]] - expected).max() <= 1


@pytest.mark.parametrize("divisor", [8, 16])
def test_eighths_come_from_the_linear_path(divisor: int) -> None:
    source = photograph((320, 448))
    data = api.encode(source, quality=4)
    found = api.decode_picture(data, scale=1 / divisor).pixels
    expected = np.rint(means(source, divisor)).astype(np.uint8)
    assert found.shape == expected.shape
    assert psnr(found, expected) > 34


@pytest.mark.parametrize("model", ["wacnn-lite", "stf-lite"])
@pytest.mark.parametrize("colour", [(250, 250, 250), (200, 60, 40), (30, 90, 180), (0, 0, 0)])
def test_flat_colours_stay_in_previews(model: str, colour: tuple[int, int, int]) -> None:
    data = api.encode(np.full((128, 128, 3), colour, np.uint8), model=model)
    whole = api.decode_picture(data).pixels
    for divisor in (2, 8, 16):
        found = api.decode_picture(data, scale=1 / divisor).pixels
        assert np.abs(found.mean((0, 1)) - whole.mean((0, 1))).max() <= 1
        assert np.abs(found - means(whole, divisor)).max() <= 4  # at borders


def test_models_without_a_linear_path_decode_whole_and_take_means() -> None:
    torch.manual_seed(0)
    model = build(registry.by_name("stf")).eval()
    y_hat = torch.randn(1, 384, 8, 8)
    with torch.inference_mode():
        x_hat = model.synthesis(y_hat).clamp(0, 1)
        for stage in model.scaled_synthesis_stages(6.0, 8):
            y_hat = stage.run(y_hat)
    expected = x_hat.reshape(1, 3, 16, 8, 16, 8).mean((3, 5))
    assert torch.allclose(y_hat, expected, atol=1e-5)


@pytest.mark.parametrize("divisor", [1, 2, 8])
def test_scaled_crops_lie_on_the_grid_of_the_scaled_picture(data: bytes, divisor: int) -> None:
    whole = api.decode_picture(data, scale=1 / divisor).pixels.astype(int)
    found = api.decode_picture(data, scale=1 / divisor, crop=(101, 53, 30, 41)).pixels
    rows = slice(53 // divisor, -(-94 // divisor))
    cols = slice(101 // divisor, -(-131 // divisor))
    expected = whole[rows, cols]
    assert found.shape == expected.shape and np.abs(found - expected).max() <= 1


def test_alpha_and_grey_in_a_view() -> None:
    rgba = np.dstack([photograph((70, 90)), np.arange(6300).reshape(70, 90) % 256]).astype(np.uint8)
    data = api.encode(rgba)
    found = api.decode_picture(data, crop=(11, 13, 20, 30))
    assert found.alpha is not None
    assert np.array_equal(found.alpha, rgba[13:43, 11:31, 3])
    half = api.decode_picture(data, scale=0.5).alpha
    assert half is not None and half.shape == (35, 45)
    blocks = rgba[..., 3].reshape(35, 2, 45, 2).mean((1, 3))
    assert np.abs(half - blocks).max() <= 0.5
    grey = api.decode(api.encode(rgba[..., 0]), scale=1 / 8, crop=(0, 0, 70, 70))
    assert grey.mode == "L" and grey.size == (9, 9)


def test_metadata_state_the_size_of_the_view() -> None:
    image = Image.fromarray(photograph((64, 96)))
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0xA002: 96, 0xA003: 64})
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    part = api.decode(api.encode(buffer.getvalue()), crop=(1, 2, 33, 44))
    directory = Image.Exif()
    directory.load(part.info["exif"])
    assert directory.get_ifd(0x8769) == {0xA002: 33, 0xA003: 44}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": 1 / 3}, "choose 1/2, 1/4, 1/8 or 1/16"),
        ({"scale": 0}, "choose 1/2, 1/4, 1/8 or 1/16"),
        ({"scale": 2}, "choose 1/2, 1/4, 1/8 or 1/16"),
        ({"crop": (0, 0, 421, 300)}, "crop 0,0,421,300 reaches beyond the picture of 420x300"),
        ({"crop": (420, 0, 1, 1)}, "reaches beyond"),
        ({"crop": (-1, 0, 5, 5)}, "below 0"),
        ({"crop": (0, 0, 0, 5)}, "a side below 1"),
        ({"crop": (0, 0, 5)}, "four whole numbers"),
        ({"crop": (0, 0, 5.0, 5)}, "four whole numbers"),
        ({"depth": 10}, "choose 8 or 16"),
    ],
)
def test_views_that_no_picture_has(data: bytes, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        api.decode_picture(data, **arguments)  # type: ignore[arg-type]
    assert View().spans(420, 300) == (slice(0, 300), slice(0, 420))


# The command line


def test_decode_writes_a_view(stf: Command, coded: Path) -> None:
    out = coded.with_name("part.png")
    assert stf("decode", coded, "-o", out, "--crop", "5,6,20,12").code == 0
    whole = stfcodec.decode(coded)
    with Image.open(out) as found:
        assert found.size == (20, 12)
        difference = np.asarray(found, int) - np.asarray(whole, int)[6:18, 5:25]
        assert np.abs(difference).max() <= 1
    assert stf("decode", coded, "-o", out, "-f", "--scale", "1/8").code == 0
    with Image.open(out) as found:
        assert found.size == (-(-WIDTH // 8), -(-HEIGHT // 8))


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--crop", "0,0,5000,12", "crop 0,0,5000,12 reaches beyond the picture of 50x34 pixels"),
        ("--crop", "0,0,50", "give X,Y,WIDTH,HEIGHT in pixels, such as 0,0,512,512"),
        ("--crop", "a,b,c,d", "give X,Y,WIDTH,HEIGHT"),
        ("--crop", "0,0,-1,3", "a side below 1"),
        ("--scale", "1/3", "choose 1/2, 1/4, 1/8 or 1/16"),
        ("--scale", "1/0", "choose 1/2, 1/4, 1/8 or 1/16"),
        ("--scale", "small", "choose 1/2, 1/4, 1/8 or 1/16"),
    ],
)
def test_one_line_for_a_view_that_cannot_be(
    stf: Command, coded: Path, option: str, value: str, words: str
) -> None:
    out = coded.with_name("part.png")
    outcome = stf("decode", coded, "-o", out, option, value)
    one_error(outcome, 2, words)
    assert not out.exists()


def test_a_scale_in_decimals(stf: Command, coded: Path) -> None:
    out = coded.with_name("part.png")
    assert stf("decode", coded, "-o", out, "--scale", "0.25").code == 0
    with Image.open(out) as found:
        assert found.size == (13, 9)
