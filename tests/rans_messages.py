"""What tests of the rANS coder share: tables, random messages and the verdict on a stream."""

from __future__ import annotations

import numpy as np
import pytest

from stfcodec.entropy import rans
from stfcodec.entropy.tables import CdfTables
from stfcodec.errors import StreamError

MAX = rans.MAX_SYMBOL
needs_compiled = pytest.mark.skipif(rans.BACKEND == "python", reason="no compiled coder here")


def tables_of(*rows: list[int], offset: int = 0) -> CdfTables:
    cdf = np.zeros((len(rows), max(map(len, rows))), dtype=np.int32)
    for t, row in enumerate(rows):
        cdf[t, : len(row)] = row
    length = np.array([len(row) for row in rows], dtype=np.int32)
    return CdfTables(cdf=cdf, length=length, offset=np.full(len(rows), offset, dtype=np.int32))


def int32(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def random_message(rng: np.random.Generator, tables: CdfTables) -> tuple[np.ndarray, np.ndarray]:
    """Symbols mostly where their tables have them, some beside, some anywhere."""
    count = int(rng.integers(0, 400))
    indexes = rng.integers(0, len(tables.rows), count, dtype=np.int32)
    width = tables.length[indexes] + rng.integers(0, 3) * rng.integers(0, 40)
    symbols = tables.offset[indexes] + np.rint((rng.random(count) * 1.2 - 0.1) * width)
    if rng.random() < 0.3:
        far = rng.random(count) < 0.1
        symbols[far] = rng.integers(-MAX, MAX + 1, count)[far]
    return symbols.astype(np.int32), indexes


def verdict(data: bytes, indexes: np.ndarray, tables: CdfTables) -> list[int] | None:
    """The symbols, or None where the stream is refused."""
    try:
        decoder = rans.Decoder(data, tables)
        symbols = decoder.decode(indexes)
        decoder.finish()
    except StreamError:
        return None
    return symbols.tolist()
