"""Pictures through the whole codec: any size, any kind, exact latents, damage found."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import MATERIAL, PHOTOGRAPH, crop
from PIL import Image

import stfcodec
from stfcodec import api, container, tiling
from stfcodec.batch import explain
from stfcodec.codec import codec_for
from stfcodec.imageio import Picture
from stfcodec.limits import Limits
from stfcodec.metrics import psnr
from stfcodec.models import integer_layers, locate, registry, weights
from stfcodec.models.base import CompressionModel
from stfcodec.models.build import build
from stfcodec.models.calibrate import quantise

KODAK = MATERIAL / "data" / "kodak"
LITE = ("wacnn-lite", "stf-lite")
PEAK = """
import sys
from benchmarks.memory import peak_memory
from stfcodec.cli.main import main
assert main(sys.argv[1:]) == 0
print(peak_memory())
"""


def save_coding(model: CompressionModel, path: Path) -> None:
    """Weights with an integer form, fitted to one small crop."""
    model.update()
    model.integer = quantise(model, [torch.from_numpy(crop((64, 64))).permute(2, 0, 1)[None] / 255])
    weights.save(model, path)


@pytest.mark.parametrize("model", LITE)
def test_photograph_comes_back(model: str) -> None:
    original = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))
    sizes, qualities = [], []
    for quality in (1, 3.5, 6):
        data = stfcodec.encode(PHOTOGRAPH, model=model, quality=quality)
        info = stfcodec.info(data)
        assert (info.width, info.height, info.quality) == (768, 512, quality)
        assert info.overhead_bytes <= 48
        sizes.append(len(data))
        qualities.append(psnr(original, np.asarray(stfcodec.decode(data))))
    assert sizes == sorted(sizes)
    assert qualities == sorted(qualities)
    assert qualities[0] > 28
    assert qualities[-1] > 33


@pytest.mark.parametrize("size", [(1, 1), (1, 513), (65, 64), (131, 257), (7, 300)])
def test_any_size(size: tuple[int, int]) -> None:
    pixels = crop(size)
    decoded = np.asarray(stfcodec.decode(stfcodec.encode(pixels, quality=4)))
    assert decoded.shape == pixels.shape
    assert psnr(pixels, decoded) > 24


def test_planes_and_metadata_are_kept() -> None:
    pixels = crop((48, 80))
    grey = pixels[..., :1].repeat(3, 2)
    alpha = np.arange(48 * 80, dtype=np.uint16).reshape(48, 80).astype(np.uint8)
    picture = Picture(grey, gray=True, alpha=alpha, icc=b"p" * 200, exif=b"MM\0*", xmp=b"<x/>")
    decoded = api.decode_picture(api.encode(picture))
    assert decoded.gray
    assert (decoded.pixels[..., 0] == decoded.pixels[..., 2]).all()
    assert np.array_equal(decoded.alpha, alpha)
    assert (decoded.icc, decoded.exif, decoded.xmp) == (picture.icc, picture.exif, picture.xmp)
    assert stfcodec.decode(api.encode(picture)).mode == "LA"


@pytest.mark.parametrize("model", LITE)
def test_threads_do_not_change_the_stream(model: str) -> None:
    pixels = crop((192, 256))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = stfcodec.encode(pixels, model=model)
        torch.set_num_threads(2)
        two = np.asarray(stfcodec.decode(one))
        torch.set_num_threads(1)
        error = np.abs(two.astype(int) - np.asarray(stfcodec.decode(one)).astype(int))
        # Processors sum bfloat16 products in another order with another number of threads.
        assert error.max() <= 6
        assert error.mean() < 0.5
    finally:
        torch.set_num_threads(before)


def test_damaged_latents_are_found() -> None:
    """A stream whose CRCs are right but whose symbols are not: only the checksum can tell."""
    stream = container.read(stfcodec.encode(crop((128, 128))))
    for field in ("y", "z"):
        data = bytearray(getattr(stream, field))
        data[len(data) // 2] ^= 0x10
        broken = container.Stream(
            **{**stream.__dict__, field: bytes(data)},
        )
        with pytest.raises(stfcodec.StreamError):
            stfcodec.decode(container.write(broken))


def test_other_weights_are_refused(tmp_path: Path) -> None:
    data = stfcodec.encode(crop((64, 64)))
    other = tmp_path / "other.safetensors"
    save_coding(build(registry.by_name("wacnn-lite")), other)
    with pytest.raises(stfcodec.WeightsError, match="needs weights"):
        stfcodec.decode(data, weights=other)


@pytest.mark.slow
def test_paper_size_models_code_with_a_checkpoint(tmp_path: Path) -> None:
    """The path that the authors' checkpoints take, here with initial weights."""
    torch.manual_seed(0)
    checkpoint, path = tmp_path / "wacnn.pth.tar", tmp_path / "wacnn-q2.safetensors"
    torch.save({"state_dict": build(registry.by_name("wacnn")).state_dict()}, checkpoint)
    save_coding(weights.load(registry.by_name("wacnn"), checkpoint), path)
    data = stfcodec.encode(crop((64, 64)), model="wacnn", quality=2, weights=path)
    assert stfcodec.info(data).model_id == 3
    assert stfcodec.decode(data, weights=path).size == (64, 64)
    with pytest.raises(stfcodec.UsageError, match="whole qualities"):
        stfcodec.encode(crop((64, 64)), model="wacnn", quality=2.5, weights=path)


def test_usage_is_checked() -> None:
    with pytest.raises(stfcodec.UsageError, match="unknown model"):
        stfcodec.encode(crop((8, 8)), model="jpeg")
    with pytest.raises(stfcodec.UsageError, match="outside 1…6"):
        stfcodec.encode(crop((8, 8)), quality=7)
    with pytest.raises(stfcodec.ImageError):
        stfcodec.encode(np.zeros((8, 8, 3), np.float32))
    if not torch.cuda.is_available():
        with pytest.raises(stfcodec.UsageError, match="no CUDA device"):
            stfcodec.encode(crop((8, 8)), device="cuda")


def test_variable_rate_is_geometric() -> None:
    """A fractional quality lies between its neighbours, in gain and in bytes."""
    codec = codec_for(registry.by_name("wacnn-lite"), 3)
    y = torch.zeros(1, 224, 4, 4)
    with torch.no_grad():
        gains = [codec.model.gains(q, y)[0] for q in (3.0, 3.5, 4.0)]
    torch.testing.assert_close(gains[1], (gains[0] * gains[2]).sqrt())
    sizes = [len(stfcodec.encode(crop((128, 192)), quality=q)) for q in (3, 3.5, 4)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.slow
@pytest.mark.parametrize("model", LITE)
def test_tiles_leave_no_seams(model: str) -> None:
    """By tiles far smaller than in use, both transforms give what they give in one piece."""
    network = weights.load(registry.by_name(model), locate.find(registry.by_name(model), 3))
    x = torch.from_numpy(crop((1152, 832))).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        y = network.analysis(x, 4.5)
        tiled = tiling.run(network.analysis_stages(4.5), x, core=64)
        torch.testing.assert_close(tiled, y, rtol=1e-4, atol=1e-4)
        x_hat = network.synthesis(y, 4.5)
        tiled = tiling.run(network.synthesis_stages(4.5), y, core=64)
        torch.testing.assert_close(tiled, x_hat, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", LITE)
def test_strips_leave_the_stream(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = crop((192, 256))
    whole = stfcodec.encode(pixels, model=model)
    monkeypatch.setattr(integer_layers, "STRIP", 40)
    assert stfcodec.encode(pixels, model=model) == whole
    assert stfcodec.decode(whole).size == (256, 192)


def test_bfloat16_costs_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated where the CPU has no instructions for it: slower, with the same results."""
    pixels = crop((256, 384))
    found = {}
    for precision in ("float32", "bfloat16"):
        monkeypatch.setenv("STFCODEC_PRECISION", precision)
        data = stfcodec.encode(pixels, quality=6)
        found[precision] = len(data), psnr(pixels, np.asarray(stfcodec.decode(data)))
    (size, quality), (size_low, quality_low) = found.values()
    assert size_low == pytest.approx(size, rel=0.005)
    assert quality_low > quality - 0.15  # dB, at the quality where rounding shows most


def test_precisions_decode_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    data = stfcodec.encode(crop((128, 192)))
    decoded = []
    for precision in ("float32", "bfloat16"):
        monkeypatch.setenv("STFCODEC_PRECISION", precision)
        decoded.append(np.asarray(stfcodec.decode(data)).astype(int))
    difference = np.abs(decoded[0] - decoded[1])
    assert difference.max() <= 2  # docs/faq.md has the numbers of whole pictures
    assert (difference > 1).mean() < 1e-4
    monkeypatch.setenv("STFCODEC_PRECISION", "float16")
    with pytest.raises(stfcodec.UsageError, match="choose auto, float32 or bfloat16"):
        stfcodec.decode(data)


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    """Twelve megapixels each way below 2 GiB, with torch's own third of one."""
    source, coded = tmp_path / "large.ppm", tmp_path / "large.stf"
    Image.fromarray(crop((3000, 4000))).save(source)
    for command, path, target in (
        ("encode", source, coded),
        ("decode", coded, tmp_path / "back.ppm"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, command, str(path), "-o", str(target), "--quiet"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(done.stdout) < 2 << 30, command


@pytest.mark.skipif(not KODAK.is_dir(), reason="no Kodak pictures beside the checkout")
@pytest.mark.parametrize("model", LITE)
def test_kodak_decodes_exactly(model: str) -> None:
    """Ten photographs at different qualities: every checksum holds, every picture is the one."""
    for i, path in enumerate(sorted(KODAK.glob("*.png"))[::5]):
        original = np.asarray(Image.open(path).convert("RGB"))
        data = stfcodec.encode(path, model=model, quality=1 + i)
        assert psnr(original, np.asarray(stfcodec.decode(data))) > 22


FLAT = {3: 4, 6: 3}
"""Levels, by quality; two are wanted: training on flat rectangles brings it down."""

COLOURS = [(255, 255, 255), (0, 0, 0), (128, 128, 128), (255, 0, 255), (30, 90, 200)]


@pytest.mark.parametrize("size", [(1, 1), (40, 50), (200, 333)])
@pytest.mark.parametrize("colour", COLOURS)
def test_flat_pictures_stay_flat(colour: tuple[int, int, int], size: tuple[int, int]) -> None:
    """Borders and corners included, whatever the picture is padded to."""
    picture = np.empty((*size, 3), np.uint8)
    picture[:] = colour
    for quality in (3, 6):
        decoded = np.asarray(stfcodec.decode(stfcodec.encode(picture, quality=quality)))
        assert np.abs(decoded.astype(int) - colour).max() <= FLAT[quality]


@pytest.mark.slow
@pytest.mark.parametrize("quality", [3, 6])
def test_flat_colours_of_all_kinds(quality: int) -> None:
    """Over the cube of colours, its corners included; half of them within 2 levels."""
    errors = []
    for colour in product((0, 64, 128, 192, 255), repeat=3):
        picture = np.full((64, 64, 3), colour, np.uint8)
        decoded = np.asarray(stfcodec.decode(stfcodec.encode(picture, quality=quality)))
        errors.append(np.abs(decoded.astype(int) - colour).max())
    assert max(errors) <= FLAT[quality]
    assert np.median(errors) <= 2


def test_white_stays_white() -> None:
    """Around an object on a white ground."""
    rows, cols = np.mgrid[:256, :320]
    distance = np.hypot(rows - 128, cols - 160)
    picture = np.full((256, 320, 3), 255, np.uint8)
    picture[distance < 80] = 150, 110, 80
    for quality in (3, 6):
        decoded = np.asarray(stfcodec.decode(stfcodec.encode(picture, quality=quality)))
        ground = decoded[distance > 95]
        assert ground.min() >= 253


# --------------------------------------------------------------------------- limits, verification


def test_sizes_that_the_bytes_cannot_hold_are_refused_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before any memory is taken for them: no network runs."""
    stream = container.read(stfcodec.encode(crop((64, 64))))
    large = replace(stream, header=replace(stream.header, width=11_000, height=11_000))

    def run(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(CompressionModel, "decode_symbols", run, raising=False)
    with pytest.raises(stfcodec.StreamError, match="bytes of hyper-latents cannot be a picture"):
        stfcodec.decode(container.write(large))


def test_limits_hold_in_both_directions() -> None:
    pixels = crop((65, 64))
    data = stfcodec.encode(pixels, limits=Limits(pixels=128 * 64))
    tight = Limits(pixels=128 * 64 - 1)
    with pytest.raises(stfcodec.ImageError, match="8192 once padded, are over the limit of 8191"):
        stfcodec.encode(pixels, limits=tight)
    with pytest.raises(stfcodec.ImageError, match="over the limit"):
        stfcodec.encode(Picture(pixels), limits=tight)
    with pytest.raises(stfcodec.StreamError, match="over the limit"):
        stfcodec.decode(data, limits=tight)
    assert stfcodec.decode(data, limits=Limits(pixels=128 * 64)).size == (64, 65)


def test_a_bug_is_not_the_pictures_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a symbol is outside")

    monkeypatch.setattr(CompressionModel, "compress", broken)
    with pytest.raises(ValueError, match="a symbol is outside") as found:
        stfcodec.encode(crop((8, 8)))
    failure = explain(found.value)
    assert failure.exit_code == 1
    assert "this is a bug" in failure.message


def test_verification_finds_what_does_not_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a bit that a faulty machine turned between the coder and the file."""
    pixels = crop((64, 96))
    assert stfcodec.encode(pixels, verify=True) == stfcodec.encode(pixels)
    compress = CompressionModel.compress

    def faulty(self: CompressionModel, *args: object) -> object:
        coded = compress(self, *args)
        y = bytearray(coded.y)
        y[len(y) // 2] ^= 4
        return coded._replace(y=bytes(y))

    monkeypatch.setattr(CompressionModel, "compress", faulty)
    with pytest.raises(stfcodec.StfError, match=r"does not decode .*nothing was written") as found:
        stfcodec.encode(pixels, verify=True)
    assert type(found.value) is stfcodec.StfError
