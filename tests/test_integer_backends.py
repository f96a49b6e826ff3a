"""Sums of the integer layers are exact on every backend: the proof, its bound, and the choice."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from integer_trace import BACKENDS, every_backend

from stfcodec.errors import WeightsError
from stfcodec.models import integer_backends
from stfcodec.models.base import CompressionModel
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
from stfcodec.models.integer_layers import IntegerConv, TableConv


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
