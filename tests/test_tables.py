"""CDF tables: the published integers, and tables that are not tables."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from importlib.machinery import PathFinder
from types import ModuleType

import numpy as np
import pytest

from stfcodec.entropy import rans
from stfcodec.entropy.tables import CdfTables, gaussian_tables, pmf_to_cdf
from stfcodec.errors import WeightsError

# SHA-256 of the 64 Gaussian tables, int32 (64, 3133), that the published networks code with.
PUBLISHED_GAUSSIAN_TABLES = "482d4620b3eb5802ce87f395fc613344f81fa5e5bfeeedae43cb3416ad9eb947"


def reference_extension(name: str) -> ModuleType:
    """One of compressai's extensions, without its package; skips where it is not installed."""
    package = importlib.util.find_spec("compressai")
    spec = package and PathFinder.find_spec(
        f"compressai.{name}", package.submodule_search_locations
    )
    if spec is None or spec.loader is None:
        pytest.skip(f"compressai.{name} is not installed")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small_tables(**changed: object) -> CdfTables:
    fields: dict = {
        "cdf": np.array([[0, 9, 65536, 0], [0, 1, 30000, 65536]], dtype=np.int32),
        "length": np.array([3, 4], dtype=np.int32),
        "offset": np.array([-1, -2], dtype=np.int32),
    }
    return CdfTables(**{**fields, **changed})


def test_gaussian_tables_are_the_published_ones() -> None:
    torch = pytest.importorskip("torch")
    scales = torch.exp(torch.linspace(math.log(0.11), math.log(256), 64)).numpy()
    tables = gaussian_tables(scales)
    tables.validate()
    assert tables.cdf.shape == (64, 3133)
    assert tables.cdf.dtype == tables.length.dtype == tables.offset.dtype == np.int32
    assert hashlib.sha256(tables.cdf.astype("<i4").tobytes()).hexdigest() == (
        PUBLISHED_GAUSSIAN_TABLES
    )
    assert tables.length[[0, 63]].tolist() == [5, 3133]
    assert tables.offset[[0, 63]].tolist() == [-1, -1565]


def test_gaussian_tables_follow_the_gaussian() -> None:
    tables = gaussian_tables(np.array([0.5, 3.0]))
    row = np.array(tables.rows[1])
    share = np.diff(row)[-tables.offset[1]] / 65536
    assert share == pytest.approx(math.erf(0.5 / 3 / math.sqrt(2)), abs=1e-4)


@pytest.mark.parametrize("scales", [[], [[1.0]], [0.0], [-1.0], [math.nan], [math.inf], [1e9]])
def test_gaussian_tables_refuse(scales: list) -> None:
    with pytest.raises(ValueError, match="scales"):
        gaussian_tables(np.array(scales))


def test_pmf_to_cdf_by_hand() -> None:
    assert pmf_to_cdf(np.array([0.25, 0.5, 0.25])).tolist() == [0, 16384, 49152, 65536]
    # Nothing is left with no share at all: the rarest that can spares one.
    assert pmf_to_cdf(np.array([0.5, 0.0, 0.25, 0.25]), precision=3).tolist() == [0, 4, 5, 6, 8]
    # What rounding leaves over goes to the last.
    assert pmf_to_cdf(np.ones(3), precision=4).tolist() == [0, 5, 10, 16]
    assert pmf_to_cdf(np.ones(8), precision=3).tolist() == list(range(9))


def test_pmf_to_cdf_equals_the_reference() -> None:
    reference = reference_extension("_CXX").pmf_to_quantized_cdf
    rng = np.random.default_rng(1)
    for _ in range(200):
        pmf = rng.random(int(rng.integers(2, 500))) ** rng.integers(1, 24)
        pmf[rng.random(pmf.size) < 0.2] = 0
        pmf[int(rng.integers(pmf.size))] = 1
        if rng.random() < 0.5:
            pmf /= pmf.sum()
        assert pmf_to_cdf(pmf).tolist() == reference(pmf.astype(np.float32).tolist(), 16)


@pytest.mark.parametrize(
    "pmf",
    [[], [[1.0]], [0.5, -0.1], [0.5, math.nan], [math.inf], [0.0, 0.0], [1e30, 1.0], [1e-9]],
)
def test_pmf_to_cdf_refuses(pmf: list) -> None:
    with pytest.raises(ValueError, match="pmf"):
        pmf_to_cdf(np.array(pmf))


def test_pmf_to_cdf_refuses_precision_and_too_many_symbols() -> None:
    with pytest.raises(ValueError, match="precision is 17"):
        pmf_to_cdf(np.ones(2), precision=17)
    with pytest.raises(ValueError, match="pmf"):
        pmf_to_cdf(np.ones(9), precision=3)


def test_valid_tables() -> None:
    tables = small_tables()
    tables.validate()
    assert tables.rows == [[0, 9, 65536], [0, 1, 30000, 65536]]
    assert tables.bits[tables.starts[1] + 2] == pytest.approx(-math.log2(35536 / 65536))


def int32(values: list) -> np.ndarray:
    return np.array(values, dtype=np.int32)


@pytest.mark.parametrize(
    "changed",
    [
        {"cdf": int32([[0, 9, 65536, 0], [0, 1, 1, 65536]])},
        {"cdf": int32([[0, 9, 65536, 0], [0, 5, 4, 65536]])},
        {"cdf": int32([[0, 9, 65535, 0], [0, 1, 2, 65536]])},
        {"cdf": int32([[1, 9, 65536, 0], [0, 1, 2, 65536]])},
        {"cdf": int32([[0, -(2**31), 65536, 0], [0, 1, 2, 65536]])},
        {"cdf": np.array([[0, 9, 65536, 0], [0, 1, 2, 65536]])},
        {"cdf": int32([0, 9, 65536])},
        {"cdf": np.zeros((0, 4), np.int32), "length": int32([]), "offset": int32([])},
        {"cdf": np.zeros((2, 0), np.int32)},
        {"cdf": [[0, 9, 65536, 0], [0, 1, 2, 65536]]},
        {"length": int32([2, 4])},
        {"length": int32([3, 5])},
        {"length": int32([3, -1])},
        {"length": int32([3])},
        {"length": np.array([3, 4])},
        {"offset": int32([0])},
        {"offset": int32([0, 2**31 - 1])},
        {"offset": int32([-(2**31), 0])},
        {"offset": np.zeros(2, np.float32)},
    ],
)
def test_damaged_tables(changed: dict) -> None:
    tables = small_tables(**changed)
    with pytest.raises(WeightsError, match=r"^damaged CDF tables"):
        tables.validate()
    with pytest.raises(WeightsError):
        _ = tables.rows


def test_costs_of_escapes_are_what_the_coder_spends() -> None:
    """An escape and the groups of its number, for numbers at both ends of a count of groups."""
    tables = gaussian_tables(np.array([0.11], np.float32))
    n = 2000
    for symbol in (2, 9, 10, -2, -9, -10, 137, 138, -138, 5000):
        symbols, indexes = np.full(n, symbol), np.zeros(n, np.int32)
        encoder = rans.Encoder(tables)
        encoder.add(symbols.astype(np.int32), indexes)
        spent = 8 * len(encoder.finish()) / n
        assert tables.cost(symbols, indexes) / n == pytest.approx(spent, abs=0.1), symbol
