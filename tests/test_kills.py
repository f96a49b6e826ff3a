"""Runs over collections whose workers, or which themselves, are killed: nothing is lost.

`python -m benchmarks.kills` does the same for longer.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from photographs import PHOTOGRAPH
from PIL import Image

from benchmarks import kills

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found through /proc"),
]

PICTURES, SIDE, KILLS = 40, 96, 2

References = Callable[[str], Path]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    with Image.open(PHOTOGRAPH) as photograph:
        kills.cut([np.asarray(photograph.convert("RGB"))], folder, PICTURES, SIDE)
    return folder


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> References:
    """What one process makes of the pictures, by the kind of outputs."""
    found: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in found:
            found[kind] = tmp_path_factory.mktemp(kind)
            done = kills.run(kills.command(source, found[kind], *kills.OUTPUTS[kind]))
            assert done.code == 0, done.text
        return found[kind]

    return get


@pytest.mark.parametrize(
    ("kill", "runner", "kind", "pause"),
    [
        (kills.run_killing_workers, "processes", "files", (0.2, 0.5)),
        (kills.run_killing_workers, "processes", "shards", (0.2, 0.5)),
        (kills.run_killing_workers, "Ray", "files", (0.2, 0.5)),
        (kills.run_killing_drivers, "processes", "files", (1.0, 6.0)),
        (kills.run_killing_drivers, "Ray", "shards", (6.0, 10.0)),
    ],
)
def test_kills_lose_nothing(
    kill: kills.Kill,
    runner: str,
    kind: str,
    pause: tuple[float, float],
    source: Path,
    alone: References,
    tmp_path: Path,
) -> None:
    """Outputs and record are those of one process, and nothing else is left."""
    words = kills.command(source, tmp_path, *kills.OUTPUTS[kind], *kills.RUNNERS[runner])
    killed = kill(words, KILLS, pause, random.Random(1))
    assert (killed.code, killed.kills > 0) == (0, True), killed.text
    assert kills.differences(tmp_path, alone(kind)) == []


def test_differences_are_found(alone: References, tmp_path: Path) -> None:
    """The comparison above can fail."""
    expected = alone("files")
    assert "0/0000.stf is missing" in kills.differences(tmp_path, expected)
    (tmp_path / ".stf-left.tmp").touch()
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "0000.stf").write_bytes(b"other")
    found = kills.differences(tmp_path, expected)
    assert {".stf-left.tmp is left over", "0/0000.stf has other bytes"} <= set(found)
    assert f"the manifest has 0 rows that are not the {PICTURES} expected" in found


def test_workers_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    """Otherwise they would write what the next run writes."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).symlink_to(PHOTOGRAPH)
    words = kills.command(tmp_path, tmp_path / "out", "--workers", "2", "--effort", "9")
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as driver:
        while not (workers := kills.at_work(driver.pid)):
            assert driver.poll() is None
            time.sleep(0.01)
        driver.kill()
    until = time.monotonic() + 5
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not list(tmp_path.rglob(".stf-*"))
