"""What tests of the integer form share: backends, symbols, and the trace of a decoding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stfcodec.models.base import CompressionModel
from stfcodec.models.integer_backends import FloatBackend, Int8Backend, ReferenceBackend
from stfcodec.models.integer_entropy import IntegerEntropy

BACKENDS = {
    "float": FloatBackend(),
    "int8": Int8Backend(),
    "int8-aligned": Int8Backend(aligned=True),
    "reference": ReferenceBackend(),
}
every_backend = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)


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
