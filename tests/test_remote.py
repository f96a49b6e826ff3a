"""The run on another machine's GPU, rehearsed on the CPU: from packed photographs to weights."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from photographs import crop
from PIL import Image

import stfcodec
from stfcodec.errors import UsageError
from stfcodec.train import remote
from stfcodec.train.data import load_photographs
from stfcodec.train.export import TRAINING_RECORD
from stfcodec.train.settings import Settings


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    whole = crop((384, 512))
    for i in range(4):
        top, left = 192 * (i // 2), 256 * (i % 2)
        Image.fromarray(whole[top : top + 192, left : left + 256]).save(folder / f"{i}.png")
    Image.new("RGB", (20, 20)).save(folder / "small.png")
    return folder


def invoke(*arguments: object) -> str:
    done = CliRunner().invoke(remote.main, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_a_run_from_pack_to_weights(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PART_BYTES", 5 << 20)
    parts, out = (tmp_path / n for n in ("parts", "out"))
    said = invoke("pack", photographs, tmp_path, "--mebibytes", "0.12")
    packs = sorted(tmp_path.glob("photographs-*.zip"))
    assert said.count("MiB") == len(packs) > 1
    assert max(p.stat().st_size for p in packs) < 0.13 * 2**20
    options = ["--device", "cpu", "--minutes", "0.4", "--probe", "0.5", "--tiny", "--no-tests"]
    said = invoke("run", *packs, parts, "-m", "wacnn-lite", *options)
    assert said.count("megapixels a second") == 2
    sizes = [p.stat().st_size for p in parts.iterdir()]
    assert max(sizes) == remote.PART_BYTES
    assert json.loads((parts / TRAINING_RECORD).read_text())["photographs"] == 4
    invoke("collect", parts, photographs, out)
    data = stfcodec.encode(crop((64, 64)), weights=out / "wacnn-lite.safetensors")
    assert stfcodec.decode(data, weights=out / "wacnn-lite.safetensors").size == (64, 64)
    # A later run continues from the trunk.
    again = tmp_path / "again"
    invoke("run", *packs, again, "-m", "wacnn-lite", "--start", out / "trunk.pt", *options)
    assert json.loads((again / TRAINING_RECORD).read_text())["started_from"] == "trunk.pt"


@pytest.mark.slow
def test_a_configuration_that_fails_is_skipped(photographs: Path) -> None:
    settings = Settings(model="wacnn-lite", data=str(photographs), crop=64, decay_crop=64)
    configurations = ({"batch": -1}, {"batch": 2}, {"device": "none"})
    fastest = remote.fastest_configuration(settings, configurations, 0.1, None, 0.0)
    assert fastest == {"batch": 2}


def test_packed_photographs_are_the_photographs(photographs: Path, tmp_path: Path) -> None:
    invoke("pack", photographs, tmp_path, "--mebibytes", "0.12")
    for pack in tmp_path.glob("*.zip"):
        zipfile.ZipFile(pack).extractall(tmp_path / "data")
    before, after = (load_photographs(p, 64) for p in (photographs, tmp_path / "data"))
    assert len(before) == 4
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_nothing_to_pack(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no picture to pack"):
        CliRunner().invoke(
            remote.main, ["pack", str(tmp_path), str(tmp_path)], catch_exceptions=False
        )
