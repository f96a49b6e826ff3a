"""`pip install .` with a compiler and without one, and what the source archive holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = (
    "stfcodec",
    "man",
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "NOTICE",
)
TESTABLE = ("benchmarks", "docs", "tests", "Makefile", "CHANGELOG.md")
"""What an installation does without, and who tests or packages the source does not."""

BUILT = shutil.ignore_patterns("*.so", "*.pyc", "__pycache__")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The checkout without what is large or was built, as pip builds inside it."""
    folder = tmp_path / "source"
    folder.mkdir()
    copy(PARTS, folder)
    (folder / "weights").mkdir()
    for name in ("MANIFEST.json", "README.md"):
        shutil.copy(ROOT / "weights" / name, folder / "weights")
    return folder


def copy(names: tuple[str, ...], folder: Path) -> None:
    for name in names:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=BUILT)
        else:
            shutil.copy(path, folder / name)


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


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
    installed = files(target)
    assert {
        f"stfcodec/{name}" for name in files(ROOT / "stfcodec") if name[-3:] == ".py"
    } <= installed
    assert {"stfcodec/py.typed", "stfcodec/entropy/_rans.pyi"} <= installed
    assert {"stfcodec/weights/MANIFEST.json", "stfcodec/weights/README.md"} <= installed
    assert {f"share/man/man1/{page.name}" for page in (ROOT / "man").iterdir()} <= installed
    assert {f"stfcodec/cli/{name}" for name in files(ROOT / "stfcodec" / "cli")} - {
        name for name in installed if name.startswith("stfcodec/cli/")
    } <= {name for name in files(ROOT / "stfcodec") if "__pycache__" in name}
    assert not {name for name in installed if name.startswith(("benchmarks/", "tests/"))}
    for name in ("LICENSE", "NOTICE"):
        assert list(target.glob(f"stfcodec-*.dist-info/**/{name}"))


def test_the_source_archive_holds_tests_benchmarks_and_pages(source: Path, tmp_path: Path) -> None:
    copy(TESTABLE, source)
    wanted = files(source)
    script = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=source, capture_output=True)
    (archive,) = tmp_path.glob("stfcodec-*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    assert wanted <= held
