"""Symbols' probabilities come from exact integers: the same on every machine, proved and refused
where not.
"""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_codec import crop
from torch import Tensor, nn

import stfcodec
from stfcodec import container
from stfcodec.bench.exactness import rates
from stfcodec.errors import StreamError, WeightsError
from stfcodec.models import registry, weights
from stfcodec.models.build import build
from stfcodec.models.calibrate import quantise
from stfcodec.models.entropy_model import CompressionModel
from stfcodec.models.integer import (
    BOUND,
    FRACTION,
    NETWORKS,
    Carrier,
    FloatCarrier,
    Int8Carrier,
    IntegerConv,
    IntegerEntropy,
    LinearConv,
    ReferenceCarrier,
    TableConv,
    best_carrier,
)

INFO = registry.by_name("wacnn-lite")
CARRIERS = (FloatCarrier, Int8Carrier, ReferenceCarrier)


def photographs(*sizes: tuple[int, int]) -> list[Tensor]:
    return [torch.from_numpy(crop(s)).permute(2, 0, 1)[None].float() / 255 for s in sizes]


def lively(name: str) -> CompressionModel:
    """A model whose context networks matter: at their initial weights they hardly say a thing."""
    torch.manual_seed(3)
    model = build(registry.by_name(name)).eval()
    for network in NETWORKS:
        convs = [m for m in model.get_submodule(network).modules() if isinstance(m, nn.Conv2d)]
        for conv in convs:
            nn.init.normal_(conv.weight, std=(2 / conv.weight[0].numel()) ** 0.5)
    with torch.no_grad():
        for slices in model.cc_scale_transforms:
            slices[-1].bias += 2
        for log_gain in (model.gain.log_gain, model.gain.log_inverse) if model.gain else ():
            log_gain += 2.5 if log_gain is model.gain.log_gain else -2.5
    model.update()
    model.integer = quantise(model, photographs((128, 192), (192, 128), (64, 64)))
    return model


@pytest.fixture(scope="module")
def model() -> CompressionModel:
    return lively("wacnn-lite")


@pytest.fixture(scope="module")
def path(model: CompressionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exact") / "wacnn-lite.safetensors"
    weights.save(copy.deepcopy(model), path)
    return path


@pytest.fixture(scope="module")
def latents(model: CompressionModel) -> Tensor:
    with torch.inference_mode():
        return model.analysis(photographs((192, 256))[0])


# --------------------------------------------------------------------------- equal everywhere


@pytest.mark.parametrize("carrier", CARRIERS)
def test_threads_and_layout_do_not_matter(
    model: CompressionModel, latents: Tensor, carrier: type[Carrier]
) -> None:
    """One stream, decoded in every way; and the bytes of a stream, made in every way from ẑ."""
    other = copy.deepcopy(model)
    other.integer.prepare(carrier())
    coded, before = model.compress(latents, 4.0), torch.get_num_threads()
    expected = model.decompress(coded, (3, 4), 4.0)
    z = hyper_symbols(model, latents)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(other.decompress(coded, (3, 4), 4.0), expected)
            other.h_a = Stored(z)  # a float network, whose rounding is the encoder's own affair
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


@pytest.mark.parametrize("carrier", [FloatCarrier, Int8Carrier])
def test_onednn_does_not_matter(
    model: CompressionModel, latents: Tensor, carrier: type[Carrier]
) -> None:
    """h_a is the encoder's own affair, so what is compared is what the decoder computes."""
    form = copy.deepcopy(model.integer).prepare(carrier())
    z, symbols = hyper_symbols(model, latents), random_symbols(model, latents.shape)
    expected = trace(model.integer, z, symbols)
    with torch.backends.mkldnn.flags(enabled=False):
        found = trace(form, z, symbols)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (5, 1), (4, 2)])
def test_place_in_a_batch_does_not_matter(
    model: CompressionModel, carrier: type[Carrier], size: tuple[int, int]
) -> None:
    form = copy.deepcopy(model.integer).prepare(carrier())
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
from stfcodec.models import registry, weights
model = weights.load(registry.by_name("wacnn-lite"), Path(sys.argv[1]))
data = torch.load(sys.argv[2])
seen = []
def code(i, mean, index):
    seen.extend((mean, index))
    return data["symbols"].chunk(model.slices, 1)[i]
seen.append(model.integer.decode_slices(data["z"], code))
seen = [t.contiguous().numpy().tobytes() for t in seen]
print(type(model.integer.h_mean_s[0]._carrier).__name__, hashlib.sha256(b"".join(seen)).hexdigest())
"""


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
        env=os.environ | environment,
        cwd=Path(stfcodec.__file__).parents[1],
    )
    ours = trace(model.integer, z, symbols)
    expected = hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in ours)).hexdigest()
    assert done.stdout.split()[1] == expected


def test_equals_arithmetic_in_int64(model: CompressionModel) -> None:
    """A second implementation, of int64 sums, shifts and look-ups alone."""
    z = torch.randint(-9, 10, (1, 96, 2, 2), generator=torch.Generator().manual_seed(1)).float()
    symbols = random_symbols(model, (1, 224, 8, 8))
    found = trace(model.integer, z, symbols)
    expected = reference(model.integer, z, symbols)
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal((a.double() * FRACTION).numpy(), b * FRACTION)


def trace(form: IntegerEntropy, z: Tensor, symbols: Tensor) -> list[Tensor]:
    """Means and indexes of all slices, then ŷ."""
    seen: list[Tensor] = []

    def code(i: int, mean: Tensor, index: Tensor) -> Tensor:
        seen.extend((mean, index))
        return symbols.chunk(form.slices, 1)[i]

    y_hat = form.decode_slices(z, code)
    return [*seen, y_hat]


def random_symbols(model: CompressionModel, shape: tuple[int, ...]) -> Tensor:
    """Mostly small, some so large that every clamp is met."""
    generator = torch.Generator().manual_seed(2)
    symbols = torch.randn(shape, generator=generator)
    rare = torch.rand(shape, generator=generator) < 0.02
    return torch.round(torch.where(rare, symbols * 500, symbols * 2))


def hyper_symbols(model: CompressionModel, y: Tensor) -> Tensor:
    with torch.inference_mode():
        y = y * model.gain(torch.tensor([4.0]))[0]
        return torch.round(model.h_a(y) - model.entropy_bottleneck.medians())


def reference(form: IntegerEntropy, z: Tensor, symbols: Tensor) -> list[np.ndarray]:
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
                places = np.clip(s >> layer.shift.numpy().astype(np.int64), 0, 511)
                table = layer.table.numpy().astype(np.int64)
                a = table[np.arange(len(table)), places]
                if layer.shuffle == 2:
                    H, W, C = a.shape
                    a = a.reshape(H, W, C // 4, 2, 2).transpose(0, 3, 1, 4, 2)
                    a = a.reshape(2 * H, 2 * W, C // 4)
            else:
                assert isinstance(layer, LinearConv)
                fraction, exponent = np.frexp(layer.multiplier.numpy())
                numerator = (fraction * 2**16).astype(np.int64)
                assert (numerator == fraction * 2**16).all()
                shift = (16 - exponent).astype(np.int64)
                assert shift.min() >= 1
                a = (s * numerator + (1 << (shift - 1))) >> shift
                a = np.clip(a, layer.low, layer.high)
        return a

    def limited(a: np.ndarray, reach: Tensor) -> np.ndarray:
        r = reach.numpy().astype(np.int64)
        return np.clip(a, -128 * r, 127 * r)

    def context(i: int, y: np.ndarray) -> np.ndarray:
        c = slice(i * form.width, (i + 1) * form.width)
        k = form.y_shift[c].numpy().astype(np.int64)
        return limited((y + (1 << k >> 1)) >> k, form.y_reach[c])

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
        index = (scale[..., None] > form.thresholds.numpy()).sum(-1)
        s = symbols.chunk(form.slices, 1)[i][0].permute(1, 2, 0).numpy().astype(np.int64)
        y = np.clip(s, -32767, 32767) * FRACTION + mean
        own = context(i, y)
        y = y + run(form.lrp_transforms[i], np.concatenate([means, *support, own], 2))
        seen.append(context(i, y))
        decoded.append(y)
        out += [nchw(mean) / FRACTION, nchw(index)]
    return [*out, nchw(np.concatenate(decoded, 2)) / FRACTION]


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
    layer.bias[0] += 1 << int(layer.shift[0]) + 5
    broken.integer.prepare()
    with pytest.raises(StreamError, match=r"checksum|more are needed"):
        broken.decompress(coded, (3, 4), 4.0)


def test_broken_weights_file_is_another_file(path: Path, tmp_path: Path) -> None:
    """The stream names its weights: damage to them is seen before anything is decoded."""
    data = stfcodec.encode(crop((64, 64)), "wacnn-lite", weights=path)
    raw = bytearray(path.read_bytes())
    raw[-1000] ^= 1
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(raw)
    with pytest.raises(WeightsError):
        stfcodec.decode(data, weights=damaged)


# --------------------------------------------------------------------------------- the proof


def test_proof_refuses_what_could_outgrow_its_carrier(model: CompressionModel) -> None:
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
    layer = TableConv(96, 4)
    layer.weight[:] = 127
    layer.weight[1] = -127
    layer.zero[:] = -128
    a = torch.full((1, 5, 6, 96), -128.0)
    worst = int(IntegerConv.worst(layer.weight, layer.bias, torch.ones(96)).max())
    for carrier in CARRIERS:
        layer.prepare(carrier())
        assert layer.sums(a).abs().unique().tolist() == [worst]


@pytest.mark.parametrize("reach", [1, 2, 5])
def test_wide_channels_are_cut_without_loss(reach: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (8, 12, 3, 3), generator=generator).to(torch.int8)
    wide = torch.ones(12, dtype=torch.int64)
    wide[3], wide[7] = reach, 2
    a = torch.randint(-128, 128, (2, 4, 5, 12), generator=generator).float()
    a[..., 3] = torch.randint(-128 * reach, 127 * reach + 1, (2, 4, 5), generator=generator)
    a[0, 0, 0, 3], a[0, 0, 1, 3] = -128 * reach, 127 * reach
    zero = torch.zeros(12)
    results = []
    for carrier in (c() for c in CARRIERS):
        results.append(carrier.convolve(a, carrier.prepare(weight, wide), zero, wide))
    assert all(torch.equal(r, results[-1]) for r in results)


def test_a_carrier_that_rounds_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    convolve = FloatCarrier.convolve
    monkeypatch.setattr(FloatCarrier, "convolve", lambda *a: convolve(*a).bfloat16().float())
    monkeypatch.setattr("stfcodec.models.integer._cpu_flags", str)
    best_carrier.cache_clear()
    assert isinstance(best_carrier(), ReferenceCarrier)
    best_carrier.cache_clear()


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
    # The float networks beside the form are what it stands for: forward passes still mean it.
    for name in NETWORKS:
        pairs = zip(
            loaded.get_submodule(name).parameters(),
            model.get_submodule(name).parameters(),
            strict=True,
        )
        for p, q in pairs:
            assert (p - q).square().mean() < 0.03 * q.square().mean() + 1e-9


def test_weights_without_integer_form_do_not_code(tmp_path: Path) -> None:
    path = tmp_path / "float.safetensors"
    weights.save(build(INFO), path)
    with pytest.raises(WeightsError, match="stfcodec quantize"):
        stfcodec.encode(crop((64, 64)), weights=path)


def test_integers_cost_few_bits(model: CompressionModel, latents: Tensor) -> None:
    """Random networks are the harder case: trained ones lose less than 0.1 %."""
    found = rates(model, latents, 4.0)
    assert found.integer < 1.02 * found.floating


@pytest.mark.parametrize("name", ["stf-lite", "stf"])
def test_every_size_and_family(name: str) -> None:
    model = lively(name)
    y = model.analysis(photographs((64, 128))[0]).detach()
    coded = model.compress(y, 4.0)
    model.integer.prepare(FloatCarrier())
    model.decompress(coded, (1, 2), 4.0)


def test_streams_survive_hostile_symbols(path: Path) -> None:
    """Symbols far outside every table are clamped, not let out of exact arithmetic."""
    stream = container.read(stfcodec.encode(crop((64, 64)), "wacnn-lite", weights=path))
    for seed in range(4):
        noise = np.random.default_rng(seed).integers(0, 256, len(stream.y) // 4 * 4 + 8, np.uint8)
        broken = container.Stream(**{**stream.__dict__, "y": noise.tobytes()})
        with pytest.raises(StreamError):
            stfcodec.decode(container.write(broken), weights=path)


@pytest.mark.parametrize("carrier", [FloatCarrier, Int8Carrier])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (9, 1), (1, 2), (1, 9), (3, 2)])
def test_narrow_maps(carrier: type[Carrier], size: tuple[int, int]) -> None:
    """One position wide, unfolded rows overlap in memory, which an int8 product got wrong."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (56, 96, 3, 3), generator=generator).to(torch.int8)
    a = torch.randint(-128, 128, (1, *size, 96), generator=generator).float()
    zero, reach = torch.full((96,), -7.0), torch.ones(96, dtype=torch.int64)
    expected = ReferenceCarrier().convolve(a, weight, zero, reach)
    convolve = carrier()
    assert torch.equal(convolve.convolve(a, convolve.prepare(weight, reach), zero, reach), expected)
