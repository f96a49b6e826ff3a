"""CUDA computes the same integers as the CPU; layers have the shapes that its product takes."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from integer_trace import BACKENDS, random_symbols, trace
from photographs import crop
from torch import Tensor

import stfcodec
from benchmarks import crosscheck_streams
from stfcodec import container
from stfcodec.models import registry, weights
from stfcodec.models.base import CompressionModel
from stfcodec.models.build import build
from stfcodec.models.integer_backends import Int8Backend
from stfcodec.models.integer_layers import IntegerConv

LITE = registry.by_name("wacnn-lite")
on_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device here: CUDA's sums are not compared"
)


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
