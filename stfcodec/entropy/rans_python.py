"""The loops of the rANS coder in Python: the reference, and the backend without a compiler.

`rans.py` describes the stream and checks all arguments. `rans_compiled.py` has the same functions
and gives equal bytes, equal symbols and equal errors.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from stfcodec.entropy.tables import PRECISION, CdfTables
from stfcodec.errors import StreamError

MAX_SYMBOL = 1 << 26
"""Largest magnitude of a symbol."""

STATE_MIN, STATE_END = 1 << 31, 1 << 63
"""The state stays within STATE_MIN..STATE_END − 1. It starts at STATE_MIN in encoding."""

DAMAGED = "the coded symbols are damaged"
TOO_SHORT = f"{DAMAGED}: more are needed than the stream holds"
OUT_OF_RANGE = f"{DAMAGED}: a symbol out of all range"
TOO_MANY_GROUPS = f"{DAMAGED}: a symbol in more groups than it needs"
"""Messages of StreamError, common to all backends."""

_TOTAL = 1 << PRECISION
_LOW_BITS = _TOTAL - 1
_WORD = 0xFFFFFFFF
_GROUP_BITS = 4
_MAX_GROUPS = 7
"""Symbols within ±MAX_SYMBOL need no more groups, so a stream that announces more is damaged."""


def encode(
    symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables, state: int
) -> tuple[bytes, int]:
    """Code one piece, last symbol first.

    symbols: int32 (N,), indexes: uint16 (N,), state: the state after the piece, as a decoder
    reaches it. Returns the words of the piece in the order of decoding, and the state before it.
    """
    # Everything that does not depend on the state is done for all symbols at once.
    index = indexes[::-1]
    value, share, escape = tables.locate(symbols[::-1], index)
    start = tables.cdf[index, share]
    freqs = (tables.cdf[index, share + 1] - start).tolist()
    starts = start.tolist()
    escaped = np.flatnonzero(share == escape)
    outside, limit = value[escaped], escape[escaped]
    raws = np.where(outside < 0, -2 * outside - 1, 2 * (outside - limit)).tolist()

    words: list[int] = []
    done = 0
    for place, raw in zip(escaped.tolist(), raws, strict=True):
        state = _put_shares(state, words, starts[done:place], freqs[done:place])
        state = _put_groups(state, words, raw)
        done = place
    state = _put_shares(state, words, starts[done:], freqs[done:])
    return np.array(words[::-1], dtype="<u4").tobytes(), state


def _put_shares(state: int, words: list[int], starts: list[int], freqs: list[int]) -> int:
    """Code shares [start, start + freq). Append full words to `words`, return the new state."""
    for start, freq in zip(starts, freqs, strict=True):
        if state >> 47 >= freq:
            words.append(state & _WORD)
            state >>= 32
        # Equals (state // freq << 16) + state % freq + start, with one division.
        state += state // freq * (_TOTAL - freq) + start
    return state


def _put_groups(state: int, words: list[int], raw: int) -> int:
    """Code the groups of an escaped symbol's number, the highest first, and then their count."""
    count = -(-raw.bit_length() // _GROUP_BITS)
    for group in (*((raw >> _GROUP_BITS * k) & 15 for k in reversed(range(count))), count):
        if state >> 59:
            words.append(state & _WORD)
            state >>= 32
        state = state << _GROUP_BITS | group
    return state


class PieceDecoder:
    """Decodes the pieces of one stream in turn."""

    def __init__(self, data: bytes, tables: CdfTables) -> None:
        self._tables = tables
        self._state = int.from_bytes(data[:8], "little")
        self._words = iter(np.frombuffer(data, dtype="<u4", offset=8).tolist())

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        """The next symbols, int32 (N,), of indexes int32 (N,). Raises StreamError."""
        rows, offsets = self._tables.rows, self._tables.offsets
        state, next_word = self._state, self._words.__next__
        ends: list[int] = []
        escaped: list[tuple[int, int]] = []
        try:
            for index in indexes.tolist():
                row, low = rows[index], state & _LOW_BITS
                above = bisect_right(row, low)
                start, end = row[above - 1], row[above]
                state = (end - start) * (state >> 16) + low - start
                if state < STATE_MIN:
                    state = state << 32 | next_word()
                if end == _TOTAL:
                    self._state = state
                    symbol = self._take_escaped(above - 1) + offsets[index]
                    if abs(symbol) > MAX_SYMBOL:
                        raise StreamError(OUT_OF_RANGE)
                    escaped.append((len(ends), symbol))
                    state = self._state
                ends.append(above)
        except StopIteration:
            raise StreamError(TOO_SHORT) from None
        self._state = state
        symbols = np.array(ends, dtype=np.int32) - 1 + self._tables.offset[indexes]
        for place, symbol in escaped:
            symbols[place] = symbol
        return symbols

    def at_end(self) -> bool:
        """Whether all words are read and the state is the initial one of encoding."""
        return self._state == STATE_MIN and next(self._words, None) is None

    def _take_escaped(self, escape: int) -> int:
        """The symbol less its table's offset, after the escape with this number."""
        count = self._take_group()
        if count > _MAX_GROUPS:
            raise StreamError(OUT_OF_RANGE)
        groups = [self._take_group() for _ in range(count)]
        if groups and not groups[-1]:
            raise StreamError(TOO_MANY_GROUPS)
        raw = sum(group << _GROUP_BITS * k for k, group in enumerate(groups))
        return -(raw >> 1) - 1 if raw & 1 else (raw >> 1) + escape

    def _take_group(self) -> int:
        group = self._state & 15
        self._state >>= _GROUP_BITS
        if self._state < STATE_MIN:
            self._state = self._state << 32 | next(self._words)
        return group
