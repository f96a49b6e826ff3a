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
from stfcodec.train.loop import CHECKPOINT, CURVE, LOG, TRAINING, TRUNK, Settings, Trainer
from stfcodec.train.loss import balance, lambdas_of, opposite_qualities, rate_distortion
from stfcodec.train.revive import revive, silent_shares
from stfcodec.train.soap import Soap, _matrices, _rotate, _weights


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
    pytest.importorskip("matplotlib")
    with Image.open(tmp_path / CURVE) as curve:
        assert len(set(curve.convert("L").tobytes())) > 2  # something is drawn
    record = json.loads((tmp_path / TRAINING).read_text())
    assert record["steps"] == 6
    assert record["photographs"] == 3
    model = weights.load(registry.by_name("wacnn-lite"), tmp_path / "wacnn-lite.safetensors")
    coded = model.compress(model.analysis(torch.rand(1, 3, 64, 64)), quality=2.5)
    assert model.decompress(coded, (1, 1), quality=2.5).shape == (1, 224, 4, 4)


def test_loss_falls(photographs: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings(photographs, steps=40, rate=1e-4, warmup=8, batch=8), tmp_path)
    x, quality = trainer.sampler(6, 64), torch.arange(1.0, 7.0)

    def loss() -> float:
        with torch.no_grad():
            out = trainer.model.eval()(x, quality)
        trainer.model.train()
        return rate_distortion(out, x, quality).loss.mean().item()

    before = loss()
    for _ in range(16):
        trainer.train_step(False)
    assert loss() < 0.99 * before


def test_silent_networks_are_restarted(photographs: Path, tmp_path: Path) -> None:
    """What they say on average stays; the others, and what g_s gets, are not touched."""
    trainer = Trainer(settings(photographs), tmp_path)
    model, (x, quality) = trainer.model.eval(), trainer._probe()
    assert max(silent_shares(model, x, quality).values()) == 0
    silent, alive = model.cc_mean_transforms[1], model.cc_mean_transforms[2]
    with torch.no_grad():
        silent[0].bias.fill_(-20)
        silent[-1].bias.fill_(0.3)
    untouched = alive[0].weight.clone()
    assert silent_shares(model, x, quality)["cc_mean_transforms.1"] == 1
    assert revive(model, x, quality) == ["cc_mean_transforms.1"]
    assert max(silent_shares(model, x, quality).values()) == 0
    assert torch.equal(alive[0].weight, untouched)
    support = torch.randn(2, silent[0].in_channels, 4, 4)
    torch.testing.assert_close(silent(support), torch.full((2, 56, 4, 4), 0.3))
    trainer.model.train()
    before = silent[0].weight.clone()
    for _ in range(2):  # the first step moves the last layer, from which the second gets gradients
        trainer.train_step(False)
    assert not torch.equal(silent[0].weight, before)


def test_a_run_restarts_what_it_finds_silent(photographs: Path, tmp_path: Path) -> None:
    first = Trainer(settings(photographs, steps=1), tmp_path / "first")
    with torch.no_grad():
        first.model.lrp_transforms[3][2].bias.fill_(-20)
    first.folder.mkdir()
    first.save(first.folder / TRUNK)
    lines: list[str] = []
    second = Trainer(settings(photographs, steps=1), tmp_path / "second", first.folder / TRUNK)
    second.run(report=lines.append)
    assert "lrp_transforms.3" in lines[0]
    record = json.loads((second.folder / TRAINING).read_text())
    assert record["restarted"] == ["lrp_transforms.3"]
    assert record["silent"] < 0.5
    assert Trainer(second.settings, second.folder).revived == ["lrp_transforms.3"]


@pytest.mark.parametrize("optimiser", ["soap", "adam"])
def test_resuming_is_exact(optimiser: str, photographs: Path, tmp_path: Path) -> None:
    chosen = settings(photographs, optimiser=optimiser)
    straight = Trainer(chosen, tmp_path / "straight")
    for _ in range(4):
        straight.train_step(False)
    halted = Trainer(chosen, tmp_path / "halted")
    for _ in range(2):
        halted.train_step(False)
    (tmp_path / "halted").mkdir()
    halted.save(tmp_path / "halted" / CHECKPOINT)
    resumed = Trainer(chosen, tmp_path / "halted")
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


def test_soap_sees_directions_that_adam_does_not() -> None:
    """A regression with strongly correlated inputs, each optimiser at its best of two rates."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    mixing = turn * torch.logspace(0, -1.5, 16)
    target = torch.randn(24, 16, generator=generator)

    def loss_after(kind: str, rate: float) -> float:
        generator.manual_seed(1)
        weight = torch.nn.Parameter(torch.zeros(24, 16))
        optimiser = (
            torch.optim.Adam([weight], lr=rate)
            if kind == "adam"
            else Soap([weight], [weight], lr=rate)
        )
        for step in range(300):
            for group in optimiser.param_groups:
                group["lr"] = rate * (1 - step / 300)
            x = torch.randn(64, 16, generator=generator) @ mixing.T
            optimiser.zero_grad()
            (x @ (weight - target).T).square().mean().backward()
            optimiser.step()
        return ((weight - target) @ mixing).square().sum().item()

    adam, soap = (min(loss_after(kind, r) for r in (0.1, 0.3)) for kind in ("adam", "soap"))
    assert soap < 0.1 * adam


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3, 3), (300, 4, 3, 3), (1, 7, 5, 5)])
def test_soap_turns_every_shape_of_layer_and_back(shape: tuple[int, ...]) -> None:
    weight = torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    before = weight.detach().clone()
    optimiser = Soap([weight], [weight], lr=0.1)
    weight.grad = before.clone()
    optimiser.step()
    assert ((weight.detach() - before) * before).sum() < 0  # downhill
    state = optimiser.state[weight]
    assert ("left_basis" in state, "right_basis" in state) == (1 < shape[0] <= 256, True)
    turned = _rotate(_matrices(before), state)
    assert not torch.allclose(turned, _matrices(before))
    back = _weights(_rotate(turned, state, back=True), before)
    torch.testing.assert_close(back, before)


def test_bad_settings_are_refused(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="minutes or in steps"):
        Settings(model="wacnn-lite", data=".", minutes=1, steps=1)
    with pytest.raises(UsageError, match="multiple of 64"):
        Settings(model="wacnn-lite", data=".", crop=100)
    with pytest.raises(UsageError, match="no picture of at least 512x512"):
        Trainer(settings(photographs, decay_crop=512), tmp_path)
    with pytest.raises(ValueError, match="variable-rate"):
        initialise(build(registry.by_name("wacnn")), torch.rand(1, 3, 64, 64))


def test_qualities_come_in_opposite_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [opposite_qualities(4, generator) for _ in range(200)]
    assert all(q.shape == (2,) and q.sum() == pytest.approx(7) for q in drawn)
    first = torch.stack(drawn)[:, 0]
    assert 1 <= first.min() < 1.2 and 5.8 < first.max() <= 6
    assert opposite_qualities(3, generator).shape == (1,)


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
