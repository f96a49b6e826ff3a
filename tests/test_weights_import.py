"""`stfcodec weights import`: what it makes of checkpoints and of weights files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import SMALL, filled_state, save, small_state
from commands import Command, one_error
from photographs import crop
from PIL import Image

import stfcodec
from stfcodec.checkpoints import samples
from stfcodec.models import locate, registry, weights

LITE = registry.by_name("wacnn-lite")


def describe(path: Path) -> locate.WeightsFile:
    found = locate.describe_file(path)
    assert found is not None
    return found


def test_the_sample_pictures_never_change() -> None:
    """Fingerprints of imported weights depend on them."""
    digest = hashlib.sha256()
    batches, measured = samples.calibration_batches(), samples.measured_pictures()
    assert (len(batches), len(measured)) == (20, 4)
    for batch in batches:
        digest.update(batch.mul(255).byte().numpy().tobytes())
    for pixels in measured:
        digest.update(pixels.tobytes())
    assert digest.hexdigest()[:16] == "0ddd3a1aa71b9209"


def test_import_encode_decode(
    small_model: None, stf: Command, weights_folder: Path, tmp_path: Path
) -> None:
    """From a checkpoint to a picture and back, by the commands alone."""
    checkpoint = save(tmp_path / "cnn_0130_best.pth.tar", {"state_dict": small_state()})
    picture, coded, back = (tmp_path / name for name in ("a.png", "a.stf", "back.png"))
    Image.fromarray(crop((70, 90))).save(picture)
    encode = ("encode", picture, "-o", coded, "-m", SMALL.name, "-q", 4)
    one_error(stf(*encode), 5, "wacnn-small at quality 4 (λ 0.013)", "stfcodec weights import")

    done = stf("weights", "import", checkpoint)
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert "wacnn-small, λ 0.013 (quality 4)" in done.err
    header, floating, integers, last = done.out.decode().splitlines()
    assert header.split() == ["quality", "bpp", "PSNR", "(dB)"]
    for line, name in ((floating, "float"), (integers, "integers")):
        quality, kind, bpp, psnr = line.split()
        assert (quality, kind) == ("4", name)
        assert float(bpp) > 0 and float(psnr) > 0
    (path,) = weights_folder.iterdir()
    digits = weights.load(SMALL, path, coding=True).fingerprint.hex()
    assert path.name == f"wacnn-small-q4-{digits}.safetensors"
    assert last == f"weights {digits}: {path}"

    assert stf(*encode).code == 0
    assert stf("decode", coded, "-o", back).code == 0
    with Image.open(back) as image:
        assert image.size == (90, 70)
    one_error(
        stf("encode", picture, "-o", tmp_path / "b.stf", "-m", SMALL.name, "-q", 3),
        5,
        "wacnn-small at quality 3",
    )

    assert stf("weights", "remove", digits).code == 0
    assert list(weights_folder.iterdir()) == []
    one_error(
        stf("decode", coded, "-o", tmp_path / "c.png"),
        5,
        f"weights {digits} (of no release) of wacnn-small at quality 4 (λ 0.013)",
        "stfcodec weights import",
    )
    assert not (tmp_path / "c.png").exists()


@pytest.mark.slow
def test_fingerprints_of_imported_checkpoints_never_change(
    small_model: None, stf: Command, weights_folder: Path, tmp_path: Path
) -> None:
    """Files that were coded with an imported checkpoint need whoever imports it later to get the
    same fingerprint. `test_checkpoints_published.py` has the same at paper size."""
    done = stf("weights", "import", save(tmp_path / "cnn_0130.pth", filled_state()))
    assert done.code == 0, done.err
    assert [path.name for path in weights_folder.iterdir()] == [
        "wacnn-small-q4-0027daaa.safetensors"
    ]


def test_import_is_repeatable_and_follows_the_checkpoint(
    small_model: None, stf: Command, weights_folder: Path, tmp_path: Path
) -> None:
    """The same bytes of tensors for the same checkpoint; others for another one, which is then what
    encode takes."""
    for seed in (0, 0, 1):
        path = save(tmp_path / "cnn_0130.pth", small_state(seed))
        assert stf("weights", "import", path).code == 0
    names = sorted(weights_folder.iterdir(), key=lambda p: p.stat().st_mtime_ns)
    assert len(names) == 2
    assert locate.find(SMALL, 4) == names[-1]
    records = stf("weights", "list", "--json").records
    ours = {r["path"]: r for r in records if not r["embedded"]}
    assert {path: r["default"] for path, r in ours.items()} == {
        str(names[0]): False,
        str(names[1]): True,
    }
    assert {(r["model"], r["quality"]) for r in ours.values()} == {(SMALL.name, 4.0)}
    assert all("cnn_0130.pth sha256:" in r["source"] for r in ours.values())
    listed = stf("weights", "list").out.decode()
    assert all(str(path) in listed for path in names) and "(embedded)" in listed


def test_a_failure_does_not_stop_the_others(
    small_model: None, stf: Command, weights_folder: Path, tmp_path: Path
) -> None:
    good = save(tmp_path / "cnn_0018.pth", small_state())
    bad = tmp_path / "cnn_0035.pth"
    bad.write_text("hello")
    done = stf("weights", "import", bad, tmp_path / "none_0018.pth", good)
    assert done.code == 1
    assert [line.split(": ")[1] for line in done.err.splitlines()] == [
        "error",
        "error",
        str(good),
    ]
    assert len(list(weights_folder.iterdir())) == 1


def test_weights_files_of_somebody_else(
    small_model: None, stf: Command, weights_folder: Path, tmp_path: Path
) -> None:
    """Their integer form stays as it is, and so does the fingerprint."""
    checkpoint = save(tmp_path / "cnn_0018.pth", small_state())
    there = tmp_path / "any name.safetensors"
    assert stf("weights", "import", checkpoint, "-o", there).code == 0
    assert not weights_folder.exists()
    done = stf("weights", "import", there)
    assert done.code == 0, done.err
    assert b"float" not in done.out
    (here,) = weights_folder.iterdir()
    assert weights.load(SMALL, here).fingerprint == weights.load(SMALL, there).fingerprint
    assert here.name.startswith("wacnn-small-q1-")


def test_lite_checkpoints_too(stf: Command, weights_folder: Path, tmp_path: Path) -> None:
    data = stfcodec.encode(crop((64, 64)), weights=locate.find(LITE, 1))
    done = stf("weights", "import", locate.find(LITE, 1))
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1 + 6 + 1
    (path,) = weights_folder.iterdir()
    assert np.array_equal(stfcodec.decode(data, weights=path), stfcodec.decode(data))
    # Embedded weights go first, and the user is told. Removing concerns the installed file only.
    assert locate.find(LITE, 1).parent == locate.embedded_folder()
    assert done.err.splitlines()[-1].startswith("stfcodec: note: encode goes on taking ")
    source = describe(path).source
    assert source is not None and source.startswith("wacnn-lite.safetensors sha256:")
    assert stf("weights", "import", path, "-o", tmp_path / "copy.safetensors").code == 0
    assert describe(tmp_path / "copy.safetensors").source == source
    assert stf("weights", "remove", describe(path).fingerprint).code == 0
    assert list(weights_folder.iterdir()) == [] and locate.find(LITE, 1).is_file()


@pytest.mark.slow
def test_training_checkpoints(stf: Command, weights_folder: Path, tmp_path: Path) -> None:
    """The averaged weights of a run's last.pt, which make a file that codes."""
    network = weights.load(LITE, locate.find(LITE, 1.0))
    network.integer = None
    settings = {"model": "wacnn-lite", "quality": None}
    saved = {"settings": settings, "model": {}, "average": network.state_dict()}
    done = stf("weights", "import", save(tmp_path / "last.pt", saved))
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.decode().splitlines()[1:-1]]
    assert [row[:2] for row in rows[::6]] == [["1", "float"], ["4", "float"]]
    for (_, _, bpp, psnr), (_, _, integer_bpp, integer_psnr) in zip(
        rows[::2], rows[1::2], strict=True
    ):
        assert float(integer_bpp) < 1.005 * float(bpp)
        assert abs(float(integer_psnr) - float(psnr)) < 0.02
    (path,) = weights_folder.iterdir()
    coded = stfcodec.encode(crop((64, 64)), weights=path)
    assert stfcodec.decode(coded, weights=path).size == (64, 64)
