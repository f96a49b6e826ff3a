"""Kills workers and whole runs over a collection at random, and compares what is left in the end.

Workers are processes of this machine, as `--workers` starts them, or actors of a Ray cluster that
the run starts here. They are found through /proc, so that this works on Linux alone.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks.markdown import table
from benchmarks.options import folder_argument
from benchmarks.pictures import read_folder
from stfcodec.collection import manifest
from stfcodec.shards import RECORDS

RUNNERS = {"processes": ("--workers", "2"), "Ray": ("--workers", "2", "--ray")}
OUTPUTS = {"files": (), "shards": ("--shards", "4")}

_POLL_S = 0.01


class Killed(NamedTuple):
    """How a run under fire went. code: the last exit code. text: what it wrote to stderr."""

    kills: int
    seconds: float
    code: int
    text: str


Kill = Callable[[Sequence[str], int, tuple[float, float], random.Random], Killed]
"""A command, kills at most, the shortest and longest pause between two of them, and chance."""


def cut(images: Sequence[np.ndarray], folder: Path, count: int, side: int) -> None:
    """Write up to `count` squares of the pictures (H, W, 3) as PNG files in two folders."""
    from PIL import Image

    number = 0
    for image in images:
        for top in range(0, image.shape[0] - side + 1, side):
            for left in range(0, image.shape[1] - side + 1, side):
                if number == count:
                    return
                path = folder / f"{number % 2}" / f"{number:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image[top : top + side, left : left + side]).save(path)
                number += 1


def command(source: Path, output: Path, *options: str) -> list[str]:
    """`stfcodec encode` of a folder into another one."""
    words = ["encode", str(source), "-r", "-o", str(output), "--manifest", *options]
    return [sys.executable, "-m", "stfcodec", *words]


def run(words: Sequence[str]) -> Killed:
    """A run that nobody kills."""
    with _Driver(words) as driver:
        return Killed(0, *driver.ended())


def run_killing_workers(
    words: Sequence[str], kills: int, pause: tuple[float, float], chance: random.Random
) -> Killed:
    """A run of which up to `kills` workers are killed, each some seconds after the one before and
    in the midst of a chunk."""
    count = 0
    with _Driver(words) as driver:
        while count < kills and driver.is_running:
            time.sleep(chance.uniform(*pause))
            while driver.is_running:
                if victims := at_work(driver.process.pid):
                    count += _kill(chance.choice(victims))
                    break
                time.sleep(_POLL_S)
        return Killed(count, *driver.ended())


def run_killing_drivers(
    words: Sequence[str], kills: int, pause: tuple[float, float], chance: random.Random
) -> Killed:
    """Runs with --resume, each of which but the last is killed after some seconds. Their workers
    are not. There are fewer where one has ended before."""
    seconds = 0.0
    for count in range(kills + 1):
        with _Driver([*words, "--resume"]) as driver:
            if count < kills:
                with suppress(subprocess.TimeoutExpired):
                    driver.process.wait(chance.uniform(*pause))
                driver.process.kill()
            taken, code, text = driver.ended()
            seconds += taken
        if code != -signal.SIGKILL:
            break
    return Killed(count, seconds, code, text)


VICTIMS: dict[str, tuple[Kill, tuple[float, float]]] = {
    "workers": (run_killing_workers, (0.5, 2.0)),
    "driver": (run_killing_drivers, (0.5, 15.0)),
}
"""How each is killed, and the seconds between two kills, at least and at most."""


class _Driver:
    """A running command. Leaving the context kills it, where that is needed."""

    def __init__(self, words: Sequence[str]) -> None:
        # A pipe would stay open for as long as workers outlive the command.
        self._errors = TemporaryFile("w+")  # noqa: SIM115
        self._start = time.monotonic()
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=self._errors)

    def __enter__(self) -> _Driver:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        self._errors.close()

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def ended(self) -> tuple[float, int, str]:
        """Seconds that it took, its exit code and what it wrote to stderr, once it has ended."""
        code = self.process.wait()
        seconds = time.monotonic() - self._start
        self._errors.seek(0)
        return seconds, code, self._errors.read()


def at_work(driver: int) -> list[int]:
    """The workers of a run that have a chunk, by their process ids."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(_parent(entry), []).append(int(entry.name))
    found, below = [], [driver]
    while below:
        process = below.pop()
        below += children.get(process, [])
        if _has_chunk(Path(f"/proc/{process}")):
            found.append(process)
    return found


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return 0


def _has_chunk(process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes()
        if b"multiprocessing.spawn" in words:  # its first message says that it is ready
            written = (process / "io").read_text().partition("wchar: ")[2].split()[0]
            return int(written) > 0
    except OSError:
        return False
    return words.startswith(b"ray::_Actor.work")


def _kill(process: int) -> bool:
    """Kill a process; False if it has ended before."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def differences(output: Path, expected: Path) -> list[str]:
    """What sets the outputs and the record of a run apart from those of another one: nothing, but
    for times."""
    contents, wanted = _contents(output), _contents(expected)
    found = [f"{name} is missing" for name in sorted(wanted.keys() - contents.keys())]
    found += [f"{name} is left over" for name in sorted(contents.keys() - wanted.keys())]
    found += [
        f"{name} has other bytes"
        for name in sorted(contents.keys() & wanted.keys())
        if contents[name] != wanted[name]
    ]
    rows = _rows(output)
    found += [f"{row['source']}: {row['error']}" for row in rows if row["error"]]
    if rows != (other := _rows(expected)):
        found.append(f"the manifest has {len(rows)} rows that are not the {len(other)} expected")
    return found


def _contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, temporary ones and locks too, but for parts of the manifest."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".parquet"
    }


def _rows(output: Path) -> list[dict[str, Any]]:
    """The rows of the manifest that count, but for times, in the order of their sources."""
    found = manifest.rows(output / RECORDS)
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in found]
    return sorted(rows, key=lambda row: str(row["source"]))


@click.command()
@folder_argument
@click.option("--kills", type=int, default=20, show_default=True, help="Of each kind.")
@click.option("--pictures", type=int, default=240, show_default=True, help="Cut from FOLDER's.")
@click.option("--side", type=int, default=384, show_default=True, help="Of each, in pixels.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the random times.")
@click.option("--only", multiple=True, help="A runner, files, shards, workers or driver.")
def main(
    folder: Path, kills: int, pictures: int, side: int, seed: int, only: tuple[str, ...]
) -> None:
    """Encode squares cut from the pictures in FOLDER while workers, and then runs, are killed.

    Prints a table, and what differs from the outputs of one process: nothing should.
    """
    chance = random.Random(seed)
    rows, faults = [], []
    with TemporaryDirectory() as name:
        root = Path(name)
        cut(read_folder(folder, limit=pictures), root / "source", pictures, side)
        for kind, options in OUTPUTS.items():
            expected = root / kind
            alone = run(command(root / "source", expected, *options))
            if alone.code:
                raise click.ClickException(alone.text)
            rows.append(["one process", kind, "", "0", f"{alone.seconds:.0f}", "0"])
            for runner, spread in RUNNERS.items():
                for victim, (kill, pause) in VICTIMS.items():
                    if not {runner, kind, victim}.issuperset(only):
                        continue
                    output = root / f"{kind}-{runner}-{victim}"
                    words = command(root / "source", output, *options, *spread)
                    killed = kill(words, kills, pause, chance)
                    wrong = differences(output, expected)
                    if killed.code:
                        wrong.append(f"exit code {killed.code}: {killed.text}")
                    label = f"{runner}, {kind}, {victim}"
                    faults += [f"{label}: {fault}" for fault in wrong]
                    seconds = f"{killed.seconds:.0f}"
                    rows.append([runner, kind, victim, f"{killed.kills}", seconds, f"{len(wrong)}"])
                    click.echo(f"{label}: {killed.kills} kills, {len(wrong)} faults", err=True)
    head = ["runner", "outputs", "killed", "kills", "seconds", "differences"]
    click.echo("\n".join(table(head, rows)))
    for fault in faults:
        click.echo(fault)
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
