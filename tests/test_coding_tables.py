"""CDF tables fitted to photographs follow the counts where there are many, else the Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from photographs import crop
from test_codec import LITE

from stfcodec.entropy.tables import CdfTables, gaussian_tables
from stfcodec.models import locate, registry, weights
from stfcodec.models.coding_tables import count_symbols, fit_tables, tables_from_counts

SCALES = np.array([0.11, 0.5, 3.0, 40.0])
GAUSSIAN = gaussian_tables(SCALES)


def counts_of(symbols: np.ndarray, rows: np.ndarray) -> np.ndarray:
    counts = np.zeros((len(SCALES), GAUSSIAN.cdf.shape[1] - 1), dtype=np.int64)
    count_symbols(counts, GAUSSIAN, symbols, rows)
    return counts


def bits(tables: CdfTables, counts: np.ndarray) -> float:
    costs = [tables.bits[s : s + n - 1] for s, n in zip(tables.starts, tables.length, strict=True)]
    return float(sum((c * k[: len(c)]).sum() for c, k in zip(costs, counts, strict=True)))


def laplacian(seed: int, row: int, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(seed).laplace(0, SCALES[row] / 2**0.5, n)
    return np.round(drawn).astype(np.int32), np.full(n, row, dtype=np.int32)


def test_nothing_seen_leaves_the_gaussian() -> None:
    tables = tables_from_counts(np.zeros((4, GAUSSIAN.cdf.shape[1] - 1), dtype=np.int64), SCALES)
    assert np.array_equal(tables.cdf, GAUSSIAN.cdf)


@pytest.mark.parametrize("row", [1, 2])
def test_longer_tails_cost_fewer_bits_than_with_the_gaussian(row: int) -> None:
    tables = tables_from_counts(counts_of(*laplacian(0, row)), SCALES)
    tables.validate()
    others = counts_of(*laplacian(1, row))
    assert bits(tables, others) < 0.99 * bits(GAUSSIAN, others)
    unseen = [r for r in range(4) if r != row]
    assert np.array_equal(tables.cdf[unseen], GAUSSIAN.cdf[unseen])


def test_few_symbols_change_little() -> None:
    symbols = np.round(np.random.default_rng(0).normal(0, 40, 200)).astype(np.int32)
    tables = tables_from_counts(counts_of(symbols, np.full(200, 3, dtype=np.int32)), SCALES)
    others = np.round(np.random.default_rng(1).normal(0, 40, 20_000)).astype(np.int32)
    counts = counts_of(others, np.full(20_000, 3, dtype=np.int32))
    assert bits(tables, counts) < 1.02 * bits(GAUSSIAN, counts)


def test_either_sign_is_as_likely() -> None:
    tables = tables_from_counts(
        counts_of(np.full(9000, 1, np.int32), np.full(9000, 2, np.int32)), SCALES
    )
    shares, zero = np.diff(tables.rows[2]), -tables.offset[2]
    assert shares[zero - 1] == pytest.approx(shares[zero + 1], abs=1)
    assert shares[zero + 1] > 0.4 * 65536


def test_symbols_outside_their_table_are_escapes() -> None:
    symbols = np.array([-9999, 9999, -2, 2], dtype=np.int32)
    counts = counts_of(symbols, np.zeros(4, dtype=np.int32))
    assert counts[0].sum() == counts[0, GAUSSIAN.length[0] - 2] == 4
    tables_from_counts(counts, SCALES).validate()


@pytest.mark.parametrize("name", LITE)
def test_embedded_tables_beat_the_gaussian_on_a_photograph(name: str) -> None:
    info = registry.by_name(name)
    model = weights.load(info, locate.find(info, 3.0), coding=True)
    x = torch.from_numpy(crop((256, 384))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        y = model.analysis(x, 3.0)
    fitted = len(model.compress(y, 3.0).y)
    model.gaussian_conditional.update()
    assert fitted < len(model.compress(y, 3.0).y)


def test_fitting_counts_what_the_integers_code() -> None:
    info = registry.by_name("wacnn-lite")
    model = weights.load(info, locate.find(info, 1.0), coding=True)
    x = torch.from_numpy(crop((64, 128))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        y = model.analysis(x, 1.0)
    model.gaussian_conditional.update()
    before = len(model.compress(y, 1.0).y)
    model.gaussian_conditional.set_tables(fit_tables(model, [x]))
    coded = model.compress(y, 1.0)
    assert len(coded.y) < 0.98 * before, "fitted to the very crop that is coded"
    model.decompress(coded, (1, 2), 1.0)
