"""The example that feeds a folder of .stf files to PyTorch's DataLoader."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "docs" / "examples" / "dataloader.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of 1x1, 70x50 and 130x65 pixels, grey and in colour."""
    shutil.copytree(ROOT / "tests" / "golden", tmp_path / "below")
    return tmp_path


def test_pictures_that_are_large_enough_become_crops(folder: Path) -> None:
    dataset = runpy.run_path(str(EXAMPLE))["StfFolder"](folder, 64)
    assert 0 < len(dataset) < len(list(folder.rglob("*.stf")))
    for index in range(len(dataset)):
        crop = dataset[index]
        assert (str(crop.dtype), tuple(crop.shape)) == ("torch.uint8", (3, 64, 64))
        assert crop.is_contiguous()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_the_example_runs(folder: Path, workers: int) -> None:
    options = ["--side", "48", "--batch", "2", "--workers", str(workers)]
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(folder), *options],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert re.fullmatch(r"\d+ pictures in [\d.]+ s, [\d.]+ a second\n", done.stdout)
