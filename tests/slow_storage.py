"""A file system in memory that is no object store: it writes pieces, moves files, and fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stfcodec.storage import Location, place

fsspec = pytest.importorskip("fsspec")


class Slow(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
    """A file system in memory that, unlike an object store, writes pieces and moves files."""

    protocol = "slow"
    store: dict[str, Any] = {}  # noqa: RUF012 - as in the class above
    pseudo_dirs = [""]  # noqa: RUF012
    written: list[str] = []  # noqa: RUF012
    """Paths that were written to."""
    fails: dict[str, BaseException] = {}  # noqa: RUF012
    """What operations raise."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("slow://"))  # type: ignore[no-any-return]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self.written.append(path)
        super().pipe_file(path, value[: len(value) // 2], mode=mode)
        if "pipe" in self.fails:
            raise self.fails["pipe"]
        super().pipe_file(path, value)

    def put_file(self, lpath: str, rpath: str, *arguments: Any, **options: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        if "mv" in self.fails:
            raise self.fails["mv"]
        self.cp_file(path1, path2)
        self.rm_file(path1)


fsspec.register_implementation("slow", Slow, clobber=True)


def location(url: str) -> Location:
    found = place(url)
    assert isinstance(found, Location)
    return found
