"""Properties of the range coder over any tables, symbols, escapes and cuts."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stfcodec.entropy import rans, rans_python
from stfcodec.entropy.tables import CdfTables
from stfcodec.errors import StreamError

pytestmark = pytest.mark.skipif(rans.BACKEND == "python", reason="no compiled coder here")

Message = tuple[CdfTables, np.ndarray, np.ndarray]


@st.composite
def tables(draw: Callable) -> CdfTables:
    inner = st.sets(st.integers(1, 65535), min_size=1, max_size=12)
    rows = [[0, *sorted(cuts), 65536] for cuts in draw(st.lists(inner, min_size=1, max_size=5))]
    cdf = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for t, row in enumerate(rows):
        cdf[t, : len(row)] = row
    length = np.array([len(row) for row in rows], np.int32)
    offsets = st.lists(st.integers(-(1 << 20), 1 << 20), min_size=len(rows), max_size=len(rows))
    offset = draw(offsets)
    return CdfTables(cdf, length, np.array(offset, np.int32))


@st.composite
def messages(draw: Callable) -> Message:
    """Tables, symbols mostly near their shares, and the table of each symbol."""
    found = draw(tables())
    index = st.integers(0, len(found.length) - 1)
    near = st.integers(-3, 15)
    pairs = draw(st.lists(st.tuples(index, near, st.booleans()), max_size=60))
    far = draw(st.integers(-rans.MAX_SYMBOL, rans.MAX_SYMBOL))
    symbols = [far if wild else int(found.offset[t]) + value for t, value, wild in pairs]
    indexes = [t for t, _, _ in pairs]
    return found, np.array(symbols, np.int32), np.array(indexes, np.int32)


def in_python(function: Callable, *arguments: object) -> object:
    with patch.object(rans, "backend", rans_python):
        return function(*arguments)


def verdict(data: bytes, indexes: np.ndarray, found: CdfTables) -> list[int] | str:
    """The symbols, or why the stream is refused."""
    try:
        decoder = rans.Decoder(data, found)
        symbols = decoder.decode(indexes).tolist()
        decoder.finish()
    except StreamError as error:
        return str(error)
    return symbols


@settings(deadline=None, max_examples=300)
@given(messages(), st.data())
def test_what_is_encoded_comes_back_in_pieces(message: Message, data: st.DataObject) -> None:
    found, symbols, indexes = message
    coded = rans.encode(symbols, indexes, found)
    assert coded == in_python(rans.encode, symbols, indexes, found)
    cut = data.draw(st.integers(0, symbols.size))
    decoder = rans.Decoder(coded, found)
    pieces = [decoder.decode(indexes[:cut]), decoder.decode(indexes[cut:])]
    decoder.finish()
    np.testing.assert_array_equal(np.concatenate(pieces), symbols)


@pytest.mark.slow
@settings(deadline=None, max_examples=500)
@given(messages(), st.data())
def test_verdicts_are_equal_on_damaged_streams(message: Message, data: st.DataObject) -> None:
    """Cut, lengthened, flipped, or any bytes at all: the same symbols or the same words."""
    found, symbols, indexes = message
    coded = bytearray(rans.encode(symbols, indexes, found))
    kind = data.draw(st.sampled_from(["flip", "cut", "longer", "any"]))
    if kind == "flip":
        bit = data.draw(st.integers(0, 8 * len(coded) - 1))
        coded[bit // 8] ^= 1 << bit % 8
    elif kind == "cut":
        del coded[4 * data.draw(st.integers(0, len(coded) // 4)) :]
    elif kind == "longer":
        coded += data.draw(st.binary(min_size=1, max_size=12))
    else:
        coded = bytearray(data.draw(st.binary(max_size=64)))
    here = verdict(bytes(coded), indexes, found)
    assert here == in_python(verdict, bytes(coded), indexes, found)
    if isinstance(here, list):
        assert rans.encode(np.array(here, np.int32), indexes, found) == coded
