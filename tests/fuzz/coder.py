"""`python -m tests.fuzz.coder`: hostile payloads and tables for the loops in `_rans.c`, built with
the compiler's address and undefined-behaviour sanitizers, which end the process at the first fault.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np

from stfcodec.entropy.rans_python import STATE_MIN

SOURCE = Path(__file__).parents[2] / "stfcodec" / "entropy" / "_rans.c"
FLAGS = ("-shared", "-fPIC", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")


def build(folder: Path, compiler: str = "gcc") -> Path:
    """The extension with sanitizers. Raises CalledProcessError, or OSError without a compiler."""
    target = folder / "_rans.so"
    include = "-I" + sysconfig.get_path("include")
    subprocess.run(
        [compiler, *FLAGS, include, str(SOURCE), "-o", str(target)], check=True, capture_output=True
    )
    return target


def environment(compiler: str = "gcc") -> dict[str, str]:
    """Of a Python that can load what `build` made: the sanitizers' libraries come first."""
    found = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    # Python itself keeps memory until it ends.
    return {**os.environ, "LD_PRELOAD": " ".join(found), "ASAN_OPTIONS": "detect_leaks=0"}


def payload(rng: np.random.Generator) -> bytes:
    """A state that is one, and words: random, or with runs of one bit pattern."""
    words = rng.integers(0, 2**32, int(rng.integers(0, 120)), dtype=np.uint32)
    for _ in range(int(rng.integers(0, 3))):
        at = int(rng.integers(words.size + 1))
        words[at : at + int(rng.integers(1, 9))] = (0, 0xFFFFFFFF)[int(rng.integers(2))]
    state = int(rng.integers(STATE_MIN, 1 << int(rng.integers(32, 64)), dtype=np.uint64))
    return state.to_bytes(8, "little") + words.astype("<u4").tobytes()


def tables(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """cdf, length, offset and coarse, as `CdfTables.arrays` has them; every third set is broken."""
    count, width = int(rng.integers(1, 6)), int(rng.integers(3, 40))
    cdf = np.zeros((count, width), np.int32)
    length = rng.integers(3, width + 1, count, dtype=np.int32)
    coarse = np.zeros((count, 256), np.uint16)
    for t, n in enumerate(length):
        inner = np.sort(rng.choice(np.arange(1, 65536), n - 2, replace=False))
        cdf[t, :n] = [0, *inner, 65536]
        coarse[t] = np.searchsorted(cdf[t, :n], np.arange(0, 65536, 256), "right") - 1
    offset = rng.integers(-20, 20, count, dtype=np.int32)
    if rng.integers(3) == 0:
        broken = (cdf, length, offset, coarse)[int(rng.integers(4))]
        limits = np.iinfo(broken.dtype)
        at = int(rng.integers(broken.size))
        broken.flat[at] = rng.integers(limits.min, limits.max, dtype=broken.dtype, endpoint=True)
    return cdf, length, offset, coarse


def attack(rans: ModuleType, rng: np.random.Generator) -> None:
    """One set of tables, 20 payloads decoded with it, and what came out coded again."""
    arrays = tables(rng)
    for _ in range(20):
        n = int(rng.integers(0, 200))
        indexes = rng.integers(0, len(arrays[1]) + (rng.integers(50) == 0), n).astype(np.uint16)
        data, symbols = payload(rng), np.zeros(n, np.int32)
        state = int.from_bytes(data[:8], "little")
        problem, at, end = rans.decode(*arrays, indexes, data, symbols, 8, state)
        assert 8 <= at <= len(data)
        if problem == 0:  # whatever the tables are, what was decoded codes to the same words
            assert rans.encode(*arrays, indexes, symbols, end) == (0, data[8:at], state)
        else:
            symbols = rng.integers(-300, 300, n, dtype=np.int32)
            symbols[rng.random(n) < 0.01] = rng.integers(-(2**31), 2**31)
            rans.encode(*arrays, indexes, symbols, STATE_MIN)


def _child(path: str, seconds: float, seed: int) -> None:
    spec = spec_from_file_location("_rans", path)
    assert spec is not None and spec.loader is not None
    rans = module_from_spec(spec)
    spec.loader.exec_module(rans)
    rng, end, count = np.random.default_rng(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        attack(rans, rng)
        count += 20
    print(f"{count} payloads, no fault")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.coder", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--library", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.library:
        _child(options.library, options.seconds, options.seed)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.fuzz.coder", "--library", str(build(Path(folder)))]
        command += ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        return subprocess.run(command, env=environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
