"""`pip install .` with a compiler and without one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("stfcodec", "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The checkout without what is large or was built, as pip builds inside it."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in PARTS:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("*.so", "*.pyc"))
        else:
            shutil.copy(path, folder / name)
    (folder / "weights").mkdir()
    shutil.copy(ROOT / "weights" / "MANIFEST.json", folder / "weights")
    return folder


@pytest.mark.parametrize("compiler", [True, False])
def test_the_installation_succeeds(source: Path, tmp_path: Path, compiler: bool) -> None:
    """Without a compiler, or with a broken one, the range coder is the one in Python."""
    if compiler and not shutil.which(os.environ.get("CC", "cc")):
        pytest.skip("no compiler here")
    target = tmp_path / "installed"
    environment = dict(os.environ) if compiler else {**os.environ, "CC": "/bin/false"}
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(source)], check=True, env=environment
    )
    script = "from stfcodec.entropy import rans; print(rans.BACKEND, rans.__file__)"
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    backend, path = ended.stdout.split()
    assert backend == ("c" if compiler else "python")
    assert Path(path).is_relative_to(target)
    assert (target / "stfcodec" / "weights" / "MANIFEST.json").exists()
    assert list(target.glob("stfcodec-*.dist-info/**/LICENSE"))
