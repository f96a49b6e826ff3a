"""The benchmark: its yardsticks are right, and a small run writes a whole page."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from photographs import PHOTOGRAPH, photo
from PIL import Image

from benchmarks import ROOT, generations, history, memory, points, processes, summary, tile_borders
from benchmarks.__main__ import main
from benchmarks.coders import JPEG_444, available, by_name, with_precision
from benchmarks.markdown import replace_block, signed, table
from benchmarks.pictures import mosaic
from benchmarks.record import PARTS, Run
from stfcodec.metrics import ssimulacra2

COMMANDS = [
    "ablation",
    *sorted(
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
    ),
]


# ------------------------------------------------------------------------------------------- coders


def test_every_coder_gives_the_picture_back_better_at_its_best() -> None:
    coders, absent = available()
    assert {"JPEG 4:4:4", "JPEG 4:2:0", "WebP"} <= {c.name for c in coders} | set(absent)
    image = photo(64)
    for coder in coders:
        ends = [coder.qualities[0], coder.qualities[-1]]
        if coder.ours:
            ends = [coder.middle_quality]
        samples = [points.sample(coder, q, image) for q in ends]
        assert all(s.psnr > 18 and 0 < s.bpp < 24 for s in samples), coder.name
        if not coder.ours:
            assert samples[1].psnr > samples[0].psnr + 5, coder.name
            assert samples[1].bpp > samples[0].bpp, coder.name


def test_points_are_means_over_the_pictures() -> None:
    pytest.importorskip("pytorch_msssim")
    images = [photo(192), photo(256)]
    (point, *_) = points.measure([JPEG_444], images)[JPEG_444.name]
    each = [points.sample(JPEG_444, JPEG_444.qualities[0], image) for image in images]
    assert point.bpp == pytest.approx(np.mean([s.bpp for s in each]), abs=1e-4)
    assert point.psnr == pytest.approx(np.mean([s.psnr for s in each]), abs=1e-3)
    assert point.ms_ssim == pytest.approx(np.mean([s.ms_ssim for s in each]), abs=1e-5)


def test_ssimulacra2_follows_the_original_program() -> None:
    """The expected scores are those of the program in C++, which treats borders differently."""
    pytest.importorskip("ssimulacra2")
    grey = np.full((256, 256, 3), 128, np.uint8)
    assert ssimulacra2(grey, grey) == 100
    for shift, expected in ((1, 96.150), (5, 89.732), (10, 80.291)):
        assert ssimulacra2(grey, grey + shift) == pytest.approx(expected, abs=2.5)
    image = photo(256)
    scores = [
        ssimulacra2(image, JPEG_444.decode(JPEG_444.encode(image, quality)))
        for quality in (30, 60, 90)
    ]
    assert scores == sorted(scores) and 80 < scores[-1] < 95
    assert ssimulacra2(grey[:224], grey[:224]) is None


def test_without_its_package_ssimulacra2_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.ssimulacra2_score.package_version", lambda: None)
    made: dict = {"absent": {}, "coders": []}
    PARTS["ssimulacra2"](made, Run([], [], {}, quick=True))
    assert made == {"absent": {"SSIMULACRA2": "needs pip install ssimulacra2"}, "coders": []}


def test_generation_loss_of_a_coder_that_brightens() -> None:
    brightens = replace(
        JPEG_444,
        encode=lambda array, _: array.tobytes(),
        decode=lambda data: np.frombuffer(data, np.uint8).reshape(8, 8, 3) + np.uint8(1),
    )
    found = generations.measure(brightens, 50, [np.full((8, 8, 3), g, np.uint8) for g in (0, 99)])
    assert found.bpp == 24
    assert found.psnr == pytest.approx([20 * np.log10(255 / n) for n in range(1, 11)], abs=1e-3)


def test_generation_loss_is_compared_at_one_rate() -> None:
    sample = points.Sample(b"", 0.1, 30, None, 1, 1)
    curve = [points.Point.of(10, [sample]), points.Point.of(30, [replace(sample, bpp=0.4)])]
    assert generations.quality_for(0.2, curve) == 20
    ours = [replace(p, quality=q) for p, q in zip(curve, (3, 4), strict=True)]
    model = replace(JPEG_444, name="wacnn-lite", ours=True)
    coders = [model, replace(model, name="wacnn-lite -e 3", effort=3), JPEG_444]
    chosen = generations.choose(coders, {"wacnn-lite": ours, JPEG_444.name: curve})
    assert chosen == [(model, 4), (JPEG_444, 30)]
    assert JPEG_444.encode(photo(64), chosen[1][1])  # which refuses 30.0


def test_another_size_is_an_error() -> None:
    coder = by_name(JPEG_444.name)
    broken = replace(coder, decode=lambda data: coder.decode(data)[1:])
    with pytest.raises(ValueError, match="JPEG 4:4:4 made"):
        points.sample(broken, 50, photo(64))


@pytest.mark.slow
def test_memory_grows_with_the_picture() -> None:
    """A process's own peak, whatever its parent once took."""
    ballast = np.ones(300 << 20, np.uint8)
    small, large = (
        memory.measure(JPEG_444, mosaic([photo(64)], side, side)) for side in (64, 4096)
    )
    assert 10 < small.encode < 250 < ballast.nbytes / 2**20
    assert large.encode > small.encode + 48  # the picture itself
    assert large.decode > small.decode + 48


def test_what_tiles_change_is_measured(tmp_path: Path) -> None:
    difference = tmp_path / "difference.png"
    done = CliRunner().invoke(
        tile_borders.main, [str(PHOTOGRAPH), str(difference), "--core", "256"]
    )
    assert done.exit_code == 0, done.output
    with Image.open(difference) as drawn, Image.open(PHOTOGRAPH) as picture:
        assert drawn.size == picture.size
    decibels = [float(d) for d in re.findall(r"([\d.]+) dB", done.output)]
    assert len(decibels) == 4 and max(decibels) - min(decibels) < 0.01


@pytest.mark.slow
def test_start_up_and_folders_run_the_program() -> None:
    assert len(processes.start_up_times(rounds=1)) == 5
    found = processes.folder_times([photo(64)])
    assert set(found) == {"encode", "decode"}
    assert all(f.pictures == 1 and f.one_by_one > 0 < f.together for f in found.values())


def test_mosaic_is_filled_by_the_pictures() -> None:
    a, b = np.full((4, 6, 3), 1, np.uint8), np.full((5, 3, 3), 2, np.uint8)
    canvas = mosaic([a, b], 7, 8)
    assert set(np.unique(canvas)) == {1, 2}
    assert (canvas[:4, :6] == 1).all() and (canvas[:4, 6:] == 2).all()


def test_precision_is_asked_for_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def encode(array: np.ndarray, quality: float) -> bytes:
        seen.append(os.environ.get("STFCODEC_PRECISION"))
        return JPEG_444.encode(array, quality)

    coder = with_precision(replace(JPEG_444, encode=encode), "float32 transforms")
    for before in (None, "bfloat16"):
        if before is not None:
            monkeypatch.setenv("STFCODEC_PRECISION", before)
        points.sample(coder, 50, photo(64))
        assert os.environ.get("STFCODEC_PRECISION") == before
    assert seen == ["float32", "float32"]
    assert coder.qualities == (JPEG_444.middle_quality,)


# ----------------------------------------------------------------------------------------- the page


def coder(name: str, curve: list[tuple[float, float]], ours: bool = False) -> dict:
    """A coder's entry in a record, from (bpp, PSNR) points; its times are its rates."""
    keys = ("encode_s_per_mp", "decode_s_per_mp")
    return {
        "name": name,
        "ours": ours,
        "effort": 0,
        "memory": None,
        "points": [
            {"bpp": b, "psnr": p, "ms_ssim": None, **dict.fromkeys(keys, b)} for b, p in curve
        ],
    }


def test_bd_rates_are_taken_over_the_common_range() -> None:
    # Log-linear from 20 to 40 dB; the half-rate coder covers 30…36 and is twice as dear above 36.
    anchor = [(0.1 * 2 ** (p / 4), 20 + p) for p in (0, 4, 8, 12, 16, 20)]
    half = [(b / 2, p) for b, p in anchor[2:]]
    found = summary.summarise(
        {"coders": [coder("JPEG 4:4:4", anchor), coder("half", half), coder("one", anchor[:1])]}
    )
    assert found.ranges == {"psnr": (28, 40)}
    assert [r.name for r in found.rows] == ["half", "JPEG 4:4:4", "one"]
    assert [r.bd_rates for r in found.rows] == [{"psnr": -50}, {"psnr": 0}, {}]
    assert found.rows[0].encode == np.median([b for b, _ in half])


def test_history_has_one_row_for_each_commit_and_machine(tmp_path: Path) -> None:
    curve = [(0.1 * 2 ** (p / 4), 20.0 + p) for p in (0, 4, 8, 12, 16)]
    record = {
        "date": "2026-01-02",
        "version": "1.0",
        "commit": "abc",
        "machine": {"CPU": "Some CPU", "cores": "2"},
        "start_up": {"stfcodec encode a.png": 1.234},
        "coders": [
            coder("JPEG 4:4:4", curve),
            coder("AVIF", [(b / 2, p) for b, p in curve]),
            coder("ours", [(b / 4, p) for b, p in curve], ours=True),
        ],
    }
    path = tmp_path / "history.csv"
    history.append(record, path)
    new_model = coder("new", curve, ours=True)
    later = {**record, "commit": "def", "start_up": {}, "coders": [record["coders"][0], new_model]}
    history.append(later, path)
    history.append({**later, "version": "1.1"}, path)  # measured again
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["machine"] == "Some CPU, 2 cores"
    assert (first["date"], first["version"], first["commit"]) == ("2026-01-02", "1.0", "abc")
    assert first["ours: BD-rate against JPEG 4:4:4 (%)"] == "-75.0"
    assert first["ours: BD-rate against AVIF (%)"] == "-50.0"
    assert first["ours: encode time relative to AVIF"] == "0.50"
    assert first["encode start-up (s)"] == "1.23"
    assert (second["commit"], second["version"]) == ("def", "1.1")
    assert second["new: BD-rate against JPEG 4:4:4 (%)"] == "0.0"
    assert second["new: BD-rate against AVIF (%)"] == second["encode start-up (s)"] == ""
    assert first["new: decode time relative to AVIF"] == ""


def test_history_has_the_published_record() -> None:
    record = json.loads((ROOT / "docs/benchmarks/kodak/record.json").read_text(encoding="utf-8"))
    with history.PATH.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1].items() >= history.row(record).items()


@pytest.mark.slow
@pytest.mark.parametrize("complete", [True, False])
def test_a_run_on_all_of_kodak_is_appended_to_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complete: bool
) -> None:
    pytest.importorskip("matplotlib")
    record = json.loads((ROOT / "docs/benchmarks/kodak/record.json").read_text(encoding="utf-8"))
    if not complete:
        record["published_curves"] = {}
    monkeypatch.setattr("benchmarks.__main__.measure", lambda *_: record)
    path = tmp_path / "history.csv"
    arguments = [str(tmp_path), "--out", str(tmp_path / "out"), "--history", str(path)]
    for _ in range(2):
        done = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert done.exit_code == 0
    assert path.exists() == complete
    if complete:
        assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_no_torch(name: str) -> None:
    code = f"""if True:
        import runpy, sys
        sys.argv = ["benchmarks", "--help"]
        try:
            runpy.run_module("benchmarks.{name}", run_name="__main__")
        except SystemExit as end:
            assert not end.code
        assert "torch" not in sys.modules
    """
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


def test_signed_numbers() -> None:
    assert [signed(v, 1) for v in (-32.64, 0.0, -0.01, 7)] == [
        "−32.6",
        "+0.0",
        "+0.0",
        "+7.0",
    ]


def test_tables_and_marks(tmp_path: Path) -> None:
    lines = list(table(["a", "b"], [("1", "2")]))
    assert lines == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x -->\nold\n<!-- /x -->\nafter\n")
    replace_block(page, "x", lines)
    replace_block(page, "y", ["not there"])
    assert page.read_text().splitlines() == ["before", "<!-- x -->", *lines, "<!-- /x -->", "after"]


@pytest.mark.slow
def test_a_small_run_writes_everything(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_msssim")
    pytest.importorskip("ssimulacra2")
    pytest.importorskip("matplotlib")
    pictures = tmp_path / "photos"
    pictures.mkdir()
    for i in range(2):
        Image.fromarray(photo(400)[90 * i :, 100 * i :][:300, :300]).save(pictures / f"{i}.png")
    out = tmp_path / "out"
    arguments = [str(pictures), "--quick", "--crop", "232", "--out", str(out)]
    left_out = ("speedup", "memory", "folder", "precision", "start-up")
    skipped = [word for part in left_out for word in ("--skip", part)]
    done = CliRunner().invoke(main, [*arguments, *skipped], catch_exceptions=False)
    assert done.exit_code == 0
    record = json.loads((out / "photos" / "record.json").read_text())
    assert record["pictures"] == {"folder": "photos", "count": 2, "megapixels": 0.11}
    assert record["published_curves"] == {} and record["speedup"] == {}
    assert [s["height"] for s in record["sizes"]] == [256, 512]
    assert all(s["encode"] > 100 and s["encode_s"] > 0 for s in record["sizes"])
    page = (out / "photos.md").read_text()
    assert "python -m benchmarks photos --quick" in page
    assert str(tmp_path) not in page + json.dumps(record)
    with (out / "photos" / "points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for coder in record["coders"]:
        assert coder["name"] in page
        listed = [r for r in rows if r["coder"] == coder["name"]]
        assert [float(r["psnr"]) for r in listed] == [p["psnr"] for p in coder["points"]]
        assert all(0 < p["ms_ssim"] < 1 for p in coder["points"])
        scores = [p["ssimulacra2"] for p in coder["points"]]
        assert scores == sorted(scores) and scores[-1] < 100
    lost = {g["name"]: g["psnr"] for g in record["generations"]}
    assert {"wacnn-lite", "stf-lite", "JPEG 4:4:4"} <= set(lost)
    assert all(len(psnr) == 10 and psnr[0] > psnr[-1] for psnr in lost.values())
    for title in ("BD-rate, SSIMULACRA2", "## Generation loss"):
        assert title in page
    for name in ("rate-distortion.png", "times.png"):
        with Image.open(out / "photos" / name) as plot:
            assert np.asarray(plot.convert("L")).std() > 5  # something is drawn
    (out / "photos.md").unlink()
    again = CliRunner().invoke(main, [*arguments, "--redraw"], catch_exceptions=False)
    assert again.exit_code == 0
    assert (out / "photos.md").read_text() == page


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [str(tmp_path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "no pictures" in done.output
