"""The rANS coder: one stream from both loops, exact bytes, and data that is no stream."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rans_messages import MAX, int32, needs_compiled, random_message, tables_of, verdict
from test_tables import reference_extension

from stfcodec.entropy import rans, rans_python
from stfcodec.entropy.rans_python import STATE_MIN
from stfcodec.entropy.tables import CdfTables
from stfcodec.errors import StreamError, WeightsError

ROOT = Path(__file__).resolve().parents[1]
EXACT = "71951e774a8a030014fe21d53357208b0700002e4054e9d5"
EXACT_TWO = "6903480006800000"


@pytest.fixture(params=["python", pytest.param("c", marks=needs_compiled)])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "python":
        monkeypatch.setattr(rans, "backend", rans_python)
    return request.param


def in_python(symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables) -> bytes:
    """The stream by the Python loop."""
    indexes = indexes.astype(np.uint16)
    words, state = rans_python.encode(symbols, indexes, tables, STATE_MIN)
    return state.to_bytes(8, "little") + words


def test_round_trip_in_pieces(backend: str, gaussian: CdfTables) -> None:
    rng = np.random.default_rng(2)
    for _ in range(100):
        symbols, indexes = random_message(rng, gaussian)
        decoder = rans.Decoder(rans.encode(symbols, indexes, gaussian), gaussian)
        cuts = np.sort(rng.integers(0, indexes.size + 1, int(rng.integers(0, 5))))
        found = [decoder.decode(piece) for piece in np.split(indexes, cuts)]
        assert all(piece.dtype == np.int32 for piece in found)
        np.testing.assert_array_equal(np.concatenate(found), symbols)


def test_streams_are_those_of_compressai(backend: str, gaussian: CdfTables) -> None:
    """Byte for byte: the published networks' streams, and every file so far, are such."""
    ans = reference_extension("ans")
    rng = np.random.default_rng(3)
    for _ in range(100):
        symbols, indexes = random_message(rng, gaussian)
        if symbols.size < 8:  # with fewer it writes outside its buffer
            continue
        coder = ans.BufferedRansEncoder()
        lengths, offsets = gaussian.length.tolist(), gaussian.offset.tolist()
        coder.encode_with_indexes(
            symbols.tolist(), indexes.tolist(), gaussian.rows, lengths, offsets
        )
        assert rans.encode(symbols, indexes, gaussian) == coder.flush()


def test_extreme_symbols(backend: str) -> None:
    tables = tables_of([0, 1, 65536], [0, 65535, 65536], [0, 1, 2, 65535, 65536], offset=-1)
    edges = [0, 1, 7, 8, 9, 127, 128, 129, 2**12, 2**20, 2**24 - 1, MAX - 1, MAX]
    symbols = np.array([s for e in edges for s in (e, -e, e, -e, e, -e)], dtype=np.int32)
    indexes = np.resize(int32(0, 0, 1, 1, 2, 2), symbols.size)
    data = rans.encode(symbols, indexes, tables)
    assert data == in_python(symbols, indexes, tables)
    np.testing.assert_array_equal(rans.Decoder(data, tables).decode(indexes), symbols)


def test_exact_bytes(backend: str) -> None:
    """A change of these bytes makes every stream written before unreadable."""
    tables = tables_of([0, 9, 65533, 65536], [0, 1, 30000, 50000, 65536], offset=-2)
    symbols = int32(-1, -2, 3, -1, -2, -700, 0, 1, 1 << 25, -1, 0, 0)
    indexes = int32(0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1, 0)
    assert rans.encode(symbols, indexes, tables).hex() == EXACT
    assert rans.encode(symbols[:0], indexes[:0], tables).hex() == "0000008000000000"
    assert rans.encode(symbols[:2], indexes[:2], tables).hex() == EXACT_TWO


@pytest.mark.parametrize("count", range(12))
def test_few_symbols(backend: str, count: int) -> None:
    tables = tables_of([0, 65534, 65535, 65536])
    symbols, indexes = np.full(count, 1, dtype=np.int32), np.zeros(count, dtype=np.int32)
    data = rans.encode(symbols, indexes, tables)
    np.testing.assert_array_equal(rans.Decoder(data, tables).decode(indexes), symbols)


def test_arguments_are_checked(backend: str) -> None:
    tables = tables_of([0, 9, 65536], [0, 1, 65536])
    good = int32(0, 1)
    decoder = rans.Decoder(rans.encode(good, good, tables), tables)
    for bad in (good.astype(np.int64), good.astype(np.uint8), [0, 1], good.astype(">i4")):
        with pytest.raises(TypeError, match="int32"):
            rans.encode(bad, good, tables)
        with pytest.raises(TypeError, match="int32"):
            rans.encode(good, bad, tables)
        with pytest.raises(TypeError, match="int32"):
            decoder.decode(bad)
    for bad in (int32(0, 2), int32(-1, 0), good[:, None]):
        with pytest.raises(ValueError, match="index"):
            rans.encode(good, bad, tables)
        with pytest.raises(ValueError, match="index"):
            decoder.decode(bad)
    with pytest.raises(ValueError, match="symbols"):
        rans.encode(good[:1], good, tables)
    for bad in (MAX + 1, -MAX - 1, 2**31 - 1, -(2**31)):
        with pytest.raises(ValueError, match="symbol"):
            rans.encode(int32(0, bad), good, tables)
    np.testing.assert_array_equal(decoder.decode(good), good)


def test_strided_arrays(backend: str) -> None:
    tables = tables_of([0, 9, 500, 65536], [0, 1, 600, 65536])
    symbols = np.arange(40, dtype=np.int32)[::-2] % 5
    indexes = np.arange(40, dtype=np.int32)[::2] % 4 // 2
    data = rans.encode(symbols, indexes, tables)
    np.testing.assert_array_equal(rans.Decoder(data, tables).decode(indexes), symbols)


def test_damaged_tables_reach_no_coder(backend: str) -> None:
    tables = tables_of([0, 9, 9, 65536])
    with pytest.raises(WeightsError):
        rans.encode(np.zeros(9, np.int32), np.zeros(9, np.int32), tables)
    with pytest.raises(WeightsError):
        rans.Decoder(bytes.fromhex("0000008000000000"), tables).decode(int32(0))


@pytest.mark.parametrize("data", ["", "00", "00" * 7, "00" * 9, "00" * 8, "ff" * 8, "ff" * 400])
def test_no_stream(backend: str, gaussian: CdfTables, data: str) -> None:
    with pytest.raises(StreamError, match="the coded symbols are damaged"):
        rans.Decoder(bytes.fromhex(data), gaussian)


def test_truncated(backend: str, gaussian: CdfTables) -> None:
    rng = np.random.default_rng(4)
    indexes = rng.integers(0, 24, 2000, dtype=np.int32)
    symbols = np.rint(rng.normal(0, 1, 2000) * np.geomspace(0.11, 64, 24)[indexes])
    data = rans.encode(symbols.astype(np.int32), indexes, gaussian)
    for length in range(8, len(data) // 2, 40):
        with pytest.raises(StreamError, match=r"more are needed|out of all range"):
            rans.Decoder(data[:length], gaussian).decode(indexes)


def test_pieces_make_the_stream_of_the_whole(backend: str, gaussian: CdfTables) -> None:
    rng = np.random.default_rng(4)
    for _ in range(100):
        symbols, indexes = random_message(rng, gaussian)
        encoder = rans.Encoder(gaussian)
        cuts = np.sort(rng.integers(0, indexes.size + 1, int(rng.integers(0, 5))))
        for piece in zip(np.split(symbols, cuts), np.split(indexes, cuts), strict=True):
            encoder.add(*piece)
        assert encoder.finish() == in_python(symbols, indexes, gaussian)
    assert rans.Encoder(gaussian).finish() == rans.encode(int32(), int32(), gaussian)


def test_loading_imports_neither_torch_nor_the_package() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import stfcodec.entropy.rans\n"
        "print([m for m in ('torch', 'compressai', 'scipy') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_python_where_the_extension_is_missing() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "sys.modules['stfcodec.entropy._rans'] = None\n"
        "from stfcodec.entropy import rans\n"
        "print(rans.BACKEND)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "python\n"


def test_every_escape_of_a_damaged_stream_ends(backend: str) -> None:
    """The words run out at any place of an escape: an error of the stream's, and no other."""
    tables = tables_of([0, 1, 65536])
    accepted = 0
    for low in range(0, 65536, 101):
        data = (1 << 36 | low).to_bytes(8, "little")
        accepted += verdict(data, int32(0), tables) is not None
    assert accepted == 0


def test_a_symbol_has_one_form(backend: str) -> None:
    """An escape in more groups than its value needs is refused."""
    tables = tables_of([0, 30000, 65536])

    def stream(groups: list[int]) -> bytes:
        """The escape, the number of these groups, and they: the last symbol's, so read in turn."""
        state = STATE_MIN
        for group in (*reversed(groups), len(groups)):
            state = state << 4 | group
        state = (state // 35536 << 16) + state % 35536 + 30000
        return state.to_bytes(8, "little")

    assert verdict(stream([3]), int32(0), tables) == [-2]
    assert verdict(stream([3, 0]), int32(0), tables) is None
    assert stream([3]) == rans.encode(int32(-2), int32(0), tables)
