"""Weights that are installed: found, listed, verified, removed; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from checkpoint_files import SMALL, save, small_state
from commands import Command, one_error
from photographs import crop
from PIL import Image
from safetensors.torch import load_file, save_file

import stfcodec
from stfcodec.errors import WeightsError
from stfcodec.models import locate, registry, weights

WACNN, LITE = map(registry.by_name, ("wacnn", "wacnn-lite"))


def flip(file: BinaryIO, name: str) -> None:
    """Change the lowest bit of the first value of a tensor in an open safetensors file."""
    size = int.from_bytes(file.read(8), "little")
    start = 8 + size + json.loads(file.read(size))[name]["data_offsets"][0]
    file.seek(start)
    (first,) = file.read(1)
    file.seek(start)
    file.write(bytes([first ^ 1]))


def test_weights_of_another_quality_are_refused(
    small_model: None, stf: Command, weights_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    checkpoint = save(tmp_path / "a.pth", small_state())
    options = ("--lambda", 0.025, "-m", SMALL.name, "-o", path)
    assert stf("weights", "import", checkpoint, *options).code == 0
    one_error(stf("weights", "import", checkpoint, *options), 2, "exists already")
    picture = crop((64, 64))
    with pytest.raises(WeightsError, match="for quality 5 alone; use --quality 5"):
        stfcodec.encode(picture, model=SMALL.name, quality=4, weights=path)
    with pytest.raises(WeightsError, match=f"weights of {SMALL.name}; use --model"):
        stfcodec.encode(picture, quality=5, weights=path)
    coded = stfcodec.encode(picture, model=SMALL.name, quality=5, weights=path)
    assert stfcodec.decode(coded, weights=path).size == (64, 64)


def test_damage_is_not_imported(
    small_model: None, stf: Command, weights_folder: Path, tmp_path: Path
) -> None:
    there = tmp_path / "a.safetensors"
    checkpoint = save(tmp_path / "cnn_0018.pth", small_state())
    assert stf("weights", "import", checkpoint, "-o", there).code == 0
    with there.open("r+b") as file:
        flip(file, name="g_a.0.weight")
    one_error(stf("weights", "verify", there), 5, "damaged")
    done = stf("weights", "import", there)
    assert (done.code, done.out) == (5, b"")
    assert "damaged" in done.err
    assert list(weights_folder.iterdir()) == []


def test_another_analysis_needs_force(
    small_model: None, stf: Command, weights_folder: Path, tmp_path: Path
) -> None:
    """It has the same fingerprint, because decoders do not read it."""
    state = small_state()
    assert stf("weights", "import", save(tmp_path / "cnn_0018.pth", state)).code == 0
    (path,) = weights_folder.iterdir()
    before = path.read_bytes()
    other = load_file(path)
    other["g_a.0.weight"] = other["g_a.0.weight"] * 0.5
    better = tmp_path / "wacnn-small-q1.safetensors"
    better.write_bytes(weights.pack(other))
    done = stf("weights", "import", better)
    assert (done.code, done.out) == (2, b"")
    assert "exists already; use --force" in done.err
    assert path.read_bytes() == before
    assert stf("weights", "import", better, "-f").code == 0
    assert list(weights_folder.iterdir()) == [path] and path.read_bytes() != before


def test_unreadable_files_are_listed_and_fail(
    stf: Command, weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights_folder.mkdir()
    broken = weights_folder / "wacnn-q4-00000000.safetensors"
    broken.touch()
    (row,) = [r for r in stf("weights", "list", "--json").records if not r["embedded"]]
    assert (row["fingerprint"], row["model"], row["default"]) == (None, "wacnn", True)
    assert "?" in stf("weights", "list").out.decode()
    done = stf("weights", "verify")
    assert done.code == 1 and str(broken) in done.err
    assert stf("weights", "remove", broken).code == 0
    assert not broken.exists()


def test_a_folder_of_another_user_is_passed_over(
    weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, pattern: str) -> Iterator[Path]:
        if path == weights_folder:
            raise PermissionError(13, "Permission denied")
        return glob(path, pattern)

    glob = Path.glob
    monkeypatch.setattr(Path, "glob", refuse)
    assert locate.find(LITE, 3).is_file()
    assert locate.with_fingerprint(b"\xde\xad\xbe\xef") == []
    with pytest.raises(WeightsError, match="no weights for wacnn at quality 4"):
        locate.find(WACNN, 4)


def test_metadata_of_others_are_checked(weights_folder: Path) -> None:
    weights_folder.mkdir()
    for i, (key, value) in enumerate(
        [
            (locate.FINGERPRINT, "\x1b[31mred"),
            (locate.MODEL, "unknown"),
            (locate.QUALITY, "99999"),
            (locate.QUALITY, "nan"),
        ]
    ):
        stated = {locate.FINGERPRINT: f"{i:08x}", locate.MODEL: "wacnn", locate.QUALITY: "4"}
        save_file({"a": torch.ones(1)}, weights_folder / f"{i}.safetensors", stated | {key: value})
    found = [f for f in locate.files() if not f.embedded]
    assert [f.fingerprint for f in found] == [None, "00000001", "00000002", "00000003"]
    assert [f.model for f in found] == ["wacnn", None, "wacnn", "wacnn"]
    assert [f.quality for f in found] == [4, None, None, None]


def test_the_name_of_a_file_for_all_qualities_states_none(weights_folder: Path) -> None:
    weights_folder.mkdir()
    path = weights_folder / "wacnn-lite-q3.safetensors"
    path.write_bytes(locate.find(LITE, 1).read_bytes())
    assert stfcodec.encode(crop((64, 64)), quality=5, weights=path)


def test_verify_finds_damage(
    small_model: None, stf: Command, weights_folder: Path, tmp_path: Path
) -> None:
    assert stf("weights", "import", save(tmp_path / "cnn_0018.pth", small_state())).code == 0
    (path,) = weights_folder.iterdir()
    digits = path.stem[-8:]
    done = stf("weights", "verify")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 3 and b"is intact" in done.out
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    done = stf("weights", "verify", digits)
    assert (done.code, done.out) == (5, b"")
    assert done.err.startswith(f"stfcodec: error: {digits}: ") and "damaged" in done.err
    assert stf("weights", "verify", "00000000").code == 5


def test_embedded_weights_stay(stf: Command, weights_folder: Path) -> None:
    digits = locate.manifest()["wacnn-lite.safetensors"]["fingerprint"]
    done = stf("weights", "remove", digits)
    assert done.code == 2 and "part of the program" in done.err
    assert locate.find(LITE, 1).is_file()


def test_path_is_the_users_folder(
    stf: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(locate.ENVIRONMENT, str(tmp_path))
    assert stf("weights", "path").out.decode() == f"{tmp_path}\n"
    monkeypatch.delenv(locate.ENVIRONMENT)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    weights_folder = Path(stf("weights", "path").out.decode().rstrip())
    assert weights_folder.is_absolute() and weights_folder.name == "stfcodec"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("a.pth", "b.pth", "--lambda", "0.0018"), "--lambda is for one checkpoint"),
        (("a.pth", "b.pth", "-o", "c.safetensors"), "-o is for one checkpoint"),
        (("a.pth", "-o", "c.pth"), "must end in .safetensors"),
        (("a.pth", "--calibrate", "nowhere"), "no folder of pictures"),
        (("a.pth", "-o", "nowhere/c.safetensors"), "there is no folder nowhere"),
        (("a.pth", "-m", "jpeg"), "unknown model 'jpeg'"),
    ],
)
def test_requests_that_make_no_sense(
    options: tuple[str, ...], words: str, stf: Command, weights_folder: Path
) -> None:
    one_error(stf("weights", "import", *options), 2, words)


@pytest.mark.slow
def test_calibration_on_pictures_of_the_user(
    small_model: None, stf: Command, weights_folder: Path, tmp_path: Path
) -> None:
    checkpoint = save(tmp_path / "cnn_0018.pth", small_state())
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(crop((256, 256))).save(pictures / "a.png")
    assert stf("weights", "import", checkpoint, "--calibrate", pictures).code == 0
    assert stf("weights", "import", checkpoint).code == 0
    assert len(list(weights_folder.iterdir())) == 2
