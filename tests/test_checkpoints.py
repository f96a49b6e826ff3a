"""`stfcodec weights`: what checkpoints are recognised as, what import makes of them, the folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from checkpoint_layouts import layouts
from commands import Command, one_error
from photographs import crop
from PIL import Image
from safetensors.torch import load_file, save_file
from small import SMALL as SMALL_WACNN
from torch import Tensor

import stfcodec
from stfcodec.checkpoints import samples
from stfcodec.checkpoints.recognise import recognise_model, recognise_quality
from stfcodec.errors import UsageError, WeightsError
from stfcodec.models import locate, registry, weights
from stfcodec.models.build import build
from stfcodec.models.state_dicts import StateFile, read_state_file

SMALL = replace(SMALL_WACNN, id=99)
WACNN, STF, LITE = map(registry.by_name, ("wacnn", "stf", "wacnn-lite"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of installed weights, which does not exist yet."""
    monkeypatch.setenv(locate.ENVIRONMENT, str(tmp_path / "installed"))
    return tmp_path / "installed"


def filled_state() -> dict[str, Tensor]:
    """Parameters from arithmetic alone, so that they are the same everywhere."""
    state = build(SMALL).state_dict()
    for name, t in state.items():
        if name.endswith(("weight", "bias", "table")) or "._bias" in name:
            noise = torch.arange(t.numel(), dtype=torch.float64) * 7919 % 1009 / 1009 - 0.5
            fan_in = t[0].numel() if t.dim() > 1 else 16
            state[name] = (noise * 3 / fan_in**0.5).float().view_as(t)
    return state


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows a small model in the published layout, and calibration takes two crops."""
    monkeypatch.setattr(registry, "MODELS", (*registry.MODELS, SMALL))
    few = samples.calibration_batches()[:2]
    monkeypatch.setattr(samples, "calibration_batches", lambda: few)


def small_state(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return build(SMALL).state_dict()


def save(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


def describe(path: Path) -> locate.WeightsFile:
    found = locate.describe_file(path)
    assert found is not None
    return found


def flip(file: BinaryIO, name: str) -> None:
    """Change the lowest bit of the first value of a tensor in an open safetensors file."""
    size = int.from_bytes(file.read(8), "little")
    start = 8 + size + json.loads(file.read(size))[name]["data_offsets"][0]
    file.seek(start)
    (first,) = file.read(1)
    file.seek(start)
    file.write(bytes([first ^ 1]))


# ------------------------------------------------------------------------------- recognition


@pytest.mark.parametrize(
    ("name", "quality"),
    [
        ("cnn_0018_best.pth.tar", 1),
        ("cnn_0035_best.pth.tar", 2),
        ("cnn_0067_best.pth.tar", 3),
        ("stf_013_best.pth.tar", 4),
        ("stf_0130_best.pth.tar", 4),
        ("stf_025.pth", 5),
        ("stf_0483_best.pth.tar", 6),
        ("lambda0.0250-epoch-100.pt", 5),
        ("0.013.pt", 4),
        ("wacnn-q3.safetensors", 3),
        ("wacnn-q3-00180018.safetensors", 3),
    ],
)
def test_lambda_is_recognised_in_names(name: str, quality: int, tmp_path: Path) -> None:
    assert recognise_quality(StateFile({}, ""), tmp_path / name, WACNN, None) == quality


@pytest.mark.parametrize(
    "name",
    [
        "best.pth.tar",
        "cnn_0018_stf_0035.pth",
        "cnn_0020.pth",
        "run20180018.pt",
        "10.0180.pt",
        "epoch_025.pth.tar",
        "checkpoint_013.pt",
    ],
)
def test_other_names_need_the_option(name: str, tmp_path: Path) -> None:
    file = StateFile({}, "")
    with pytest.raises(UsageError, match=r"--lambda.*0\.0018, .*0\.0483"):
        recognise_quality(file, tmp_path / name, WACNN, None)
    assert recognise_quality(file, tmp_path / name, WACNN, 0.025) == 5


def test_lambda_of_a_training_run(tmp_path: Path) -> None:
    file, path = StateFile({}, "", {"quality": 3.0}), tmp_path / "cnn_0018.pt"
    assert recognise_quality(file, path, WACNN, None) == 3
    assert recognise_quality(file, path, WACNN, 0.0067) == 3
    with pytest.raises(UsageError, match=r"is of λ 0\.0067, not 0\.0018"):
        recognise_quality(file, path, WACNN, 0.0018)


def test_lambda_is_one_of_the_six() -> None:
    with pytest.raises(UsageError, match=r"0\.02 is none of those of wacnn: 0\.0018, .*0\.0483"):
        recognise_quality(StateFile({}, ""), Path("cnn_0018.pt"), WACNN, 0.02)
    assert recognise_quality(StateFile({}, ""), Path("cnn_0018.pt"), LITE, None) is None
    with pytest.raises(UsageError, match="leave --lambda out"):
        recognise_quality(StateFile({}, ""), Path("a.pt"), LITE, 0.0018)


def test_models_are_recognised_by_their_parameters() -> None:
    for info in registry.MODELS:
        with torch.device("meta"):
            state = build(info).state_dict()
        assert recognise_model(state, Path("a")) is info
        narrow = dict(state) | {"g_s.last.bias": torch.empty(5)}
        if info.variable_rate:
            with pytest.raises(WeightsError, match=rf"{info.name}: g_s.last.bias has 5 values"):
                recognise_model(narrow, Path("a"))
        name = next(key for key in state if key.startswith("h_a"))
        lacking = {key: t for key, t in state.items() if key != name}
        with pytest.raises(WeightsError, match=f"not weights of {info.name}: {name} is missing"):
            recognise_model(lacking, Path("a"))
        with pytest.raises(WeightsError, match=r"not weights of .*: more\.weight is not part"):
            recognise_model(dict(state) | {"more.weight": torch.empty(1)}, Path("a"))
    with pytest.raises(WeightsError, match="no checkpoint of a model of this program"):
        recognise_model({"features.0.weight": torch.empty(1)}, Path("a"))


# ------------------------------------------------------------------------------------ import


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


def test_import_encode_decode(small: None, stf: Command, folder: Path, tmp_path: Path) -> None:
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
    (path,) = folder.iterdir()
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
    assert list(folder.iterdir()) == []
    one_error(
        stf("decode", coded, "-o", tmp_path / "c.png"),
        5,
        f"weights {digits} (of no release) of wacnn-small at quality 4 (λ 0.013)",
        "stfcodec weights import",
    )
    assert not (tmp_path / "c.png").exists()


def test_every_layout_gives_the_same_model(small: None, tmp_path: Path) -> None:
    state = small_state()
    wanted = weights.load_state(SMALL, dict(state), Path("a"))
    seen = 0
    for name, saved in layouts(state):
        path = save(tmp_path / "cnn_0018.pth.tar", saved)
        file = read_state_file(path)
        assert recognise_model(file.tensors, path) is SMALL, name
        found = weights.load_state(SMALL, file.tensors, path).state_dict()
        for key, t in wanted.state_dict().items():
            assert torch.equal(found[key], t), (name, key)
        seen += 1
    assert seen == 8


def test_a_constant_of_another_network_is_refused() -> None:
    state = small_state()
    state["gaussian_conditional.lower_bound_scale.bound"] += 0.1
    with pytest.raises(WeightsError, match=r"another network .*lower_bound_scale\.bound"):
        weights.load_state(SMALL, state, Path("a"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_checkpoints_in_other_precisions(dtype: torch.dtype, small: None, tmp_path: Path) -> None:
    state = {k: t.to(dtype) if t.is_floating_point() else t for k, t in small_state().items()}
    file = read_state_file(save(tmp_path / "a.pt", {"state_dict": state}))
    model = weights.load_state(recognise_model(file.tensors, tmp_path), file.tensors, tmp_path)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, state[name].float())


@pytest.mark.parametrize("saved", [[1, 2], torch.ones(3), {}, {1: torch.ones(2)}])
def test_what_is_no_state_dict(saved: object, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", saved)
    with pytest.raises(WeightsError, match=r"no (state dict|checkpoint of a model)"):
        recognise_model(read_state_file(path).tensors, path)


def test_python_objects_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"state_dict": small_state(), "path": Path("x")})
    with pytest.raises(WeightsError, match=r"Python object pathlib.*save its state dict alone"):
        read_state_file(path)


@pytest.mark.slow
def test_fingerprints_of_imported_checkpoints_never_change(
    small: None, stf: Command, folder: Path, tmp_path: Path
) -> None:
    """Files that were coded with an imported checkpoint need whoever imports it later to get the
    same fingerprint. `test_checkpoints_published.py` has the same at paper size."""
    done = stf("weights", "import", save(tmp_path / "cnn_0130.pth", filled_state()))
    assert done.code == 0, done.err
    assert [path.name for path in folder.iterdir()] == ["wacnn-small-q4-0027daaa.safetensors"]


def test_import_is_repeatable_and_follows_the_checkpoint(
    small: None, stf: Command, folder: Path, tmp_path: Path
) -> None:
    """The same bytes of tensors for the same checkpoint; others for another one, which is then what
    encode takes."""
    for seed in (0, 0, 1):
        path = save(tmp_path / "cnn_0130.pth", small_state(seed))
        assert stf("weights", "import", path).code == 0
    names = sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns)
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
    small: None, stf: Command, folder: Path, tmp_path: Path
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
    assert len(list(folder.iterdir())) == 1


def test_weights_files_of_somebody_else(
    small: None, stf: Command, folder: Path, tmp_path: Path
) -> None:
    """Their integer form stays as it is, and so does the fingerprint."""
    checkpoint = save(tmp_path / "cnn_0018.pth", small_state())
    there = tmp_path / "any name.safetensors"
    assert stf("weights", "import", checkpoint, "-o", there).code == 0
    assert not folder.exists()
    done = stf("weights", "import", there)
    assert done.code == 0, done.err
    assert b"float" not in done.out
    (here,) = folder.iterdir()
    assert weights.load(SMALL, here).fingerprint == weights.load(SMALL, there).fingerprint
    assert here.name.startswith("wacnn-small-q1-")


def test_lite_checkpoints_too(stf: Command, folder: Path, tmp_path: Path) -> None:
    data = stfcodec.encode(crop((64, 64)), weights=locate.find(LITE, 1))
    done = stf("weights", "import", locate.find(LITE, 1))
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1 + 6 + 1
    (path,) = folder.iterdir()
    assert np.array_equal(stfcodec.decode(data, weights=path), stfcodec.decode(data))
    # Embedded weights go first, and the user is told. Removing concerns the installed file only.
    assert locate.find(LITE, 1).parent == locate.embedded_folder()
    assert done.err.splitlines()[-1].startswith("stfcodec: note: encode goes on taking ")
    source = describe(path).source
    assert source is not None and source.startswith("wacnn-lite.safetensors sha256:")
    assert stf("weights", "import", path, "-o", tmp_path / "copy.safetensors").code == 0
    assert describe(tmp_path / "copy.safetensors").source == source
    assert stf("weights", "remove", describe(path).fingerprint).code == 0
    assert list(folder.iterdir()) == [] and locate.find(LITE, 1).is_file()


@pytest.mark.slow
def test_training_checkpoints(stf: Command, folder: Path, tmp_path: Path) -> None:
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
    (path,) = folder.iterdir()
    coded = stfcodec.encode(crop((64, 64)), weights=path)
    assert stfcodec.decode(coded, weights=path).size == (64, 64)


# --------------------------------------------------------------------------------- the folder


def test_weights_of_another_quality_are_refused(
    small: None, stf: Command, folder: Path, tmp_path: Path
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


def test_damage_is_not_imported(small: None, stf: Command, folder: Path, tmp_path: Path) -> None:
    there = tmp_path / "a.safetensors"
    checkpoint = save(tmp_path / "cnn_0018.pth", small_state())
    assert stf("weights", "import", checkpoint, "-o", there).code == 0
    with there.open("r+b") as file:
        flip(file, name="g_a.0.weight")
    one_error(stf("weights", "verify", there), 5, "damaged")
    done = stf("weights", "import", there)
    assert (done.code, done.out) == (5, b"")
    assert "damaged" in done.err
    assert list(folder.iterdir()) == []


def test_another_analysis_needs_force(
    small: None, stf: Command, folder: Path, tmp_path: Path
) -> None:
    """It has the same fingerprint, because decoders do not read it."""
    state = small_state()
    assert stf("weights", "import", save(tmp_path / "cnn_0018.pth", state)).code == 0
    (path,) = folder.iterdir()
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
    assert list(folder.iterdir()) == [path] and path.read_bytes() != before


def test_unreadable_files_are_listed_and_fail(
    stf: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    broken = folder / "wacnn-q4-00000000.safetensors"
    broken.touch()
    (row,) = [r for r in stf("weights", "list", "--json").records if not r["embedded"]]
    assert (row["fingerprint"], row["model"], row["default"]) == (None, "wacnn", True)
    assert "?" in stf("weights", "list").out.decode()
    done = stf("weights", "verify")
    assert done.code == 1 and str(broken) in done.err
    assert stf("weights", "remove", broken).code == 0
    assert not broken.exists()


def test_a_folder_of_another_user_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, pattern: str) -> Iterator[Path]:
        if path == folder:
            raise PermissionError(13, "Permission denied")
        return glob(path, pattern)

    glob = Path.glob
    monkeypatch.setattr(Path, "glob", refuse)
    assert locate.find(LITE, 3).is_file()
    assert locate.with_fingerprint(b"\xde\xad\xbe\xef") == []
    with pytest.raises(WeightsError, match="no weights for wacnn at quality 4"):
        locate.find(WACNN, 4)


def test_metadata_of_others_are_checked(folder: Path) -> None:
    folder.mkdir()
    for i, (key, value) in enumerate(
        [
            (locate.FINGERPRINT, "\x1b[31mred"),
            (locate.MODEL, "unknown"),
            (locate.QUALITY, "99999"),
            (locate.QUALITY, "nan"),
        ]
    ):
        stated = {locate.FINGERPRINT: f"{i:08x}", locate.MODEL: "wacnn", locate.QUALITY: "4"}
        save_file({"a": torch.ones(1)}, folder / f"{i}.safetensors", stated | {key: value})
    found = [f for f in locate.files() if not f.embedded]
    assert [f.fingerprint for f in found] == [None, "00000001", "00000002", "00000003"]
    assert [f.model for f in found] == ["wacnn", None, "wacnn", "wacnn"]
    assert [f.quality for f in found] == [4, None, None, None]


def test_the_name_of_a_file_for_all_qualities_states_none(folder: Path) -> None:
    folder.mkdir()
    path = folder / "wacnn-lite-q3.safetensors"
    path.write_bytes(locate.find(LITE, 1).read_bytes())
    assert stfcodec.encode(crop((64, 64)), quality=5, weights=path)


def test_verify_finds_damage(small: None, stf: Command, folder: Path, tmp_path: Path) -> None:
    assert stf("weights", "import", save(tmp_path / "cnn_0018.pth", small_state())).code == 0
    (path,) = folder.iterdir()
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


def test_embedded_weights_stay(stf: Command, folder: Path) -> None:
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
    folder = Path(stf("weights", "path").out.decode().rstrip())
    assert folder.is_absolute() and folder.name == "stfcodec"


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
    options: tuple[str, ...], words: str, stf: Command, folder: Path
) -> None:
    one_error(stf("weights", "import", *options), 2, words)


@pytest.mark.slow
def test_calibration_on_pictures_of_the_user(
    small: None, stf: Command, folder: Path, tmp_path: Path
) -> None:
    checkpoint = save(tmp_path / "cnn_0018.pth", small_state())
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(crop((256, 256))).save(pictures / "a.png")
    assert stf("weights", "import", checkpoint, "--calibrate", pictures).code == 0
    assert stf("weights", "import", checkpoint).code == 0
    assert len(list(folder.iterdir())) == 2
