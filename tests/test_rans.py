"""The rANS coder: one stream from both loops, exact bytes, and data that is no stream."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_tables import reference_extension

from stfcodec.entropy import rans, rans_compiled, rans_python
from stfcodec.entropy.rans_python import STATE_MIN
from stfcodec.entropy.tables import CdfTables, gaussian_tables
from stfcodec.errors import StreamError, WeightsError

ROOT = Path(__file__).resolve().parents[1]
MAX = rans.MAX_SYMBOL
EXACT = "71951e774a8a030014fe21d53357208b0700002e4054e9d5"
EXACT_TWO = "6903480006800000"
needs_compiled = pytest.mark.skipif(rans.BACKEND == "python", reason="no compiled coder here")


@pytest.fixture(params=["python", pytest.param("c", marks=needs_compiled)])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "python":
        monkeypatch.setattr(rans, "backend", rans_python)
    return request.param


@pytest.fixture(scope="module")
def gaussian() -> CdfTables:
    return gaussian_tables(np.geomspace(0.11, 64, 24))


def tables_of(*rows: list[int], offset: int = 0) -> CdfTables:
    cdf = np.zeros((len(rows), max(map(len, rows))), dtype=np.int32)
    for t, row in enumerate(rows):
        cdf[t, : len(row)] = row
    length = np.array([len(row) for row in rows], dtype=np.int32)
    return CdfTables(cdf=cdf, length=length, offset=np.full(len(rows), offset, dtype=np.int32))


def int32(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def in_python(symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables) -> bytes:
    """The stream by the Python loop."""
    indexes = indexes.astype(np.uint16)
    words, state = rans_python.encode(symbols, indexes, tables, STATE_MIN)
    return state.to_bytes(8, "little") + words


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


# ---------------------------------------------------------------- hostile streams


def hostile_streams(rng: np.random.Generator) -> list[bytes]:
    """Random words, some of them runs of ones: counts of groups that go on and on."""
    streams = []
    for _ in range(60):
        words = rng.integers(0, 2**32, int(rng.integers(2, 300)), dtype=np.uint64)
        for _ in range(int(rng.integers(0, 4))):
            at = int(rng.integers(words.size))
            words[at : at + int(rng.integers(1, 6))] = 0xFFFFFFFF
        words[1] = int(words[1]) & 0x7FFFFFFF | 1
        streams.append(words.astype("<u4").tobytes())
    # Two escapes of the second table, then ones to the end of the stream.
    ones = [bytes.fromhex("ffffffffffffff7f") + b"\xff" * 4 * count for count in (1, 2, 40, 4000)]
    return streams + ones


# Escapes that are likely, rare and in between.
HOSTILE_ROWS = (
    [0, 1, 2, 40000, 65536],
    [0, 1, 65536],
    [0, 65535, 65536],
    [0, 60000, 65536],
    list(range(0, 65537, 64)),
)


@needs_compiled
@pytest.mark.parametrize(
    "change",
    [
        {"length": int32(5, 6, 3)},  # longer than a row
        {"length": int32(5, 2, 3)},
        {"length": int32(5, -1, 3)},
        {"cdf": [0, 7, 7, 9, 65536]},
        {"cdf": [0, 65536, 3, 9, 65536]},
        {"cdf": [-9, -8, 3, 9, 2**31 - 1]},
        {"cdf": [0, 1, 2, 3, 4]},
        {"coarse": 9},
        {"indexes": 3},
        {"indexes": 65535},
    ],
)
def test_the_compiled_loops_trust_no_table(change: dict) -> None:
    """What `validate` would refuse ends in a number, or in symbols: nothing is read beyond."""
    rng = np.random.default_rng(8)
    cdf = np.array([[0, 1, 2, 3, 65536], [0, 9, 99, 65535, 65536], [0, 1, 65536, 0, 0]], np.int32)
    length, offset, indexes = int32(5, 5, 3), int32(-1, 0, 7), rng.integers(0, 3, 500)
    coarse = np.zeros((3, 256), np.uint16)
    cdf[1] = change.get("cdf", cdf[1])
    length = change.get("length", length)
    coarse += np.uint16(change.get("coarse", 0))
    indexes[250] = change.get("indexes", indexes[250])
    tables = cdf, length, offset, coarse, indexes.astype(np.uint16)
    symbols = rng.integers(-3, 9, 500, dtype=np.int32)
    encoded, *_ = rans_compiled.extension.encode(*tables, symbols, STATE_MIN)
    found = {encoded}
    for data in hostile_streams(rng):
        state = int.from_bytes(data[:8], "little")
        problem, at, state = rans_compiled.extension.decode(*tables, data, symbols.copy(), 8, state)
        found.add(problem)
        assert 8 <= at <= len(data)
    assert found <= {0, 1, 2, 3, 4}
    assert 4 in found


@needs_compiled
def test_the_compiled_loops_check_their_arguments(gaussian: CdfTables) -> None:
    arrays, state = gaussian.arrays, STATE_MIN
    symbols, indexes = int32(0, 1), np.zeros(2, np.uint16)
    encode, decode = rans_compiled.extension.encode, rans_compiled.extension.decode
    assert encode(*arrays, indexes, symbols, state)[0] == 0
    for k, array in enumerate(arrays):
        for other in (array.ravel()[:-1], array.astype(np.int64)):
            wrong = (*arrays[:k], other, *arrays[k + 1 :])
            with pytest.raises((TypeError, ValueError)):
                encode(*wrong, indexes, symbols, state)
    with pytest.raises(ValueError):
        encode(*arrays, indexes[:1], symbols, state)
    with pytest.raises(ValueError):
        encode(*arrays, indexes, symbols, state - 1)
    with pytest.raises((TypeError, BufferError)):
        decode(*arrays, indexes, bytes(8), bytes(8), 8, state)  # not to be written to
    for at, bad in ((9, state), (-1, state), (8, 1), (8, 1 << 63)):
        with pytest.raises(ValueError):
            decode(*arrays, indexes, bytes(8), symbols, at, bad)


@needs_compiled
def test_hostile_streams_do_not_crash() -> None:
    """In a process of its own, which a read out of bounds would end."""
    script = """
import numpy as np
from stfcodec.entropy import rans
from stfcodec.errors import StreamError
from test_rans import HOSTILE_ROWS, hostile_streams, tables_of
assert rans.BACKEND == "c"
tables = tables_of(*HOSTILE_ROWS, offset=-1)
rng = np.random.default_rng(7)
for data in hostile_streams(rng):
    try:
        rans.Decoder(data, tables).decode(rng.integers(0, 5, 100_000, dtype=np.int32))
    except StreamError:
        pass
print("done")
"""
    code = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]!r}\n{script}"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


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


# ------------------------------------------------------------------------------ verdicts


def verdict(data: bytes, indexes: np.ndarray, tables: CdfTables) -> list[int] | None:
    """The symbols, or None where the stream is refused."""
    try:
        decoder = rans.Decoder(data, tables)
        symbols = decoder.decode(indexes)
        decoder.finish()
    except StreamError:
        return None
    return symbols.tolist()


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """Flipped, cut, longer, random or of one bit pattern; sometimes as it was."""
    kind, changed = int(rng.integers(7)), bytearray(data)
    if kind == 0:
        changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del changed[4 * int(rng.integers(2, len(data) // 4 + 1)) :]
    elif kind == 2:
        changed += rng.bytes(4 * int(rng.integers(1, 4)))
    elif kind == 3:
        changed[8:] = rng.bytes(len(data) - 8)
    elif kind == 4:
        changed[8:] = (b"\xff", b"\0")[int(rng.integers(2))] * (len(data) - 8)
    elif kind == 5:
        changed[:8] = int(rng.integers(1 << 31, 1 << 63)).to_bytes(8, "little")
    return bytes(changed)


@needs_compiled
def test_both_loops_give_the_same_verdict(
    gaussian: CdfTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where few symbols are left, which a decoder may have got right by chance."""
    rng = np.random.default_rng(11)
    accepted = 0
    for _ in range(400):
        symbols, indexes = random_message(rng, gaussian)
        data = damaged(rng, rans.encode(symbols, indexes, gaussian))
        found = []
        for module in (rans_python, rans_compiled):
            monkeypatch.setattr(rans, "backend", module)
            found.append(verdict(data, indexes, gaussian))
        assert found[0] == found[1]
        if found[0] is not None:
            accepted += 1
            assert rans.encode(int32(*found[0]), indexes, gaussian) == data
    assert 40 < accepted < 360


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
