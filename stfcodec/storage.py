"""Files behind URLs such as s3://bucket/photo.jpg, through fsspec.

A place is a `Path`, or a `Location` for what lies behind a URL. fsspec and its drivers are imported
where a URL is opened, and find credentials and addresses as their own documentation says.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from stfcodec import files
from stfcodec.errors import StfError, StorageError, UsageError, one_line

_URL = re.compile(r"([a-zA-Z0-9]+::)*[a-zA-Z][a-zA-Z0-9+.-]+://")  # no drive letter of Windows
_PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")

_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oci", "oss", "memory"})
"""Protocols whose files appear whole or not at all, and that have no folders to make."""

_WEB = frozenset({"http", "https"})
"""Protocols that are read only, and cannot be listed."""

_UNREACHABLE = re.compile(r"\w*(Connect|DNS|Timeout)\w*Error")
_WITHOUT_CREDENTIALS = re.compile(r"\w*Credentials\w*Error")


class Source(Protocol):
    """What an input may be besides a path."""

    def read_bytes(self, limit: int, check: files.Check) -> bytes:
        """All of it, as `files.read_bytes` reads a file."""


class Sink(Protocol):
    """What an output may be besides a path."""

    def check_output(self, overwrite: bool) -> None:
        """Raise OutputExistsError if it exists and may not be replaced."""

    def write_bytes(self, data: bytes, overwrite: bool) -> None:
        """Write all of it, or nothing."""


def is_url(text: str) -> bool:
    """Whether a name is a URL, also one that chains several, rather than a path."""
    return _URL.match(text) is not None


def place(text: str) -> Path | Location:
    """What a path or a URL names; file:// names a path."""
    if not is_url(text):
        return Path(text)
    if urlsplit(text).scheme.lower() == "file":
        return Path(url2pathname(urlsplit(text).path))
    return Location(text)


def joined(folder: Path | Location, name: str) -> Path | Location:
    """The place of `name`, a relative path with slashes, below a folder."""
    return folder / name if isinstance(folder, Path) else folder.joined(name)


def write_bytes(place: Path | Location, data: bytes, overwrite: bool) -> None:
    """Write a whole file or nothing, in a folder that is made if need be.

    Raises OutputExistsError, and StfError.
    """
    if isinstance(place, Path):
        files.make_folder(place.parent)
        files.write_bytes(place, data, overwrite)
    else:
        place.write_bytes(data, overwrite)


def create(place: Path | Location, data: bytes) -> bool:
    """Write a small file unless there is one; False if there is."""
    if isinstance(place, Location):
        return place.create(data)
    try:
        write_bytes(place, data, overwrite=False)
    except files.OutputExistsError:
        return False
    return True


def modified(place: Path | Location, time_is_set: bool = False) -> float | None:
    """When a file was written, in seconds; None if there is none, or nobody can tell.

    Two times of a local file tell that it was written before: that of its content, and that of its
    last change of any kind, which no program can set. time_is_set: one has set the former.
    """
    if isinstance(place, Location):
        return place.modified()
    try:
        status = place.stat()
    except OSError:
        return None
    return status.st_ctime if time_is_set else min(status.st_ctime, status.st_mtime)


def read_bytes(place: Path | Location, limit: int, check: files.Check = lambda head: None) -> bytes:
    """All of a file. limit, check and errors: as of `files.read_bytes`."""
    if isinstance(place, Location):
        return place.read_bytes(limit, check)
    return files.read_bytes(place, limit, check)


def remove(place: Path | Location) -> None:
    """Remove a file, if there is one. Raises StfError."""
    if isinstance(place, Location):
        place.remove()
        return
    try:
        place.unlink(missing_ok=True)
    except OSError as error:
        raise StfError(f"cannot remove {place}: {error.strerror}") from error


@dataclass(frozen=True)
class Location:
    """A file or folder behind a URL.

    Raises StfError, of one line that names it, wherever the storage fails.
    """

    base: str
    """A URL that somebody gave."""
    below: str = ""
    """A path below it, with slashes and as it is: no character of it has a meaning."""

    def __str__(self) -> str:
        """The URL, without a password."""
        url = _PASSWORD.sub(r"\1:***@", self.base)
        return f"{url.rstrip('/')}/{self.below}" if self.below else url

    @property
    def protocol(self) -> str:
        return self.base.partition(":")[0].lower()

    @property
    def is_on_the_web(self) -> bool:
        return self.protocol in _WEB

    @property
    def name(self) -> str:
        """The last part of its path. Only on the web have a question mark and # a meaning."""
        first = next((part for part in self.base.split("::") if "://" in part), self.base)
        path = urlsplit(first).path if self.is_on_the_web else first.partition("://")[2]
        return PurePosixPath(self.below or path).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def joined(self, name: str) -> Location:
        return Location(self.base, f"{self.below}/{name}" if self.below else name)

    def read_bytes(self, limit: int, check: files.Check = lambda head: None) -> bytes:
        """All of the file. limit, check and errors: as of `files.read_bytes`."""
        with self._failing("read"):
            system, path = self._open()
            if self.is_on_the_web:  # a server may send more than it is asked for
                with system.open(path, "rb", block_size=0) as file:
                    return files.read_file_object(cast("BinaryIO", file), limit, check)
            data = _first_bytes(system, path, limit + 1)
        check(data[: files.HEAD])
        if len(data) > limit:
            raise files.TooLongError(f"{self} has more than {limit} bytes, the most that is read")
        return data

    @contextmanager
    def reading(self) -> Iterator[BinaryIO]:
        """The file, open for reading piece by piece."""
        with self._failing("read"):
            system, path = self._open()
            with system.open(path, "rb") as file:
                yield cast("BinaryIO", file)

    def size(self) -> int | None:
        """Bytes of the file; None if there is none."""
        with self._failing("look for"):
            system, path = self._open()
            try:
                return int(_facts(system, path)["size"] or 0)
            except FileNotFoundError:
                return None

    def modified(self) -> float | None:
        """When it was written, in seconds by the clock of the storage; None if it does not exist,
        or the storage does not tell."""
        with self._failing("look for"):
            system, path = self._open()
            try:
                if hasattr(system, "call_s3"):
                    return float(_facts(system, path)["LastModified"].timestamp())
                return float(system.modified(path).timestamp())
            except (FileNotFoundError, NotImplementedError):
                return None

    def check_output(self, overwrite: bool) -> None:
        """Raise UsageError where nothing can be written, OutputExistsError if it is kept."""
        if self.is_on_the_web:
            raise UsageError(f"{self}: {self.protocol}:// is for reading only")
        if not overwrite and self.size() is not None:
            raise files.OutputExistsError(f"{self} exists already; use --force to replace it")

    def write_bytes(self, data: bytes, overwrite: bool) -> None:
        """Write the whole file or nothing. Raises as `check_output` does."""
        self.check_output(overwrite)
        with self._failing("write"), self._complete() as (system, path):
            system.pipe_file(path, data)

    def write_file(self, source: Path, overwrite: bool) -> None:
        """Write what a local file holds, whole or not at all. Raises as `check_output` does."""
        self.check_output(overwrite)
        with self._failing("write"), self._complete() as (system, path):
            system.put_file(str(source), path)

    def create(self, data: bytes) -> bool:
        """Write a small file unless there is one; False if there is."""
        with self._failing("write"):
            system, path = self._open()
            if self.protocol not in _OBJECT_STORES:
                system.makedirs(_parent(path), exist_ok=True)
            try:
                system.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            return True

    def remove(self) -> None:
        with self._failing("remove"):
            system, path = self._open()
            with suppress(FileNotFoundError):
                system.rm_file(path)

    def walk(self) -> Iterator[str]:
        """The paths of all files below, relative to it and in the order of their names.

        Names of S3 come in pages, and are never all in memory; those of other storages come folder
        by folder. Raises StfError, UsageError where the storage cannot be listed.
        """
        if self.is_on_the_web:
            advice = f"{self.protocol}:// cannot be listed: name each file, or give a --filelist"
            raise UsageError(f"{self}: {advice}")
        with self._failing("list"):
            system, root = self._open()
            if hasattr(system, "call_s3"):
                yield from _walk_s3(system, root)
            else:
                yield from _walk(system, root.rstrip("/"), "")

    def _open(self) -> tuple[Any, str]:
        """The file system, and what it calls this place."""
        system, root = _file_system(self.base)
        return system, f"{root.rstrip('/')}/{self.below}" if self.below else root

    @contextmanager
    def _complete(self) -> Iterator[tuple[Any, str]]:
        """A file system and a path in it. What is written there gets this name once it is whole."""
        system, path = self._open()
        if self.protocol in _OBJECT_STORES:
            yield system, path
            return
        folder = _parent(path)
        system.makedirs(folder, exist_ok=True)
        scratch = f"{folder}/.stf-{secrets.token_hex(8)}.tmp"
        try:
            yield system, scratch
            system.mv(scratch, path)
        except BaseException:
            with suppress(Exception):
                system.rm_file(scratch)
            raise

    @contextmanager
    def _failing(self, verb: str) -> Iterator[None]:
        """Turn whatever a driver raises into StfError: the storage failed, not this program."""
        try:
            yield
        except StfError:
            raise
        except ImportError as error:
            raise StfError(f"cannot {verb} {self}: {_missing(error)}") from error
        except Exception as error:
            kind = StorageError if verb == "write" else StfError
            raise kind(f"cannot {verb} {self}: {_reason(error)}") from error


@lru_cache(maxsize=64)
def _file_system(base: str) -> tuple[Any, str]:
    """The file system of a URL, and what it calls the place. Raises UsageError, ImportError."""
    import fsspec

    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(base, use_listings_cache=False)
    except ValueError as error:
        raise UsageError(f"{Location(base)}: {one_line(error)}") from error
    return found


if hasattr(os, "register_at_fork"):  # a child has none of the threads that drivers wait for
    os.register_at_fork(after_in_child=_file_system.cache_clear)


def _facts(system: Any, path: str) -> dict[str, Any]:
    """Size and more of a file. Raises FileNotFoundError.

    s3fs would list what is below a missing one, too, which costs as much as writing a file.
    """
    if not hasattr(system, "call_s3"):
        return dict(system.info(path))
    bucket, _, key = path.partition("/")
    found = system.call_s3("head_object", system.kwargs, Bucket=bucket, Key=key, **system.req_kw)
    return {**found, "size": found["ContentLength"]}


def _first_bytes(system: Any, path: str, count: int) -> bytes:
    try:
        return bytes(system.cat_file(path, start=0, end=count))
    except OSError:
        if system.info(path)["size"] == 0:  # S3 has no first bytes of an empty file
            return b""
        raise


def _parent(path: str) -> str:
    return path.rstrip("/").rpartition("/")[0]


def _walk_s3(system: Any, root: str) -> Iterator[str]:
    bucket, _, prefix = root.strip("/").partition("/")
    prefix = f"{prefix}/" if prefix else ""
    options: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    while True:
        page = system.call_s3("list_objects_v2", **options)
        for entry in page.get("Contents", ()):
            if not entry["Key"].endswith("/"):  # what stands for a folder
                yield entry["Key"][len(prefix) :]
        if not page.get("IsTruncated"):
            return
        options["ContinuationToken"] = page["NextContinuationToken"]


def _walk(system: Any, root: str, below: str) -> Iterator[str]:
    """Files of a folder, then its folders."""
    folder = f"{root}/{below}" if below else root
    entries = sorted(system.ls(folder or "/", detail=True), key=lambda entry: str(entry["name"]))
    names = [(str(entry["name"]).rstrip("/").rpartition("/")[2], entry) for entry in entries]
    for name, entry in names:
        if entry["type"] == "file":
            yield f"{below}/{name}" if below else name
    for name, entry in names:
        if entry["type"] == "directory":
            yield from _walk(system, root, f"{below}/{name}" if below else name)


def _missing(error: ImportError) -> str:
    """Which package is missing: fsspec says it of its drivers."""
    is_fsspec = error.name == "fsspec"
    return "URLs need fsspec: pip install 'stfcodec[data]'" if is_fsspec else one_line(error)


def _reason(error: Exception) -> str:
    kinds = [kind.__name__ for kind in type(error).__mro__]
    text = one_line(error)
    cause = error.__cause__  # of what HTTP's driver calls a file that is not found
    if isinstance(cause, Exception) and _UNREACHABLE.fullmatch(type(cause).__name__):
        return f"the storage cannot be reached ({one_line(cause)})"
    if isinstance(error, FileNotFoundError):
        reason = "it does not exist"
        return reason if error.filename or error.errno else f"{reason} ({text})"
    if isinstance(error, PermissionError):
        return f"access is denied ({text})"
    if any(_WITHOUT_CREDENTIALS.fullmatch(kind) for kind in kinds):
        return "no credentials were found; set those of the storage, such as AWS_ACCESS_KEY_ID"
    if any(_UNREACHABLE.fullmatch(kind) for kind in kinds):
        return f"the storage cannot be reached ({text})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return text
