"""Samples of shards, and how files in them are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal

from stfcodec.errors import StfError, storable

Kind = Literal["tar", "parquet"]

PICTURE_COLUMNS = frozenset({"image", "img", "picture"})
"""Names of columns of bare bytes that are taken for pictures, besides names of formats."""


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
            and (PurePosixPath(name).suffix.lower() in suffixes or field in PICTURE_COLUMNS)
        }

    def data(self, field: str) -> bytes:
        """What a field of `files` holds."""
        value = self.fields[field]
        return bytes(value["bytes"] if isinstance(value, dict) else value)

    def values(self) -> dict[str, Any]:
        """All fields, those of the whole row too."""
        return self.fields if self.row is None else {**self.row.to_pylist()[0], **self.fields}

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
    return field if field in PICTURE_COLUMNS else rename(f"key.{field}").removeprefix("key.")


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
        key = storable(key)
        return Sample(key, {"key": key, "image": {"bytes": data, "path": storable(name)}})
    stem = path.stem.replace("%", "%25").replace(".", "%2E")
    return Sample(str(path.with_name(stem)), {path.suffix[1:].lower(): data})


def name_of_file(name: str, kind: Kind) -> str:
    """What a file of a sample is called outside of its shard: the escapes of `sample_of_file` are
    gone. Raises ShardError where the name leads out of a folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ShardError(f"{name!r} is a name that leads out of the folder")
    if "\0" in name or not path.name:
        raise ShardError(f"{name!r} is no name of a file")
    if kind == "parquet":
        return str(path)
    return str(path.with_name(path.name.replace("%2E", ".").replace("%25", "%")))
