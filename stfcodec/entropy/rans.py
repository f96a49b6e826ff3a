"""The rANS coder: symbols and the CDF tables that predict them to bytes, and back.

A stream is byte for byte that of compressai's coder. It is a list of little-endian 32-bit words.
The first two words, low word first, are the coder's 64-bit state x, which stays in [2**31, 2**63).
A symbol whose share of its table is [start, start + freq) out of 2**16 is decoded by

    x = freq * (x >> 16) + (x & 0xFFFF) - start;  if x < 2**31: x = x << 32 | next word

and encoded by the inverse, from the last symbol to the first, starting with x = 2**31.

A symbol outside its table is coded as the table's escape, followed by groups of 4 bits taken
straight from x. The first group says how many groups follow (0 to 7). These groups, low first, are
the number 2 * (v - m) for v >= m or -2 * v - 1 for v < 0, where v is the symbol less the table's
offset and m is the number of the escape's share. The last group is not 0, so a symbol has one form.

The loops over symbols run in a backend: in C (`rans_compiled.py`) where the extension was built, in
Python (`rans_python.py`) otherwise. Both give the same bytes, and the same verdict on any input.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from stfcodec.entropy import rans_compiled, rans_python
from stfcodec.entropy.rans_python import DAMAGED, MAX_SYMBOL, STATE_END, STATE_MIN
from stfcodec.entropy.tables import CdfTables
from stfcodec.errors import StreamError


class _PieceDecoder(Protocol):
    def decode(self, indexes: np.ndarray) -> np.ndarray: ...

    def at_end(self) -> bool: ...


class _Backend(Protocol):
    """`rans_python` documents its members."""

    def encode(
        self, symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables, state: int
    ) -> tuple[bytes, int]: ...

    def PieceDecoder(self, data: bytes, tables: CdfTables) -> _PieceDecoder: ...  # noqa: N802


backend: _Backend = rans_python if rans_compiled.extension is None else rans_compiled
"""The module whose loops every Encoder and Decoder uses. Tests and benchmarks exchange it."""

BACKEND = "python" if rans_compiled.extension is None else "c"
"""Name of the backend of this installation."""


def encode(symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables) -> bytes:
    """Code symbols into one stream. Arguments and errors are those of `Encoder.add`."""
    encoder = Encoder(tables)
    encoder.add(symbols, indexes)
    return encoder.finish()


class Encoder:
    """Codes one stream, piece by piece, in the order in which a Decoder returns the symbols."""

    def __init__(self, tables: CdfTables) -> None:
        self._tables = tables
        self._pieces: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, symbols: np.ndarray, indexes: np.ndarray) -> None:
        """Add the next N symbols, symbol i with table indexes[i]. N may be 0.

        symbols: int32 (N,), within ±2**26. indexes: int32 (N,), within 0..T-1. The encoder keeps
        both until `finish`. Raises TypeError for another dtype and ValueError for another shape or
        range.
        """
        _check_indexes(indexes, self._tables)
        _check_array("symbols", symbols)
        if symbols.shape != indexes.shape:
            raise ValueError(f"{symbols.size} symbols but {indexes.size} indexes")
        if symbols.size and not -MAX_SYMBOL <= symbols.min() <= symbols.max() <= MAX_SYMBOL:
            raise ValueError(f"a symbol is outside ±{MAX_SYMBOL}")
        self._pieces.append((np.ascontiguousarray(symbols), indexes.astype(np.uint16)))

    def finish(self) -> bytes:
        """The stream. The encoder must not be used afterwards."""
        state, parts = STATE_MIN, []
        while self._pieces:
            words, state = backend.encode(*self._pieces.pop(), self._tables, state)
            parts.append(words)
        return b"".join((state.to_bytes(8, "little"), *reversed(parts)))


class Decoder:
    """Decodes one stream, piece by piece: each call of `decode` continues after the last one.

    Damaged data gives wrong symbols or a StreamError, and nothing worse. `finish` accepts exactly
    the streams that an Encoder makes.
    """

    def __init__(self, data: bytes, tables: CdfTables) -> None:
        """Raise StreamError where data cannot be a stream."""
        if len(data) < 8 or len(data) % 4:
            raise StreamError(f"{DAMAGED}: {len(data)} bytes cannot be a rANS stream")
        if not STATE_MIN <= int.from_bytes(data[:8], "little") < STATE_END:
            raise StreamError(f"{DAMAGED}: the rANS state is out of range")
        self._tables = tables
        self._pieces = backend.PieceDecoder(data, tables)

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        """The next N symbols, int32 (N,), symbol i coded with table indexes[i].

        indexes: int32 (N,), within 0..T-1. Raises TypeError for another dtype, ValueError for
        another shape or range, StreamError where the stream turns out damaged. The decoder must not
        be used after an error.
        """
        _check_indexes(indexes, self._tables)
        return self._pieces.decode(indexes)

    def finish(self) -> None:
        """Raise StreamError unless the symbols decoded so far are the whole stream.

        Then an Encoder of the same symbols would write the same bytes.
        """
        if not self._pieces.at_end():
            raise StreamError(f"{DAMAGED}: they do not end where the stream ends")


def _check_array(name: str, array: np.ndarray) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.int32:
        kind = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name} must be an int32 array, not {kind}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis, not {array.ndim}")


def _check_indexes(indexes: np.ndarray, tables: CdfTables) -> None:
    _check_array("indexes", indexes)
    count = len(tables.rows)
    if indexes.size and not 0 <= indexes.min() <= indexes.max() < count:
        raise ValueError(f"an index is outside 0..{count - 1}, the tables there are")
