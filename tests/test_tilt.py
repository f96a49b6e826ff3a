"""Transforms that lean with quality: the right parameters at the right place, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_codec import crop
from torch import Tensor

import stfcodec
from stfcodec.bench.crosscheck import filled_model
from stfcodec.codec import PRECISION
from stfcodec.models import registry, weights
from stfcodec.models.build import build
from stfcodec.models.entropy_model import ENTROPY_PARTS, CompressionModel
from stfcodec.models.tilt import replaced

LITE = ("wacnn-lite", "stf-lite")


def leaning(name: str) -> CompressionModel:
    torch.manual_seed(4)
    model = build(registry.by_name(name)).eval().requires_grad_(False)
    assert model.tilt is not None
    for slope in model.tilt.parameters():
        slope.normal_(std=0.02)
    return model


def crops(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", LITE)
def test_every_parameter_of_the_transforms_leans_and_no_other(name: str) -> None:
    model = leaning(name)
    own = dict(model.named_parameters())
    low, middle, high = (model.parameters_at(q) for q in (1.0, 3.5, 6.0))
    transforms = {n for n in own if n.split(".")[0] not in ENTROPY_PARTS | {"tilt"}}
    assert set(low) == set(middle) == set(high) == transforms
    for n in transforms:
        assert torch.equal(middle[n], own[n])
        slope = own["tilt." + n.replace(".", "/")]
        torch.testing.assert_close(high[n] - low[n], slope, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(high[n] + low[n], 2 * own[n])


def test_one_quality_models_have_no_tilt() -> None:
    model = build(registry.by_name("wacnn"))
    assert model.tilt is None
    assert model.parameters_at(3) == {}


def test_parameters_come_back_whatever_happens() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2))
    before = layer[0].weight
    with pytest.raises(KeyError), replaced(layer, {"0.weight": torch.zeros(2, 2)}):
        assert not layer(torch.ones(1, 2)).equal(layer[0].bias + 1)
        assert layer[0].weight.sum() == 0
        raise KeyError
    assert layer[0].weight is before
    assert isinstance(layer[0].weight, torch.nn.Parameter)


def test_gradients_reach_the_middle_and_the_tilt() -> None:
    model = leaning("wacnn-lite").requires_grad_(True)
    x = crops(1, 3, 64, 64)
    with model.at(torch.tensor(6.0)):
        model.analysis(x).square().sum().backward()
    assert model.tilt is not None
    own = dict(model.named_parameters())
    for name, slope in model.tilt.items():
        if name.startswith("g_a"):
            torch.testing.assert_close(slope.grad, own[name].grad / 2)
        else:
            assert slope.grad is None


@pytest.mark.parametrize("name", LITE)
def test_parts_of_a_batch_have_their_own_quality(name: str) -> None:
    model = leaning(name)
    x = crops(4, 3, 64, 64)
    together = model(x, torch.tensor([2.0, 5.0]))
    alone = [model(x[i : i + 1], torch.tensor([q])) for i, q in enumerate((2.0, 2.0, 5.0, 5.0))]
    for i, out in enumerate(alone):
        torch.testing.assert_close(together["x_hat"][i], out["x_hat"][0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(model(x, torch.tensor([5.0]))["x_hat"][0], together["x_hat"][0])


@pytest.mark.parametrize("name", LITE)
def test_bfloat16_is_rounded_once_and_spares_precise_layers(name: str) -> None:
    model = leaning(name)
    exact = model.parameters_at(2.0)
    model.set_precision(torch.bfloat16)
    rounded = model.parameters_at(2.0)
    precise = {p for layer in model.precise_layers() for p in layer.parameters()}
    own = dict(model.named_parameters())
    for n, p in rounded.items():
        assert torch.equal(p, exact[n].to(p.dtype))
        assert own[n].dtype == torch.float32
        assert own[n] not in precise or p.dtype == torch.float32
    assert sum(p.dtype == torch.bfloat16 for p in rounded.values()) > len(rounded) / 4
    with model.at(2.0), torch.inference_mode():
        x_hat = model.synthesis(model.analysis(crops(1, 3, 64, 64)))
    assert x_hat.dtype == torch.float32


@pytest.fixture(scope="module", params=LITE)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with a tilt that matters."""
    info = registry.by_name(request.param)
    path = tmp_path_factory.mktemp("weights") / f"{info.name}.safetensors"
    weights.save(filled_model(info, [crops(1, 3, 64, 128)]), path)
    return path


def test_file_keeps_the_tilt_in_eight_bits(stored: Path) -> None:
    info = registry.by_name(stored.stem)
    model = filled_model(info, [crops(1, 3, 64, 128)])
    found = weights.load(info, stored)
    assert model.tilt is not None and found.tilt is not None
    for (n, want), (_, have) in zip(model.tilt.items(), found.tilt.items(), strict=True):
        torch.testing.assert_close(have, want, rtol=1 / 16, atol=1e-5, msg=n)
    kinds = {k: t.dtype for k, t in load_file(stored).items() if k.startswith("tilt.")}
    assert set(kinds.values()) == {torch.float16, torch.float8_e4m3fn}


def test_saving_twice_changes_nothing(stored: Path, tmp_path: Path) -> None:
    model = weights.load(registry.by_name(stored.stem), stored)
    weights.save(model, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == stored.read_bytes()


def test_files_from_before_the_tilt_still_code(stored: Path, tmp_path: Path) -> None:
    info = registry.by_name(stored.stem)
    model = filled_model(info, [crops(1, 3, 64, 128)])
    model.tilt = None
    path = tmp_path / stored.name
    weights.save(model, path)
    assert weights.load(info, path).tilt is None
    picture = crop((64, 64))
    coded = stfcodec.encode(picture, info.name, 5, weights=path)
    assert stfcodec.decode(coded, weights=path).size == (64, 64)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_coding_leans(stored: Path, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream is decoded by the transforms of its own quality, whatever was coded before it."""
    monkeypatch.setenv(PRECISION, precision)
    info = registry.by_name(stored.stem)
    picture = crop((128, 128))
    streams = {q: stfcodec.encode(picture, info.name, q, weights=stored) for q in (6, 1, 3)}
    model = weights.load(info, stored).requires_grad_(False)
    model.set_precision(getattr(torch, precision))
    assert model.gain is not None
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    for q, data in streams.items():
        with torch.inference_mode(), model.at(q):
            coded = model.compress(model.analysis(x).float(), q)
            x_hat = model.synthesis(model.decompress(coded, (2, 2), q))
        expected = x_hat[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
        found = np.asarray(stfcodec.decode(data, weights=stored))
        difference = np.abs(found.astype(int) - expected)
        assert difference.max() <= 1, q
