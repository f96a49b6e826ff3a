"""The lite models: exact scale levels from integers, quality as an argument, two passes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from photographs import photographs
from torch import Tensor

from benchmarks.untrained_models import random_model
from stfcodec import tiling
from stfcodec.errors import StreamError
from stfcodec.models import registry, weights
from stfcodec.models.blocks import Convolution, DepthwiseMixer, block, shuffle, unshuffle
from stfcodec.models.checkerboard import merge, pack, unpack
from stfcodec.models.integer_backends import FloatBackend, Int8Backend, ReferenceBackend
from stfcodec.models.integer_cost import count_bits
from stfcodec.models.lite import LiteModel
from stfcodec.models.lite_integer import LEVEL_DENOMINATOR, MAX_MAGNITUDE

LITE = ["wacnn-lite", "stf-lite"]
BACKENDS = {"float": FloatBackend(), "int8": Int8Backend(), "reference": ReferenceBackend()}


@pytest.fixture(scope="module", params=LITE)
def model(request: pytest.FixtureRequest) -> LiteModel:
    """Random weights whose every branch matters."""
    info = registry.by_name(request.param)
    made = random_model(info, photographs((128, 192), (64, 64)))
    assert isinstance(made, LiteModel)
    return made


@pytest.fixture(scope="module")
def latents(model: LiteModel) -> Tensor:
    with torch.inference_mode():
        return model.analysis(photographs((192, 256))[0], 4.0)


# ----------------------------------------------------------------------------------- exact


def test_noise_in_every_float_weight_leaves_the_symbols(model: LiteModel, latents: Tensor) -> None:
    """Another machine's rounding is far smaller: what decodes is the same, the picture nearly."""
    coded = model.compress(latents, 4.0)
    noisy = copy.deepcopy(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in noisy.parameters():
            p += 1e-3 * p.abs().mean() * torch.randn_like(p)
            p += 1e-3 * torch.randn_like(p)
    y_hat, moved = (m.decompress(coded, (3, 4), 4.0) for m in (model, noisy))  # checksums hold
    assert not torch.equal(y_hat, moved)


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
def test_levels_are_equal_on_every_backend(
    model: LiteModel, latents: Tensor, backend: object
) -> None:
    coded, threads = model.compress(latents, 2.3), torch.get_num_threads()
    other = copy.deepcopy(model)
    other.integer.prepare(backend)
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            other.decompress(coded, (3, 4), 2.3)
            with torch.autocast("cpu", torch.bfloat16):
                z = torch.randint(-9, 10, (1, 3, 4, 96)).float()
                expected, found = (
                    m.integer.first_levels(m.integer.features(z), torch.tensor([2.3]))
                    for m in (model, other)
                )
            assert torch.equal(found, expected)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_the_same_levels(model: LiteModel, latents: Tensor) -> None:
    """A stream made on the CPU decodes on the GPU, and the reverse."""
    cuda = copy.deepcopy(model).to("cuda")
    cuda.integer.prepare()
    assert torch.isfinite(cuda.decompress(model.compress(latents, 2.3), (3, 4), 2.3)).all()
    model.decompress(cuda.compress(latents.cuda(), 2.3), (3, 4), 2.3)


def test_one_broken_weight_is_caught(model: LiteModel, latents: Tensor) -> None:
    coded = model.compress(latents, 4.0)
    for name in ("hyper.0", "first", "context", "second"):
        broken = copy.deepcopy(model)
        layer = broken.integer.get_submodule(name)
        layer.bias += 1 << 14
        broken.integer.prepare()
        with pytest.raises(StreamError, match=r"checksum|are damaged"):
            broken.decompress(coded, (3, 4), 4.0)


def test_levels_are_rounded_and_clamped(model: LiteModel) -> None:
    """Integers interpolate the offsets of fractional qualities. Levels have a table each."""
    form = copy.deepcopy(model.integer)
    form.first.weight.zero_()
    form.first.bias.zero_()
    form.first.multiplier.zero_()
    form.offset.zero_()
    form.offset[2], form.offset[3] = 10 * LEVEL_DENOMINATOR, 20 * LEVEL_DENOMINATOR
    form.offset[:, 0], form.offset[:, 1] = 1 << 20, -(1 << 20)
    form.prepare()
    features = form.features(torch.zeros(1, 1, 1, 96))
    for quality, level in ((3.0, 10), (3.049, 10), (3.05, 11), (3.95, 20), (4.0, 20), (6.0, 0)):
        levels = form.first_levels(features, torch.tensor([quality]))
        assert levels[..., 2:].unique().tolist() == [level], quality
        assert levels[..., 0].unique().tolist() == [63]
        assert levels[..., 1].unique().tolist() == [0]


def test_integers_stand_for_the_float_network(model: LiteModel, latents: Tensor) -> None:
    """Random networks are the harder case: trained ones lose less."""
    tables = model.gaussian_conditional.tables
    with torch.inference_mode():
        integer, floating = (
            count_bits(model, form, latents, 4.0, tables)[0] for form in (model.integer, None)
        )
    assert integer < 1.02 * floating


def test_file_brings_all_that_coding_needs(
    model: LiteModel, latents: Tensor, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    info = registry.by_name(request.node.callspec.params["model"])
    path, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    stored = copy.deepcopy(model)  # whose parameters saving rounds
    weights.save(stored, path)
    assert path.stat().st_size < 12e6
    loaded = weights.load(info, path)
    y = latents.clone()
    assert loaded.compress(y, 3.3) == stored.compress(y, 3.3)
    # The float network is what the integers stand for, and says nearly the same.
    for p, q in zip(loaded.scales.parameters(), model.scales.parameters(), strict=True):
        assert (p - q).square().mean() < 0.03 * q.square().mean() + 1e-6
    weights.save(loaded, again)
    assert again.read_bytes() == path.read_bytes()


# ------------------------------------------------------------------------------- qualities


def test_a_batch_mixes_qualities(model: LiteModel) -> None:
    x = torch.cat([*photographs((64, 64), (64, 64)), torch.rand(1, 3, 64, 64)])
    quality = torch.tensor([1.0, 3.7, 6.0])
    with torch.inference_mode():
        together = model(x, quality)
        for i, q in enumerate(quality.tolist()):
            alone = model(x[i : i + 1], q)
            torch.testing.assert_close(
                together["x_hat"][i], alone["x_hat"][0], rtol=1e-3, atol=1e-3
            )
            assert together["likelihoods"]["y"][i].log().sum() == pytest.approx(
                alone["likelihoods"]["y"].log().sum().item(), rel=1e-3
            )


def test_nothing_changes_while_it_codes(model: LiteModel, latents: Tensor) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.inference_mode():
        for quality in (1.0, 5.5):
            y = model.analysis(photographs((64, 64))[0], quality)
            model.synthesis(model.decompress(model.compress(y, quality), (1, 1), quality), quality)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# ---------------------------------------------------------------------------------- passes


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 5)])
def test_two_passes_code_every_latent_once(size: tuple[int, int]) -> None:
    y = 1 + torch.arange(2 * size[0] * size[1] * 6.0).view(2, *size, 6)
    first, second = pack(y, 0), pack(y, 1)
    assert torch.equal(merge(first, second), y)
    assert torch.equal(torch.cat([first, second]).flatten().sort()[0], y.flatten())
    assert torch.equal(unpack(first), merge(first, torch.zeros_like(second)))
    assert unpack(first)[0, 0, 0].tolist() == [1, 2, 3, 0, 0, 0]


def test_strips_predict_what_the_whole_map_does(
    model: LiteModel, latents: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    coded = model.compress(latents, 4.0)
    y_hat = model.decompress(coded, (3, 4), 4.0)
    monkeypatch.setattr("stfcodec.models.checkerboard.STRIP", 32)
    monkeypatch.setattr("stfcodec.models.integer_layers.STRIP", 48)
    strips = model.decompress(coded, (3, 4), 4.0)  # of the same symbols
    torch.testing.assert_close(strips, y_hat, rtol=1e-4, atol=1e-4)


def test_second_pass_sees_the_first_and_no_more(model: LiteModel) -> None:
    """Means and scale levels of the second pass depend on no symbol of the second pass."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randint(-9, 10, (1, 96, 2, 2), generator=generator).float()
    symbols = torch.randint(-3, 4, (1, 8, 8, 224), generator=generator).float()
    other = merge(pack(symbols, 0), pack(symbols, 1) + 1)
    predictions: list[list[Tensor]] = []
    for s in (symbols, other):
        own: list[Tensor] = []

        def code(i: int, mean: Tensor, level: Tensor, s: Tensor = s, own: list = own) -> Tensor:
            own.extend((mean, level))
            return pack(s, i)

        with torch.inference_mode():
            model.decode_symbols(z, 3.0, code)
        predictions.append(own)
    assert all(torch.equal(a, b) for a, b in zip(*predictions, strict=True))
    assert predictions[0][3].unique().numel() > 5


def test_magnitudes_are_clamped(model: LiteModel) -> None:
    z, q = torch.zeros(1, 2, 2, 96), torch.tensor([3.0])
    features = model.integer.features(z)
    large = torch.full((1, 8, 8, 224), float(MAX_MAGNITUDE))
    levels = [model.integer.second_levels(features, s, q) for s in (large, 1000 * large, -large)]
    assert torch.equal(levels[0], levels[1])
    assert torch.equal(levels[0], levels[2])


# ------------------------------------------------------------------------------ transforms


@pytest.mark.slow
@pytest.mark.parametrize("core", [64, 128])
def test_tiles_see_all_that_bears_on_them(model: LiteModel, core: int) -> None:
    x = photographs((640, 448))[0]
    with torch.inference_mode():
        y = model.analysis(x, 2.5)
        tiled = tiling.run(model.analysis_stages(2.5), x, core)
        torch.testing.assert_close(tiled, y, rtol=1e-3, atol=1e-3 * y.std().item())
        x_hat = model.synthesis(y, 2.5)
        tiled = tiling.run(model.synthesis_stages(2.5), y, core)
        torch.testing.assert_close(tiled, x_hat, rtol=1e-3, atol=1e-3 * x_hat.std().item())


def test_linear_path_stays_in_float32(model: LiteModel) -> None:
    lowered = copy.deepcopy(model)
    lowered.set_precision(torch.bfloat16)
    assert lowered.g_a.linear.weight.dtype == lowered.g_s.linear.weight.dtype == torch.float32
    assert lowered.g_a.embed.weight.dtype == lowered.h_a[0].weight.dtype == torch.bfloat16
    assert lowered.means.last.weight.dtype == torch.float32
    with torch.inference_mode():
        assert lowered.analysis(photographs((64, 64))[0]).dtype == torch.float32


def test_layers_follow_the_precision_of_their_input() -> None:
    x = torch.randn(2, 8, 8, 32)
    layer = block(32, DepthwiseMixer(32))
    torch.nn.init.normal_(layer[1].branch.fc2.weight)
    exact = layer(x)
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(layer(x.bfloat16()).float(), exact, rtol=0.1, atol=0.1)
    layer(x.bfloat16()).sum().backward()
    assert layer[1].branch.fc1.weight.grad.dtype == torch.float32


def test_blocks_start_as_the_identity() -> None:
    x = torch.randn(1, 8, 8, 32)
    assert torch.equal(block(32, DepthwiseMixer(32))(x), x)


def test_shuffles_are_inverse_and_place_pixels() -> None:
    x = torch.arange(2 * 4 * 8 * 3.0).view(2, 4, 8, 3)
    assert torch.equal(shuffle(unshuffle(x, 4), 4), x)
    assert torch.equal(unshuffle(x, 2)[0, 0, 1, 3:6], x[0, 0, 3])


def test_convolution_is_torchs() -> None:
    layer, x = Convolution(3, 5, stride=2), torch.randn(2, 8, 6, 3)
    expected = torch.nn.functional.conv2d(
        x.permute(0, 3, 1, 2), layer.weight, layer.bias, stride=2, padding=1
    )
    torch.testing.assert_close(layer(x), expected.permute(0, 2, 3, 1))
