"""Folders as they are on real disks: what cannot be read or taken is told, the rest is coded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from commands import Command

from stfcodec.cli import paths
from stfcodec.formats import PICTURE_SUFFIXES

ROOT = Path(__file__).resolve().parents[1]
NAMING = paths.Naming(PICTURE_SUFFIXES, ".stf")
posix = pytest.mark.skipif(os.name != "posix", reason="files as POSIX has them")

PLAN = """
import json, sys
from stfcodec.cli import paths
from stfcodec.formats import PICTURE_SUFFIXES
naming = paths.Naming(PICTURE_SUFFIXES, ".stf")
plan = paths.plan(sys.argv[1:], "out", naming, recursive=True)
jobs = [job.input_name for job in plan.jobs]
print(json.dumps([jobs, [[r.job.input_name, r.failure.message] for r in plan.refused]]))
"""


def search(folder: Path) -> paths.Plan:
    return paths.plan([str(folder)], None, NAMING, recursive=True)


def refused(plan: paths.Plan) -> dict[str, str]:
    """Names of refused files, with the reasons."""
    return {
        Path(result.job.input_name).name: result.failure.message
        for result in plan.refused
        if result.failure
    }


def without_the_rights_of_root() -> list[str]:
    """What runs a command so that the permissions of files count for root, too."""
    if os.name != "posix":
        pytest.skip("permissions as POSIX has them")
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root reads every folder")
    rights = "-dac_override,-dac_read_search"
    return [setpriv, f"--bounding-set={rights}", f"--inh-caps={rights}"]


def test_an_unreadable_folder_is_refused_alone(tmp_path: Path) -> None:
    drop = without_the_rights_of_root()
    for name in ("lost+found", "photos"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    (tmp_path / "lost+found").chmod(0)
    command = [*drop, sys.executable, "-c", PLAN, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    (tmp_path / "lost+found").chmod(0o700)
    assert json.loads(done.stdout) == [
        [str(tmp_path / "photos" / "a.png")],
        [[str(tmp_path / "lost+found"), "cannot list the folder: Permission denied"]],
    ]


@posix
def test_links(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").touch()
    for name, place in {
        "loop.png": "loop.png",
        "self": "self",
        "up": "..",
        "good.png": "sub/a.png",
        "broken.png": "gone.png",
        "broken.txt": "gone.txt",
    }.items():
        (tmp_path / name).symlink_to(place)
    plan = search(tmp_path)
    taken = [job.source.name for job in plan.jobs if job.source]
    assert taken == ["broken.png", "good.png", "a.png"], "reading tells of the broken one"
    assert set(refused(plan)) == {"loop.png", "self"}
    assert all("symbolic links" in reason for reason in refused(plan).values())
    ((linked, text),) = plan.warnings
    assert linked == tmp_path / "up"
    assert "does not follow" in text
    assert plan.left_out == {".txt": 1}


@posix
def test_pipes_in_folders_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b")
    plan = search(tmp_path)
    assert plan.jobs == []
    assert set(refused(plan)) == {"a.png"}


def test_files_that_are_left_out_are_counted(stf: Command, picture: Path) -> None:
    folder = picture.parent
    for name in ("notes.txt", ".hidden.png", "list.csv"):
        (folder / name).touch()
    first = stf("encode", "-r", folder)
    assert (
        "1 coded, 0 skipped, 0 failed, 3 other files left out: 1 hidden, 1 .csv, 1 .txt ("
        in first.err
    )
    again = stf("encode", "-r", folder, "--skip-existing")
    assert (
        "0 coded, 1 skipped, 0 failed, 3 other files left out: 1 hidden, 1 .csv, 1 .txt\n"
        in again.err
    )
    assert "left out" not in stf("encode", "-r", folder, "-f", "--quiet").err


def test_links_to_folders_count_as_warnings(stf: Command, picture: Path) -> None:
    (picture.parent / "again").symlink_to(".")
    outcome = stf("encode", "-r", picture.parent)
    assert outcome.code == 0
    assert f"stfcodec: warning: {picture.parent / 'again'}: a link to a folder" in outcome.err
    assert "1 coded, 0 skipped, 0 failed, 1 warning (" in outcome.err


@posix
def test_a_broken_link_is_called_one(stf: Command, picture: Path) -> None:
    (picture.parent / "broken.png").symlink_to("gone.png")
    outcome = stf("encode", "-r", picture.parent)
    assert outcome.code == 1
    assert "broken.png: cannot read: a link to gone.png, which does not exist" in outcome.err
    assert "1 coded, 0 skipped, 1 failed" in outcome.err


@pytest.mark.slow
def test_folders_deeper_than_calls_may_nest(tmp_path: Path) -> None:
    folders = [tmp_path]
    for _ in range(sys.getrecursionlimit() + 50):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    deepest = folders[-1] / "a.png"
    deepest.touch()
    plan = search(tmp_path)
    deepest.unlink()
    for folder in reversed(folders[1:]):  # shutil.rmtree cannot
        folder.rmdir()
    assert [job.source for job in plan.jobs] == [deepest]


def test_two_runs_at_once_skip_each_others_files(
    picture: Path, tmp_path: Path, weights: list[str]
) -> None:
    """Both started before the first output exists."""
    from stfcodec import batch
    from stfcodec.settings import EncodeSettings

    for number in range(4):
        shutil.copy(picture, tmp_path / f"{number}.png")
    path = Path(weights[1]) if weights else None
    jobs = search(tmp_path).jobs
    results: list[batch.Result] = []
    together = threading.Barrier(2)

    class Together(batch.Encode):
        def prepare(self) -> None:
            super().prepare()
            together.wait(60)

    def code() -> None:
        results.extend(batch.run(jobs, Together(EncodeSettings(weights=path)), "skip"))

    threads = [threading.Thread(target=code) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [result.failure for result in results if result.failure]
    assert sum(result.info is not None for result in results) == len(jobs) == 5
    assert len(results) == 10
