"""The run on a borrowed GPU, rehearsed on the CPU from the pack of photographs to the weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from test_codec import crop

import stfcodec
from stfcodec.errors import UsageError
from stfcodec.train import remote
from stfcodec.train.data import load_photographs
from stfcodec.train.loop import TRAINING


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


def test_a_run_from_pack_to_weights(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PART", 5 << 20)
    pack, parts, out = (tmp_path / n for n in ("pack.zip", "parts", "out"))
    said = invoke("pack", photographs, pack, "--scale", "0.75", "--smallest", "64")
    assert "4 photographs" in said
    options = ["--device", "cpu", "--minutes", "0.4", "--probe", "0.5", "--tiny", "--no-tests"]
    said = invoke("run", pack, parts, "-m", "wacnn-lite", *options)
    assert said.count("megapixels a second") == 2
    sizes = [p.stat().st_size for p in parts.iterdir()]
    assert max(sizes) == remote.PART
    assert json.loads((parts / TRAINING).read_text())["photographs"] == 4
    invoke("collect", parts, photographs, out)
    data = stfcodec.encode(crop((64, 64)), weights=out / "wacnn-lite.safetensors")
    assert stfcodec.decode(data, weights=out / "wacnn-lite.safetensors").size == (64, 64)
    # The trunk goes on, here or there.
    again = tmp_path / "again"
    invoke("run", pack, again, "-m", "wacnn-lite", "--start", out / "trunk.pt", *options)
    assert json.loads((again / TRAINING).read_text())["started_from"] == "trunk.pt"


def test_a_configuration_that_fails_is_passed_over(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = remote.Settings(model="wacnn-lite", data=str(photographs), crop=64, decay_crop=64)
    monkeypatch.setattr(remote, "CONFIGURATIONS", ({"batch": -1}, {"batch": 2}, {"device": "none"}))
    assert remote._fastest(settings, 0.1, None, 0.0, tiny=False) == {"batch": 2}


def test_a_pack_keeps_to_its_size(photographs: Path, tmp_path: Path) -> None:
    large, small = tmp_path / "large.zip", tmp_path / "small.zip"
    invoke("pack", photographs, large, "--scale", "1", "--smallest", "64")
    wanted = 0.6 * large.stat().st_size / 2**20
    invoke("pack", photographs, small, "--scale", "1", "--smallest", "64", "--mebibytes", wanted)
    assert small.stat().st_size <= wanted * 2**20
    with pytest.raises(UsageError, match="lower --scale"):
        CliRunner().invoke(
            remote.main,
            ["pack", str(photographs), str(small), "--smallest", "64", "--mebibytes", "0.001"],
            catch_exceptions=False,
        )


def test_packed_photographs_are_the_photographs(photographs: Path, tmp_path: Path) -> None:
    import zipfile

    pack = tmp_path / "pack.zip"
    invoke("pack", photographs, pack, "--scale", "1", "--smallest", "64")
    zipfile.ZipFile(pack).extractall(tmp_path / "data")
    for before, after in zip(
        load_photographs(photographs, 64), load_photographs(tmp_path / "data", 64), strict=True
    ):
        error = before.float() - after.float()
        assert error.square().mean().sqrt() < 3
