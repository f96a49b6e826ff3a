"""stfcodec desktop and stfcodec thumbnail: what desktops learn of .stf files, and see of them."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from commands import HEIGHT, WIDTH, Command, one_error, pipe_in
from PIL import Image
from test_json import check

from stfcodec.cli import desktop
from stfcodec.container.layout import SIGNATURE

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = {
    "mime/packages/stfcodec.xml",
    "thumbnailers/stfcodec.thumbnailer",
    "icons/hicolor/scalable/mimetypes/image-x-stfcodec.svg",
}
TYPE = "image/x-stfcodec"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="desktops as freedesktop.org has")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's data, which does not exist yet; no programs that collect."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DISPLAY", raising=False)
    return tmp_path / "data"


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_install_and_remove(stf: Command, data: Path) -> None:
    other = data / "thumbnailers" / "other.thumbnailer"
    other.parent.mkdir(parents=True)
    other.touch()
    done = stf("desktop", "install")
    assert done.code == 0
    assert files(data) == {*WRITTEN, "thumbnailers/other.thumbnailer"}
    assert {line.removesuffix(" written") for line in done.out.decode().splitlines()} == {
        str(data / name) for name in WRITTEN
    }
    assert "update-mime-database is not here" in done.err
    assert stf("desktop", "install") == (0, b"nothing to do\n", "")
    assert stf("desktop", "remove").code == 0
    assert files(data) == {"thumbnailers/other.thumbnailer"}
    assert stf("desktop", "remove") == (0, b"nothing to do\n", "")


def test_a_dry_run_changes_nothing(stf: Command, data: Path) -> None:
    done = stf("desktop", "install", "--dry-run")
    assert (done.code, done.err, data.exists()) == (0, "", False)
    assert done.out.count(b" would be written\n") == len(WRITTEN)
    stf("desktop", "install")
    assert stf("desktop", "remove", "--dry-run").out.count(b" would be removed\n") == len(WRITTEN)
    assert files(data) == WRITTEN


def test_records(stf: Command, data: Path) -> None:
    for line, action in (("install", "write"), ("install", "none"), ("remove", "remove")):
        records = check(stf("desktop", line, "--json"), *["desktop"] * len(WRITTEN))
        assert {record["action"] for record in records} == {action}
        assert {record["output"] for record in records} == {str(data / name) for name in WRITTEN}


def test_files_of_somebody_else_stay(stf: Command, data: Path) -> None:
    path = data / "mime" / "packages" / "stfcodec.xml"
    path.parent.mkdir(parents=True)
    path.write_text("<mine/>")
    one_error(stf("desktop", "install"), 1, str(path), "move it away")
    assert stf("desktop", "remove").out == b"nothing to do\n"
    assert path.read_text() == "<mine/>"
    assert files(data) == {"mime/packages/stfcodec.xml"}


def test_an_older_file_is_brought_up_to_date(stf: Command, data: Path) -> None:
    stf("desktop", "install")
    path = data / "thumbnailers" / "stfcodec.thumbnailer"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"python", b"old-python"))
    assert stf("desktop", "install").out.decode() == f"{path} written\n"
    assert path.read_bytes() == content


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_other_systems(
    stf: Command, data: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    for line in ("install", "remove"):
        one_error(stf("desktop", line), 2, "only for desktops that follow freedesktop.org")


def test_the_type_has_the_signature_of_streams(stf: Command, data: Path) -> None:
    stf("desktop", "install")
    spaces = {"": "http://www.freedesktop.org/standards/shared-mime-info"}
    tree = ET.parse(data / "mime" / "packages" / "stfcodec.xml")
    found = tree.find("mime-type", spaces)
    assert found is not None and found.get("type") == TYPE
    match, glob = found.find("magic/match", spaces), found.find("glob", spaces)
    assert match is not None and glob is not None
    value = str(match.get("value")).encode().decode("unicode_escape").encode("latin-1")
    assert (value, match.get("offset"), glob.get("pattern")) == (SIGNATURE, "0", "*.stf")


def test_the_icon_is_a_drawing(stf: Command, data: Path) -> None:
    stf("desktop", "install")
    icon = data / "icons/hicolor/scalable/mimetypes" / f"{TYPE.replace('/', '-')}.svg"
    assert ET.parse(icon).getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.slow
def test_the_entry_for_thumbnails_draws_one(
    stf: Command, data: Path, coded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stf("desktop", "install")
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(data / "thumbnailers" / "stfcodec.thumbnailer")
    entry = parser["Thumbnailer Entry"]
    assert entry["MimeType"] == f"{TYPE};"
    assert Path(entry["TryExec"]).is_absolute() and os.access(entry["TryExec"], os.X_OK)
    drawn = coded.with_name("drawn.png")
    values = {"%s": "32", "%i": str(coded), "%o": str(drawn)}
    command = [values.get(word, word) for word in shlex.split(entry["Exec"])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, cwd=data)
    with Image.open(drawn) as image:
        assert (image.format, max(image.size)) == ("PNG", 32)


@pytest.mark.parametrize(
    ("path", "quoted"),
    [
        ("/usr/bin/python3.11", "/usr/bin/python3.11"),
        ("/home/a b/python", '"/home/a b/python"'),
        ('/a"b$c/100%', '"/a\\\\"b\\\\$c/100%%"'),
    ],
)
def test_programs_with_odd_names(path: str, quoted: str) -> None:
    assert desktop._quoted(path) == quoted


@pytest.mark.slow
@pytest.mark.parametrize("name", ["picture.stf", "picture"])
def test_the_desktop_knows_the_type(
    stf: Command, coded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """By name and by content, where the programs of a desktop are installed."""
    for program in ("update-mime-database", "gio"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path = coded.rename(tmp_path / name)
    command = ["gio", "info", "-a", "standard::content-type", str(path)]
    for action, known in (("install", True), ("remove", False)):
        done = stf("desktop", action)
        assert (done.code, done.err) == (0, "")
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert (TYPE in told) is known


def test_a_thumbnail(stf: Command, coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = coded.with_name("small.png"), coded.with_name("large.png")
    small.write_bytes(b"replaced")
    assert stf("thumbnail", coded, small, "--size", 20) == (0, b"", "")
    assert stf("thumbnail", coded, large).code == 0
    with Image.open(small) as image:
        assert (image.format, image.size) == ("PNG", (20, round(20 * HEIGHT / WIDTH)))
        shrunk = np.asarray(image, dtype=float)
    with Image.open(large) as image:
        assert image.size == (WIDTH, HEIGHT)
        whole = np.asarray(image.resize(shrunk.shape[1::-1]), dtype=float)
    assert np.abs(shrunk - whole).max() < 16
    pipe_in(monkeypatch, coded.read_bytes())
    assert stf("thumbnail", "-", "-", "--size", 20).out == small.read_bytes()


def test_a_thumbnail_of_what_is_no_stream(stf: Command, picture: Path) -> None:
    output = picture.with_name("small.png")
    one_error(stf("thumbnail", picture, output), 4, str(picture), "not an .stf stream")
    one_error(stf("thumbnail", "missing.stf", output), 1, "cannot read missing.stf")
    assert not output.exists()


def test_a_thumbnail_never_replaces_its_source(stf: Command, coded: Path) -> None:
    before = coded.read_bytes()
    link = coded.with_name("link.stf")
    link.symlink_to(coded)
    for source, output in ((coded, coded), (link, coded), (coded, link)):
        one_error(stf("thumbnail", source, output), 2, "is the input; name another output")
    assert coded.read_bytes() == before
