"""The registry: data that must never change its meaning."""

from __future__ import annotations

import math

import pytest
import torch

from stfcodec.errors import StreamError, UsageError
from stfcodec.models import registry
from stfcodec.models.build import build
from stfcodec.train.loss import lambda_at


def test_ids_are_frozen() -> None:
    ids = {info.name: info.id for info in registry.MODELS}
    assert ids == {"wacnn": 3, "stf": 4, "wacnn-lite": 5, "stf-lite": 6}
    assert not set(ids.values()) & set(registry.RETIRED)


def test_retired_models_are_refused_by_name() -> None:
    for model_id, name in registry.RETIRED.items():
        with pytest.raises(StreamError, match=f"first generation of {name}"):
            registry.by_id(model_id)


@pytest.mark.parametrize("name", ["wacnn-lite", "stf-lite"])
def test_lite_models_keep_their_promise(name: str) -> None:
    """At most 8 M parameters, 30 kMAC a pixel to encode and 20 to decode; one output per input."""
    from torch.utils.flop_counter import FlopCounterMode

    info = registry.by_name(name)
    model = build(info).eval()
    assert sum(p.numel() for p in model.parameters()) == info.parameters <= 8_000_000
    x = torch.rand(1, 3, 128, 192)

    def kmac(function, *inputs) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            function(*inputs)
        return counter.get_total_flops() / 2 / x[0, 0].numel() / 1e3

    with torch.no_grad():
        y = model.analysis(x)
        z = model.hyper_analysis(y)
    entropy = kmac(lambda: model.decode_symbols(z, 3.0, lambda _, mean, level: mean))
    assert kmac(model.analysis, x) + kmac(model.hyper_analysis, y) + entropy <= 30
    assert entropy + kmac(model.synthesis, y) <= 20
    assert model(x)["x_hat"].shape == x.shape


def test_quality_and_lambda_are_inverse() -> None:
    lite, paper = registry.by_name("wacnn-lite"), registry.by_name("wacnn")
    for quality in (1, 1.25, 2, 3.7, 5.99, 6):
        lmbda = registry.lambda_from_quality(quality)
        assert registry.quality_from_lambda(lmbda, lite) == pytest.approx(quality)
        assert lambda_at(torch.tensor([float(quality)])).item() == pytest.approx(lmbda)
    assert registry.quality_from_lambda(0.0130, lite) == 4
    for lmbda in (0.0017, 0.05, math.nan):
        with pytest.raises(UsageError, match="outside"):
            registry.quality_from_lambda(lmbda, lite)
    assert [registry.quality_from_lambda(x, paper) for x in registry.LAMBDAS] == [1, 2, 3, 4, 5, 6]
    for lmbda in (0.0017, 0.02, math.nan):
        with pytest.raises(UsageError, match=r"none of those of wacnn: 0\.0018, .*, 0\.0483"):
            registry.quality_from_lambda(lmbda, paper)


def test_quality_is_checked() -> None:
    lite, paper = registry.by_name("wacnn-lite"), registry.by_name("wacnn")
    assert registry.check_quality(3.70049, lite) == 3.7
    for quality in (0.99, 6.01, math.nan, math.inf):
        with pytest.raises(UsageError, match="outside 1…6"):
            registry.check_quality(quality, lite)
    with pytest.raises(UsageError, match="whole qualities only"):
        registry.check_quality(3.5, paper)


def test_unknown_models_name_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"wacnn-lite, stf-lite, wacnn, stf$"):
        registry.by_name("wacnn-huge")
    with pytest.raises(StreamError, match="upgrade"):
        registry.by_id(99)
