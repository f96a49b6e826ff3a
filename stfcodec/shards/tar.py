"""Shards of WebDataset: tar files. webdataset is imported where one is opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from stfcodec.shards.sample import Sample, ShardError

_BLOCK = 512
"""Bytes: tar files consist of such blocks, and end with two that are empty."""

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""How compressed files begin: gzip, bzip2, xz, zstd."""


class _Tail:
    """A file that is read through, and the last bytes that were."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.last = b""
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if not self.count and data.startswith(_COMPRESSED):  # whose end could not be seen
            raise ShardError("the shard is compressed: unpack it first")
        self.count += len(data)
        self.last = (self.last + data[-2 * _BLOCK :])[-2 * _BLOCK :]
        return data


def read(file: BinaryIO) -> Iterator[Sample]:
    """The samples of a tar file. Raises ShardError, and others."""
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    tail = _Tail(file)
    members = ({**member, "__url__": ""} for member in tar_file_iterator(tail))
    for found in group_by_keys(members):
        fields = {name: value for name, value in found.items() if not name.startswith("__")}
        yield Sample(found["__key__"], fields)
    while tail.read(1 << 20):
        pass
    is_whole = tail.count >= 2 * _BLOCK and tail.count % _BLOCK == 0 and not tail.last.strip(b"\0")
    if not is_whole:
        raise ShardError("the shard is truncated: its end is missing")


class TarShard:
    """Equal samples make equal shards: no time is in them."""

    def __init__(self, file: BinaryIO) -> None:
        from webdataset import TarWriter

        self._tar = TarWriter(file, encoder=False, keep_meta=True, mtime=0)

    def __enter__(self) -> TarShard:
        return self

    def __exit__(self, *error: object) -> None:
        self._tar.close()

    def write(self, sample: Sample) -> None:
        self._tar.write({"__key__": sample.key, **sample.fields})
