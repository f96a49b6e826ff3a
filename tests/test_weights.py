"""Weights files: what is written comes back, and what is wrong is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stfcodec.errors import WeightsError
from stfcodec.models import registry, store, weights
from stfcodec.models.build import build

LITE = registry.by_name("stf-lite")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "stf-lite.safetensors"
    weights.save(build(LITE), path)
    return path


def test_round_trip_is_exact(saved: Path) -> None:
    torch.manual_seed(1)
    original, loaded = build(LITE), weights.load(LITE, saved)
    for name, p in original.named_parameters():
        assert torch.equal(p.half().float(), dict(loaded.named_parameters())[name]), name
    assert len(loaded.fingerprint) == 4
    assert weights.load(LITE, saved).fingerprint == loaded.fingerprint


@pytest.mark.parametrize("name", ["wacnn-lite", "stf-lite"])
def test_embedded_weights_are_small(name: str) -> None:
    assert store.find(registry.by_name(name), 1).stat().st_size < 25e6


def test_published_checkpoints_load_under_any_of_their_names(tmp_path: Path) -> None:
    """Data-parallel prefix, renamed bottleneck parameters, tables absent."""
    info = registry.by_name("wacnn-lite")
    state = build(info).state_dict()
    renamed = {}
    for key, value in state.items():
        for old, new in (("matrix", "matrices"), ("bias", "biases"), ("factor", "factors")):
            key = key.replace(f"bottleneck._{old}", f"bottleneck.{new}.")
        renamed[f"module.{key}"] = value
    path = tmp_path / "checkpoint.pth.tar"
    torch.save({"state_dict": renamed, "epoch": 3}, path)
    model = weights.load(info, path)
    for name, p in model.named_parameters():
        assert torch.equal(p, state[name]), name
    assert model.gaussian_conditional.tables.cdf.shape[0] == 64


def test_wrong_files_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read the weights"):
        weights.load(LITE, tmp_path / "nothing.safetensors")
    with pytest.raises(WeightsError, match="not weights of wacnn-lite"):
        weights.load(registry.by_name("wacnn-lite"), saved)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(saved.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match="damaged weights file"):
        weights.load(LITE, cut)
    text = tmp_path / "text.pth"
    text.write_text("hello")
    with pytest.raises(WeightsError, match="damaged weights file"):
        weights.load(LITE, text)


def test_embedded_weights_are_checked_against_the_manifest(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / saved.name
    copy.write_bytes(saved.read_bytes())
    monkeypatch.setattr(store, "embedded_folder", lambda: tmp_path)
    monkeypatch.setattr(store, "manifest", lambda: {saved.name: {"sha256": "00" * 32}})
    with pytest.raises(WeightsError, match="not the manifest's"):
        weights.load(LITE, copy)
    weights.load(LITE, saved)  # elsewhere the manifest says nothing


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "trap.pth"
    torch.save({"state_dict": Trap()}, path)
    with pytest.raises(WeightsError):
        weights.load(LITE, path)
    assert not (tmp_path / "sprung").exists()


def test_missing_weights_say_where_to_put_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(store.ENVIRONMENT, str(tmp_path / "named"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    paper = registry.by_name("wacnn")
    with pytest.raises(WeightsError, match=r"wacnn-q4\.safetensors.*data/stfcodec.*--weights"):
        store.find(paper, 4)
    assert store.status(paper) == "missing"
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "wacnn-q4.safetensors").touch()
    assert store.find(paper, 4).parent.name == "named"
    assert store.status(paper) == "installed"
