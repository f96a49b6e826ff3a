"""Training at tiny settings on the CPU: the loss falls, a resumed run is the same run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stfcodec.errors import UsageError
from stfcodec.models import registry, weights
from stfcodec.models.build import build
from stfcodec.train.initialise import initialise
from stfcodec.train.loop import CHECKPOINT, LOG, TRAINING, TRUNK, Settings, Trainer
from stfcodec.train.loss import balance, lambdas_of, rate_distortion


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth random fields with edges: enough structure for a transform to find."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for i in range(3):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize((256, 192), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    Image.new("RGB", (20, 20)).save(folder / "small.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def settings(folder: Path, **changes: object) -> Settings:
    base = Settings(
        model="wacnn-lite", data=str(folder), minutes=None, steps=6, warmup=2, batch=2, crop=64,
        decay_crop=64, bf16=False,
    )  # fmt: skip
    return replace(base, **changes)


@pytest.mark.parametrize("name", ["wacnn-lite", "stf-lite"])
def test_start_is_already_a_codec(name: str, photographs: Path, tmp_path: Path) -> None:
    """Fitted to the data, both networks reproduce a picture before any step; random ones do not."""
    trainer = Trainer(settings(photographs, model=name), tmp_path)
    x = trainer.sampler(4, 128)
    model = trainer.model.eval()
    with torch.no_grad():
        started = (model.synthesis(model.analysis(x)) - x).square().mean()
        torch.manual_seed(0)
        untouched = build(registry.by_name(name)).eval()
        cold = (untouched.synthesis(untouched.analysis(x)) - x).square().mean()
    assert started < 1e-3 < cold  # better than 30 dB


def test_run_decays_logs_and_exports(photographs: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    trainer = Trainer(settings(photographs), tmp_path)
    trainer.run(report=lines.append)
    assert trainer._rate() == 0
    assert "loss" in lines[-1]
    assert {CHECKPOINT, TRUNK, LOG, TRAINING} <= {p.name for p in tmp_path.iterdir()}
    record = json.loads((tmp_path / TRAINING).read_text())
    assert record["steps"] == 6
    assert record["photographs"] == 3
    model = weights.load(registry.by_name("wacnn-lite"), tmp_path / "wacnn-lite.safetensors")
    coded = model.compress(model.analysis(torch.rand(1, 3, 64, 64)), quality=2.5)
    assert model.decompress(coded, (1, 1), quality=2.5).shape == (1, 224, 4, 4)


def test_loss_falls(photographs: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings(photographs, steps=20, rate=1e-4, warmup=8), tmp_path)
    x, quality = trainer.sampler(6, 64), torch.arange(1.0, 7.0)

    def loss() -> float:
        with torch.no_grad():
            out = trainer.model.eval()(x, quality)
        trainer.model.train()
        return rate_distortion(out, x, quality).loss.mean().item()

    before = loss()
    for _ in range(12):
        trainer.train_step(False)
    assert loss() < 0.99 * before


def test_resuming_is_exact(photographs: Path, tmp_path: Path) -> None:
    straight = Trainer(settings(photographs), tmp_path / "straight")
    for _ in range(4):
        straight.train_step(False)
    halted = Trainer(settings(photographs), tmp_path / "halted")
    for _ in range(2):
        halted.train_step(False)
    (tmp_path / "halted").mkdir()
    halted.save(tmp_path / "halted" / CHECKPOINT)
    resumed = Trainer(settings(photographs), tmp_path / "halted")
    assert resumed.step == 2
    for _ in range(2):
        resumed.train_step(False)
    for (name, a), b in zip(
        straight.model.named_parameters(), resumed.model.parameters(), strict=True
    ):
        assert torch.equal(a, b), name


def test_a_gradient_spike_is_not_followed(photographs: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings(photographs, batch=1), tmp_path)
    trainer.train_step(False)
    before = trainer.model.h_a[0].weight.clone()
    usual, trainer.gradient = trainer.gradient, 1e-9
    trainer.train_step(False)
    assert torch.equal(trainer.model.h_a[0].weight, before)
    trainer.gradient = usual
    trainer.train_step(False)
    assert not torch.equal(trainer.model.h_a[0].weight, before)


def test_bad_settings_are_refused(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="minutes or in steps"):
        Settings(model="wacnn-lite", data=".", minutes=1, steps=1)
    with pytest.raises(UsageError, match="multiple of 64"):
        Settings(model="wacnn-lite", data=".", crop=100)
    with pytest.raises(UsageError, match="no picture of at least 512x512"):
        Trainer(settings(photographs, decay_crop=512), tmp_path)
    with pytest.raises(ValueError, match="variable-rate"):
        initialise(build(registry.by_name("wacnn")), torch.rand(1, 3, 64, 64))


def test_loss_is_the_papers() -> None:
    x = torch.zeros(2, 3, 64, 64)
    out = {
        "x_hat": torch.full_like(x, 2 / 255),
        "likelihoods": {"y": torch.full((2, 8, 4, 4), 0.5), "z": torch.full((2, 4, 1, 1), 0.25)},
    }
    result = rate_distortion(out, x, torch.tensor([1.0, 4.0]))
    bpp = (8 * 16 + 4 * 2) / 64**2
    torch.testing.assert_close(result.mse, torch.tensor([4.0, 4.0]))
    torch.testing.assert_close(result.loss, torch.tensor([0.0018 * 4 + bpp, 0.0130 * 4 + bpp]))
    torch.testing.assert_close(lambdas_of(torch.tensor([6.0])), torch.tensor([0.0483]))
    assert balance(torch.arange(1.0, 7.0)).mean() == pytest.approx(1, abs=1e-4)
