"""The entropy networks' integer arithmetic is exact: equal on every machine, and proved to be.

The tests use a small model in the published layout; test_lite.py covers the lite models.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from small import SMALL
from test_codec import crop
from torch import Tensor, nn

import stfcodec
from benchmarks import crosscheck, crosscheck_streams
from benchmarks.untrained_models import random_model
from stfcodec import container
from stfcodec.cli import quantize
from stfcodec.codec import Codec, codec_for
from stfcodec.errors import StreamError, WeightsError
from stfcodec.imageio import read_picture
from stfcodec.metrics import bd_rate
from stfcodec.models import (
    integer_backends,
    integer_entropy,
    integer_layers,
    locate,
    registry,
    weights,
)
from stfcodec.models.base import CompressionModel
from stfcodec.models.build import build
from stfcodec.models.integer_backends import (
    BOUND,
    Backend,
    FloatBackend,
    Int8Backend,
    Kernel,
    ReferenceBackend,
    SumFunction,
    best_backend,
)
from stfcodec.models.integer_cost import compare_bits, curves, summary
from stfcodec.models.integer_entropy import MEAN_DENOMINATOR, REPLACED_NETWORKS, IntegerEntropy
from stfcodec.models.integer_layers import IntegerConv, LinearConv, TableConv

INFO = SMALL
LITE = registry.by_name("wacnn-lite")
BACKENDS = {
    "float": FloatBackend(),
    "int8": Int8Backend(),
    "int8-aligned": Int8Backend(aligned=True),
    "reference": ReferenceBackend(),
}
every_backend = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
on_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device here: CUDA's sums are not compared"
)


def photographs(*sizes: tuple[int, int]) -> list[Tensor]:
    return [torch.from_numpy(crop(s)).permute(2, 0, 1)[None].float() / 255 for s in sizes]


@pytest.fixture(scope="module")
def model() -> CompressionModel:
    return random_model(INFO, photographs((128, 192), (192, 128), (64, 64)))


@pytest.fixture(scope="module")
def path(model: CompressionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exact") / "wacnn-small.safetensors"
    weights.save(copy.deepcopy(model), path)
    return path


@pytest.fixture(scope="module")
def lite_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exact") / "wacnn-lite.safetensors"
    weights.save(random_model(LITE, photographs((64, 128), (64, 64))), path)
    return path


@pytest.fixture(scope="module")
def latents(model: CompressionModel) -> Tensor:
    with torch.inference_mode():
        return model.analysis(photographs((192, 256))[0])


# --------------------------------------------------------------------------- equal everywhere


@every_backend
def test_threads_and_layout_do_not_matter(
    model: CompressionModel, latents: Tensor, backend: Backend
) -> None:
    """One stream is decoded in every way, and its bytes are made in every way from z."""
    other = copy.deepcopy(model)
    other.integer.prepare(backend)
    coded, before = model.compress(latents, 4.0), torch.get_num_threads()
    expected = model.decompress(coded, (3, 4), 4.0)
    z = hyper_symbols(model, latents)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(other.decompress(coded, (3, 4), 4.0), expected)
            other.h_a = Stored(z)  # h_a is float: its rounding may differ
            for layout in (torch.contiguous_format, torch.channels_last):
                assert other.compress(latents.contiguous(memory_format=layout), 4.0) == coded
    finally:
        torch.set_num_threads(before)


class Stored(nn.Module):
    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: Tensor) -> Tensor:
        return self.value


@every_backend
def test_onednn_does_not_matter(model: CompressionModel, latents: Tensor, backend: Backend) -> None:
    """Compared is what the decoder computes: h_a is a float network of the encoder."""
    form = copy.deepcopy(model.integer).prepare(backend)
    z, symbols = hyper_symbols(model, latents), random_symbols(model, latents.shape)
    expected = trace(model.integer, z, symbols)
    with torch.backends.mkldnn.flags(enabled=False):
        found = trace(form, z, symbols)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@every_backend
def test_large_maps_take_the_same_sums_in_turns(
    model: CompressionModel, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small strips, and deferred sums of first layers, as for pictures of many megapixels."""
    form = copy.deepcopy(model.integer).prepare(backend)
    z = torch.randint(-9, 10, (1, 96, 4, 3), generator=torch.Generator().manual_seed(1)).float()
    symbols = random_symbols(model, (1, 224, 16, 12))
    expected = trace(model.integer, z, symbols)
    monkeypatch.setattr(integer_layers, "STRIP", 40)
    monkeypatch.setattr(integer_entropy, "LARGE_MAP", 0)
    found = trace(form, z, symbols)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@every_backend
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (5, 1), (4, 2)])
def test_place_in_a_batch_does_not_matter(
    model: CompressionModel, backend: Backend, size: tuple[int, int]
) -> None:
    form = copy.deepcopy(model.integer).prepare(backend)
    generator = torch.Generator().manual_seed(1)
    z = torch.randint(-9, 10, (4, 96, *size), generator=generator).float()
    symbols = random_symbols(model, (4, 224, 4 * size[0], 4 * size[1]))
    together = trace(form, z, symbols)
    for i in range(4):
        alone = trace(model.integer, z[i : i + 1], symbols[i : i + 1])
        assert all(torch.equal(a[i : i + 1], b) for a, b in zip(together, alone, strict=True))


CODE = """
import hashlib, sys, torch
from pathlib import Path
from small import SMALL
from stfcodec.models import weights
model = weights.load(SMALL, Path(sys.argv[1]))
data = torch.load(sys.argv[2], weights_only=True)
seen = []
def code(i, mean, level):
    seen.extend((mean, level))
    return data["symbols"].chunk(model.slices, 1)[i]
seen.append(model.integer.decode_slices(data["z"], code))
seen = [t.contiguous().numpy().tobytes() for t in seen]
print(hashlib.sha256(b"".join(seen)).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"ATEN_CPU_CAPABILITY": "default"},
        {"ATEN_CPU_CAPABILITY": "avx2"},
        {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
    ],
    ids=lambda e: ",".join(f"{k}={v}" for k, v in e.items()),
)
def test_instruction_set_does_not_matter(
    environment: dict[str, str], path: Path, model: CompressionModel, tmp_path: Path
) -> None:
    z = torch.randint(-9, 10, (1, 96, 3, 4), generator=torch.Generator().manual_seed(1)).float()
    symbols = random_symbols(model, (1, 224, 12, 16))
    torch.save({"z": z, "symbols": symbols}, tmp_path / "data.pt")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path), str(tmp_path / "data.pt")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment | {"PYTHONPATH": str(Path(__file__).parent)},
        cwd=Path(stfcodec.__file__).parents[1],
    )
    ours = trace(model.integer, z, symbols)
    expected = hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in ours)).hexdigest()
    assert done.stdout.strip() == expected


def test_autocast_does_not_matter(model: CompressionModel, latents: Tensor) -> None:
    """The calling program may have enabled it; its streams must decode without it."""
    z, symbols = hyper_symbols(model, latents), random_symbols(model, latents.shape)
    expected = trace(model.integer, z, symbols)
    for backend in BACKENDS.values():
        form = copy.deepcopy(model.integer).prepare(backend)
        with torch.autocast("cpu", torch.bfloat16):
            found = trace(form, z, symbols)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_tiles_do_not_matter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the transforms run in tiles: ŷ is the same with tiles and without."""
    picture = read_picture(crop((192, 320)))
    whole = codec_for(INFO, 4.0, "cpu", path)
    tiled = dataclasses.replace(whole, core=64)
    seen: list[Tensor] = []
    synthesis = Codec._synthesis

    def spy(codec: Codec, y_hat: Tensor, quality: float, gray: bool) -> Tensor:
        seen.append(y_hat)
        return synthesis(codec, y_hat, quality, gray)

    monkeypatch.setattr(Codec, "_synthesis", spy)
    stream = whole.encode(picture, 4.0)
    whole.decode(stream)
    tiled.decode(stream)
    assert torch.equal(*seen)
    # Tiles may round g_a's outputs differently: another stream, equally readable.
    whole.decode(tiled.encode(picture, 4.0))


@pytest.mark.slow
def test_every_environment_by_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """benchmarks.crosscheck on a crop, in two of its environments; it must also be able to fail."""
    Image.fromarray(crop((64, 128))).save(tmp_path / "a.png")
    folder, run = tmp_path / "streams", CliRunner()
    few = [e for e in crosscheck.ENVIRONMENTS if e.variables][-2:]
    monkeypatch.setattr(crosscheck, "ENVIRONMENTS", few)
    arguments = ["run", str(tmp_path / "a.png"), "--folder", str(folder), "--random-pictures", "0"]
    done = run.invoke(crosscheck.main, arguments)
    assert done.exit_code == 0, done.output
    assert done.output.count("12 of 12 right") == 2
    assert "equal in all 2 environments" in done.output
    verify = ["verify", str(folder), "--batch", "4", "--channels-last"]
    assert "12 of 12 right" in run.invoke(crosscheck.main, verify).output
    path = folder / "wacnn-lite-q3-00.stf"
    stream = container.read(path.read_bytes())
    path.write_bytes(container.write(dataclasses.replace(stream, checksum=stream.checksum ^ 1)))
    done = run.invoke(crosscheck.main, verify)
    assert done.exit_code == 1
    assert "11 of 12 right" in done.output


def test_aligned_products_keep_to_what_cuda_takes(
    model: CompressionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every layer's product has 17 rows or more, and lengths and columns in multiples of 8."""
    shapes = []
    product = torch._int_mm

    def spy(a: Tensor, b: Tensor) -> Tensor:
        assert a.is_contiguous()
        assert b.t().is_contiguous()
        shapes.append((*a.shape, b.shape[1]))
        return product(a, b)

    form = copy.deepcopy(model.integer).prepare(Int8Backend(aligned=True))
    monkeypatch.setattr(torch, "_int_mm", spy)
    trace(form, torch.zeros(1, 96, 1, 1), torch.zeros(1, 224, 4, 4))
    assert len(shapes) > 20
    assert all(rows > 16 and k % 8 == n % 8 == 0 for rows, k, n in shapes)
    assert min(rows for rows, _, _ in shapes) == 17


@pytest.mark.parametrize("name", ["wacnn", "stf", "wacnn-lite", "stf-lite"])
def test_widths_are_what_cuda_takes(name: str) -> None:
    form = build(registry.by_name(name)).new_integer()
    assert all(len(m.bias) % 8 == 0 for m in form.modules() if isinstance(m, IntegerConv))


@on_cuda
@pytest.mark.parametrize("backend", ["int8-aligned", "reference"])
def test_cuda_gives_the_same_integers(model: CompressionModel, backend: str) -> None:
    """Also where the calling program allows TF32: no float32 products are used on CUDA."""
    form = copy.deepcopy(model.integer).to("cuda").prepare(BACKENDS[backend])
    generator = torch.Generator().manual_seed(1)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        for size in ((1, 1), (1, 3), (5, 1), (4, 2)):
            z = torch.randint(-9, 10, (2, 96, *size), generator=generator).float()
            symbols = random_symbols(model, (2, 224, 4 * size[0], 4 * size[1]))
            found, expected = trace(form, z, symbols), trace(model.integer, z, symbols)
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    finally:
        torch.set_float32_matmul_precision(before)


@on_cuda
def test_cuda_and_cpu_read_each_other_s_streams(lite_path: Path) -> None:
    """Whole streams, coded with --device cuda and cpu; then with the entropy networks on CUDA."""
    pixels = crop((192, 256))
    streams = [
        stfcodec.encode(pixels, model=LITE.name, quality=4, device=d, weights=lite_path)
        for d in ("cuda", "cpu")
    ]
    for data in streams:
        a, b = (
            np.asarray(stfcodec.decode(data, device=d, weights=lite_path)).astype(int)
            for d in ("cuda", "cpu")
        )
        assert abs(a - b).max() <= 2
    model = weights.load(LITE, lite_path)
    read = [container.read(s) for s in streams]
    on_cpu = crosscheck_streams.decode_batch(model, read, torch.contiguous_format)
    model.integer.to("cuda").prepare()
    assert crosscheck_streams.decode_batch(model, read, torch.contiguous_format) == on_cpu


def test_equals_arithmetic_in_int64(model: CompressionModel) -> None:
    """A second implementation, of int64 sums, shifts and look-ups alone."""
    z = torch.randint(-9, 10, (1, 96, 2, 2), generator=torch.Generator().manual_seed(1)).float()
    symbols = random_symbols(model, (1, 224, 8, 8))
    found = trace(model.integer, z, symbols)
    expected = reference(model.integer, z, symbols)
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal((a.double() * MEAN_DENOMINATOR).numpy(), b * MEAN_DENOMINATOR)


def trace(form: IntegerEntropy, z: Tensor, symbols: Tensor) -> list[Tensor]:
    """Means and scale levels of all slices, then ŷ."""
    seen: list[Tensor] = []

    def code(i: int, mean: Tensor, level: Tensor) -> Tensor:
        seen.extend((mean, level))
        return symbols.chunk(form.slices, 1)[i].to(mean.device)

    y_hat = form.decode_slices(z.to(form.thresholds.device), code)
    return [t.cpu() for t in (*seen, y_hat)]


def random_symbols(model: CompressionModel, shape: tuple[int, ...]) -> Tensor:
    """Mostly small, and some large enough to reach every clamp."""
    generator = torch.Generator().manual_seed(2)
    symbols = torch.randn(shape, generator=generator)
    rare = torch.rand(shape, generator=generator) < 0.02
    return torch.round(torch.where(rare, symbols * 500, symbols * 2))


def hyper_symbols(model: CompressionModel, y: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.round(model.h_a(y) - model.entropy_bottleneck.medians())


def reference(form: IntegerEntropy, z: Tensor, symbols: Tensor) -> list[np.ndarray]:
    """`trace`, computed with NumPy's int64 arithmetic."""

    def sums(layer: IntegerConv, a: np.ndarray) -> np.ndarray:
        H, W, _ = a.shape
        zero = layer.zero.numpy().astype(np.int64)
        padded = np.empty((H + 2, W + 2, len(zero)), np.int64)
        padded[:] = zero
        padded[1:-1, 1:-1] = a
        w = layer.weight.numpy().astype(np.int64)
        taps = (padded[i : i + H, j : j + W] @ w[:, :, i, j].T for i in range(3) for j in range(3))
        return sum(taps) + layer.bias.numpy()

    def run(net: nn.Sequential, a: np.ndarray) -> np.ndarray:
        for layer in net:
            s = sums(layer, a)
            if isinstance(layer, TableConv):
                index = np.clip(s >> layer.shift.numpy().astype(np.int64), 0, 511)
                table = layer.table.numpy().astype(np.int64)
                a = table[np.arange(len(table)), index]
                if layer.shuffle == 2:
                    H, W, C = a.shape
                    a = a.reshape(H, W, C // 4, 2, 2).transpose(0, 3, 1, 4, 2)
                    a = a.reshape(2 * H, 2 * W, C // 4)
            else:
                assert isinstance(layer, LinearConv)
                a = np.clip(times(s, layer.multiplier), layer.low, layer.high)
        return a

    def times(s: np.ndarray, multiplier: Tensor) -> np.ndarray:
        return np.round(s.astype(np.float32) * multiplier.numpy()).astype(np.int64)

    def limited(a: np.ndarray, reach: Tensor) -> np.ndarray:
        r = reach.numpy().astype(np.int64)
        return np.clip(a, -128 * r, 127 * r)

    def context(i: int, y: np.ndarray) -> np.ndarray:
        c = slice(i * form.width, (i + 1) * form.width)
        return limited(times(y, form.y_multiplier[c]), form.y_reach[c])

    def nchw(a: np.ndarray) -> np.ndarray:
        return a.transpose(2, 0, 1)[None]

    a = z[0].permute(1, 2, 0).numpy().astype(np.int64)
    means = limited(run(form.h_mean_s, a), form.means_reach)
    scales = limited(run(form.h_scale_s, a), form.scales_reach)
    seen: list[np.ndarray] = []
    out, decoded = [], []
    for i in range(form.slices):
        support = seen[: form.support]
        mean = run(form.cc_mean_transforms[i], np.concatenate([means, *support], 2))
        scale = run(form.cc_scale_transforms[i], np.concatenate([scales, *support], 2))
        level = (scale[..., None] > form.thresholds.numpy()).sum(-1)
        s = symbols.chunk(form.slices, 1)[i][0].permute(1, 2, 0).numpy().astype(np.int64)
        y = np.clip(s, -32767, 32767) * MEAN_DENOMINATOR + mean
        own = context(i, y)
        y = y + run(form.lrp_transforms[i], np.concatenate([means, *support, own], 2))
        seen.append(context(i, y))
        decoded.append(y)
        out += [nchw(mean) / MEAN_DENOMINATOR, nchw(level)]
    return [*out, nchw(np.concatenate(decoded, 2)) / MEAN_DENOMINATOR]


# ------------------------------------------------------------------- what may change, what not


def test_noise_in_the_transforms_leaves_the_symbols(
    model: CompressionModel, latents: Tensor
) -> None:
    coded = model.compress(latents, 4.0)
    noisy = copy.deepcopy(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in [*noisy.g_s.parameters(), *noisy.h_a.parameters()]:
            p += 1e-3 * torch.randn_like(p)
    y_hat = noisy.decompress(coded, (3, 4), 4.0)
    assert torch.equal(y_hat, model.decompress(coded, (3, 4), 4.0))
    with torch.inference_mode():
        assert not torch.equal(noisy.synthesis(y_hat), model.synthesis(y_hat))


@pytest.mark.parametrize("network", ["h_scale_s", "cc_mean_transforms.0", "lrp_transforms.1"])
def test_one_broken_weight_is_caught(
    model: CompressionModel, latents: Tensor, network: str
) -> None:
    coded = model.compress(latents, 4.0)
    broken = copy.deepcopy(model)
    layer = broken.integer.get_submodule(network)[0]
    layer.weight[0, 0, 1, 1] ^= 0x40
    layer.bias += 1 << int(layer.shift[0]) + 5
    broken.integer.prepare()
    with pytest.raises(StreamError, match=r"checksum|are damaged"):
        broken.decompress(coded, (3, 4), 4.0)


def test_broken_weights_file_is_another_file(lite_path: Path, tmp_path: Path) -> None:
    """A stream stores the fingerprint of its weights, so damage shows before decoding."""
    data = stfcodec.encode(crop((64, 64)), model="wacnn-lite", weights=lite_path)
    raw = bytearray(lite_path.read_bytes())
    raw[-1000] ^= 1
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(raw)
    with pytest.raises(WeightsError):
        stfcodec.decode(data, weights=damaged)


# --------------------------------------------------------------------------------- the proof


def test_proof_refuses_what_could_outgrow_its_backend(model: CompressionModel) -> None:
    form = copy.deepcopy(model.integer)
    layer = form.h_mean_s[2]
    layer.weight[5] = 127  # 9 · 96 · 127 · 128 = 14 million: still below 2²⁴
    layer.prove(torch.ones(96, dtype=torch.int64))
    layer.bias[5] = BOUND - 9 * 96 * 127 * 128
    with pytest.raises(WeightsError, match=r"output channel 5 .* not be exact"):
        form.prepare()
    layer.bias[5] -= 1
    form.prepare()


def test_worst_case_is_reached_and_exact() -> None:
    """The bound is sharp: activations at the clamp, weights at their signs."""
    layer = TableConv(96, 8)
    layer.weight[:] = 127
    layer.weight[1] = -127
    layer.zero[:] = -128
    a = torch.full((1, 5, 6, 96), -128.0)
    worst = int(IntegerConv.largest_sums(layer.weight, layer.bias, torch.ones(96)).max())
    for backend in BACKENDS.values():
        layer.prepare(backend)
        assert layer.convolve(a).abs().unique().tolist() == [worst]


@pytest.mark.parametrize("reach", [1, 2, 5])
def test_wide_channels_are_cut_without_loss(reach: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (8, 12, 3, 3), generator=generator).to(torch.int8)
    wide = torch.ones(12, dtype=torch.int64)
    wide[3], wide[7] = reach, 2
    a = torch.randint(-128, 128, (2, 4, 5, 12), generator=generator).float()
    a[..., 3] = torch.randint(-128 * reach, 127 * reach + 1, (2, 4, 5), generator=generator)
    a[0, 0, 0, 3], a[0, 0, 1, 3] = -128 * reach, 127 * reach
    kernel = Kernel(weight, torch.full((8,), 0.25), wide, torch.zeros(12), torch.arange(8.0))
    results = [backend.make_convolution(kernel)(a) for backend in BACKENDS.values()]
    assert all(torch.equal(r, results[-1]) for r in results)


def test_a_backend_that_rounds_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounding(make: Callable[..., SumFunction]) -> Callable[..., SumFunction]:
        def make_rounding(*args) -> SumFunction:
            convolve = make(*args)
            return lambda a: convolve(a).bfloat16().float()

        return make_rounding

    for backend in (FloatBackend, Int8Backend):
        monkeypatch.setattr(backend, "make_convolution", rounding(backend.make_convolution))
    # Choices are remembered for each setting of precision: this one has none yet.
    monkeypatch.setattr(integer_backends, "float32_precision", lambda: ("untested",))
    assert isinstance(best_backend(), ReferenceBackend)


# --------------------------------------------------------------------------- files and costs


def test_file_brings_all_that_coding_needs(
    model: CompressionModel, path: Path, latents: Tensor
) -> None:
    loaded = weights.load(INFO, path)
    for key, buffer in model.integer.state_dict().items():
        assert torch.equal(loaded.integer.state_dict()[key], buffer), key
    z, symbols = hyper_symbols(model, latents), random_symbols(model, latents.shape)
    for a, b in zip(
        trace(loaded.integer, z, symbols), trace(model.integer, z, symbols), strict=True
    ):
        assert torch.equal(a, b)
    assert path.stat().st_size < 25e6
    # The float networks get the weights that the integer form stands for.
    for name in REPLACED_NETWORKS:
        pairs = zip(
            loaded.get_submodule(name).parameters(),
            model.get_submodule(name).parameters(),
            strict=True,
        )
        for p, q in pairs:
            assert (p - q).square().mean() < 0.03 * q.square().mean() + 1e-9


def test_weights_without_integer_form_do_not_code(tmp_path: Path) -> None:
    path = tmp_path / "float.safetensors"
    weights.save(build(LITE), path)
    with pytest.raises(WeightsError, match="stfcodec quantize"):
        stfcodec.encode(crop((64, 64)), weights=path)


def test_integers_cost_few_bits(model: CompressionModel, latents: Tensor) -> None:
    """Random networks are the harder case: trained ones lose less than 0.2 %."""
    found = compare_bits(model, latents, 4.0)
    assert found.integer < 1.02 * found.floating


@pytest.mark.slow
def test_quantisation_costs_the_embedded_weights_little() -> None:
    """docs/exactness.md has the cost on 24 photographs.

    The Gaussian's tables favour neither form; the embedded ones are fitted to the integers.
    """
    embedded = weights.load(LITE, locate.find(LITE, 1.0))
    embedded.gaussian_conditional.update()
    floating, integer = curves(embedded, [crop((512, 768))], [1.0, 2, 3, 4, 5, 6])
    assert floating != integer
    assert abs(bd_rate(floating, integer)) < 0.5
    assert "BD-rate" in summary(floating, integer)
    assert "BD-rate" not in summary(floating[:1], integer[:1])


@pytest.mark.slow
def test_quantize_prints_what_integers_cost(tmp_path: Path) -> None:
    """From a training checkpoint's averaged weights to a file that codes."""
    checkpoint, data, output = (tmp_path / n for n in ("last.pt", "data", "out.safetensors"))
    network = weights.load(LITE, locate.find(LITE, 1.0))
    network.integer = None
    torch.save({"model": {}, "average": network.state_dict()}, checkpoint)
    data.mkdir()
    Image.fromarray(crop((128, 128))).save(data / "a.png")
    options = ["--data", str(data), "-o", str(output), "--crop", "64"]
    done = CliRunner().invoke(quantize.command, [str(checkpoint), *options])
    assert done.exit_code == 0, done.output
    assert re.search(r"[+-][\d.]+ % bits, [+-][\d.]+ dB", done.output)
    coded = stfcodec.encode(crop((64, 64)), weights=output)
    assert stfcodec.decode(coded, weights=output).size == (64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wacnn-lite", "stf-lite", "stf"])
def test_every_size_and_family(name: str) -> None:
    model = random_model(registry.by_name(name), photographs((128, 192), (64, 64)))
    y = model.analysis(photographs((64, 128))[0]).detach()
    coded = model.compress(y, 4.0)
    model.integer.prepare(FloatBackend())
    model.decompress(coded, (1, 2), 4.0)


def test_streams_survive_hostile_symbols(lite_path: Path) -> None:
    """Symbols far outside every table are clamped, so that the arithmetic stays exact."""
    stream = container.read(stfcodec.encode(crop((64, 64)), model="wacnn-lite", weights=lite_path))
    for seed in range(4):
        noise = np.random.default_rng(seed).integers(0, 256, len(stream.y) // 4 * 4 + 8, np.uint8)
        broken = container.Stream(**{**stream.__dict__, "y": noise.tobytes()})
        with pytest.raises(StreamError):
            stfcodec.decode(container.write(broken), weights=lite_path)


@every_backend
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (9, 1), (1, 2), (1, 9), (3, 2)])
def test_narrow_maps(backend: Backend, size: tuple[int, int]) -> None:
    """On a map one position wide, the rows of the unfolded map would overlap in memory."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (56, 96, 3, 3), generator=generator).to(torch.int8)
    a = torch.randint(-128, 128, (1, *size, 96), generator=generator).float()
    reach = torch.ones(96, dtype=torch.int64)
    kernel = Kernel(weight, torch.ones(56), reach, torch.full((96,), -7.0), torch.ones(56))
    found, expected = (b.make_convolution(kernel)(a) for b in (backend, ReferenceBackend()))
    assert torch.equal(found, expected)
