"""What a collection costs besides coding: listing, chunks, workers and the manifest.

Every measurement has a process of its own, whose peak memory is read at its end.
`python -m benchmarks.scheduling --part PART` is that process.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from benchmarks import ROOT
from benchmarks.markdown import table
from benchmarks.memory import peak_memory
from stfcodec.batch import AnyJob, Naming, Result, pools
from stfcodec.batch.on_ray import Cluster, run_on_ray
from stfcodec.container import StreamInfo
from stfcodec.formats import PICTURE_SUFFIXES, STREAM_SUFFIX
from stfcodec.storage import Location, joined

if TYPE_CHECKING:
    from stfcodec.collection.chunks import Chunk
    from stfcodec.collection.listing import Collection, Unit

NAMING = Naming(PICTURE_SUFFIXES, STREAM_SUFFIX, keep_suffix=False)
_IN_FOLDER = 10_000
"""Files of one folder, where files are made to be listed."""
_INFO = StreamInfo(
    version=1,
    width=4000,
    height=3000,
    channels=3,
    bit_depth=8,
    model_id=7,
    fingerprint="0123abcd",
    quality=3.0,
    z_bytes=10_000,
    y_bytes=400_000,
    overhead_bytes=90,
    total_bytes=410_090,
    bpp=0.273,
    has_alpha=False,
    chunks=(),
)


def _name(number: int) -> str:
    return f"photographs/{number // _IN_FOLDER:05}/IMG_{number:09}.jpg"


def _collection(inputs: tuple[str, ...], output: Path) -> Collection:
    from stfcodec.collection import Collection

    return Collection(inputs, output, NAMING, recursive=True)


def _units(count: int) -> Iterator[Unit]:
    from stfcodec.collection.listing import Unit

    for number in range(count):
        yield Unit(Path("/", _name(number)), _name(number))


def _made_up(count: int, output: Path) -> Collection:
    """A collection of files that do not exist."""
    from stfcodec.collection import Collection

    class MadeUp(Collection):
        def units(self) -> Iterator[Unit | Result]:
            return _units(count)

    return MadeUp((), output, NAMING, recursive=True)


# Parts: each gets a number of pictures and a folder, and yields once what it needs is there -------


def names(count: int, root: Path) -> Iterator[None]:
    """Names that come from nowhere: chunks of them, and whether two outputs are the same."""
    yield
    _run(_made_up(count, root), _take_all)


def files(count: int, root: Path) -> Iterator[None]:
    """The listing of a local folder, with its subfolders."""
    for number in range(count):
        path = root.parent / "source" / _name(number)
        if number % _IN_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.touch()
    yield
    found = sum(1 for _ in _collection((str(root.parent / "source"),), root / "out").units())
    assert found == count


def s3(count: int, root: Path) -> Iterator[None]:
    """The listing of a bucket of moto, on this machine."""
    from unittest.mock import patch

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    with patch.dict("os.environ", AWS_ENDPOINT_URL=f"http://{host}:{port}", **keys):
        import fsspec

        system = fsspec.filesystem("s3")
        system.mkdir("bucket")
        system.pipe({f"bucket/{_name(number)}": b"" for number in range(count)})
        yield
        found = sum(1 for _ in _collection(("s3://bucket/photographs",), root).units())
        assert found == count
    server.stop()


def here(count: int, root: Path) -> Iterator[None]:
    """Chunks through this process, whose pictures are not coded, and the manifest."""
    yield
    _run(_made_up(count, root), partial(_idle, pools.run_here))


def processes(count: int, root: Path) -> Iterator[None]:
    """The same through two processes."""
    yield
    _run(_made_up(count, root), partial(_idle, partial(pools.run_in_processes, count=2)))


def ray(count: int, root: Path) -> Iterator[None]:
    """The same through two actors of Ray. The start of Ray is in it."""
    yield
    _run(_made_up(count, root), partial(_idle, partial(run_on_ray, cluster=Cluster(workers=2))))


def written(count: int, root: Path) -> Iterator[None]:
    """Writing a manifest."""
    yield
    _write(count, root)


def resumed(count: int, root: Path) -> Iterator[None]:
    """What --resume does where all is done: the manifest is read, and all is listed."""
    from stfcodec.collection import Resumption

    _child("written", count, root)  # whose memory is its own
    yield
    _run(_made_up(count, root.parent), _take_all, Resumption(goes_on=True))


def read(count: int, root: Path) -> Iterator[None]:
    """Reading all rows, as `stfcodec manifest` does."""
    from stfcodec.collection import manifest

    _child("written", count, root)  # whose memory is its own
    yield
    assert sum(1 for _ in manifest.rows(root)) == count


PARTS: dict[str, Callable[[int, Path], Iterator[None]]] = {
    part.__name__: part for part in (names, files, s3, here, processes, ray, written, resumed, read)
}


def _run(collection: Collection, runner: pools.Runner, *resumption: Any) -> None:
    from stfcodec.collection import Resumption, run

    goes_on = resumption[0] if resumption else Resumption()
    for _ in run(collection, _no_task, runner, {}, resumption=goes_on):
        pass


@contextmanager
def _no_task() -> Iterator[Any]:
    yield None


def _take_all(
    take: Any, open_work: Any, accepts: pools.Accepts
) -> Generator[pools.Done[Any, Any], None, None]:
    """A runner that takes every chunk, and skips what is in it."""
    skipped = Result(AnyJob(None))
    while (chunk := take()) is not None:
        yield pools.Done(chunk, [skipped] * len(chunk.units))


def _idle(
    runner: pools.Runner, take: Any, open_work: Any, accepts: pools.Accepts
) -> Generator[pools.Done[Any, Any], None, None]:
    """A runner whose workers have results without coding."""
    with closing(runner(take, _results, accepts)) as found:
        yield from found


@contextmanager
def _results() -> Iterator[Callable[[Chunk], list[Result]]]:
    yield lambda chunk: [_result(unit, chunk.output) for unit in chunk.units]


def _result(unit: Unit, folder: Path | Location) -> Result:
    output = joined(folder, str(NAMING.output(PurePosixPath(unit.name))))
    return Result(AnyJob(unit.source, output), _INFO, 4 << 20, 410_090, 9.0, checksum="a" * 64)


def _write(count: int, root: Path) -> None:
    from stfcodec.collection import manifest

    writer = manifest.Writer(root)
    for unit in _units(count):
        writer.add([manifest.row(unit.identity, _result(unit, root.parent), root.parent)])
    writer.flush()


# The command --------------------------------------------------------------------------------------


@click.command()
@click.option("--part", type=click.Choice(list(PARTS)), multiple=True, help="What; all if none.")
@click.option("--count", type=int, multiple=True, default=(100_000,), show_default=True)
@click.option("--into", type=click.Path(path_type=Path), hidden=True)
def main(part: tuple[str, ...], count: tuple[int, ...], into: Path | None) -> None:
    """Measure seconds and peak memory of parts of a run over COUNT pictures, and print a table."""
    if into is not None:
        click.echo(json.dumps(_measure(part[0], count[0], into)))
        return
    rows = []
    for name in part or PARTS:
        for number in count:
            with TemporaryDirectory() as folder:
                seconds, peak = _child(name, number, Path(folder, "_manifest"))
            each = f"{1e6 * seconds / number:.1f}"
            numbers = [f"{seconds:.1f}", each, f"{number / seconds:.0f}", f"{peak / 2**20:.0f}"]
            rows.append([name, f"{number}", *numbers])
            click.echo(rows[-1], err=True)
    head = ["part", "pictures", "seconds", "µs each", "pictures/s", "peak MiB"]
    click.echo("\n".join(table(head, rows)))


def _child(part: str, count: int, root: Path) -> tuple[float, int]:
    """Seconds and peak memory of a part, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scheduling", "--part", part]
    command += ["--count", str(count), "--into", str(root)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def _measure(part: str, count: int, root: Path) -> tuple[float, int]:
    steps = PARTS[part](count, root)
    next(steps)
    start = time.perf_counter()
    next(steps, None)
    return time.perf_counter() - start, peak_memory()


if __name__ == "__main__":
    main()
