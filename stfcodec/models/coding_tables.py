"""CDF tables of y from what photographs show.

The symbols of one scale level are not quite Gaussian: no network is ever sure of a scale, which
makes for more zeros and more outliers than a Gaussian has. So the symbols of photographs are
counted, level by level, and the Gaussian stands in where there is little to count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stfcodec.entropy.tables import CdfTables, gaussian_tables, pmf_to_cdf
from stfcodec.models.base import CompressionModel, flat, symbols_of
from stfcodec.models.calibrate import quantise
from stfcodec.models.priors import scale_levels
from stfcodec.models.registry import LAMBDAS

_TRUST = 20.0
"""How many symbols of σ = 0 the Gaussian counts for, and how many more for each unit of σ, which
spreads symbols over as many more values."""


BATCHES, _RANGES = 48, 12
"""How many batches of crops fit the tables, and how many of them the ranges of the integers."""


def make_coding(model: CompressionModel, crops: Sequence[Tensor]) -> None:
    """Gives a model its integer form, and tables for what that codes. crops: as for `fit_tables`.

    Raises WeightsError where a layer cannot be made exact.
    """
    model.integer = quantise(model, crops[:_RANGES])
    model.gaussian_conditional.set_tables(fit_tables(model, crops))


@torch.no_grad()
def fit_tables(model: CompressionModel, crops: Sequence[Tensor]) -> CdfTables:
    """Tables for the scale levels of a model, as it codes `crops`: batches (B, 3, H, W) of
    photographs, sides multiples of 64, each at one quality, 1…6 in turn."""
    scales = scale_levels().numpy()
    gaussian = gaussian_tables(scales)
    counts = np.zeros((len(scales), gaussian.cdf.shape[1] - 1), dtype=np.int64)
    for n, x in enumerate(crops):
        _count_crops(counts, gaussian, model, x, 1.0 + n % len(LAMBDAS))
    return tables_of(counts, scales)


def _count_crops(
    counts: np.ndarray, tables: CdfTables, model: CompressionModel, x: Tensor, quality: float
) -> None:
    y = model.analysis(x, quality).contiguous()
    z, targets = model.targets(y, quality)

    def code(i: int, mean: Tensor, index: Tensor) -> Tensor:
        symbols = symbols_of(targets[i] - mean)
        count(counts, tables, flat(symbols), flat(index))
        return symbols

    model.decode_symbols(z, quality, code)


def count(counts: np.ndarray, tables: CdfTables, symbols: np.ndarray, rows: np.ndarray) -> None:
    """Adds how often each share of each table is used. counts: (T, shares)."""
    _, share, _ = tables.locate(symbols, rows)
    np.add.at(counts, (rows, share), 1)


def tables_of(counts: np.ndarray, scales: np.ndarray) -> CdfTables:
    """Tables as symmetric and as long as those of Gaussians of these scales (T,), with shares that
    follow the counts (T, shares), as `count` makes them."""
    gaussian = gaussian_tables(scales)
    cdf = np.zeros_like(gaussian.cdf)
    for t, length in enumerate(gaussian.length.tolist()):
        shares = np.diff(gaussian.cdf[t, :length]) / gaussian.cdf[t, length - 1]
        seen = counts[t, : length - 1].astype(np.float64)
        seen[:-1] = (seen[:-1] + seen[-2::-1]) / 2
        shares = seen + _TRUST * (1 + scales[t]) * shares
        cdf[t, :length] = pmf_to_cdf(shares / shares.sum())
    return CdfTables(cdf, gaussian.length, gaussian.offset)
