"""Places behind URLs: in memory, in S3, on the web, and in file systems that have no puts."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from s3_server import S3Server
from slow_storage import Slow, location
from text_collections import RESUME, failures, members, outputs, shout, texts

from stfcodec import storage
from stfcodec.batch import Naming
from stfcodec.errors import ImageError, StfError, StorageError, UsageError
from stfcodec.files import OutputExistsError, TooLongError
from stfcodec.storage import place

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    yield
    for kind in (Slow, fsspec.get_filesystem_class("memory")):
        kind.store.clear()
        kind.pseudo_dirs[:] = [""]
    Slow.written.clear()
    Slow.fails.clear()


@pytest.fixture(params=["memory://data", "slow://data", "dir", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder of each kind of storage. dir: of this machine, through a wrapper of fsspec."""
    if request.param == "s3":
        return str(request.getfixturevalue("s3")) + "/data"
    return f"local://{tmp_path}/data" if request.param == "dir" else str(request.param)


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "is_url"),
    [
        ("s3://bucket/a.png", True),
        ("simplecache::s3://bucket/a.png", True),
        ("zip://a.png::s3://bucket/x.zip", True),
        ("a.png", False),
        ("C:/a.png", False),
        ("C://a.png", False),
        ("a::b.png", False),
        ("./s3://bucket", False),
        ("", False),
    ],
)
def test_what_is_a_url(text: str, is_url: bool) -> None:
    assert storage.is_url(text) == is_url


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/d/a b.png", "a b.png"),
        ("s3://bucket/a#1?.png", "a#1?.png"),
        ("memory://a.png", "a.png"),
        ("https://host/d/a.png?size=1#top", "a.png"),
        ("zip://d/a.png::s3://bucket/x.zip", "a.png"),
        ("simplecache::s3://bucket/a.png", "a.png"),
        ("s3://bucket/d/", "d"),
    ],
)
def test_the_name_of_a_url(url: str, name: str) -> None:
    assert location(url).name == name
    assert location(url).suffix == Path(name).suffix


def test_file_urls_are_paths(tmp_path: Path) -> None:
    assert place((tmp_path / "ü b.png").as_uri()) == tmp_path / "ü b.png"
    assert place("FILE:///a.png") == Path("/a.png")


def test_passwords_are_not_shown() -> None:
    assert str(location("ftp://me:secret@host/a.png")) == "ftp://me:***@host/a.png"
    assert "secret" not in str(location("https://me:secret@host/a").joined("b"))


# Files --------------------------------------------------------------------------------------------

HOSTILE = ("a b.bin", "ü#1?.bin", "[x]*{y}.bin", "d/../e.bin", "-", "%41.bin", "a.b.c")


@pytest.mark.parametrize("name", [name for name in HOSTILE if ".." not in name])
def test_files_come_back_as_they_were_written(root: str, name: str) -> None:
    file = location(root).joined("[deep]/er").joined(name)
    assert file.size() is None
    assert file.modified() is None
    for data in (b"12345", b""):
        file.write_bytes(data, overwrite=True)
        assert file.read_bytes(5) == data
        assert file.size() == len(data)
        with file.reading() as opened:
            assert opened.read() == data
    assert list(location(root).walk()) == [f"[deep]/er/{name}"]
    written = file.modified()
    assert written is not None
    file.remove()
    file.remove()
    assert file.size() is None


def test_reading_has_a_limit_and_looks_at_the_head_first(root: str) -> None:
    file = location(root).joined("a")
    file.write_bytes(bytes(200), overwrite=False)
    with pytest.raises(TooLongError, match="a has more than 199 bytes"):
        file.read_bytes(199)
    heads: list[bytes] = []

    def check(head: bytes) -> None:
        heads.append(head)
        raise ImageError("no picture")

    with pytest.raises(ImageError):
        file.read_bytes(200, check)
    assert heads == [bytes(64)]


def test_what_exists_is_kept(root: str, tmp_path: Path) -> None:
    file, source = location(root).joined("d/a"), tmp_path / "source"
    source.write_bytes(b"new")
    file.write_bytes(b"old", overwrite=False)
    for write in (partial(file.write_bytes, b"new"), partial(file.write_file, source)):
        with pytest.raises(OutputExistsError, match="exists already; use --force"):
            write(overwrite=False)
        assert file.read_bytes(9) == b"old"
    assert not file.create(b"new")
    assert file.read_bytes(9) == b"old"
    file.write_file(source, overwrite=True)
    assert file.read_bytes(9) == b"new"
    assert location(root).joined("fresh/b").create(b"1")


def test_what_does_not_exist_is_told_on_one_line(root: str) -> None:
    for found in (location(root).joined("none/a"), location(root.replace("data", "nowhere"))):
        with pytest.raises(StfError, match=r"^cannot read .*it does not exist") as error:
            found.read_bytes(9)
        assert "\n" not in str(error.value)


# Whole or not at all ------------------------------------------------------------------------------


def test_a_file_gets_its_name_once_it_is_whole() -> None:
    file = location("slow://data/d/a")
    file.write_bytes(b"1234", overwrite=False)
    assert [Path(path).name.startswith(".stf-") for path in Slow.written] == [True]
    assert list(Slow.store) == ["/data/d/a"]


@pytest.mark.parametrize("where", ["pipe", "mv"])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        ConnectionResetError(104, "reset by peer"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_write_that_fails_leaves_nothing(
    where: str, error: BaseException, tmp_path: Path
) -> None:
    file, source = location("slow://data/a"), tmp_path / "source"
    source.write_bytes(b"new one")
    Slow.fails[where] = error
    kind = StorageError if isinstance(error, Exception) else KeyboardInterrupt
    for write in (partial(file.write_bytes, b"new one"), partial(file.write_file, source)):
        with pytest.raises(kind):
            write(overwrite=False)
        assert list(Slow.store) == []
    Slow.fails.clear()
    file.write_bytes(b"old", overwrite=False)
    Slow.fails[where] = error
    with pytest.raises(kind):
        file.write_bytes(b"new", overwrite=True)
    assert {path: file.getvalue() for path, file in Slow.store.items()} == {"/data/a": b"old"}


def test_a_full_storage_stops_a_run_and_loses_nothing(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", *(f"{n}.txt" for n in range(5)))
    write = Slow.pipe_file

    def refuse(self: Slow, path: str, value: bytes, **options: Any) -> None:
        if len([name for name in Slow.store if name.endswith(".out")]) == 2 and value.isupper():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, path, value, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Slow, "pipe_file", refuse)
        with pytest.raises(StorageError, match=r"^stopped, .*No space left on device; once that"):
            shout([folder], "slow://data")
    assert len([name for name in Slow.store if name.endswith(".out")]) == 2
    assert len(shout([folder], "slow://data", RESUME)) == 3
    assert not [name for name in Slow.store if ".stf-" in name]


# Listing ------------------------------------------------------------------------------------------


def test_names_are_listed_in_their_order(root: str) -> None:
    names = ["a.txt", "b/c.txt", "b/d/e.txt", "b.txt", "ü.txt", "z[1]/*.txt", "B.txt"]
    for name in names:
        location(root).joined(name).write_bytes(b"1", overwrite=False)
    found = list(location(root).walk())
    assert sorted(found) == sorted(names)
    if root.startswith("s3"):
        assert found == sorted(names)
    else:
        top = [name for name in names if "/" not in name]
        assert found == [*sorted(top), "b/c.txt", "b/d/e.txt", "z[1]/*.txt"]
    assert list(location(f"{root}/b/").walk()) == ["c.txt", "d/e.txt"]


def test_pages_of_s3_come_as_they_are_wanted(
    s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, bucket = s3_server.client(), s3.removeprefix("s3://")
    for number in range(25):
        client.put_object(Bucket=bucket, Key=f"d/{number:02}.txt", Body=b"")
    client.put_object(Bucket=bucket, Key="d/", Body=b"")
    client.put_object(Bucket=bucket, Key="dd.txt", Body=b"")
    from s3fs import S3FileSystem

    call, pages = S3FileSystem.call_s3, []

    def few(self: Any, method: str, **options: Any) -> Any:
        page = call(self, method, **options, MaxKeys=10)
        pages.append(len(page["Contents"]))
        return page

    monkeypatch.setattr(S3FileSystem, "call_s3", few)
    names = location(f"{s3}/d").walk()
    assert next(names) == "00.txt"
    assert len(pages) == 1
    assert ["00.txt", *names] == [f"{number:02}.txt" for number in range(25)]
    assert pages == [10, 10, 6]


# Runs over collections ----------------------------------------------------------------------------

LOUD = Naming(frozenset({".out"}), ".txt")


@pytest.mark.parametrize("kind", ["tar", "parquet", None])
def test_runs_give_what_they_give_on_a_disk(root: str, tmp_path: Path, kind: Any) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("webdataset")
    names = ("a.txt", "b c.txt", "d/ü.txt")
    texts(tmp_path / "in", *names)
    for name in (*names, ".hidden.txt", ".d/e.txt", "other.png"):
        location(f"{root}/in").joined(name).write_bytes(name.encode(), overwrite=False)
    size = 2 if kind else None
    options: dict[str, Any] = {"size": size, "kind": kind or "tar"}
    shout([tmp_path / "in"], tmp_path / "plain", **options)
    assert not failures(shout([f"{root}/in"], f"{root}/out/", **options))
    written = location(f"{root}/out")
    found = {
        name: written.joined(name).read_bytes(1 << 20)
        for name in written.walk()
        if not name.startswith("_manifest/")
    }
    assert found == outputs(tmp_path / "plain")
    assert not shout([f"{root}/in"], f"{root}/out/", RESUME, **options)
    if kind:  # shards in, files out
        again = shout([f"{root}/out"], f"{root}/back", unpacks=True, naming=LOUD)
        assert sorted(Path(result.job.output_name).name for result in again) == [
            *("a.txt", "b c.txt", "ü.txt")
        ]
    if kind == "tar":
        assert members(found["shard-000000.tar"])["a.out"] == b"A.TXT"


def test_two_runs_on_one_output(root: str, tmp_path: Path) -> None:
    from stfcodec.collection import lock

    folder = texts(tmp_path / "in", "a.txt")
    with (
        lock.locked(location(root).joined("_manifest")),
        pytest.raises(UsageError, match="another run writes there"),
    ):
        shout([folder], root)
    assert not failures(shout([folder], root))
