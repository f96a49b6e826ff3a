"""The loops of the rANS coder in C, where the extension `_rans` was built.

`rans_python.py` is their reference: same functions, equal bytes, equal symbols, equal errors.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from stfcodec.entropy.rans_python import OUT_OF_RANGE, STATE_MIN, TOO_MANY_GROUPS, TOO_SHORT
from stfcodec.entropy.tables import CdfTables
from stfcodec.errors import StreamError

extension: ModuleType | None
"""The compiled module; None where the package was installed without a compiler."""
try:
    from stfcodec.entropy import _rans
except ImportError:
    extension = None
else:
    extension = _rans

_PROBLEMS = {1: TOO_SHORT, 2: OUT_OF_RANGE, 3: TOO_MANY_GROUPS}
"""Messages for the numbers that the extension returns. Other numbers are faults of the tables."""


def encode(
    symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables, state: int
) -> tuple[bytes, int]:
    """As `rans_python.encode`. Raises ValueError where the extension refuses its arguments."""
    assert extension is not None
    problem, words, state = extension.encode(*tables.arrays, indexes, symbols, state)
    if problem:
        raise ValueError(f"the range coder refuses the symbols or the tables ({problem})")
    return words, state


class PieceDecoder:
    """As `rans_python.PieceDecoder`. Also raises ValueError where the extension refuses tables."""

    def __init__(self, data: bytes, tables: CdfTables) -> None:
        self._data, self._tables = data, tables
        self._at, self._state = 8, int.from_bytes(data[:8], "little")

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        assert extension is not None
        symbols = np.empty(indexes.shape, np.int32)
        problem, self._at, self._state = extension.decode(
            *self._tables.arrays,
            indexes.astype(np.uint16),
            self._data,
            symbols,
            self._at,
            self._state,
        )
        if problem in _PROBLEMS:
            raise StreamError(_PROBLEMS[problem])
        if problem:
            raise ValueError(f"the range coder refuses the tables ({problem})")
        return symbols

    def at_end(self) -> bool:
        return self._state == STATE_MIN and self._at == len(self._data)
