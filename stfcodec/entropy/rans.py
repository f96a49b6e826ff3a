"""The rANS coder: symbols and the tables that predict them to bytes, and back.

A stream is that of compressai's coder, byte for byte. It is a list of little-endian 32-bit words;
the first two, low word first, are the coder's 64-bit state x, which stays in [2**31, 2**63). A
symbol whose share of its table is [start, start + freq) out of 2**16 is decoded by

    x = freq * (x >> 16) + (x & 0xFFFF) - start;  if x < 2**31: x = x << 32 | next word

and encoded by the inverse, from the last symbol to the first, starting with x = 2**31. A symbol
outside its table is coded as the table's escape, followed by groups of 4 bits taken straight
from x: how many groups follow (0 to 7), then the groups, low first, of 2 * (v - m) for v >= m and
-2 * v - 1 for v < 0, where v is the symbol less the table's offset and m is the escape's place.

The loops run in compressai's compiled coder where it is installed, and in Python otherwise.
"""

from __future__ import annotations

import importlib.util
from array import array
from bisect import bisect_right
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from stfcodec.entropy.tables import PRECISION, ROUNDING, CdfTables
from stfcodec.errors import StfError, StreamError

# The compiled coder never returns from a symbol some way beyond 2**27.
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
_LEFT_OVER = f"{_DAMAGED}: they do not end where the stream ends"


def encode(symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables) -> bytes:
    """Codes symbols into one stream, all at once: see `Encoder`."""
    encoder = Encoder(tables)
    encoder.add(symbols, indexes)
    return encoder.finish()


class Encoder:
    """Codes one stream, piece by piece, in the order in which a Decoder gives the symbols back."""

    # The compiled coder writes outside its buffer when it is given fewer than three symbols.
    _FEWEST = 8

    def __init__(self, tables: CdfTables) -> None:
        self._tables = tables
        self._coder = None if _ans is None else _ans.BufferedRansEncoder()
        self._started = False  # whether the compiled coder has been given anything
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, symbols: np.ndarray, indexes: np.ndarray) -> None:
        """The next N symbols, symbol i with table indexes[i].

        symbols: int32 (N,), within ±2**26. indexes: int32 (N,), within 0..T-1. N may be 0.
        Raises TypeError for another dtype and ValueError for another shape or range.
        """
        _check_indexes(indexes, self._tables)
        _check_array("symbols", symbols)
        if symbols.shape != indexes.shape:
            raise ValueError(f"{symbols.size} symbols but {indexes.size} indexes")
        if symbols.size and not -MAX_SYMBOL <= symbols.min() <= symbols.max() <= MAX_SYMBOL:
            raise ValueError(f"a symbol is outside ±{MAX_SYMBOL}")
        self._waiting.append((symbols, indexes))
        enough = self._started or sum(s.size for s, _ in self._waiting) >= self._FEWEST
        if self._coder is not None and enough:
            for piece in self._waiting:
                _push(self._coder, *piece, self._tables)
            self._started, self._waiting = True, []

    def finish(self) -> bytes:
        """The stream. After this the encoder is of no further use."""
        if self._coder is not None and self._started:
            return self._coder.flush()
        pieces = self._waiting or [(np.empty(0, np.int32),) * 2]
        symbols, indexes = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
        return _encode_python(symbols, indexes, self._tables)


class Decoder:
    """Decodes one stream, piece by piece: each call of decode goes on where the last one ended.

    Damaged data gives wrong symbols or a StreamError, and nothing worse. `finish` accepts exactly
    the streams that an Encoder makes, whichever loop runs.
    """

    def __init__(self, data: bytes, tables: CdfTables) -> None:
        """Raises StreamError when data cannot be a stream."""
        if len(data) < 8 or len(data) % 4:
            raise StreamError(f"{_DAMAGED}: {len(data)} bytes cannot be a rANS stream")
        if not _STATE_MIN <= int.from_bytes(data[:8], "little") < _STATE_END:
            raise StreamError(f"{_DAMAGED}: the rANS state is out of range")
        self._tables = tables
        self._coder: _Coder = (
            _PythonDecoder(data, tables) if _ans is None else _CompiledDecoder(_ans, data, tables)
        )

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
        self._coder.finish()


class _Coder(Protocol):
    def decode(self, indexes: np.ndarray) -> np.ndarray: ...

    def finish(self) -> None: ...


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


# ---------------------------------------------------------------- Python


def _encode_python(symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables) -> bytes:
    # Everything that does not depend on the state is done for all symbols at once, last first.
    index = indexes[::-1]
    value, share, escape = tables.locate(symbols[::-1], index)
    start = tables.cdf[index, share]
    freqs = (tables.cdf[index, share + 1] - start).tolist()
    starts = start.tolist()
    places = np.flatnonzero(share == escape)
    outside, limit = value[places], escape[places]
    raws = np.where(outside < 0, -2 * outside - 1, 2 * (outside - limit)).tolist()

    state = _STATE_MIN
    words: list[int] = []
    done = 0
    for place, raw in zip(places.tolist(), raws, strict=True):
        state = _put_shares(state, words, starts[done:place], freqs[done:place])
        state = _put_groups(state, words, raw)
        done = place
    state = _put_shares(state, words, starts[done:], freqs[done:])
    words += (state >> 32, state & _WORD)
    return np.array(words[::-1], dtype="<u4").tobytes()


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
        rows = self._tables.rows
        state, next_word = self._state, self._words.__next__
        found: list[int] = []
        outside: list[tuple[int, int]] = []
        try:
            for row in map(rows.__getitem__, indexes.tolist()):
                low = state & _LOW_BITS
                above = bisect_right(row, low)
                start, end = row[above - 1], row[above]
                state = (end - start) * (state >> 16) + low - start
                if state < _STATE_MIN:
                    state = state << 32 | next_word()
                if end == _TOTAL:
                    self._state = state
                    outside.append((len(found), self._take_outside(above - 1)))
                    state = self._state
                found.append(above)
        except StopIteration:
            raise StreamError(f"{_DAMAGED}: more are needed than the stream holds") from None
        self._state = state
        symbols = np.array(found, dtype=np.int32) - 1 + self._tables.offset[indexes]
        for place, value in outside:
            symbol = value + int(self._tables.offset[indexes[place]])
            if abs(symbol) > MAX_SYMBOL:
                raise StreamError(f"{_DAMAGED}: a symbol out of all range")
            symbols[place] = symbol
        return symbols

    def finish(self) -> None:
        if self._state != _STATE_MIN or next(self._words, None) is not None:
            raise StreamError(_LEFT_OVER)

    def _take_outside(self, escape: int) -> int:
        count = self._take_group()
        if count > _MAX_GROUPS:
            raise StreamError(f"{_DAMAGED}: a symbol out of all range")
        groups = [self._take_group() for _ in range(count)]
        if groups and not groups[-1]:
            raise StreamError(f"{_DAMAGED}: a symbol in more groups than it needs")
        raw = sum(group << _GROUP_BITS * k for k, group in enumerate(groups))
        return -(raw >> 1) - 1 if raw & 1 else (raw >> 1) + escape

    def _take_group(self) -> int:
        group = self._state & 15
        self._state >>= _GROUP_BITS
        if self._state < _STATE_MIN:
            self._state = self._state << 32 | next(self._words)
        return group


# ---------------------------------------------------------------- compiled

# What the compiled functions take: memoryviews of int32 arrays were the quickest of what they
# accept. 300 000 symbols, ms, encode and decode: memoryview 11 and 13, tolist() 13 and 15, the
# arrays themselves 22 and 20. Their list of results goes through array.array: 6 ms, against 8 for
# np.fromiter and 9 for np.array. Passing 64 Gaussian tables costs 0.25 ms, 40 of them 0.02 ms (the
# wide ones are the last), so only those up to the largest index are passed.


_PIECE = 1 << 20
"""At most so many symbols a call: they become lists of Python integers, which take many times
their memory."""


def _push(coder: Any, symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables) -> None:
    """Hands symbols to a compiled encoder."""
    for start in range(0, symbols.size, _PIECE):
        piece = slice(start, start + _PIECE)
        values = np.ascontiguousarray(symbols[piece]).data
        coder.encode_with_indexes(values, *_compiled_arguments(indexes[piece], tables))


def _compiled_arguments(
    indexes: np.ndarray, tables: CdfTables
) -> tuple[memoryview, list[list[int]], list[int], list[int]]:
    count = int(indexes.max()) + 1
    return (
        np.ascontiguousarray(indexes).data,
        tables.rows[:count],
        tables.lengths[:count],
        tables.offsets[:count],
    )


class _CompiledDecoder:
    """Keeps the compiled decoder, which never looks for the end of its buffer, inside it.

    The buffer is the stream and zeros after it. What is read of the zeros is bounded as follows.
    A symbol from inside its table takes the bits that its share costs. One from outside takes,
    in a hostile stream, at most `_outside` bits: its count goes on while groups are 15, of which
    the state holds at most 8, a word of ones 8 and the word that ends the run 7. It is seen to be
    from outside, unless it has overflowed to some other value, which takes a non-zero eighth
    group. Among zeros there is none (a state yields its 8 groups, the count among them, and then
    zeros), so this may hide one reading of `_outside` bits, the one that leaves the stream.

    So after each call it is known how much may have been read, and no call asks for more symbols
    than what is left must hold. A stream with so many symbols outside their tables that too
    little is left is decoded in Python.
    """

    # Zeros: enough for calls of 16 000 symbols, and for a symbol outside its table every 16 bytes.
    ROOM = 2 << 20
    ROOM_PER_BYTE = 8
    # Calls of fewer symbols are not worth making.
    SMALLEST = 256

    def __init__(self, ans: ModuleType, data: bytes, tables: CdfTables) -> None:
        self._data, self._tables = data, tables
        room = self.ROOM + self.ROOM_PER_BYTE * len(data)
        self._coder = ans.RansDecoder()
        self._coder.set_stream(data.ljust(len(data) + room, b"\0"))
        longest = 15 + 8 * _longest_run_of_ones(data)
        groups = longest + 1 + 15 * longest + 14
        self._outside = PRECISION + _GROUP_BITS * groups + 1
        # Bits, less the two words read at the start and one that may be read ahead.
        self._left = 8.0 * room - 96 - self._outside
        self._spent = 0.0
        self._history: list[tuple[np.ndarray, np.ndarray]] = []
        self._python: _PythonDecoder | None = None

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        symbols = np.empty(indexes.shape, dtype=np.int32)
        done = 0
        while done < indexes.size and (fits := int(self._left // self._outside)) >= self.SMALLEST:
            piece = indexes[done : done + min(fits, _PIECE)]
            found = self._coder.decode_stream(*_compiled_arguments(piece, self._tables))
            symbols[done : done + piece.size] = array("i", found)
            self._account(symbols[done : done + piece.size], piece)
            done += piece.size
        if done < indexes.size:
            symbols[done:] = self._continue_in_python().decode(indexes[done:])
        return symbols

    def _continue_in_python(self) -> _PythonDecoder:
        if self._python is None:
            self._python = _PythonDecoder(self._data, self._tables)
            for _, earlier in self._history:
                self._python.decode(earlier.astype(np.int32))
            self._history.clear()
        return self._python

    def finish(self) -> None:
        """The compiled decoder tells neither its state nor its place: the symbols are coded again
        and compared."""
        if self._python is not None:
            self._python.finish()
            return
        encoder = Encoder(self._tables)
        try:
            for symbols, indexes in self._history:
                encoder.add(symbols, indexes.astype(np.int32))
        except ValueError:
            raise StreamError(f"{_DAMAGED}: a symbol out of all range") from None
        if encoder.finish() != self._data:
            raise StreamError(_LEFT_OVER)

    def _account(self, symbols: np.ndarray, indexes: np.ndarray) -> None:
        self._history.append((symbols, indexes.astype(np.uint16)))
        tables = self._tables
        value = symbols - tables.offset[indexes]
        escape = tables.length[indexes] - 2
        # Seen as unsigned, a negative value is a large one.
        outside = value.view(np.uint32) >= escape.view(np.uint32)
        share = np.where(outside, escape, value)
        spent = float(tables.bits[tables.starts[indexes] + share].sum(dtype=np.float64))
        count = int(np.count_nonzero(outside))
        rounding = indexes.size * ROUNDING
        self._left -= spent + rounding + count * self._outside
        # A symbol from outside has taken four bits at least.
        self._spent += spent - rounding + count * _GROUP_BITS
        if self._spent > 8 * len(self._data):
            raise StreamError(f"{_DAMAGED}: more are needed than the stream holds")


def _longest_run_of_ones(data: bytes) -> int:
    """The length, in words, of the longest run of words that have all their bits set."""
    others = np.flatnonzero(np.frombuffer(data, dtype="<u4") != _WORD)
    edges = np.concatenate(([-1], others, [len(data) // 4]))
    return int(np.diff(edges).max()) - 1


def _load_compiled() -> ModuleType | None:
    """Load compressai's extension alone: importing its package takes seconds, and torch."""
    try:
        package = importlib.util.find_spec("compressai")
        places = package.submodule_search_locations if package else None
        spec = PathFinder.find_spec("compressai.ans", places) if places else None
        if spec is None or spec.loader is None:
            return None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module if _agrees(module) else None
    except (ImportError, AttributeError, TypeError, ValueError, StfError):
        return None


def _agrees(ans: ModuleType) -> bool:
    """Whether the compiled coder makes the streams that this file describes."""
    tables = CdfTables(
        cdf=np.array([[0, 9, 65533, 65536, 0], [0, 1, 30000, 50000, 65536]], dtype=np.int32),
        length=np.array([4, 5], dtype=np.int32),
        offset=np.array([-1, -2], dtype=np.int32),
    )
    symbols = np.array([0, -1, 3, 0, -2, -700, 0, 1, 1 << 25, -1, 0, 0], dtype=np.int32)
    indexes = np.array([0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1, 0], dtype=np.int32)
    data = _encode_python(symbols, indexes, tables)
    coder = ans.BufferedRansEncoder()
    _push(coder, symbols, indexes, tables)
    if coder.flush() != data:
        return False
    return bool(np.array_equal(_CompiledDecoder(ans, data, tables).decode(indexes), symbols))


_ans = _load_compiled()
BACKEND = "python" if _ans is None else "compressai"
