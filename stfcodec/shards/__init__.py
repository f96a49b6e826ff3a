"""Shards: files that hold many samples, as WebDataset tar files and as Parquet files.

A sample has a key and fields. In a tar file they are its members of one name with different
suffixes, and in a Parquet file the columns of a row. Fields that are pictures or streams can be
replaced; the others stay as they are. webdataset and pyarrow are imported where a shard is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from stfcodec.errors import StfError, one_line
from stfcodec.shards import parquet, tar
from stfcodec.shards.sample import (
    Kind,
    Rename,
    Sample,
    ShardError,
    name_of_file,
    renamed,
    sample_of_file,
)
from stfcodec.storage import Location

__all__ = [
    "RECORDS",
    "SUFFIXES",
    "Kind",
    "Reader",
    "Sample",
    "ShardError",
    "Writer",
    "name_of_file",
    "reading",
    "renamed",
    "sample_of_file",
    "writing",
]

SUFFIXES: dict[str, Kind] = {".tar": "tar", ".parquet": "parquet"}
"""Suffixes of shards."""

RECORDS = "_manifest"
"""The folder in an output in which runs record what they did, in Parquet files that are no shards.
Readers of data sets pass over names that begin so."""


@dataclass
class Reader:
    """An open shard. Its samples can be read once."""

    samples: Iterator[Sample]
    schema: Any = None
    """Of a Parquet file, as pyarrow gives it."""

    def new_columns(self, suffixes: frozenset[str], rename: Rename) -> dict[str, str]:
        """Names of columns in an output, as of `parquet.new_columns`; none for a tar file."""
        return {} if self.schema is None else parquet.new_columns(self.schema, suffixes, rename)


class Writer(Protocol):
    """Writes samples into a shard."""

    def write(self, sample: Sample) -> None: ...


@contextmanager
def reading(place: Path | Location) -> Iterator[Reader]:
    """A shard. Raises StfError where it cannot be read.

    Reading its samples raises ShardError where it is damaged.
    """
    kind = SUFFIXES[place.suffix.lower()]
    with ExitStack() as stack:
        try:
            opened: AbstractContextManager[BinaryIO]
            opened = place.open("rb") if isinstance(place, Path) else place.reading()
            file = stack.enter_context(opened)
        except OSError as error:
            raise StfError(f"cannot read {place}: {error.strerror or one_line(error)}") from error
        if kind == "tar":
            yield Reader(_named(place, tar.read(file)))
            return
        with _explained(place):
            import pyarrow.parquet

            table = pyarrow.parquet.ParquetFile(file)
        yield Reader(_named(place, parquet.read(table)), table.schema_arrow)


def _named(place: Path | Location, samples: Iterator[Sample]) -> Iterator[Sample]:
    with _explained(place):
        yield from samples


@contextmanager
def _explained(place: Path | Location) -> Iterator[None]:
    """Turn what libraries raise over a shard into ShardError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise StfError(f"shards need {error.name}: pip install 'stfcodec[data]'") from error
    except StfError as error:
        raise ShardError(f"{place}: {error}") from error
    except Exception as error:
        first = Exception(*error.args[:1]) if error.args else error  # webdataset adds some
        reason = one_line(first).partition(" @ ")[0].partition(" dict_keys")[0]
        raise ShardError(f"{place}: the shard is damaged: {reason}") from error


@contextmanager
def writing(
    file: BinaryIO, kind: Kind, schema: Any = None, columns: dict[str, str] | None = None
) -> Iterator[Writer]:
    """A new shard in a file that is open for writing; it is whole once the context is left.

    schema: of the Parquet file that samples come from, whose columns they keep. columns: new names
    of some, by the old ones.
    """
    try:
        with (
            tar.TarShard(file)
            if kind == "tar"
            else parquet.ParquetShard(file)
            if schema is None
            else parquet.ConvertedParquet(file, schema, columns or {})
        ) as shard:
            yield _Careful(shard)
    except ModuleNotFoundError as error:
        raise StfError(f"shards need {error.name}: pip install 'stfcodec[data]'") from error


@dataclass
class _Careful:
    """A shard whose library may refuse a sample, for its name or its types."""

    shard: Writer

    def write(self, sample: Sample) -> None:
        """Raises ShardError, OSError."""
        try:
            self.shard.write(sample)
        except (OSError, StfError, ImportError):
            raise
        except Exception as error:
            reason = one_line(error)
            raise ShardError(f"a shard cannot hold the sample {sample.key!r}: {reason}") from error
