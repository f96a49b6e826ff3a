"""A short run of the fuzzer: damaged streams end in a picture or in a plain refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stfcodec.entropy import rans

SECONDS = os.environ.get("STFCODEC_FUZZ_SECONDS", "60")


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
