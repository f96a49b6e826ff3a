"""Storages that deny, cannot be reached, or are for reading only: one clear line each."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from s3_server import ALL, S3Server, sign_in
from slow_storage import location

from stfcodec import storage
from stfcodec.errors import StfError, UsageError
from stfcodec.files import TooLongError

fsspec = pytest.importorskip("fsspec")


# Errors of S3 -------------------------------------------------------------------------------------


def one_line_with(error: pytest.ExceptionInfo[BaseException], *words: str) -> None:
    (line,) = str(error.value).splitlines()
    for word in words:
        assert word in line


def test_rights_that_are_missing(
    s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    location(f"{s3}/d/a").write_bytes(b"1", overwrite=False)
    sign_in(monkeypatch, s3_server.url, s3_server.user("s3:GetObject"))
    with s3_server.checking_rights():
        assert location(f"{s3}/d/a").read_bytes(9) == b"1"
        with pytest.raises(StfError) as error:
            list(location(f"{s3}/d").walk())
        one_line_with(error, f"cannot list {s3}/d: access is denied")
        with pytest.raises(StfError) as error:
            location(f"{s3}/b").write_bytes(b"1", overwrite=True)
        one_line_with(error, f"cannot write {s3}/b: access is denied")


@pytest.mark.parametrize("what", ["key", "secret"])
def test_credentials_that_are_wrong(
    s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    location(f"{s3}/a").write_bytes(b"1", overwrite=False)
    key, secret = s3_server.user("s3:*")
    wrong = ("nobody", secret) if what == "key" else (key, "wrong")
    sign_in(monkeypatch, s3_server.url, wrong)
    with s3_server.checking_rights():
        for verb, act in {
            "read": lambda: location(f"{s3}/a").read_bytes(9),
            "list": lambda: list(location(s3).walk()),
            "write": lambda: location(f"{s3}/b").write_bytes(b"1", overwrite=True),
        }.items():
            with pytest.raises(StfError) as error:
                act()
            one_line_with(error, f"cannot {verb} {s3}", "access is denied")


def test_no_credentials(s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch, s3_server.url, None)
    with pytest.raises(StfError) as error:
        location(f"{s3}/a").read_bytes(9)
    one_line_with(error, "no credentials were found; set those of the storage")


def test_nobody_answers(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch, "http://127.0.0.1:9", ALL)
    with pytest.raises(StfError) as error:
        location(f"{s3}/a").read_bytes(9)
    one_line_with(error, f"cannot read {s3}/a: the storage cannot be reached")


def test_no_bucket(s3: str) -> None:
    for act in (
        lambda: location("s3://no-bucket/a").read_bytes(9),
        lambda: list(location("s3://no-bucket").walk()),
        lambda: location("s3://no-bucket/a").write_bytes(b"1", overwrite=False),
    ):
        with pytest.raises(StfError) as error:
            act()
        one_line_with(error, "does not exist")


# The web ------------------------------------------------------------------------------------------


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a server for the folder `web`."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None: ...

    (tmp_path / "web").mkdir()
    handler = partial(Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_web_is_for_reading_only(web: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "web" / "a b.txt").write_bytes(b"over the web")
    file = location(f"{web}/a%20b.txt")
    assert file.read_bytes(12) == b"over the web"
    with pytest.raises(TooLongError):
        file.read_bytes(11)
    with pytest.raises(StfError, match=r"cannot read http.*: it does not exist"):
        location(f"{web}/none.txt").read_bytes(9)
    with pytest.raises(UsageError, match="http:// is for reading only"):
        file.write_bytes(b"1", overwrite=True)
    with pytest.raises(UsageError, match="cannot be listed: name each file"):
        list(location(web).walk())
    with pytest.raises(StfError, match="the storage cannot be reached"):
        location("http://127.0.0.1:9/a.txt").read_bytes(9)


# What is not there --------------------------------------------------------------------------------


def test_fsspec_and_its_drivers_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    storage._file_system.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fsspec", None)
        with pytest.raises(StfError, match=r"URLs need fsspec: pip install 'stfcodec\[data\]'"):
            location("memory://a").read_bytes(9)
    with pytest.raises(StfError, match=r"cannot read gs://bucket/a: .*gcsfs") as error:
        location("gs://bucket/a").read_bytes(9)
    one_line_with(error, "nstall")
    with pytest.raises(UsageError, match=r"^nothing://a: Protocol not known: nothing"):
        location("nothing://a").read_bytes(9)
