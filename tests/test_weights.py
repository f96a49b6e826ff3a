"""Weights files: what is written comes back, where files are found, and what is no weights file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import stfcodec
from stfcodec.errors import WeightsError
from stfcodec.models import locate, registry, releases, weights
from stfcodec.models.build import build

LITE = registry.by_name("stf-lite")
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


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
    assert locate.find(registry.by_name(name), 1).stat().st_size < 25e6


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


@pytest.mark.parametrize("kind", ["sparse", "meta", "gradient"])
def test_checkpoints_of_unusual_tensors(kind: str, tmp_path: Path) -> None:
    state = dict(build(LITE).state_dict())
    name = "g_s.last.bias"
    if kind == "sparse":
        state[name] = state[name].to_sparse()
    elif kind == "meta":
        state[name] = state[name].to("meta")
    else:
        state = dict(build(LITE).named_parameters())
    path = tmp_path / "odd.pt"
    torch.save({"average": state}, path)
    if kind == "gradient":
        assert weights.load(LITE, path).g_s.last.bias.shape == (48,)
        return
    with pytest.raises(WeightsError, match="damaged weights file"):
        weights.load(LITE, path)


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


@posix
def test_what_is_no_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe would be waited for, a device never ends, a file larger than memory fills it."""
    os.mkfifo(tmp_path / "pipe.safetensors")
    with (tmp_path / "huge.safetensors").open("wb") as file:
        file.truncate(1 << 43)
    (tmp_path / "deep.safetensors").write_bytes((1 << 20).to_bytes(8, "little") + b"[" * (1 << 20))
    (tmp_path / "folder.safetensors").mkdir()
    for path in (Path("/dev/zero"), *tmp_path.iterdir()):
        if path.name != "deep.safetensors":
            with pytest.raises(WeightsError, match="cannot read the weights"):
                weights.load(LITE, path)
    monkeypatch.setenv(locate.ENVIRONMENT, str(tmp_path))
    assert locate.with_fingerprint(b"\xde\xad\xbe\xef") == []


def test_embedded_weights_are_checked_against_the_manifest(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / saved.name
    copy.write_bytes(saved.read_bytes())
    monkeypatch.setattr(locate, "embedded_folder", lambda: tmp_path)
    monkeypatch.setattr(locate, "manifest", lambda: {saved.name: {"sha256": "00" * 32}})
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


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def test_embedded_weights_have_a_release() -> None:
    """Their row in `releases.py` says which version can read what they code."""
    for name in ("wacnn-lite", "stf-lite"):
        info = registry.by_name(name)
        path = locate.find(info, 1)
        fingerprint = weights.load(info, path).fingerprint.hex()
        assert locate.manifest()[path.name]["fingerprint"] == fingerprint
        last = [r for r in releases.RELEASES if r.model == name][-1]
        assert last.fingerprint == fingerprint
        assert _numbers(last.version) <= _numbers(stfcodec.__version__)
    # Other weights make another version.
    for keys in ("fingerprint", "version"):
        found = [(r.model, getattr(r, keys)) for r in releases.RELEASES]
        assert len(set(found)) == len(found)


def test_missing_weights_say_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(locate.ENVIRONMENT, str(tmp_path / "named"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    paper = registry.by_name("wacnn")
    with pytest.raises(
        WeightsError, match=r"4 \(λ 0\.013\): .*'stfcodec weights import .*--weights"
    ):
        locate.find(paper, 4)
    assert locate.status(paper) == "missing"
    assert locate.qualities(paper) == []
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "wacnn-q4.safetensors").touch()
    assert locate.find(paper, 4).parent.name == "named"
    assert locate.status(paper) == "installed"
    assert locate.qualities(paper) == [4]
    with pytest.raises(WeightsError, match=r"quality 3 \(λ 0\.0067\) \(there are .* quality 4\): "):
        locate.find(paper, 3)


def test_of_several_files_the_newest_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(locate.ENVIRONMENT, str(tmp_path))
    paper = registry.by_name("wacnn")
    names = ("wacnn-q4-00000002", "wacnn-q4-00000001", "wacnn-q4-old", "stf-q4-00000003")
    for seconds, name in enumerate(names):
        path = tmp_path / f"{name}.safetensors"
        path.touch()
        os.utime(path, (seconds, seconds))
    assert locate.find(paper, 4).stem == "wacnn-q4-00000001"
    (tmp_path / "wacnn-q4.safetensors").touch()
    assert locate.find(paper, 4).stem == "wacnn-q4"


def test_a_user_without_a_home_has_the_embedded_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv(locate.ENVIRONMENT, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert locate.status(LITE) == "embedded"
    assert locate.find(LITE, 3).is_file()
    with pytest.raises(WeightsError, match=rf"name one in \${locate.ENVIRONMENT}"):
        locate.installed_folder()
    with pytest.raises(WeightsError, match="no weights for wacnn"):
        locate.find(registry.by_name("wacnn"), 3)
