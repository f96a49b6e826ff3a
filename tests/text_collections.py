"""Collections of short texts that a stand-in for the codec turns into capitals."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from test_batch import Shout

from stfcodec import batch, storage
from stfcodec.batch import Naming, OpenTask, Result, pools
from stfcodec.collection import Collection, Resumption, run
from stfcodec.shards import Kind

NAMING = Naming(frozenset({".txt", ".md"}), ".out")
KEEPING = Naming(frozenset({".txt", ".md"}), ".out", keep_suffix=True)
RESUME, RETRY = Resumption(goes_on=True), Resumption(goes_on=True, retries=True)
SETTINGS = {"command": "shout"}


@contextmanager
def shouting() -> Iterator[batch.Task]:
    yield Shout()


@contextmanager
def opened(task: type[Shout], **options: Any) -> Iterator[batch.Task]:
    """Opens a stand-in, in a worker, too."""
    yield task(**options)


def shout(
    inputs: list[Path] | list[str],
    output: Path | str,
    resumption: Resumption = Resumption(),  # noqa: B008 - it cannot change
    *,
    size: int | None = None,
    kind: Kind = "tar",
    unpacks: bool = False,
    naming: Naming = NAMING,
    existing: batch.Existing = "refuse",
    open_task: OpenTask = shouting,
    runner: pools.Runner = pools.run_here,
    warnings: list[str] | None = None,
    preserve: bool = False,
) -> list[Result]:
    """Run over a collection. size: of shards. warnings: gets those of the listing."""
    heard: list[str] = [] if warnings is None else warnings
    collection = Collection(
        tuple(map(str, inputs)),
        storage.place(str(output)),
        naming,
        recursive=True,
        unpacks=unpacks,
        warn=lambda path, text: heard.append(f"{path}: {text}"),
    )
    results = run(
        collection,
        open_task,
        runner,
        SETTINGS,
        existing=existing,
        preserve=preserve,
        resumption=resumption,
        shard_size=size,
        shard_kind=kind,
    )
    return list(results)


def texts(folder: Path, *names: str) -> Path:
    """A folder of texts that hold their own names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def outputs(folder: Path) -> dict[str, bytes]:
    """All files below an output, but those of the manifest."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(found)
        if "_manifest" not in path.relative_to(folder).parts
    }


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of an output's manifest, by what is last in their sources."""
    from stfcodec.collection import manifest

    return {Path(row["source"]).name: row for row in manifest.rows(folder / "_manifest")}


def failures(results: list[Result]) -> dict[str, str]:
    """Why inputs failed, by their names."""
    return {
        Path(result.job.input_name).name: result.failure.message
        for result in results
        if result.failure
    }


def tar(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    """What a tar file holds."""
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        found = {}
        for member in file:
            content = file.extractfile(member)
            assert content is not None
            found[member.name] = content.read()
        return found
