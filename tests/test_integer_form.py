"""Coding with the integer form: noise and damage, files with it and without, and what it costs."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import crop, photographs
from torch import Tensor

import stfcodec
from benchmarks.untrained_models import random_model
from stfcodec import container
from stfcodec.errors import StreamError, WeightsError
from stfcodec.metrics import bd_rate
from stfcodec.models import locate, registry, weights
from stfcodec.models.base import CompressionModel
from stfcodec.models.build import build
from stfcodec.models.integer_backends import FloatBackend
from stfcodec.models.integer_cost import count_bits, curves, summary

LITE = registry.by_name("wacnn-lite")


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


def test_streams_survive_hostile_symbols(lite_path: Path) -> None:
    """Symbols far outside every table are clamped, so that the arithmetic stays exact."""
    stream = container.read(stfcodec.encode(crop((64, 64)), model="wacnn-lite", weights=lite_path))
    for seed in range(4):
        noise = np.random.default_rng(seed).integers(0, 256, len(stream.y) // 4 * 4 + 8, np.uint8)
        broken = container.Stream(**{**stream.__dict__, "y": noise.tobytes()})
        with pytest.raises(StreamError):
            stfcodec.decode(container.write(broken), weights=lite_path)


def test_weights_without_integer_form_do_not_code(tmp_path: Path) -> None:
    path = tmp_path / "float.safetensors"
    weights.save(build(LITE), path)
    with pytest.raises(WeightsError, match="stfcodec weights import"):
        stfcodec.encode(crop((64, 64)), weights=path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wacnn-lite", "stf-lite", "stf"])
def test_every_size_and_family(name: str) -> None:
    model = random_model(registry.by_name(name), photographs((128, 192), (64, 64)))
    y = model.analysis(photographs((64, 128))[0]).detach()
    coded = model.compress(y, 4.0)
    model.integer.prepare(FloatBackend())
    model.decompress(coded, (1, 2), 4.0)


# -------------------------------------------------------------------------------------------- costs


def test_integers_cost_few_bits(model: CompressionModel, latents: Tensor) -> None:
    """Random networks are the harder case: trained ones lose less than 0.2 %."""
    tables = model.gaussian_conditional.tables
    with torch.inference_mode():
        integer, floating = (
            count_bits(model, form, latents, 4.0, tables)[0] for form in (model.integer, None)
        )
    assert integer < 1.02 * floating


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
