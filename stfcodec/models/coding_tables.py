"""CDF tables of y, fitted to the symbols that photographs give.

The symbols of one scale level are not quite Gaussian: predicted scales are uncertain, which makes
zeros and outliers more frequent. So each level's table follows a histogram of the symbols of
photographs, and the Gaussian where few symbols were counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stfcodec.entropy.tables import CdfTables, gaussian_tables, pmf_to_cdf
from stfcodec.models.base import CompressionModel
from stfcodec.models.calibrate import quantise
from stfcodec.models.coding import flat, symbols_of
from stfcodec.models.priors import scale_levels
from stfcodec.models.registry import LAMBDAS
from stfcodec.models.value_ranges import in_float64, latents

CALIBRATION_BATCHES, _RANGE_BATCHES = 48, 12
"""Batches of crops that the tables are fitted to, and how many of them calibrate the integers."""

_PSEUDO_COUNTS = 20.0
"""The Gaussian counts as this many symbols at σ = 0, and as this many more per unit of σ, because
symbols then spread over proportionally more values."""


def fit_for_coding(model: CompressionModel, crops: Sequence[Tensor]) -> None:
    """Give a trained model its integer form, and CDF tables fitted to what that form codes.

    The quantiles of z are fitted to its density. crops: as for `fit_tables`. Raises WeightsError
    where a layer cannot be made exact.
    """
    model.entropy_bottleneck.fit_quantiles()
    model.update()
    model.integer = quantise(model, crops[:_RANGE_BATCHES])
    model.gaussian_conditional.set_tables(fit_tables(model, crops))


@torch.no_grad()
def fit_tables(model: CompressionModel, crops: Sequence[Tensor]) -> CdfTables:
    """One table per scale level, fitted to the symbols of y as the model codes the crops.

    crops: batches (B, 3, H, W) of photographs in 0…1, sides multiples of 64. Qualities 1…6 take
    turns, one per batch.
    """
    scales = scale_levels().numpy()
    gaussian = gaussian_tables(scales)
    counts = np.zeros((len(scales), gaussian.cdf.shape[1] - 1), dtype=np.int64)
    floating = in_float64(model)
    for n, x in enumerate(crops):
        _count_batch(counts, gaussian, model, floating, x, 1.0 + n % len(LAMBDAS))
    return tables_from_counts(counts, scales)


def _count_batch(
    counts: np.ndarray,
    tables: CdfTables,
    model: CompressionModel,
    floating: CompressionModel,
    x: Tensor,
    quality: float,
) -> None:
    """Count the symbols of crops x (B, 3, H, W), whose latents `floating` computes."""
    z, passes = floating.symbols_and_passes(latents(floating, x, quality), quality)

    def code(i: int, mean: Tensor, level: Tensor) -> Tensor:
        symbols = symbols_of(passes[i] - mean)
        count_symbols(counts, tables, flat(symbols), flat(level))
        return symbols.float()

    model.decode_symbols(z.float(), quality, code)


def count_symbols(
    counts: np.ndarray, tables: CdfTables, symbols: np.ndarray, levels: np.ndarray
) -> None:
    """Add symbols (n,) of scale levels (n,) to the counts (T, shares) of each table's shares."""
    _, share, _ = tables.locate(symbols, levels)
    np.add.at(counts, (levels, share), 1)


def tables_from_counts(counts: np.ndarray, scales: np.ndarray) -> CdfTables:
    """Symmetric tables with the lengths of the Gaussian tables, and shares that follow the counts.

    counts: (T, shares), as `count_symbols` makes them; scales: (T,), of the Gaussians.
    """
    gaussian = gaussian_tables(scales)
    cdf = np.zeros_like(gaussian.cdf)
    for t, length in enumerate(gaussian.length.tolist()):
        prior = np.diff(gaussian.cdf[t, :length]) / gaussian.cdf[t, length - 1]
        counted = counts[t, : length - 1].astype(np.float64)
        counted[:-1] = (counted[:-1] + counted[-2::-1]) / 2
        shares = counted + _PSEUDO_COUNTS * (1 + scales[t]) * prior
        cdf[t, :length] = pmf_to_cdf(shares / shares.sum())
    return CdfTables(cdf, gaussian.length, gaussian.offset)
