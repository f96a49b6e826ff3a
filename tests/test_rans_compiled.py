"""The compiled rANS loops stay in bounds, and agree with the Python loop on damaged streams."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rans_messages import int32, needs_compiled, random_message, verdict

from stfcodec.entropy import rans, rans_compiled, rans_python
from stfcodec.entropy.rans_python import STATE_MIN
from stfcodec.entropy.tables import CdfTables

ROOT = Path(__file__).resolve().parents[1]


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
from rans_messages import tables_of
from stfcodec.entropy import rans
from stfcodec.errors import StreamError
from test_rans_compiled import HOSTILE_ROWS, hostile_streams
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
