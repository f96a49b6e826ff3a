"""The integer form equals a second implementation in NumPy's int64 arithmetic."""

from __future__ import annotations

import numpy as np
import torch
from integer_trace import random_symbols, trace
from torch import Tensor, nn

from stfcodec.models.base import CompressionModel
from stfcodec.models.integer_entropy import MEAN_DENOMINATOR, IntegerEntropy
from stfcodec.models.integer_layers import IntegerConv, LinearConv, TableConv


def test_equals_arithmetic_in_int64(model: CompressionModel) -> None:
    """A second implementation, of int64 sums, shifts and look-ups alone."""
    z = torch.randint(-9, 10, (1, 96, 2, 2), generator=torch.Generator().manual_seed(1)).float()
    symbols = random_symbols(model, (1, 224, 8, 8))
    found = trace(model.integer, z, symbols)
    expected = reference(model.integer, z, symbols)
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal((a.double() * MEAN_DENOMINATOR).numpy(), b * MEAN_DENOMINATOR)


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
