"""The manifest of an output: a Parquet file for every so often, with a row for each picture.

A row of a source counts only in the last part that has the source. Rows of one chunk are in one
part, so that a shard is recorded whole or not at all.
"""

from __future__ import annotations

import io
import json
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stfcodec import storage
from stfcodec.batch import Result, model_name
from stfcodec.collection.hashes import hash64
from stfcodec.collection.listing import PACKED
from stfcodec.errors import StfError, one_line, storable
from stfcodec.storage import Location, joined

_PART = re.compile(r"part-(\d{6,})-.*\.parquet")

_EVERY_S, _SHARE, _ROWS = 5.0, 0.02, 100_000
"""A part is written after so many seconds or rows, or this share of the run's time: what a killed
run loses is small, and so is the number of parts."""

_FIELDS = {
    "source": "string",
    "key": "string",
    "source_bytes": "int64",
    "source_sha256": "string",
    "output": "string",
    "bytes": "int64",
    "bpp": "float64",
    "psnr": "float64",
    "width": "int32",
    "height": "int32",
    "model": "string",
    "quality": "float64",
    "fingerprint": "string",
    "seconds": "float64",
    "error": "string",
    "exit_code": "int8",
}
"""Columns and their types (docs/scale.md)."""

_BEGUN = "_begun.json"
"""Written when the first run begins, with its settings. Readers of Parquet pass over the name."""

_LIMIT = 1 << 20

_BATCH = 1000
"""Rows that are in memory as Python objects at a time."""


def row(source: str, result: Result, folder: Path | Location) -> dict[str, Any]:
    """The row of a result. source: the file or the shard that it is of. folder: of the outputs,
    which are recorded by what they are called below it."""
    info, failure = result.info, result.failure
    found: dict[str, Any] = dict.fromkeys(_FIELDS)
    output = result.job.output_name.removeprefix(str(folder).rstrip("/") + "/")
    found |= {"source": source, "output": storable(output)}
    found["key"] = getattr(result.job.source, "key", None)
    if failure is not None:
        return found | {"error": failure.message, "exit_code": failure.exit_code}
    assert info is not None
    return found | {
        "source_bytes": result.input_bytes,
        "source_sha256": result.checksum,
        "bytes": info.total_bytes,
        "bpp": info.bpp,
        "psnr": result.psnr,
        "width": info.width,
        "height": info.height,
        "model": model_name(info.model_id),
        "quality": info.quality,
        "fingerprint": info.fingerprint,
        "seconds": result.seconds,
    }


def empty_row(source: str) -> dict[str, Any]:
    """The row of a shard in which there is nothing to code."""
    return {**dict.fromkeys(_FIELDS), "source": source, "output": ""}


def _import() -> Any:
    """pyarrow, with pyarrow.parquet. Raises StfError."""
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise StfError("a manifest needs pyarrow: pip install 'stfcodec[data]'") from error
    return pa


class Writer:
    """Writes parts as the run goes."""

    def __init__(self, folder: Path | Location) -> None:
        """folder: of the manifest. The parts have names behind those of the parts there."""
        self._folder = folder
        before = [_PART.fullmatch(part.name) for part in parts(folder)[-1:]]
        number = 1 + max((int(match[1]) for match in before if match), default=0)
        pa = _import()
        self._schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in _FIELDS.items()])
        now = time.strftime("%Y%m%dT%H%M%S", time.gmtime())  # for people
        self._run = f"{number:06d}-{now}-{secrets.token_hex(4)}"
        self._number = 0
        self._rows: list[dict[str, Any]] = []
        self._began = self._written = time.monotonic()

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Record rows that belong together. Raises StfError."""
        self._rows += rows
        now = time.monotonic()
        wait = max(_EVERY_S, _SHARE * (now - self._began))
        if now - self._written >= wait or len(self._rows) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet. Raises StfError."""
        if not self._rows:
            return
        pa = _import()
        buffer = io.BytesIO()
        pa.parquet.write_table(pa.Table.from_pylist(self._rows, self._schema), buffer)
        name = f"part-{self._run}-{self._number:06d}.parquet"
        storage.write_bytes(joined(self._folder, name), buffer.getvalue(), overwrite=False)
        self._number += 1
        self._rows = []
        self._written = time.monotonic()


@dataclass
class Record:
    """What earlier runs recorded.

    done, failed: sorted hashes of sources. outputs: of outputs of those that are done. shards:
    numbers of the shards that files went to.
    """

    done: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    failed: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    outputs: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    shards: set[int] = field(default_factory=set)


def begin(folder: Path | Location, settings: dict[str, Any], anew: bool) -> dict[str, Any]:
    """The settings that the first run had: these, if this is the first one or begins anew.

    Raises StfError.
    """
    place = joined(folder, _BEGUN)
    data = json.dumps({"settings": settings}).encode()
    if anew:
        storage.write_bytes(place, data, overwrite=True)
    elif not storage.create(place, data):
        try:
            found = json.loads(storage.read_bytes(place, _LIMIT))["settings"]
            return dict(found)
        except (ValueError, KeyError, TypeError) as error:
            raise StfError(f"{place} is damaged: --force begins anew") from error
    return settings


def began(folder: Path | Location) -> float | None:
    """When the first run began, in seconds by the clock of the storage."""
    return storage.modified(joined(folder, _BEGUN))


def parts(folder: Path | Location) -> list[Path | Location]:
    """The parts of a manifest, the oldest first. Raises StfError."""
    if isinstance(folder, Path):
        try:
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        except OSError as error:
            raise StfError(f"cannot list {folder}: {error.strerror}") from error
    else:
        names = _names(folder)
    return [joined(folder, name) for name in sorted(names) if _PART.fullmatch(name)]


def _names(folder: Location) -> list[str]:
    try:
        return list(folder.walk())
    except StfError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return []
        raise


def read(folder: Path | Location) -> Record:
    """What the manifest says. Raises StfError where it is damaged or cannot be read."""
    hashes, numbers, failures, outputs, record = [], [], [], [], Record()
    for number, part in enumerate(parts(folder)):
        table = _table(part, ["source", "output", "error"])
        hashes.append(_hashes(table["source"].to_pylist()))
        numbers.append(np.full(len(table), number, np.int32))
        failures.append(np.array(table["error"].is_valid()))
        names = table["output"].to_pylist()
        outputs.append(_hashes(map(_without_shard, names)))
        matches = (PACKED.fullmatch(name.partition("/")[0]) for name in names)
        record.shards |= {int(match[1]) for match in matches if match}
    if hashes:
        sources = np.concatenate(hashes)
        record.done, record.failed = _last(
            sources, np.concatenate(numbers), np.concatenate(failures)
        )
        record.outputs = np.unique(np.concatenate(outputs)[np.isin(sources, record.done)])
    return record


def _without_shard(output: str) -> str:
    """An output by what it would be called outside of the shard that files were packed into."""
    shard, _, name = output.partition("/")
    return name if PACKED.fullmatch(shard) else output


def _last(
    hashes: np.ndarray, numbers: np.ndarray, failures: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sources that are done and that failed, by the last part that has each."""
    sources, last = _last_parts(hashes, numbers)
    counts = last[np.searchsorted(sources, hashes)] == numbers
    failed = np.unique(hashes[counts & failures])
    return np.setdiff1d(sources, failed, assume_unique=True), failed


def _last_parts(hashes: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sources, sorted, and the number of the last part that has each."""
    order = np.lexsort((numbers, hashes))
    hashes, numbers = hashes[order], numbers[order]
    is_last = np.append(hashes[1:] != hashes[:-1], True)
    return hashes[is_last], numbers[is_last]


def _hashes(names: Iterable[str]) -> np.ndarray:
    return np.fromiter(map(hash64, names), np.uint64)


def rows(folder: Path | Location) -> Iterator[dict[str, Any]]:
    """The rows that count, part by part. Raises StfError."""
    found = parts(folder)
    hashes = [_hashes(_table(part, ["source"])["source"].to_pylist()) for part in found]
    if not hashes:
        return
    numbers = [np.full(len(h), number, np.int32) for number, h in enumerate(hashes)]
    sources, last = _last_parts(np.concatenate(hashes), np.concatenate(numbers))
    for number, (part, own) in enumerate(zip(found, hashes, strict=True)):
        counts = last[np.searchsorted(sources, own)] == number
        for batch in _table(part, list(_FIELDS)).filter(counts).to_batches(_BATCH):
            for fields in batch.to_pylist():
                if fields["output"]:  # else of a shard in which there is nothing
                    yield fields


def _table(part: Path | Location, columns: list[str]) -> Any:
    pa = _import()
    try:
        if isinstance(part, Path):
            return pa.parquet.read_table(part, columns=columns, partitioning=None)
        with part.reading() as file:
            return pa.parquet.read_table(file, columns=columns)
    except StfError:
        raise
    except Exception as error:
        raise StfError(f"{part}: the manifest is damaged: {one_line(error)}") from error
