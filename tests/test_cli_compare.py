"""stfcodec compare on the command line: its outputs, bad pictures and bad requests."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
from pathlib import Path

import photographs
import pytest
from commands import Command, one_error, pipe_in
from PIL import Image, PngImagePlugin

from stfcodec.errors import StfError
from stfcodec.models import locate, registry

pytestmark = pytest.mark.skipif(
    locate.status(registry.by_name("wacnn-lite")) == "missing", reason="no embedded weights"
)


def test_command(stf: Command, tmp_path: Path) -> None:
    photograph = tmp_path / "photo.png"
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "SECRET")
    Image.fromarray(photographs.photo(256)).save(photograph, pnginfo=text)
    done = stf("compare", photograph, "-q", "5")
    assert (done.code, done.err) == (0, "")
    lines = done.out.decode().splitlines()
    assert lines[0] == f"{photograph}: 256x256, {photograph.stat().st_size} bytes"
    codecs = [line.split()[0] for line in lines[3:7]]
    assert codecs == ["wacnn-lite", "JPEG", "WebP", "AVIF"]
    report = tmp_path / "report.html"
    done = stf("compare", photograph, photograph, "-q", "5,4,5", "-o", report)
    assert (done.code, done.out) == (0, b"")
    assert done.err == f"{report}: 2 pictures, {report.stat().st_size / 1e6:.1f} MB\n"
    html = report.read_text(encoding="utf-8")
    assert ">photo.png (1)<" in html and ">photo.png (2)<" in html and str(tmp_path) not in html
    assert '<h2 id="means">Mean of 2 pictures</h2>' in html and "SECRET" not in html
    assert html.index("quality 4") < html.index("quality 5")
    done = stf("compare", photograph, "-o", "-", "-q", "3")
    assert done.code == 0 and done.out.startswith(b"<!doctype html>")


def test_command_with_json(stf: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photographs.photo(64)).save(buffer, "PNG")
    pipe_in(monkeypatch, buffer.getvalue())
    done = stf("compare", "-", "--json", "-m", "stf-lite,wacnn-lite", "-q", "2")
    (record,) = done.records
    assert (record["input"], record["input_bytes"]) == ("-", buffer.tell())
    (point,) = record["points"]
    assert [r["codec"] for r in point["results"]][:2] == ["stf-lite", "wacnn-lite"]
    assert point["results"][0]["settings"] == "-q 2" and point["results"][0]["matched"] is True
    assert json.dumps(record)


def test_one_bad_picture_stops_no_other(stf: Command, picture: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    done = stf("compare", bad, picture, "-q", "3", "--json", "--quiet")
    assert done.code == 1 and [r["input"] for r in done.records] == [str(bad), str(picture)]
    assert done.err.count("\n") == 1 and "bad.png: not a picture of a known kind" in done.err
    report = tmp_path / "report.html"
    one_error(stf("compare", bad, "-q", "3", "-o", report), 3, "bad.png")
    assert not report.exists()


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_that_are_no_text(stf: Command, picture: Path, tmp_path: Path) -> None:
    named = tmp_path / os.fsdecode(b"a\xff\n.png")
    picture.rename(named)
    report = tmp_path / "report.html"
    assert stf("compare", named, "-q", "3", "-o", report, "--quiet").code == 0
    assert "a\\udcff\\n.png" in report.read_text(encoding="utf-8")
    assert b"/a\\udcff\\n.png: 50x34" in stf("compare", named, "-q", "3").out.splitlines()[0]


def test_bad_requests(stf: Command, picture: Path, coded: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("mine")
    one_error(stf("compare", picture, "-o", report), 2, "exists already", "--force")
    one_error(stf("compare", picture, "-o", picture, "-f"), 2, "is an input")
    one_error(stf("compare", picture, "-o", tmp_path), 2, "is a directory")
    one_error(stf("compare", picture, "-o", tmp_path / "no" / "x.html"), 2, "does not exist")
    one_error(stf("compare", tmp_path), 2, "is a folder", "name the pictures in it")
    one_error(stf("compare", "-", "-"), 2, "once")
    one_error(stf("compare", picture, tmp_path / "x.html"), 2, "give -o")
    one_error(stf("compare", ""), 2, "empty name")
    one_error(stf("compare", picture, "-q", "best"), 2, "'best'", "1,3,5")
    one_error(stf("compare", picture, "-q", "nan"), 2, "nan")
    one_error(stf("compare", picture, "-q", "0"), 2, "outside 1…6")
    one_error(stf("compare", picture, "-m", "wacnn-lite,best"), 2, "unknown model 'best'")
    one_error(stf("compare", picture, "-m", "wacnn", "-q", "3"), 5, "weights import")
    one_error(stf("compare", coded, "-q", "3"), 3, "is coded already", "the picture it was made of")
    assert report.read_text() == "mine" and picture.exists()


def test_metrics_that_are_missing_are_named(
    stf: Command, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stfcodec.compare.measure.find_spec", lambda name: None)
    done = stf("compare", picture, "-q", "3", "--json")
    assert "more is measured after: pip install pytorch-msssim ssimulacra2\n" in done.err


def test_standard_input_in_errors(stf: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe_in(monkeypatch, b"nothing")
    one_error(stf("compare", "-", "-q", "3"), 3, "stfcodec: error: not a picture of a known kind")


@pytest.mark.skipif(os.name == "nt", reason="no permission bits")
def test_the_page_is_as_private_as_its_pictures(stf: Command, picture: Path) -> None:
    other = picture.with_name("other.png")
    shutil.copy(picture, other)
    picture.chmod(0o644)
    other.chmod(0o600)
    report = picture.with_name("report.html")
    assert stf("compare", picture, other, "-q", "3", "-o", report, "--quiet").code == 0
    assert stat.S_IMODE(report.stat().st_mode) == 0o600


def test_numbers_outlive_a_page_that_cannot_be_written(
    stf: Command, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StfError("cannot write report.html: disk full")

    monkeypatch.setattr("stfcodec.files.write_bytes", fail)
    done = stf("compare", picture, "-q", "3", "-o", picture.with_name("r.html"), "--json")
    assert (done.code, len(done.records)) == (1, 1) and "disk full" in done.err


def test_dev_null_is_a_page(stf: Command, picture: Path) -> None:
    done = stf("compare", picture, "-q", "3", "-o", os.devnull, "-f")
    assert (done.code, done.out) == (0, b"") and f"{os.devnull}: 1 picture" in done.err
