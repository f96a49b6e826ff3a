"""Training of the published networks: one λ each, and the parts of the paper's recipe."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from small import SMALL

from benchmarks import integer_cost, narrow_models
from stfcodec.cli import train
from stfcodec.cli.main import main
from stfcodec.errors import UsageError
from stfcodec.models import registry
from stfcodec.models.priors import EntropyBottleneck, scale_levels
from stfcodec.train import loop
from stfcodec.train.checkpoint import CHECKPOINT
from stfcodec.train.clipping import GradientClipper
from stfcodec.train.plateau import Plateau
from stfcodec.train.settings import PRESETS, Settings
from stfcodec.train.trainer import Trainer


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(noise).resize((128, 96), Image.Resampling.BICUBIC).save(folder / "a.png")
    return folder


def settings(folder: Path, **changes: object) -> Settings:
    return Settings(
        model=SMALL.name, data=str(folder), minutes=None, steps=4, batch=1, crop=64, decay_crop=64,
        decay=0.0, warmup=1, flat=0.0, synthetic=0.0, **changes,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
def test_a_run_for_one_quality_exports_under_its_name(
    bf16: bool, photographs: Path, tmp_path: Path
) -> None:
    chosen = settings(photographs, quality=4, bf16=bf16, optimiser="adam", auxiliary_rate=1e-3)
    trainer = Trainer(chosen, tmp_path / "run", info=SMALL)
    quantiles = trainer.quantiles.detach().clone()
    before = trainer.parameters.values.clone()
    trainer.train_step(False)
    assert not torch.equal(trainer.quantiles, quantiles)
    assert not torch.equal(trainer.parameters.values, before)
    assert math.isfinite(trainer.validate())
    (tmp_path / "run").mkdir()
    assert trainer.export().name == "wacnn-small-q4.safetensors"


def test_published_networks_need_one_whole_quality(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="for one λ"):
        Trainer(settings(photographs), tmp_path, info=SMALL)
    with pytest.raises(UsageError, match="whole qualities"):
        Trainer(settings(photographs, quality=2.5), tmp_path, info=SMALL)
    with pytest.raises(UsageError, match="outside"):
        Trainer(settings(photographs, quality=7), tmp_path, info=registry.by_name("wacnn-lite"))


def test_rate_falls_after_the_fifth_validation_without_gain() -> None:
    plateau = Plateau()
    for loss in (1.0, 0.9, 0.9, 0.95, 0.9, 0.91):
        plateau.observe(loss)
    assert plateau.factor == 1
    resumed = Plateau()
    resumed.load_state_dict(plateau.state_dict())
    resumed.observe(0.9)
    assert resumed.factor == pytest.approx(0.3)
    resumed.observe(0.8)
    assert (resumed.factor, resumed.lowest) == (pytest.approx(0.3), 0.8)


def test_gradients_are_clipped_to_a_norm() -> None:
    clipper = GradientClipper(2.0, torch.device("cpu"), norm=1.0)
    for length in (0.5, 40.0):  # forty times the mean is no spike here
        gradients = torch.full((4,), length / 2)
        assert clipper(gradients) == pytest.approx(length)
        assert gradients.norm() == pytest.approx(min(length, 1.0))
    gradients = torch.tensor([1.0, math.inf])
    clipper(gradients)
    assert not gradients.any()


def test_quantiles_move_to_where_the_tails_begin() -> None:
    prior = EntropyBottleneck(3)
    fitted = EntropyBottleneck(3)
    fitted.load_state_dict(prior.state_dict())
    fitted.fit_quantiles()
    optimiser = torch.optim.Adam([prior.quantiles], 4.0)
    first = prior.quantile_loss().item()
    for step in range(400):
        optimiser.param_groups[0]["lr"] = 4.0 * (1 - step / 400)
        optimiser.zero_grad()
        prior.quantile_loss().backward()
        optimiser.step()
    assert prior.quantile_loss().item() < 0.1 * first
    assert prior.quantile_loss() < 2 * fitted.quantile_loss() + 1


def test_scale_levels_are_the_published_ones() -> None:
    """To the last bit, whatever instructions torch uses."""
    digest = hashlib.sha256(scale_levels().numpy().astype("<f4").tobytes()).hexdigest()
    assert digest[:8] == "c8bdaad6"


@pytest.fixture
def run_command(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, object]]:
    """`stfcodec train` for one step of a small model; returns the settings of its record."""
    monkeypatch.setattr(registry, "MODELS", (*registry.MODELS, SMALL))
    monkeypatch.setattr(loop, "prepare_process", lambda threads: None)  # for a whole process

    def run(*options: str) -> dict[str, object]:
        folder = tmp_path / "run"
        small = ("--steps", "1", "--crop", "64", "--decay-crop", "64", "--batch", "1")
        arguments = ("--data", photographs, "--out", folder, "-m", SMALL.name, *small, *options)
        done = CliRunner().invoke(train.command, list(map(str, arguments)))
        if done.exception is not None:
            raise done.exception
        return json.loads((folder / "training.json").read_text())["settings"]

    return run


@pytest.mark.slow
def test_the_papers_recipe_is_a_preset(run_command: Callable[..., dict[str, object]]) -> None:
    found = run_command(
        "--preset", "paper", "--lambda", "0.0067", "--rate", "3e-5", "--warmup", "200"
    )
    assert found["quality"] == 3
    wanted = {
        "optimiser": "adam", "betas": [0.9, 0.999], "clip_norm": 1.0, "auxiliary_rate": 1e-3,
        "epoch": 18750, "decay": 0.0, "ema": 0.0, "bf16": False, "flat": 0.0, "synthetic": 0.0,
        "flat_weight": 0.0,
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    # An option counts as given even where its value is the command's default, as 200 is.
    given = {"rate": 3e-5, "warmup": 200, "batch": 1, "crop": 64, "decay_crop": 64}
    assert {name: found[name] for name in given} == given
    overridden = {"rate": 1e-4, "warmup": 1, "batch": 16, "crop": 256, "decay_crop": 256}
    assert {name: PRESETS["paper"][name] for name in overridden} == overridden


def test_lambda_or_quality(run_command: Callable[..., dict[str, object]]) -> None:
    with pytest.raises(UsageError, match="--quality and --lambda set the same thing"):
        run_command("--lambda", "0.0067", "--quality", "3")
    with pytest.raises(UsageError, match=r"none of those of wacnn-small: 0\.0018"):
        run_command("--lambda", "0.006")
    with pytest.raises(UsageError, match="give --lambda or --quality"):
        run_command("--preset", "paper")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lambda", "0.0067"], "--minutes or --steps (the paper's authors took about 1800000)"),
        (["--steps", "9"], "wacnn is trained for one λ: give --lambda or --quality"),
        (["--steps", "9", "--lambda", "0.007"], "0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483"),
        (["--steps", "9", "--lambda", "0.013", "--quality", "4"], "set the same thing; give one"),
        (["--steps", "9", "-m", "wacnn-lite", "--lambda", "1"], "outside 0.0018…0.0483"),
        (["--steps", "9", "--preset", "papers"], "'papers' is not"),
    ],
)
def test_what_the_recipe_lacks_is_one_line(
    options: list[str],
    message: str,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(loop, "prepare_process", lambda threads: None)  # for a whole process
    command = ["train", "--data", str(photographs), "--out", str(tmp_path / "run"), "-m", "wacnn"]
    assert main([*command, "--preset", "paper", *options]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert message in line
    assert not printed.out and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_cost_of_integers_of_a_run(
    run_command: Callable[..., dict[str, object]],
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The benchmark finds model, quality, checkpoint and weights in the folder of the run."""
    run_command("--quality", "5", "--optimiser", "adam")
    # Other float networks than those of the weights file, which the benchmark must notice.
    checkpoint = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)
    checkpoint["average"]["cc_scale_transforms.0.4.bias"] += 3
    torch.save(checkpoint, tmp_path / "run" / CHECKPOINT)
    monkeypatch.setattr(narrow_models, "MODELS", {SMALL.name: SMALL})
    arguments = (photographs / "a.png", "--run", tmp_path / "run")
    done = CliRunner().invoke(integer_cost.main, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    point, fitted, gaussian = done.output.splitlines()
    assert re.match(r"quality 5: float [\d.]+ bpp [\d.]+ dB, integer [\d.]+ bpp", point)
    assert fitted.startswith("fitted tables: integers against float ")
    assert gaussian.startswith("Gaussian tables: integers against float ")
    assert "float -" in fitted and "float -0.0" not in fitted
