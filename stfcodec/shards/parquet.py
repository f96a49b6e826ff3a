"""Shards that are Parquet files. pyarrow is imported where one is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from stfcodec.shards.sample import Rename, Sample, ShardError, renamed

_KEYS = ("__key__", "key", "id")
"""Columns that name a row, the first of them that is there."""

_ROWS = 16
"""Rows of a Parquet file that are in memory at a time, at least."""


def new_columns(schema: Any, suffixes: frozenset[str], rename: Rename) -> dict[str, str]:
    """Names of columns in the output, by those in the source.

    Columns that hold files with one of the suffixes are renamed. Raises ShardError where two
    columns would get one name.
    """
    names = {field.name: field.name for field in schema}
    for field in schema:
        suffix = PurePosixPath(f"key.{field.name}").suffix.lower()
        if suffix in suffixes and _is_bytes(field.type):
            names[field.name] = renamed(field.name, rename)
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise ShardError(f"two columns would become {twice[0]}: --keep-suffix keeps them apart")
    return names


def read(table: Any) -> Iterator[Sample]:
    """The rows of a file that pyarrow has opened."""
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


class ParquetShard:
    """Rows are written in groups, with the columns of the first."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._samples: list[Sample] = []
        self._writer: Any = None

    def __enter__(self) -> ParquetShard:
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


class ConvertedParquet(ParquetShard):
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
