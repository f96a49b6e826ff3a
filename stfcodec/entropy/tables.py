"""Integer CDF tables, in the layout that compressai stores in its checkpoints.

Table t has n = length[t] entries: cdf[t, :n] rises strictly from 0 to 2**16, so entry k and k + 1
enclose the share of symbol k + offset[t]. The last share, between entries n - 2 and n - 1, is the
escape: it announces a symbol outside the table, which follows uncompressed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stfcodec.errors import WeightsError

PRECISION = 16
ROUNDING = 2.0**-14
"""Bits that a symbol may cost more, or less, than its share says: x >> 16 rounds off less than
2**-15 of the coder's state x."""
TAIL_MASS = 1e-9
MAX_TABLES = 1 << 16
MAX_OFFSET = 1 << 20


@dataclass(frozen=True, eq=False)
class CdfTables:
    """T integer CDF tables. The arrays must not be changed once the tables have been used.

    cdf: int32 (T, W), what follows the first length[t] entries of row t is ignored.
    length: int32 (T,), 3..W: at least one symbol and the escape.
    offset: int32 (T,), within ±2**20: the symbol that the first share of the table stands for.
    """

    cdf: np.ndarray
    length: np.ndarray
    offset: np.ndarray

    def validate(self) -> None:
        """Raise WeightsError unless the arrays have the form that the class describes."""
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
        """The tables as lists without padding, made (and the tables validated) once."""
        self.validate()
        return [row[:n].tolist() for row, n in zip(self.cdf, self.length.tolist(), strict=True)]

    @cached_property
    def offsets(self) -> list[int]:
        """The array offset as a list."""
        return self.offset.tolist()

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """cdf, length and offset, contiguous (and validated once), and uint16 (T, 256): which share
        of a table, at most, begins at or before each multiple of 256."""
        places = np.arange(0, 1 << PRECISION, 256)
        coarse = [np.searchsorted(row, places, "right") - 1 for row in self.rows]
        cdf, length, offset = map(np.ascontiguousarray, (self.cdf, self.length, self.offset))
        return cdf, length, offset, np.array(coarse, np.uint16)

    def locate(
        self, symbols: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """int64, one of each a symbol: the symbol less its table's offset, the share that codes it,
        and which share is the table's escape."""
        value = symbols.astype(np.int64) - self.offset[rows]
        escape = self.length[rows].astype(np.int64) - 2
        return value, np.where((value < 0) | (value >= escape), escape, value), escape

    @cached_property
    def least_bits(self) -> np.ndarray:
        """float64 (T,): what a symbol costs at least, in bits, whatever the coder rounds off."""
        shares = [max(np.diff(row).tolist()) for row in self.rows]
        return np.maximum(PRECISION - np.log2(np.array(shares, np.float64)) - ROUNDING, 0)

    @cached_property
    def starts(self) -> np.ndarray:
        """int64 (T,): where the costs of table t begin in `bits`."""
        return np.cumsum(self.length, dtype=np.int64) - self.length

    @cached_property
    def bits(self) -> np.ndarray:
        """float32: what each share of each table costs, in bits, all tables one after another.

        Each table is followed by one entry that belongs to no share.
        """
        freqs = np.concatenate([np.diff(row, append=2 << PRECISION) for row in self.rows])
        return (PRECISION - np.log2(freqs)).astype(np.float32)


def pmf_to_cdf(pmf: np.ndarray, precision: int = PRECISION) -> np.ndarray:
    """Turn L probabilities into L + 1 integers that rise strictly from 0 to 2**precision.

    The result equals compressai's pmf_to_quantized_cdf, integer for integer, which is why the
    probabilities are rounded to float32 first. They need not sum to one: they are scaled.
    A symbol that would get nothing takes one unit from the least frequent symbol that has two or
    more. Returns int32 (L + 1,). Raises ValueError for probabilities that are negative, not
    finite, all too small, or more than there are units.
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
    # Rounding down leaves units over: they belong to the last symbol.
    share[-1] += units - int(share.sum())
    for empty in np.flatnonzero(share == 0):
        donor = int(np.argmin(np.where(share > 1, share, units + 1)))
        share[donor] -= 1
        share[empty] = 1
    return np.concatenate(([0], np.cumsum(share))).astype(np.int32)


def gaussian_tables(scales: np.ndarray) -> CdfTables:
    """Tables of zero-mean Gaussians of the given standard deviations, rounded to integers.

    scales: (T,), above 0 and at most 4096; used as float32. Each table reaches so far that
    TAIL_MASS lies outside. Raises ValueError for other scales.

    For the published scales, torch.exp(torch.linspace(log(0.11), log(256), 64)) in float32, the
    integers equal those of compressai's GaussianConditional. They depend on the last bit of a
    scale, which NumPy's exp does not reproduce. For other scales about one table in 600 differs
    somewhere: every step is done in float32 as there, but torch's erfc is not rounded as well.
    """
    # Tables are made when a model is exported; who only decodes need not wait for this import.
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
