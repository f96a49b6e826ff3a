"""Integer CDF tables, in the layout of compressai's checkpoints, and what symbols cost with them.

Table t has n = length[t] entries, and cdf[t, :n] rises strictly from 0 to 2**16. Entries k and k +
1 enclose the share of symbol k + offset[t]. The last share, between entries n - 2 and n - 1, is the
escape: it announces a symbol outside the table, which follows uncompressed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stfcodec.errors import WeightsError

PRECISION = 16
"""The shares of a table sum to 2**PRECISION."""

TAIL_MASS = 1e-9
"""Probability outside the tables that are made here, at most."""

MAX_TABLES = 1 << 16
MAX_OFFSET = 1 << 20

_ROUNDING = 2.0**-14
"""Bits by which a symbol's cost may differ from −log2 of its share. In the coder, x >> 16 rounds
off less than 2**-15 of the state x."""


@dataclass(frozen=True, eq=False)
class CdfTables:
    """T integer CDF tables. The arrays must not change once the tables have been used.

    cdf: int32 (T, W). Only the first length[t] entries of row t count.
    length: int32 (T,), within 3..W: at least one symbol and the escape.
    offset: int32 (T,), within ±2**20: the symbol of the table's first share.
    """

    cdf: np.ndarray
    length: np.ndarray
    offset: np.ndarray

    def validate(self) -> None:
        """Raise WeightsError unless the arrays are as the class describes them."""
        for name, array, axes in (
            ("cdf", self.cdf, 2),
            ("length", self.length, 1),
            ("offset", self.offset, 1),
        ):
            if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.ndim != axes:
                raise WeightsError(f"damaged CDF tables: {name} must be int32 with {axes} axes")
        count, width = self.cdf.shape
        if not 1 <= count <= MAX_TABLES or len(self.length) != count or len(self.offset) != count:
            raise WeightsError(
                f"damaged CDF tables: {count} rows, {len(self.length)} lengths and "
                f"{len(self.offset)} offsets (equal numbers, 1..{MAX_TABLES}, are needed)"
            )
        if self.length.min() < 3 or self.length.max() > width:
            raise WeightsError(f"damaged CDF tables: a length is outside 3..{width}")
        if self.offset.min() < -MAX_OFFSET or self.offset.max() > MAX_OFFSET:
            raise WeightsError(f"damaged CDF tables: an offset is outside ±{MAX_OFFSET}")
        used = np.arange(width) < self.length[:, None]
        rises = np.diff(self.cdf.astype(np.int64), axis=1) > 0
        last = self.cdf[np.arange(count), self.length - 1]
        good = (self.cdf[:, 0] == 0) & (last == 1 << PRECISION) & (rises | ~used[:, 1:]).all(axis=1)
        if not good.all():
            raise WeightsError(
                f"damaged CDF tables: row {int(np.argmin(good))} does not rise strictly "
                f"from 0 to {1 << PRECISION}"
            )

    @cached_property
    def rows(self) -> list[list[int]]:
        """The tables as lists without padding. Raises WeightsError where they are not valid."""
        self.validate()
        return [row[:n].tolist() for row, n in zip(self.cdf, self.length.tolist(), strict=True)]

    @cached_property
    def offsets(self) -> list[int]:
        """The array offset as a list."""
        return self.offset.tolist()

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The arguments of the compiled coder: cdf, length, offset and a coarse index, contiguous.

        The coarse index, uint16 (T, 256), has the number of the last share that begins at or before
        each multiple of 256. Raises WeightsError where the tables are not valid.
        """
        places = np.arange(0, 1 << PRECISION, 256)
        coarse = [np.searchsorted(row, places, "right") - 1 for row in self.rows]
        cdf, length, offset = map(np.ascontiguousarray, (self.cdf, self.length, self.offset))
        return cdf, length, offset, np.array(coarse, np.uint16)

    def locate(
        self, symbols: np.ndarray, indexes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where N symbols lie in their tables. symbols, indexes: integers (N,).

        Returns three int64 (N,): the symbol less its table's offset, the number of the share that
        codes it, and the number of the table's escape.
        """
        value = symbols.astype(np.int64) - self.offset[indexes]
        escape = self.length[indexes].astype(np.int64) - 2
        return value, np.where((value < 0) | (value >= escape), escape, value), escape

    def costs(self, symbols: np.ndarray, indexes: np.ndarray) -> np.ndarray:
        """Bits that each of N symbols costs, symbol i with table indexes[i]: float32 (N,).

        symbols, indexes: integers (N,). The rounding of the coder's state, below 2**-14 bits a
        symbol, is left out.
        """
        value, share, escape = self.locate(symbols, indexes)
        escaped = share == escape
        # The number of a symbol outside its table takes groups of 4 bits, and one says how many.
        number = np.where(value < 0, -2 * value - 1, 2 * (value - escape))[escaped]
        groups = 1 + np.ceil(np.log2(number + 1) / 4)
        bits = self.bits[self.starts[indexes] + share]
        bits[escaped] += 4 * groups
        return bits

    def cost(self, symbols: np.ndarray, indexes: np.ndarray) -> float:
        """The sum of `costs`."""
        return float(self.costs(symbols, indexes).sum(dtype=np.float64))

    @cached_property
    def least_bits(self) -> np.ndarray:
        """float64 (T,): a lower bound of what any symbol costs with each table, in bits."""
        shares = [max(np.diff(row).tolist()) for row in self.rows]
        return np.maximum(PRECISION - np.log2(np.array(shares, np.float64)) - _ROUNDING, 0)

    @cached_property
    def starts(self) -> np.ndarray:
        """int64 (T,): where the costs of table t begin in `bits`."""
        return np.cumsum(self.length, dtype=np.int64) - self.length

    @cached_property
    def bits(self) -> np.ndarray:
        """float32: the cost of each share in bits, −log2(share / 2**16), table after table.

        One entry that belongs to no share follows each table.
        """
        freqs = np.concatenate([np.diff(row, append=2 << PRECISION) for row in self.rows])
        return (PRECISION - np.log2(freqs)).astype(np.float32)


def pmf_to_cdf(pmf: np.ndarray, precision: int = PRECISION) -> np.ndarray:
    """L probabilities as L + 1 integers that rise strictly from 0 to 2**precision, int32.

    The result equals compressai's pmf_to_quantized_cdf, integer for integer, so the probabilities
    are rounded to float32 first. They are scaled and need not sum to 1. A symbol whose share would
    be 0 takes one unit from the smallest share that has two or more. Raises ValueError for
    probabilities that are negative, not finite or all too small, and for more than 2**precision.
    """
    if not 1 <= precision <= PRECISION:
        raise ValueError(f"precision is {precision}, it must be within 1..{PRECISION}")
    units = 1 << precision
    p = np.asarray(pmf, dtype=np.float32).astype(np.float64)
    if p.ndim != 1 or not 1 <= p.size <= units:
        raise ValueError(f"pmf has the shape {p.shape}, it must have one axis of 1..{units} values")
    if not np.isfinite(p).all() or p.min() < 0 or p.sum() >= 1 << 14:
        raise ValueError("pmf holds a negative, infinite, undefined or too large probability")
    # Rounds half away from zero; exact, as float64 holds every float32 multiplied by `units`.
    share = np.floor(p * units + 0.5).astype(np.int64)
    total = int(share.sum())
    if total == 0:
        raise ValueError("pmf holds no probability large enough to be coded")
    share = share * units // total
    # The units that rounding down leaves over belong to the last symbol.
    share[-1] += units - int(share.sum())
    for empty in np.flatnonzero(share == 0):
        donor = int(np.argmin(np.where(share > 1, share, units + 1)))
        share[donor] -= 1
        share[empty] = 1
    return np.concatenate(([0], np.cumsum(share))).astype(np.int32)


def gaussian_tables(scales: np.ndarray) -> CdfTables:
    """Tables of zero-mean Gaussians, rounded to integers, of the given standard deviations.

    scales: (T,), above 0 and at most 4096, used as float32. Each table is so long that TAIL_MASS
    lies outside. Raises ValueError for other scales.

    For the published scales, torch.exp(torch.linspace(log(0.11), log(256), 64)) in float32, the
    integers equal those of compressai's GaussianConditional. They depend on the last bit of a
    scale, which NumPy's exp does not reproduce. For other scales about one table in 600 differs in
    some entry: all operations are the same and in float32, but torch rounds erfc less exactly.
    """
    # Tables are made when a model is exported. Coding does not wait for this import.
    from statistics import NormalDist

    sigma = np.asarray(scales, dtype=np.float32)
    if sigma.ndim != 1 or sigma.size == 0:
        raise ValueError(f"scales has the shape {sigma.shape}, it must have one axis, not empty")
    if not np.isfinite(sigma).all() or sigma.min() <= 0 or sigma.max() > 4096:
        raise ValueError("scales must be above 0 and at most 4096")
    reach = np.float32(-NormalDist().inv_cdf(TAIL_MASS / 2))
    center = np.ceil(sigma * reach).astype(np.int32)
    length = 2 * center + 3
    cdf = np.zeros((sigma.size, int(length.max())), dtype=np.int32)
    half = np.float32(0.5)
    for t, (c, s) in enumerate(zip(center.tolist(), sigma, strict=True)):
        distance = np.abs(np.arange(-c, c + 1)).astype(np.float32)
        upper = _standard_normal_cdf((half - distance) / s)
        lower = _standard_normal_cdf((-half - distance) / s)
        cdf[t, : length[t]] = pmf_to_cdf(np.append(upper - lower, 2 * lower[0]))
    return CdfTables(cdf=cdf, length=length, offset=-center)


def _standard_normal_cdf(x: np.ndarray) -> np.ndarray:
    scaled = np.float32(-math.sqrt(0.5)) * x
    erfc = np.array([math.erfc(value) for value in scaled.tolist()], dtype=np.float32)
    return np.float32(0.5) * erfc
