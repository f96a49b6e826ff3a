"""Inside another program: whatever that has set, results are those of a plain process, and what it
has set stays."""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

import stfcodec
from stfcodec import allocator, codec

QUALITY = 2.337
"""Which neither float16 nor bfloat16 holds."""


def picture(size: tuple[int, int] = (80, 96)) -> np.ndarray:
    rows, cols = np.mgrid[: size[0], : size[1]]
    ramp = (rows + cols)[..., None] * np.array([3, 1, 2])
    return ((ramp + np.random.default_rng(0).integers(0, 40, ramp.shape)) % 256).astype(np.uint8)


def coded(effort: int) -> tuple[bytes, bytes]:
    data = stfcodec.encode(picture(), quality=QUALITY, effort=effort)
    return data, np.asarray(stfcodec.decode(data)).tobytes()


@pytest.fixture(scope="module")
def plain() -> dict[int, tuple[bytes, bytes]]:
    return {effort: coded(effort) for effort in (0, 1)}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


MODES: dict[str, Callable[[], AbstractContextManager]] = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast to bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: default_device("meta"),
    "gradients off": lambda: torch.set_grad_enabled(False),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection:UserWarning")
@pytest.mark.parametrize("effort", [0, 1])
@pytest.mark.parametrize("mode", MODES)
def test_modes_change_nothing(
    mode: str, effort: int, plain: dict[int, tuple[bytes, bytes]]
) -> None:
    """Neither while they last, when the model is loaded under them too, nor afterwards."""
    codec._load.cache_clear()
    with MODES[mode]():
        assert coded(effort) == plain[effort]
    assert coded(effort) == plain[effort]


def test_lower_precision_of_the_host_leaves_the_stream(
    plain: dict[int, tuple[bytes, bytes]],
) -> None:
    """Set after a model was loaded. What is exact stays so. Pixels follow the setting: float32
    products then keep 8 bits, whose errors lie near half a level."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        data, pixels = coded(0)
    finally:
        torch.set_float32_matmul_precision(before)
    assert data == plain[0][0]
    a, b = (np.frombuffer(p, np.uint8).astype(int) for p in (pixels, plain[0][1]))
    assert np.sqrt(((a - b) ** 2).mean()) < 1.5
    assert np.abs(a - b).max() < 20


def test_the_hosts_settings_stay() -> None:
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    wanted = torch.rand(1).item(), random.random(), np.random.random()
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    filters, limit, dtype = (
        list(warnings.filters),
        Image.MAX_IMAGE_PIXELS,
        torch.get_default_dtype(),
    )
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    codec._load.cache_clear()
    coded(1)
    assert (torch.rand(1).item(), random.random(), np.random.random()) == wanted
    assert warnings.filters == filters
    assert (Image.MAX_IMAGE_PIXELS, torch.get_default_dtype()) == (limit, dtype)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, grad)


def test_the_library_leaves_malloc_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> bool:
        raise AssertionError("only commands ask")

    monkeypatch.setattr(allocator, "keep_freed_memory", ask)
    codec._load.cache_clear()
    coded(0)


@pytest.mark.slow
def test_threads_share_models() -> None:
    """8 threads, two models, qualities and sizes mixed: as one after the other."""
    jobs = [
        (model, quality, size)
        for model in ("wacnn-lite", "stf-lite")
        for quality in (1.0, QUALITY, 4.2, 6.0)
        for size in ((1, 1), (64, 64), (80, 96))
    ]
    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def code(job: tuple[str, float, tuple[int, int]]) -> tuple[bytes, bytes]:
        model, quality, size = job
        data = stfcodec.encode(picture(size), model=model, quality=quality)
        return data, np.asarray(stfcodec.decode(data)).tobytes()

    try:
        serial = {job: code(job) for job in jobs}
        codec._load.cache_clear()  # they load together too
        start = threading.Barrier(8)

        def work(seed: int) -> bool:
            start.wait()
            chosen = random.Random(seed).choices(jobs, k=10)
            return all(code(job) == serial[job] for job in chosen)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))
        assert all(code(job) == serial[job] for job in jobs)
    finally:
        torch.set_num_threads(before)
