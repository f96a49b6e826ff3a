"""What checkpoints are recognised as, and in which layouts they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoint_files import SMALL, layouts, save, small_state

from stfcodec.checkpoints.recognise import recognise_model, recognise_quality
from stfcodec.errors import UsageError, WeightsError
from stfcodec.models import registry, weights
from stfcodec.models.build import build
from stfcodec.models.state_dicts import StateFile, read_state_file

WACNN, LITE = map(registry.by_name, ("wacnn", "wacnn-lite"))


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


def test_every_layout_gives_the_same_model(small_model: None, tmp_path: Path) -> None:
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
def test_checkpoints_in_other_precisions(
    dtype: torch.dtype, small_model: None, tmp_path: Path
) -> None:
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
