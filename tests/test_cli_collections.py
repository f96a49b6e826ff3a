"""The commands over collections: what they write, say and refuse, on disks and behind URLs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Command, one_error
from photographs import photo
from PIL import Image
from text_collections import members, outputs, tar

from stfcodec import storage
from stfcodec.storage import Location

pytest.importorskip("fsspec")
pytest.importorskip("webdataset")
pq = pytest.importorskip("pyarrow.parquet")

MEMORY = "memory://tests"


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    yield
    import fsspec

    system = fsspec.filesystem("memory")
    if system.exists("/tests"):
        system.rm("/tests", recursive=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Crops of a photograph, and a file that is none."""
    folder = tmp_path / "in"
    (folder / "d").mkdir(parents=True)
    pixels = photo(96)
    Image.fromarray(pixels[:48, :64]).save(folder / "a.png")
    Image.fromarray(pixels[20:, 30:]).save(folder / "d" / "b.c.png")
    (folder / "bad.png").write_bytes(b"no picture")
    (folder / "notes.md").touch()
    return folder


def remote(url: str) -> Location:
    found = storage.place(url)
    assert isinstance(found, Location)
    return found


def read(url: str) -> bytes:
    return remote(url).read_bytes(1 << 20)


def upload(folder: Path, url: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            remote(url).joined(name).write_bytes(path.read_bytes(), overwrite=True)


# A collection from its begin to its end -----------------------------------------------------------


def test_a_run_its_manifest_and_the_ways_on(stf: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ("encode", folder, "-r", "-o", out)
    plain = tmp_path / "plain"
    assert stf("encode", folder, "-r", "-o", plain).code == 1
    outcome = stf(*given, "--manifest", "--measure-psnr")
    assert outcome.code == 1
    assert "2 coded, 0 skipped, 1 failed" in outcome.err
    assert f"1 failed, in earlier runs or in this one: 'stfcodec manifest {out}" in outcome.err
    assert outputs(out) == outputs(plain)

    shown = stf("manifest", out)
    assert shown.code == 1
    first, *_, psnr, weights = shown.out.decode().splitlines()
    assert first == "2 coded, 1 failed"
    assert psnr.startswith("PSNR ") and psnr.endswith(" dB, the mean of 2")
    assert weights.startswith("2 by ")
    (line,) = stf("manifest", out, "--failed").out.decode().splitlines()
    assert line.startswith(f"{folder / 'bad.png'}: ")
    records = {Path(str(r["input"])).name: r for r in stf("manifest", out, "--json").records}
    assert set(records) == {"a.png", "b.c.png", "bad.png"}
    assert (records["a.png"]["width"], records["a.png"]["height"]) == (64, 48)
    assert records["b.c.png"]["output"] == "d/b.c.stf"
    assert records["bad.png"]["exit_code"] == 3
    assert [r["input"] for r in stf("manifest", out, "--failed", "--json").records] == [
        str(folder / "bad.png")
    ]

    one_error(stf(*given, "--manifest"), 2, "--resume goes on with that", "--force begins anew")
    again = stf(*given, "--resume", "--measure-psnr")
    assert again.code == 1, "what failed before is still to be told"
    assert "0 coded, 0 skipped, 0 failed" in again.err
    changed = stf(*given, "--resume", "-q", "1")
    assert changed.code == 2
    assert "the earlier run had quality" in changed.err
    Image.new("RGB", (20, 10), "teal").save(folder / "bad.png")
    mended = stf(*given, "--retry-failed", "--json")
    assert mended.code == 0
    assert [record["input"] for record in mended.records] == [str(folder / "bad.png")]
    assert stf(*given, "--resume").code == 0

    assert stf("manifest", out, "--check").code == 0
    (out / "a.stf").unlink()
    (out / "bad.stf").write_bytes(b"short")
    checked = stf("manifest", out, "--check")
    assert checked.code == 1
    assert "stfcodec: error: a.stf: is gone\n" in checked.err
    assert "stfcodec: error: bad.stf: has 5 bytes, not " in checked.err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_shards_to_and_fro(stf: Command, folder: Path, tmp_path: Path, kind: str) -> None:
    """Pictures into shards, those into shards of pictures again, and files out of them."""
    (folder / "bad.png").unlink()
    packed, back, unpacked = (tmp_path / name for name in ("packed", "back", "unpacked"))
    shards = ("--shards", 2, "--shard-format", kind)
    outcome = stf("encode", folder, "-r", "-o", packed, *shards)
    assert outcome.code == 0, outcome.err
    assert list(outputs(packed)) == [f"shard-000000.{kind}"]
    assert stf("decode", packed, "-r", "-o", back).code == 0
    assert stf("decode", packed, "-r", "-o", unpacked, "--unpack").code == 0
    assert stf("encode", folder, "-r", "-o", tmp_path / "coded").code == 0
    assert stf("decode", tmp_path / "coded", "-r", "-o", tmp_path / "plain").code == 0
    wanted = outputs(tmp_path / "plain")
    found = outputs(unpacked)
    assert {name.removeprefix("shard-000000/"): data for name, data in found.items()} == wanted
    if kind == "tar":
        pictures = members((back / "shard-000000.tar").read_bytes())
        assert {name.replace("%2E", "."): data for name, data in pictures.items()} == wanted
    else:
        rows = pq.read_table(back / "shard-000000.parquet").to_pylist()
        assert {row["image"]["path"]: row["image"]["bytes"] for row in rows} == wanted
    assert stf("manifest", packed, "--check").code == 0
    (packed / f"shard-000000.{kind}").unlink()
    gone = stf("manifest", packed, "--check")
    assert gone.code == 1
    assert "its shard is gone" in gone.err


# URLs ---------------------------------------------------------------------------------------------


def test_one_file_behind_a_url(stf: Command, folder: Path, tmp_path: Path) -> None:
    upload(folder, f"{MEMORY}/in")
    assert stf("encode", f"{MEMORY}/in/a.png", "-o", f"{MEMORY}/x.stf").code == 0
    assert stf("encode", folder / "a.png", "-o", tmp_path / "x.stf").code == 0
    assert read(f"{MEMORY}/x.stf") == (tmp_path / "x.stf").read_bytes()
    assert stf("decode", f"{MEMORY}/x.stf", "-o", tmp_path / "back.png").code == 0
    with Image.open(tmp_path / "back.png") as back:
        assert back.size == (64, 48)
    piped = stf("encode", f"{MEMORY}/in/a.png", "-o", "-")
    assert piped.out == read(f"{MEMORY}/x.stf")
    exists = stf("encode", f"{MEMORY}/in/a.png", "-o", f"{MEMORY}/x.stf")
    one_error(exists, 2, f"{MEMORY}/x.stf exists already; use --force")
    assert stf("encode", f"{MEMORY}/in/a.png", "-o", f"{MEMORY}/x.stf", "--force").code == 0
    several = ("encode", f"{MEMORY}/in/a.png", f"{MEMORY}/in/d/b.c.png")
    assert stf(*several, "-o", f"{MEMORY}/more/").code == 0
    assert list(remote(f"{MEMORY}/more").walk()) == ["a.stf", "b.c.stf"]
    one_error(stf(*several, "-o", f"{MEMORY}/more.stf"), 2, "must be a folder for several inputs")
    one_error(stf(*several), 2, "nothing can be written beside a URL: give -o")
    one_error(stf("encode", "-", f"{MEMORY}/in/a.png", "-o", f"{MEMORY}/o/"), 2, "standard input")
    missing = stf("encode", f"{MEMORY}/none.png", "-o", tmp_path / "y.stf")
    one_error(missing, 1, f"{MEMORY}/none.png: cannot read: it does not exist")
    assert not (tmp_path / "y.stf").exists()


def test_a_folder_in_s3(stf: Command, folder: Path, tmp_path: Path, s3: str) -> None:
    upload(folder, f"{s3}/in")
    outcome = stf("encode", f"{s3}/in", "-r", "-o", f"{s3}/out", "--json")
    assert outcome.code == 1
    assert "2 coded, 0 skipped, 1 failed, 1 other file left out: 1 .md" in outcome.err
    told = {str(record["input"]): record.get("output") for record in outcome.records}
    assert told[f"{s3}/in/d/b.c.png"] == f"{s3}/out/d/b.c.stf"
    assert stf("encode", folder, "-r", "-o", tmp_path / "plain").code == 1
    for name, data in outputs(tmp_path / "plain").items():
        assert read(f"{s3}/out/{name}") == data
    assert stf("manifest", f"{s3}/out", "--check").code == 1
    assert "0 coded" in stf("encode", f"{s3}/in", "-r", "-o", f"{s3}/out", "--resume").err
    one_error(stf("manifest", f"{s3}/none"), 2, f"there is no manifest in {s3}/none")


def test_storages_that_refuse(
    stf: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, s3: str, s3_server: Any
) -> None:
    from s3_server import ALL, sign_in

    upload(folder, f"{s3}/in")
    sign_in(monkeypatch, s3_server.url, s3_server.user("s3:GetObject", "s3:PutObject"))
    with s3_server.checking_rights():
        denied = stf("encode", f"{s3}/in", "-r", "-o", folder.parent / "out")
        assert denied.code == 1
        assert f"cannot list {s3}/in: access is denied" in denied.err
        assert "Traceback" not in denied.err
        one_error(stf("encode", folder, "-r", "-o", f"{s3}/out"), 1, "access is denied")
    sign_in(monkeypatch, "http://127.0.0.1:9", ALL)
    away = stf("encode", f"{s3}/in/a.png", "-o", folder.parent / "a.stf")
    one_error(away, 1, f"{s3}/in/a.png: cannot read: the storage cannot be reached")
    one_error(stf("encode", folder, "-r", "-o", f"{s3}/out"), 1, "cannot be reached")


# What makes no sense ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--manifest"], "needs a folder for its outputs: give -o FOLDER"),
        (["--manifest", "-o", "-"], "needs a folder for its outputs"),
        (["--manifest", "-o", "{in}/a.png"], "must be a folder"),
        (["--resume", "-o", "{out}", "--force"], "--force and --skip-existing contradict it"),
        (["--resume", "-o", "{out}", "--skip-existing"], "--skip-existing contradict it"),
        (["--retry-failed", "-o", "{out}", "--force"], "contradict it"),
        (["--shards", "2", "-o", "{out}", "--preserve"], "shards and URLs have no times to set"),
        (["-o", f"{MEMORY}/out", "--preserve"], "shards and URLs have no times to set"),
        (["--measure-psnr", "-o", "{out}"], "is for a manifest, where it is recorded"),
        (["--shards", "0", "-o", "{out}"], "--shards"),
        (["--shards", "2", "--shard-format", "zip", "-o", "{out}"], "--shard-format"),
        (["--cpus-per-worker", "1", "-o", "{out}"], "are for --ray"),
        (["--ray", "--gpus-per-worker", "1", "-o", "{out}"], "--gpus-per-worker needs --device"),
        (["--ray", "photos", "-o", "{out}"], "--ray photos: no HOST:PORT; put --ray last"),
        (["-o", "https://127.0.0.1/out", "--manifest"], "https:// is for reading only"),
        (["-o", "nothing://out", "--manifest"], "Protocol not known: nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_make_no_sense(
    stf: Command, folder: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    given = [word.format(**{"in": folder, "out": tmp_path / "out"}) for word in options]
    before = outputs(folder)
    one_error(stf("encode", folder, "-r", *given), 2, words)
    assert not (tmp_path / "out").exists()
    assert outputs(folder) == before


def test_a_folder_needs_r(stf: Command, folder: Path, tmp_path: Path) -> None:
    outcome = stf("encode", folder, "-o", tmp_path / "out", "--manifest")
    assert outcome.code == 2
    assert f"{folder} is a folder; add -r to take the files in it" in outcome.err
    missing = stf("encode", tmp_path / "none", "-r", "-o", tmp_path / "out", "--manifest")
    assert missing.code == 2
    assert "none does not exist" in missing.err


def test_nothing_to_do(stf: Command, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.md").touch()
    outcome = stf("encode", tmp_path / "in", "-r", "-o", tmp_path / "out", "--manifest")
    assert outcome.code == 2
    assert f"no files found under {tmp_path / 'in'} (looked for " in outcome.err
    assert ".tar" in outcome.err
    one_error(stf("manifest", tmp_path / "out"), 2, "there is no manifest in")


def test_a_dry_run(stf: Command, folder: Path, tmp_path: Path) -> None:
    (folder / "s.tar").write_bytes(tar(("x.txt", b"")))
    outcome = stf("encode", folder, "-r", "-o", tmp_path / "out", "--manifest", "--dry-run")
    assert outcome.code == 0
    for name in ("a.png", "bad.png", "b.c.png", "s.tar"):
        assert name in outcome.out.decode()
    assert not (tmp_path / "out").exists()


def test_a_run_at_the_same_time(stf: Command, folder: Path, tmp_path: Path) -> None:
    from stfcodec.collection.lock import locked

    with locked(tmp_path / "out" / "_manifest"):
        outcome = stf("encode", folder, "-r", "-o", tmp_path / "out", "--resume")
    one_error(outcome, 2, "another run writes there", "wait for its end", "_running.json")


def test_a_shard_that_is_damaged_does_not_stop_the_rest(
    stf: Command, folder: Path, tmp_path: Path
) -> None:
    whole = tar(("k.png", (folder / "a.png").read_bytes()), ("k.cls", b"7"))
    (folder / "s.tar").write_bytes(whole)
    (folder / "cut.tar").write_bytes(whole[:900])
    (folder / "bad.png").unlink()
    outcome = stf("encode", folder, "-r", "-o", tmp_path / "out", "--manifest", "--json")
    assert outcome.code == 1
    failed = [r for r in outcome.records if "error" in r]
    assert [Path(str(record["input"])).name for record in failed] == ["cut.tar"]
    assert "the shard is damaged: unexpected end of data" in str(failed[0]["error"])
    assert "cut.tar" not in outputs(tmp_path / "out")
    coded = members(outputs(tmp_path / "out")["s.tar"])
    assert coded["k.stf"] == outputs(tmp_path / "out")["a.stf"]
    assert coded["k.cls"] == b"7"
    one = [r["output"] for r in outcome.records if "k.png" in str(r["input"])]
    assert one == [str(tmp_path / "out" / "s.tar" / "k.stf")]


@pytest.mark.parametrize(
    ("module", "options", "words"),
    [
        ("pyarrow", ["--manifest"], "a manifest needs pyarrow: pip install 'stfcodec[data]'"),
        ("fsspec", ["-o", f"{MEMORY}/out"], "URLs need fsspec: pip install 'stfcodec[data]'"),
        ("webdataset", ["--shards", "2"], "shards need webdataset: pip install 'stfcodec[data]'"),
        ("ray", ["--ray"], "--ray needs Ray: pip install 'stfcodec[ray]'"),
    ],
)
def test_packages_that_are_not_installed(
    stf: Command,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    options: list[str],
    words: str,
) -> None:
    storage._file_system.cache_clear()
    for name in list(sys.modules):
        if name.partition(".")[0] == module:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    (folder / "bad.png").unlink()
    outcome = stf("encode", folder, "-r", "-o", tmp_path / "out", *options)
    assert outcome.code in (1, 2)
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert "bug" not in outcome.err
    assert not [path for path in tmp_path.glob("out/*") if path.name != "_manifest"]


def test_records_are_json_whatever_they_hold(tmp_path: Path, stf: Command) -> None:
    """JSON has no infinite numbers."""
    from test_collection import result

    from stfcodec.collection import manifest

    writer = manifest.Writer(tmp_path / "_manifest")
    row = manifest.row("a\nb.png", result("a.png"), Path("out")) | {"psnr": float("inf")}
    writer.add([row])
    writer.flush()
    (line,) = stf("manifest", tmp_path, "--json").out.splitlines()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(line, parse_constant=refuse)["input"] == "a\nb.png"
