"""Where the bits of a stream go: the numbers, their sum, the drawing and the command."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import photographs
import pytest
from commands import Command, one_error, pipe_in
from PIL import Image

import stfcodec
from stfcodec import heatmap
from stfcodec.bits import per_position, share_of_top_tenth
from stfcodec.heatmap import Panel
from stfcodec.models import locate, registry

pytestmark = pytest.mark.skipif(
    locate.status(registry.by_name("wacnn-lite")) == "missing", reason="no embedded weights"
)


@pytest.mark.parametrize("model", ["wacnn-lite", "stf-lite"])
@pytest.mark.parametrize("size", [(192, 320), (130, 70), (64, 64), (1, 1)])
@pytest.mark.parametrize("quality", [1, 5.5])
def test_bits_add_up_to_the_file(model: str, size: tuple[int, int], quality: float) -> None:
    data = stfcodec.encode(photographs.crop(size), model=model, quality=quality)
    found = stfcodec.bit_allocation(data)
    rows, columns = (-(-side // 64) for side in size)
    assert found.z.shape == (rows, columns)
    assert found.y.shape == found.positions.shape == (4 * rows, 4 * columns)
    assert found.y.min() >= 0 and found.z.min() > 0
    assert found.positions.sum() == pytest.approx(found.bits, rel=1e-4)
    # What ends the two range coders' streams is all that is missing.
    assert 0 <= len(data) - (found.bits / 8 + found.info.overhead_bytes) <= 16
    if size == (192, 320) and quality == 5.5:
        assert found.bits / 8 + found.info.overhead_bytes == pytest.approx(len(data), rel=0.02)


def test_bits_lie_where_the_picture_is_busy() -> None:
    pixels = np.full((128, 256, 3), 128, np.uint8)
    pixels[64:, 128:] = photographs.photo(128)[:64]
    bits = stfcodec.bit_allocation(stfcodec.encode(pixels, quality=4)).positions
    # Away from the border, which convolutions look across.
    busy, flat = bits[5:, 9:], bits[:3, :7]
    assert busy.mean() > 5 * flat.mean()


def test_bits_of_z_are_spread_evenly() -> None:
    y, z = np.zeros((8, 4), np.float32), np.array([[16], [48]], np.float32)
    expected = np.concatenate([np.ones((4, 4)), np.full((4, 4), 3)])
    assert (per_position(y, z) == expected).all()


def test_share_of_the_top_tenth() -> None:
    bits = np.arange(20.0).reshape(4, 5)
    assert share_of_top_tenth(bits, bits) == pytest.approx((18 + 19) / 190)
    assert share_of_top_tenth(bits, -bits) == pytest.approx(1 / 190)
    assert share_of_top_tenth(np.ones((5, 5)), bits.repeat(2)[:25].reshape(5, 5)) == 3 / 25
    assert share_of_top_tenth(np.zeros((4, 5)), bits) == 0.1


def test_drawing_has_the_colours_of_the_bits() -> None:
    bits = np.zeros((8, 16))
    bits[1, 2], bits[2, 3] = 100, 50
    drawn = heatmap.draw([Panel("title", bits, (256, 100))])
    dark = (np.asarray(drawn) == (4, 4, 24)).all(2)
    top, left = (int(n) for n in np.argwhere(dark)[0])
    corner = np.asarray(drawn.convert("L"))[top : top + 100, left : left + 256]
    cells = corner[:96].reshape(6, 16, 16, 16)
    assert (cells.max((1, 3)) == cells.min((1, 3))).all()
    values = cells[:, 0, :, 0]
    assert values[1, 2] > values[2, 3] > values[0, 0]
    assert values[1, 2] == values.max() > 230


def test_panels_share_one_scale_and_fit_small_and_large_pictures() -> None:
    faint, strong = np.full((4, 4), 10.0), np.full((4, 4), 100.0)
    both = heatmap.draw([Panel("a", faint, (64, 64)), Panel("b", strong, (64, 64))])
    alone = heatmap.draw([Panel("a", faint, (64, 64))])
    assert both.width > 2 * 64
    pixels = np.asarray(alone).reshape(-1, 3).tolist()
    assert [252, 252, 190] in pixels  # the end of the scale is where the bits are
    left = np.asarray(both.convert("L"))[:, : both.width // 2]
    assert np.bincount(left[left < 200]).argmax() < 80
    assert heatmap.draw([Panel("tiny", faint, (1, 1))]).height > 256
    large = heatmap.draw([Panel("large", np.ones((600, 4)), (64, 9600))])
    assert 1000 < large.height < 2400


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(photographs.crop((96, 160))).save(path)
    return path


def test_command_draws_a_picture_and_a_stream_alike(stf: Command, photo: Path) -> None:
    direct, coded = photo.with_name("direct.png"), photo.with_name("coded.png")
    first = stf("heatmap", photo, "-o", direct, "-q", 4)
    assert (first.code, first.out) == (0, b"") and "wacnn-lite quality 4" in first.err
    assert stf("encode", photo, "-q", 4).code == 0
    second = stf("heatmap", photo.with_suffix(".stf"), "-o", coded, "--quiet")
    assert (second.code, second.out, second.err) == (0, b"", "")
    with Image.open(direct) as a, Image.open(coded) as b:
        assert a.mode == "RGB" and a.width >= 160
        assert (np.asarray(a) == np.asarray(b)).all()


def test_command_prints_the_numbers(stf: Command, photo: Path) -> None:
    outcome = stf("heatmap", photo, "--json", "--beside", "stf-lite")
    assert (outcome.code, outcome.err) == (0, "")
    first, second = outcome.records
    assert (first["model"], second["model"]) == ("wacnn-lite", "stf-lite")
    for record in (first, second):
        positions = np.array(record["positions"])
        assert positions.shape == (8, 12) and record["pixels_per_position"] == 16
        assert positions.sum() == pytest.approx(record["bits"], abs=1)
        assert record["bits"] == pytest.approx(record["y_bits"] + record["z_bits"], abs=0.02)


def test_command_compares_two_streams(stf: Command, photo: Path) -> None:
    streams = photo.with_name("a.stf"), photo.with_name("b.stf")
    for stream, quality in zip(streams, (2, 5), strict=True):
        assert stf("encode", photo, "-o", stream, "-q", quality).code == 0
    outcome = stf("heatmap", streams[0], "--beside", streams[1], "--json")
    assert [r["quality"] for r in outcome.records] == [2, 5]
    wide, one = photo.with_name("wide.png"), photo.with_name("one.png")
    assert stf("heatmap", streams[0], "--beside", streams[1], "-o", wide, "--overlay").code == 0
    assert stf("heatmap", streams[0], "-o", one).code == 0
    with Image.open(wide) as two, Image.open(one) as single:
        assert two.width > single.width + 150


def test_command_takes_standard_streams(
    stf: Command, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe_in(monkeypatch, photo.read_bytes())
    outcome = stf("heatmap", "-", "-o", "-", "--quiet")
    with Image.open(io.BytesIO(outcome.out)) as image:
        assert outcome.code == 0 and image.format == "PNG"


def test_command_refuses(stf: Command, photo: Path, tmp_path: Path) -> None:
    stream, target = photo.with_suffix(".stf"), tmp_path / "heat.png"
    assert stf("encode", photo).code == 0
    one_error(stf("heatmap", photo), 2, "-o", "--json")
    one_error(stf("heatmap", photo, "-o", tmp_path / "heat.xyz"), 2, ".xyz", ".png")
    one_error(stf("heatmap", photo, "-o", "-", "--json"), 2, "standard output")
    one_error(stf("heatmap", stream, "-o", target, "-q", 3, "-m", "stf-lite"), 2, "-m, -q")
    one_error(stf("heatmap", stream, "-o", target, "--beside", "stf-lite"), 2, "coded already")
    one_error(stf("heatmap", photo, "-o", target, "--beside", "vtm"), 2, "vtm")
    one_error(stf("heatmap", photo, "-o", target, "-q", 3, "--bpp", 1), 2, "--bpp")
    one_error(stf("heatmap", photo, "-o", target, "--max-pixels", 100), 3, "photo.png")
    stream.write_bytes(stream.read_bytes()[:-9])
    one_error(stf("heatmap", stream, "-o", target), 4, "photo.stf")
    one_error(stf("heatmap", tmp_path / "none.png", "-o", target), 1, "none.png")
    assert not target.exists()


def test_command_keeps_what_is_there(stf: Command, photo: Path) -> None:
    target = photo.with_name("heat.png")
    target.write_bytes(b"mine")
    one_error(stf("heatmap", photo, "-o", target), 2, "--force")
    assert target.read_bytes() == b"mine"
    assert stf("heatmap", photo, "-o", target, "-f").code == 0
    with Image.open(target) as image:
        assert image.format == "PNG"
    small = photo.with_name("small.png")
    Image.new("RGB", (30, 20)).save(small)
    assert stf("encode", small).code == 0
    other = small.with_suffix(".stf")
    one_error(stf("heatmap", photo, "-o", target, "-f", "--beside", other), 2, "160x96", "30x20")


def test_command_never_replaces_an_input(stf: Command, photo: Path) -> None:
    before = photo.read_bytes()
    one_error(stf("heatmap", photo, "-o", photo, "-f"), 2, "photo.png", "is an input")
    link = photo.with_name("link.png")
    assert stf("encode", photo).code == 0
    stream = photo.with_suffix(".stf")
    coded = stream.read_bytes()
    link.symlink_to(stream)
    one_error(stf("heatmap", stream, "-o", link, "-f"), 2, "is an input")
    one_error(stf("heatmap", photo, "-o", link, "-f", "--beside", stream), 2, "is an input")
    assert photo.read_bytes() == before and stream.read_bytes() == coded


@pytest.mark.skipif(os.name == "nt", reason="no permission bits")
def test_map_is_as_private_as_its_source(stf: Command, photo: Path) -> None:
    photo.chmod(0o600)
    target = photo.with_name("heat.png")
    assert stf("heatmap", photo, "-o", target, "--overlay").code == 0
    assert target.stat().st_mode & 0o777 == 0o600


def test_command_warns_as_encode_does(stf: Command, photo: Path) -> None:
    inks = photo.with_name("inks.jpg")
    Image.new("CMYK", (30, 20)).save(inks)
    warning = stf("encode", inks).err.splitlines()[0]
    assert "CMYK" in warning
    target = photo.with_name("heat.png")
    assert warning in stf("heatmap", inks, "-o", target).err.splitlines()
    assert stf("heatmap", inks, "-o", target, "-f", "--quiet").err == ""


def test_output_may_be_a_folder(stf: Command, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    folder.mkdir()
    assert stf("encode", photo).code == 0
    assert stf("heatmap", photo.with_suffix(".stf"), "-o", folder, "--quiet").code == 0
    assert [p.name for p in folder.iterdir()] == ["photo.png"]
    missing = tmp_path / "none" / "heat.png"
    one_error(stf("heatmap", photo, "-o", missing), 2, "does not exist")
    one_error(stf("heatmap", folder, "-o", tmp_path / "h.png"), 2, "folder")
    one_error(stf("heatmap", photo, "-o", tmp_path / "h.png", "--psnr", 70), 1, "photo.png")


def test_json_is_one_object_a_map(stf: Command, photo: Path) -> None:
    (line,) = stf("heatmap", photo, "--json").out.splitlines()
    record = json.loads(line)
    assert record["input"] == str(photo) and record["width"] == 160 and record["height"] == 96
