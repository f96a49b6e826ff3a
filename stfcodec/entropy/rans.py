"""The rANS coder: symbols and the tables that predict them to bytes, and back.

A stream is that of compressai's coder, byte for byte. It is a list of little-endian 32-bit words;
the first two, low word first, are the coder's 64-bit state x, which stays in [2**31, 2**63). A
symbol whose share of its table is [start, start + freq) out of 2**16 is decoded by

    x = freq * (x >> 16) + (x & 0xFFFF) - start;  if x < 2**31: x = x << 32 | next word

and encoded by the inverse, from the last symbol to the first, starting with x = 2**31. A symbol
outside its table is coded as the table's escape, followed by groups of 4 bits taken straight
from x: how many groups follow (0 to 7), then the groups, low first, of 2 * (v - m) for v >= m and
-2 * v - 1 for v < 0, where v is the symbol less the table's offset and m is the escape's place. The
last group is not 0: a symbol has one form.

The loops run in C (`_rans.c`) where the extension was built, and in Python otherwise: same bytes,
same verdict on any input.
"""

from __future__ import annotations

from bisect import bisect_right
from types import ModuleType
from typing import Protocol

import numpy as np

from stfcodec.entropy.tables import PRECISION, CdfTables
from stfcodec.errors import StreamError

try:
    from stfcodec.entropy import _rans
except ImportError:  # installed where there was no compiler
    _rans = None  # type: ignore[assignment]

_compiled: ModuleType | None = _rans
BACKEND = "python" if _compiled is None else "c"

MAX_SYMBOL = 1 << 26

_TOTAL = 1 << PRECISION
_LOW_BITS = _TOTAL - 1
_STATE_MIN = 1 << 31
_STATE_END = 1 << 63
_WORD = 0xFFFFFFFF
_GROUP_BITS = 4
# Symbols within ±MAX_SYMBOL need no more; a stream that announces more is damaged.
_MAX_GROUPS = 7

_DAMAGED = "the coded symbols are damaged"
_SHORT = f"{_DAMAGED}: more are needed than the stream holds"
_RANGE = f"{_DAMAGED}: a symbol out of all range"
_EXCESS = f"{_DAMAGED}: a symbol in more groups than it needs"
_LEFT_OVER = f"{_DAMAGED}: they do not end where the stream ends"
_PROBLEMS = {1: _SHORT, 2: _RANGE, 3: _EXCESS}
"""What the compiled decoder ended with. Any other number is a table that `validate` refuses."""


def encode(symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables) -> bytes:
    """Codes symbols into one stream, all at once: see `Encoder`."""
    encoder = Encoder(tables)
    encoder.add(symbols, indexes)
    return encoder.finish()


class Encoder:
    """Codes one stream, piece by piece, in the order in which a Decoder gives the symbols back."""

    def __init__(self, tables: CdfTables) -> None:
        self._tables = tables
        self._pieces: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, symbols: np.ndarray, indexes: np.ndarray) -> None:
        """The next N symbols, symbol i with table indexes[i]. Both are kept until `finish`.

        symbols: int32 (N,), within ±2**26. indexes: int32 (N,), within 0..T-1. N may be 0.
        Raises TypeError for another dtype and ValueError for another shape or range.
        """
        _check_indexes(indexes, self._tables)
        _check_array("symbols", symbols)
        if symbols.shape != indexes.shape:
            raise ValueError(f"{symbols.size} symbols but {indexes.size} indexes")
        if symbols.size and not -MAX_SYMBOL <= symbols.min() <= symbols.max() <= MAX_SYMBOL:
            raise ValueError(f"a symbol is outside ±{MAX_SYMBOL}")
        self._pieces.append((np.ascontiguousarray(symbols), indexes.astype(np.uint16)))

    def finish(self) -> bytes:
        """The stream. After this the encoder is of no further use."""
        state, parts = _STATE_MIN, []
        code = _encode_python if _compiled is None else _encode_compiled
        while self._pieces:
            words, state = code(*self._pieces.pop(), self._tables, state)
            parts.append(words)
        return b"".join((state.to_bytes(8, "little"), *reversed(parts)))


class Decoder:
    """Decodes one stream, piece by piece: each call of decode goes on where the last one ended.

    Damaged data gives wrong symbols or a StreamError, and nothing worse. `finish` accepts exactly
    the streams that an Encoder makes.
    """

    def __init__(self, data: bytes, tables: CdfTables) -> None:
        """Raises StreamError when data cannot be a stream."""
        if len(data) < 8 or len(data) % 4:
            raise StreamError(f"{_DAMAGED}: {len(data)} bytes cannot be a rANS stream")
        if not _STATE_MIN <= int.from_bytes(data[:8], "little") < _STATE_END:
            raise StreamError(f"{_DAMAGED}: the rANS state is out of range")
        self._tables = tables
        loops = _PythonDecoder if _compiled is None else _CompiledDecoder
        self._coder: _Coder = loops(data, tables)

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        """Return the next N symbols, int32 (N,), symbol i coded with table indexes[i].

        indexes: int32 (N,), within 0..T-1. Raises TypeError for another dtype, ValueError for
        another shape or range, StreamError when the stream is seen to be damaged. After an
        error the decoder is of no further use.
        """
        _check_indexes(indexes, self._tables)
        return self._coder.decode(indexes)

    def finish(self) -> None:
        """Raises StreamError unless the symbols decoded so far are the whole stream: nothing is
        left over, and an Encoder given them would write these very bytes."""
        if not self._coder.at_end():
            raise StreamError(_LEFT_OVER)


class _Coder(Protocol):
    def decode(self, indexes: np.ndarray) -> np.ndarray: ...

    def at_end(self) -> bool: ...


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


# ---------------------------------------------------------------- compiled


def _encode_compiled(
    symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables, state: int
) -> tuple[bytes, int]:
    assert _compiled is not None
    problem, words, state = _compiled.encode(*tables.arrays, indexes, symbols, state)
    if problem:
        raise ValueError(f"the range coder refuses the symbols or the tables ({problem})")
    return words, state


class _CompiledDecoder:
    def __init__(self, data: bytes, tables: CdfTables) -> None:
        self._data, self._tables = data, tables
        self._at, self._state = 8, int.from_bytes(data[:8], "little")

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        assert _compiled is not None
        symbols = np.empty(indexes.shape, np.int32)
        problem, self._at, self._state = _compiled.decode(
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
        return self._state == _STATE_MIN and self._at == len(self._data)


# ---------------------------------------------------------------- Python


def _encode_python(
    symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables, state: int
) -> tuple[bytes, int]:
    """The words of a piece, and the state before it from the one after it."""
    # Everything that does not depend on the state is done for all symbols at once, last first.
    index = indexes[::-1]
    value, share, escape = tables.locate(symbols[::-1], index)
    start = tables.cdf[index, share]
    freqs = (tables.cdf[index, share + 1] - start).tolist()
    starts = start.tolist()
    places = np.flatnonzero(share == escape)
    outside, limit = value[places], escape[places]
    raws = np.where(outside < 0, -2 * outside - 1, 2 * (outside - limit)).tolist()

    words: list[int] = []
    done = 0
    for place, raw in zip(places.tolist(), raws, strict=True):
        state = _put_shares(state, words, starts[done:place], freqs[done:place])
        state = _put_groups(state, words, raw)
        done = place
    state = _put_shares(state, words, starts[done:], freqs[done:])
    return np.array(words[::-1], dtype="<u4").tobytes(), state


def _put_shares(state: int, words: list[int], starts: list[int], freqs: list[int]) -> int:
    for start, freq in zip(starts, freqs, strict=True):
        if state >> 47 >= freq:
            words.append(state & _WORD)
            state >>= 32
        # (state // freq << 16) + state % freq + start, with one division.
        state += state // freq * (_TOTAL - freq) + start
    return state


def _put_groups(state: int, words: list[int], raw: int) -> int:
    count = -(-raw.bit_length() // _GROUP_BITS)
    for group in (*((raw >> _GROUP_BITS * k) & 15 for k in reversed(range(count))), count):
        if state >> 59:
            words.append(state & _WORD)
            state >>= 32
        state = state << _GROUP_BITS | group
    return state


class _PythonDecoder:
    def __init__(self, data: bytes, tables: CdfTables) -> None:
        self._tables = tables
        self._state = int.from_bytes(data[:8], "little")
        self._words = iter(np.frombuffer(data, dtype="<u4", offset=8).tolist())

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        rows, offsets = self._tables.rows, self._tables.offsets
        state, next_word = self._state, self._words.__next__
        found: list[int] = []
        outside: list[tuple[int, int]] = []
        try:
            for index in indexes.tolist():
                row, low = rows[index], state & _LOW_BITS
                above = bisect_right(row, low)
                start, end = row[above - 1], row[above]
                state = (end - start) * (state >> 16) + low - start
                if state < _STATE_MIN:
                    state = state << 32 | next_word()
                if end == _TOTAL:
                    self._state = state
                    symbol = self._take_outside(above - 1) + offsets[index]
                    if abs(symbol) > MAX_SYMBOL:
                        raise StreamError(_RANGE)
                    outside.append((len(found), symbol))
                    state = self._state
                found.append(above)
        except StopIteration:
            raise StreamError(_SHORT) from None
        self._state = state
        symbols = np.array(found, dtype=np.int32) - 1 + self._tables.offset[indexes]
        for place, symbol in outside:
            symbols[place] = symbol
        return symbols

    def at_end(self) -> bool:
        return self._state == _STATE_MIN and next(self._words, None) is None

    def _take_outside(self, escape: int) -> int:
        count = self._take_group()
        if count > _MAX_GROUPS:
            raise StreamError(_RANGE)
        groups = [self._take_group() for _ in range(count)]
        if groups and not groups[-1]:
            raise StreamError(_EXCESS)
        raw = sum(group << _GROUP_BITS * k for k, group in enumerate(groups))
        return -(raw >> 1) - 1 if raw & 1 else (raw >> 1) + escape

    def _take_group(self) -> int:
        group = self._state & 15
        self._state >>= _GROUP_BITS
        if self._state < _STATE_MIN:
            self._state = self._state << 32 | next(self._words)
        return group
