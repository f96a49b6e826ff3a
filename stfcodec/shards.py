"""Shards: files that hold many samples, as WebDataset tar files and as Parquet files.

A sample has a key and fields. In a tar file they are its members of one name with different
suffixes, and in a Parquet file the columns of a row. Fields that are pictures or streams can be
replaced; the others stay as they are. webdataset and pyarrow are imported where a shard is opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, Protocol

from stfcodec.errors import StfError, one_line, storable
from stfcodec.storage import Location

Kind = Literal["tar", "parquet"]

SUFFIXES: dict[str, Kind] = {".tar": "tar", ".parquet": "parquet"}
"""Suffixes of shards."""

RECORDS = "_manifest"
"""The folder in an output in which runs record what they did, in Parquet files that are no shards.
Readers of data sets pass over names that begin so."""

_PICTURE_COLUMNS = frozenset({"image", "img", "picture"})
"""Names of columns of bare bytes that are taken for pictures, besides names of formats."""

_KEYS = ("__key__", "key", "id")
"""Columns that name a row, the first of them that is there."""

_ROWS = 16
"""Rows of a Parquet file that are in memory at a time, at least."""

_BLOCK = 512
"""Bytes: tar files consist of such blocks, and end with two that are empty."""


class ShardError(StfError):
    """A shard is damaged, or is none."""


@dataclass(frozen=True)
class Sample:
    """One sample of a shard.

    key: its name within the shard. fields: bytes by suffix (tar), or values by column (Parquet) of
    those columns that may hold files or keys. row: the whole row, as pyarrow has it.
    """

    key: str
    fields: dict[str, Any]
    row: Any = None

    def files(self, suffixes: frozenset[str]) -> dict[str, str]:
        """The fields that hold files with one of the suffixes, each with the name of the file."""
        found = {field: _file_name(self.key, field, value) for field, value in self.fields.items()}
        return {
            field: name
            for field, name in found.items()
            if name is not None
            and (PurePosixPath(name).suffix.lower() in suffixes or field in _PICTURE_COLUMNS)
        }

    def data(self, field: str) -> bytes:
        """What a field of `files` holds."""
        value = self.fields[field]
        return bytes(value["bytes"] if isinstance(value, dict) else value)

    def with_file(self, field: str, data: bytes, rename: Rename) -> Sample:
        """The sample with another file in place of one of `files`."""
        value, name = self.fields[field], field
        new: Any = data
        if isinstance(value, dict):
            old = _file_name(self.key, field, value)
            assert old is not None
            new = {**value, "bytes": data, "path": rename(old)}
        elif self.row is None:  # columns are renamed as a whole
            name = renamed(field, rename)
        fields = {
            name if k == field else k: new if k == field else v for k, v in self.fields.items()
        }
        return replace(self, fields=fields)


Rename = Callable[[str], str]
"""Gives the name of the output of a file, by the file's own."""


def renamed(field: str, rename: Rename) -> str:
    """What a field or a column of bare bytes is called once other files are in it."""
    return field if field in _PICTURE_COLUMNS else rename(f"key.{field}").removeprefix("key.")


def _file_name(key: str, field: str, value: Any) -> str | None:
    """What the file in a field is called; None where it holds no file."""
    if isinstance(value, dict):
        names = (str(value.get("path") or ""), key, field)
        name = next((name for name in names if PurePosixPath(name).name), "file")
        return name if isinstance(value.get("bytes"), bytes) else None
    return f"{key}.{field}" if isinstance(value, bytes) else None


def sample_of_file(name: str, data: bytes, kind: Kind) -> Sample:
    """The sample that a lone file makes. name: its path, with slashes.

    A key of WebDataset ends at the first dot, so that others are written as %2E.
    """
    path = PurePosixPath(name)
    key = str(path.with_name(path.stem))
    if kind == "parquet":
        key, file_name = storable(key), storable(path.name)
        return Sample(key, {"key": key, "image": {"bytes": data, "path": file_name}})
    stem = path.stem.replace("%", "%25").replace(".", "%2E")
    return Sample(str(path.with_name(stem)), {path.suffix[1:].lower(): data})


def name_of_file(name: str) -> str:
    """What a file of a sample is called outside of its shard: the escapes of `sample_of_file` are
    gone. Raises ShardError where the name leads out of a folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ShardError(f"{name!r} is a name that leads out of the folder")
    if "\0" in name or not path.name:
        raise ShardError(f"{name!r} is no name of a file")
    return str(path.with_name(path.name.replace("%2E", ".").replace("%25", "%")))


class Writer(Protocol):
    """Writes samples into a shard."""

    def write(self, sample: Sample) -> None: ...


@dataclass
class Reader:
    """An open shard. Its samples can be read once."""

    samples: Iterator[Sample]
    schema: Any = None
    """Of a Parquet file, as pyarrow gives it."""

    def renamed(self, suffixes: frozenset[str], rename: Rename) -> dict[str, str]:
        """New names of columns that hold files with one of the suffixes, by the old ones.

        Raises ShardError where two columns would get one.
        """
        names = {field.name: field.name for field in self.schema or ()}
        for field in self.schema or ():
            suffix = PurePosixPath(f"key.{field.name}").suffix.lower()
            if suffix in suffixes and _is_bytes(field.type):
                names[field.name] = renamed(field.name, rename)
        twice = [name for name, count in Counter(names.values()).items() if count > 1]
        if twice:
            raise ShardError(f"two columns would become {twice[0]}: --keep-suffix keeps them apart")
        return names


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
            yield Reader(_named(place, _read_tar(file)))
            return
        with _explained(place):
            import pyarrow.parquet

            table = pyarrow.parquet.ParquetFile(file)
        yield Reader(_named(place, _read_parquet(table)), table.schema_arrow)


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
        reason = one_line(error).partition(" @ ")[0]  # webdataset adds what it read
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
            _TarShard(file)
            if kind == "tar"
            else _ParquetShard(file)
            if schema is None
            else _ConvertedParquet(file, schema, columns or {})
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


class _Tail:
    """A file that is read through, and the last bytes that were."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.last = b""
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        self.last = (self.last + data[-2 * _BLOCK :])[-2 * _BLOCK :]
        return data


def _read_tar(file: BinaryIO) -> Iterator[Sample]:
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    tail = _Tail(file)
    members = ({**member, "__url__": ""} for member in tar_file_iterator(tail))
    for found in group_by_keys(members):
        fields = {name: value for name, value in found.items() if not name.startswith("__")}
        yield Sample(found["__key__"], fields)
    while tail.read(1 << 20):
        pass
    is_plain = tail.count % _BLOCK == 0
    if tail.count == 0 or (is_plain and tail.last.strip(b"\0")):
        raise ShardError("the shard is truncated: its end is missing")


class _TarShard:
    """Equal samples make equal shards: no time is in them."""

    def __init__(self, file: BinaryIO) -> None:
        from webdataset import TarWriter

        self._tar = TarWriter(file, encoder=False, keep_meta=True, mtime=0)

    def __enter__(self) -> _TarShard:
        return self

    def __exit__(self, *error: object) -> None:
        self._tar.close()

    def write(self, sample: Sample) -> None:
        self._tar.write({"__key__": sample.key, **sample.fields})


def _read_parquet(table: Any) -> Iterator[Sample]:
    number = 0
    for rows in table.iter_batches(batch_size=_ROWS):
        columns = [place for place, field in enumerate(rows.schema) if _is_read(field)]
        for place, fields in enumerate(rows.select(columns).to_pylist()):
            key = next((fields[name] for name in _KEYS if name in fields), None)
            yield Sample(str(number) if key is None else str(key), fields, rows.slice(place, 1))
            number += 1


def _is_read(field: Any) -> bool:
    return field.name in _KEYS or _may_hold_files(field.type)


def _may_hold_files(kind: Any) -> bool:
    """Whether a type of pyarrow is that of bytes, or a struct that has bytes."""
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


class _ParquetShard:
    """Rows are written in groups, with the columns of the first."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._samples: list[Sample] = []
        self._writer: Any = None

    def __enter__(self) -> _ParquetShard:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def write(self, sample: Sample) -> None:
        self._samples.append(sample)
        if len(self._samples) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow.parquet as pq

        table = self._table(self._samples)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema)
        if self._samples:
            self._writer.write_table(table)
        self._samples = []

    def _table(self, samples: list[Sample]) -> Any:
        import pyarrow as pa

        schema = self._writer.schema if self._writer is not None else None
        return pa.Table.from_pylist([sample.fields for sample in samples], schema)


class _ConvertedParquet(_ParquetShard):
    """Rows of another file. Columns in which no files can be are as they were there."""

    def __init__(self, file: BinaryIO, schema: Any, columns: dict[str, str]) -> None:
        super().__init__(file)
        self._source = schema
        self._columns = columns

    def _table(self, samples: list[Sample]) -> Any:
        import pyarrow as pa

        rows = pa.Table.from_batches([sample.row for sample in samples], self._source)
        for place, field in enumerate(self._source):
            name = self._columns.get(field.name, field.name)
            if _may_hold_files(field.type):
                values = [sample.fields[field.name] for sample in samples]
                rows = rows.set_column(place, field.with_name(name), pa.array(values, field.type))
        return rows
