"""Benchmarks on any folder of pictures: names, published curves, pages, and what stays Kodak's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import photographs
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks import ROOT, held_out, results
from benchmarks.__main__ import main
from benchmarks.page import data_sets, render
from benchmarks.page_distortion import comparison
from benchmarks.pictures import NOTE, read_folder, read_note
from benchmarks.published_curves import CLIC_PRO_VALID, KODAK, SETS, published_set
from benchmarks.record import NAME, data_set_name
from benchmarks.summary import summarise
from stfcodec.models import locate

RECORD = ROOT / "docs" / "benchmarks" / "kodak" / "record.json"


@pytest.fixture
def record() -> dict:
    return json.loads(RECORD.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("Kodak", "kodak"),
        ("CLIC 2020 (pro)", "clic-2020-pro"),
        ("...", "pictures"),
        ("a_b.c", "a_b.c"),
    ],
)
def test_names_of_folders(tmp_path: Path, folder: str, name: str) -> None:
    found = data_set_name(tmp_path / folder) if folder != "..." else data_set_name(tmp_path / "((")
    assert found == name and NAME.fullmatch(name)


def test_published_curves_belong_to_whole_sets() -> None:
    for name in ("Kodak", "kodak"):
        assert published_set(name, 24, 9.44, whole=True) == (KODAK, "")
    for name in ("clic-pro-valid", "CLIC_professional_valid", "clic2020-professional-valid"):
        assert published_set(name, 41, 120, whole=True) == (CLIC_PRO_VALID, "")
    found, why = published_set("clic-pro-valid", 12, 30, whole=True)
    assert found is None and "12 pictures" in why and "41" in why
    found, why = published_set("kodak", 24, 9.44, whole=False)
    assert found is None and "part" in why
    assert published_set("photographs", 41, 120, whole=True) == (None, "")
    found, why = published_set("clic-pro-valid", 41, 1.5, whole=True)
    assert found is None and "1.5 megapixels" in why


def test_published_curves_rise() -> None:
    for known in SETS.values():
        assert {"WACNN", "STF", "VTM"} <= set(known.curves)
        for curve in known.curves.values():
            assert list(curve.points) == sorted(curve.points) and curve.source.startswith("github")
            assert sorted(psnr for _, psnr in curve.points) == [psnr for _, psnr in curve.points]


def test_page_places_published_curves_beside_ours(record: dict) -> None:
    text = "\n".join(comparison(record, summarise(record), "kodak"))
    (row,) = (line for line in text.splitlines() if line.startswith("| WACNN |"))
    against_jpeg, *ours = (cell.strip() for cell in row.split("|")[2:5])
    assert against_jpeg.startswith("−6") and all(cell.startswith("+") for cell in ours)
    record["published_curves"], record["published_left_out"] = {}, "12 pictures were measured"
    text = "\n".join(comparison(record, summarise(record), "kodak"))
    assert "| WACNN |" not in text and "left out: 12 pictures were measured" in text


def test_list_of_data_sets(record: dict) -> None:
    lines = list(data_sets({"photographs": record, "kodak": record}, "benchmarks"))
    assert len(lines) == 4 and lines[2].startswith("| [kodak](benchmarks/kodak.md) | 24 |")
    assert "`wacnn-lite`" in lines[0] and "−" in lines[2]
    index = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    stored = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in RECORD.parents[1].glob("*/record.json")
    }
    assert "\n".join(data_sets(stored, "benchmarks")) in index


def test_every_page_is_that_of_its_record(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for path in RECORD.parents[1].glob("*/record.json"):
        name = path.parent.name
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_bytes(path.read_bytes())
        words = [str(tmp_path), "--name", name, "--out", str(tmp_path), "--redraw"]
        assert CliRunner().invoke(main, words, catch_exceptions=False).exit_code == 0
        page = path.parent.with_suffix(".md")
        assert (tmp_path / page.name).read_text() == page.read_text(encoding="utf-8")


def test_command_refuses(tmp_path: Path) -> None:
    for name in ("a/b", "..", "Kodak", "", "-q"):
        words = [str(tmp_path), f"--name={name}", "--out", str(tmp_path / "out"), "--redraw"]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 2, name
    done = CliRunner().invoke(main, [str(tmp_path), "--out", str(tmp_path / "out"), "--redraw"])
    assert done.exit_code == 2 and "record.json" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sizes", "words", "message"),
    [
        ([], [], "no pictures"),
        ([(200, 200), (400, 160)], [], "1.png: 400x160 is too small"),
        ([(200, 200)], ["--crop", "160"], "0.png: 160x160 is too small"),
    ],
)
def test_pictures_that_cannot_be_measured_are_refused(
    tmp_path: Path, sizes: list[tuple[int, int]], words: list[str], message: str
) -> None:
    for number, size in enumerate(sizes):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    out = tmp_path / "out"
    done = CliRunner().invoke(main, [str(tmp_path), "--name", "some", "--out", str(out), *words])
    assert done.exit_code == 2 and message in done.output.splitlines()[-1]
    assert not out.exists()


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (161, 161)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    for command in (main, results.main):
        done = CliRunner().invoke(command, [str(tmp_path)])
        assert done.exit_code == 2 and "b.png" in done.output.splitlines()[-1]


def test_pictures_of_several_sizes_and_modes_are_read(tmp_path: Path) -> None:
    Image.new("RGB", (161, 300), (1, 2, 3)).save(tmp_path / "a.png")
    Image.fromarray(np.full((170, 180), 257 * 200, np.uint16)).save(tmp_path / "b.png")
    colour, grey = read_folder(tmp_path, min_side=161)
    assert colour.shape == (300, 161, 3) and (colour == (1, 2, 3)).all()
    assert grey.shape == (170, 180, 3) and (grey == 200).all()


def test_note_of_a_folder_stands_on_its_page(tmp_path: Path, record: dict) -> None:
    assert read_note(tmp_path) == ""
    (tmp_path / NOTE).write_text("From lossy\nfiles.\n", encoding="utf-8")
    record["note"] = read_note(tmp_path)
    page = render(record, summarise(record), "kodak").splitlines()
    assert "From lossy files." in page[: page.index("## Against other codecs")]


@pytest.mark.skipif(not locate.manifest(), reason="no embedded weights")
def test_results_on_other_pictures_change_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(photographs.crop((64, 64))).save(tmp_path / "a.png")
    monkeypatch.setattr(results, "_RESULTS_PAGE", tmp_path / "no page")
    monkeypatch.setattr(results, "_RUNS_PAGE", tmp_path / "no page")
    kept = locate.embedded_folder() / "MANIFEST.json"
    before = kept.read_bytes()
    done = CliRunner().invoke(results.main, [str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0 and "`stf-lite`" in done.output
    assert kept.read_bytes() == before
    refused = CliRunner().invoke(results.main, [str(tmp_path), "--adopt", str(tmp_path)])
    assert refused.exit_code == 2 and "Kodak" in refused.output and kept.read_bytes() == before


def test_held_out_photographs_are_written(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for i in range(20):
        Image.new("RGB", (300, 260 + i), (i, 0, 0)).save(source / f"{i:02}.png")
    words = [str(source), str(out), "--max-side", "256"]
    assert CliRunner().invoke(held_out.main, words, catch_exceptions=False).exit_code == 0
    pictures = [Image.open(path) for path in sorted(out.glob("*.png"))]
    assert [p.getpixel((0, 0)) for p in pictures] == [(9, 0, 0), (19, 0, 0)]
    assert {p.size for p in pictures} == {(256, 256)}
    assert "sources are PNG files" in read_note(out)
    # A run with larger crops skips the smallest photographs, and so holds out others.
    words = [str(source), str(tmp_path / "larger"), "--min-side", "265"]
    assert CliRunner().invoke(held_out.main, words, catch_exceptions=False).exit_code == 0
    (picture,) = (tmp_path / "larger").glob("*.png")
    assert Image.open(picture).getpixel((0, 0)) == (14, 0, 0)


def test_held_out_refuses(tmp_path: Path) -> None:
    source, used = tmp_path / "in", tmp_path / "used"
    source.mkdir()
    used.mkdir()
    (used / "old.png").touch()
    for count, out, message in (
        (0, "out", "no picture of at least"),
        (9, "out", "ten photographs"),
        (10, "used", "not empty"),
    ):
        for i in range(count):
            Image.new("RGB", (256, 256)).save(source / f"{i}.png")
        done = CliRunner().invoke(held_out.main, [str(source), str(tmp_path / out)])
        assert done.exit_code == 2 and message in done.output.splitlines()[-1]
        assert not (tmp_path / "out").exists()
    assert [path.name for path in used.iterdir()] == ["old.png"]
