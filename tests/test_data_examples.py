"""The examples that read .stf files back into training."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import photographs
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def run(example: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / example), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_dataloader(tmp_path: Path, workers: int) -> None:
    """On pictures of 1x1, 70x50 and 130x65 pixels, of which the smallest are left out."""
    shutil.copytree(ROOT / "tests" / "golden", tmp_path / "below")
    words = ["--side", 48, "--batch", 2, "--workers", workers]
    found = re.fullmatch(
        r"(\d+) pictures in [\d.]+ s, [\d.]+ a second\n", run("dataloader.py", tmp_path, *words)
    )
    assert found and 0 < int(found[1]) < len(list(tmp_path.rglob("*.stf")))


@pytest.mark.slow
def test_train_classifier(tmp_path: Path) -> None:
    for i in range(10):
        part = photographs.crop((300, 500))[10 * i : 10 * i + 150, 20 * i : 20 * i + 200]
        (tmp_path / "photographs").mkdir(exist_ok=True)
        Image.fromarray(part).save(tmp_path / "photographs" / f"{i}.png")
    sets = tmp_path / "sets"
    words = ["--photographs", tmp_path / "photographs", "--epochs", 1]
    lines = run("train_classifier.py", sets, *words).splitlines()
    pattern = r"(stf|jpeg): [\d.]+% right of 4 classes, \d+ pictures a second, \d+ kB"
    assert [re.fullmatch(pattern, line)[1] for line in lines] == ["stf", "jpeg"]  # type: ignore[index]
    assert len(list(sets.rglob("*.stf"))) == len(list(sets.rglob("*.jpg"))) == 40
