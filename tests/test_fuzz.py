"""A short run of the fuzzer: damaged streams end in a picture or in a plain refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stfcodec.entropy import rans
from tests.fuzz import coder

SECONDS = os.environ.get("STFCODEC_FUZZ_SECONDS", "30")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the fuzzer's limits are those of Linux")
def test_no_findings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--seed", "1", "--seconds", SECONDS]
    if rans.BACKEND != "python":
        command += ["--coder", "both", "--compare"]
    run = subprocess.run(
        [*command, "--out", str(tmp_path / "findings")],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " picture\n" in run.stdout
    assert " StreamError\n" in run.stdout
    assert run.stdout.endswith("0 findings\n")
    assert not (tmp_path / "findings").exists()


def under_sanitizers(folder: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    """A run of `tests.fuzz.coder`; skips where nothing can be built with sanitizers."""
    try:
        library, environment = coder.build(folder), coder.environment()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no compiler with sanitizers here")
    command = [sys.executable, "-m", "tests.fuzz.coder", "--library", str(library)]
    return subprocess.run(
        [*command, "--seconds", str(seconds)],
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sanitizers are loaded as Linux loads them")
def test_no_fault_under_sanitizers(tmp_path: Path) -> None:
    run = under_sanitizers(tmp_path, float(SECONDS))
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[0]) > 1000
    assert run.stdout.endswith("payloads, no fault\n")


@pytest.mark.skipif(sys.platform != "linux", reason="sanitizers are loaded as Linux loads them")
def test_sanitizers_find_a_read_out_of_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a check of indexes taken out, the same run ends in a report."""
    source = coder.SOURCE.read_text()
    broken = source.replace("t >= tables->count ||", "")
    assert broken != source
    monkeypatch.setattr(coder, "SOURCE", tmp_path / "_rans.c")
    coder.SOURCE.write_text(broken)
    run = under_sanitizers(tmp_path, 20)
    assert run.returncode != 0
    assert "AddressSanitizer" in run.stderr
