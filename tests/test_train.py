"""Training at tiny settings on the CPU: the loss falls, a resumed run is the same run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from stfcodec.errors import UsageError, WeightsError
from stfcodec.models import registry, weights
from stfcodec.models.build import build
from stfcodec.train import loop, replay
from stfcodec.train.arena import Arena
from stfcodec.train.data import CropSampler, divide, load_photographs, middle_crops
from stfcodec.train.loop import CHECKPOINT, CURVE, LOG, TRAINING, TRUNK, Settings, Trainer
from stfcodec.train.loss import balance, flat_blocks, lambdas_of, rate_distortion
from stfcodec.train.replay import Replay
from stfcodec.train.soap import Soap, _rotate
from stfcodec.train.start import start
from stfcodec.train.synthetic import paste_flat, synthetic_pictures

LITE = [info.name for info in registry.MODELS if isinstance(info.widths, registry.LiteWidths)]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


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
        model=LITE[0], data=str(folder), minutes=None, steps=6, warmup=2, batch=2, crop=64,
        decay_crop=64, bf16=False, flat=0.0,
    )  # fmt: skip
    return replace(base, **changes)


# ------------------------------------------------------------------------------------ runs


@pytest.mark.parametrize("name", LITE)
def test_start_is_already_a_codec(name: str, photographs: Path, tmp_path: Path) -> None:
    """Both networks reproduce a picture before any step; random ones do not."""
    trainer = Trainer(settings(photographs, model=name), tmp_path)
    x = trainer.sampler(4, 128)
    model = trainer.model.eval()
    with torch.no_grad():
        started = (model.synthesis(model.analysis(x)) - x).square().mean()
        torch.manual_seed(0)
        untouched = build(registry.by_name(name)).eval()
        cold = (untouched.synthesis(untouched.analysis(x)) - x).square().mean()
    assert started < 1e-3 < cold  # better than 30 dB


def test_start_is_the_karhunen_loeve_transform(photographs: Path) -> None:
    """Latents are uncorrelated, and their spreads are what the entropy model expects."""
    x = torch.stack(load_photographs(photographs, 128)).permute(0, 3, 1, 2).float() / 255
    model = build(registry.by_name(LITE[0])).eval()
    start(model, x[:, :, :192, :256])
    with torch.no_grad():
        y = model.analysis(x[:, :, :192, :256]).permute(1, 0, 2, 3).flatten(1)
    moments = y @ y.T / y.shape[1]
    torch.testing.assert_close(
        moments.diagonal().sqrt().clamp(min=1e-3), model.log_spread.exp().data
    )
    off = moments - torch.diag(moments.diagonal())
    assert off.abs().max() < 1e-3 * moments.max()


def test_run_decays_logs_and_exports(photographs: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    trainer = Trainer(settings(photographs), tmp_path)
    trainer.run(report=lines.append)
    assert trainer._rate() == 0
    last = [line for line in lines if "loss" in line][-1]
    assert float(last.split("held_out ")[1]) > -5
    assert {CHECKPOINT, TRUNK, LOG, TRAINING} <= {p.name for p in tmp_path.iterdir()}
    pytest.importorskip("matplotlib")
    with Image.open(tmp_path / CURVE) as curve:
        assert len(set(curve.convert("L").tobytes())) > 2  # something is drawn
    record = json.loads((tmp_path / TRAINING).read_text())
    assert record["steps"] == 6
    assert record["photographs"] == 3
    model = weights.load(registry.by_name(LITE[0]), tmp_path / f"{LITE[0]}.safetensors")
    coded = model.compress(model.analysis(torch.rand(1, 3, 64, 64), 2.5), quality=2.5)
    assert model.decompress(coded, (1, 1), quality=2.5).shape == (1, 224, 4, 4)


@pytest.mark.parametrize("bf16", [False, True])
def test_loss_falls(bf16: bool, photographs: Path, tmp_path: Path) -> None:
    chosen = settings(photographs, steps=40, rate=1e-3, warmup=8, batch=6, bf16=bf16)
    trainer = Trainer(chosen, tmp_path)
    x, quality = trainer.sampler(6, 64), torch.arange(1.0, 7.0)

    def loss() -> float:
        trainer.model.precision = torch.float32
        with torch.no_grad():
            out = trainer.model.eval()(x, quality)
        trainer.model.train()
        return rate_distortion(out, x, quality).loss.mean().item()

    before = loss()
    for _ in range(16):
        trainer.train_step(False)
    assert loss() < 0.995 * before


def test_validation_is_of_averaged_weights(photographs: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings(photographs), tmp_path)
    before = trainer.validate()
    with torch.no_grad():
        trainer.arena.values.add_(1)
    assert trainer.validate() == before
    assert trainer.model.training
    trainer.average.add_(1)
    assert trainer.validate() != before


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
    assert torch.equal(straight.arena.values, resumed.arena.values)
    assert torch.equal(straight.average, resumed.average)


@pytest.mark.parametrize("spike", [float("nan"), float("inf"), 1e6])
def test_a_gradient_spike_is_not_followed(
    spike: float, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(settings(photographs), tmp_path)
    trainer.train_step(False)
    usual = trainer.usual.clone()
    assert trainer.optimiser.moved.grad is not None
    monkeypatch.setattr(
        "stfcodec.train.loop.balance", lambda quality: torch.full_like(quality, spike)
    )
    trainer.train_step(False)
    assert not trainer.optimiser.moved.grad.any()
    assert trainer.arena.values.isfinite().all()
    assert trainer.usual == usual
    monkeypatch.undo()
    trainer.train_step(False)
    assert trainer.optimiser.moved.grad.any()


def test_bad_settings_are_refused(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="minutes or in steps"):
        Settings(model=LITE[0], data=".", minutes=1, steps=1)
    with pytest.raises(UsageError, match="multiple of 64"):
        Settings(model=LITE[0], data=".", crop=100)
    with pytest.raises(UsageError, match="no picture of at least 512x512"):
        Trainer(settings(photographs, decay_crop=512), tmp_path)
    with pytest.raises(UsageError, match="lite models"):
        Trainer(settings(photographs, model="wacnn"), tmp_path)


@pytest.mark.parametrize("lost", [1e4, float("nan")])
def test_a_run_that_diverges_goes_back(
    lost: float, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SHOW", 0.0)
    monkeypatch.setattr(loop, "_ENOUGH_STEPS", 1)
    trainer = Trainer(settings(photographs, steps=6), tmp_path)
    step, rates = trainer.train_step, []

    def diverging(decaying: bool) -> torch.Tensor:
        rates.append(trainer._rate() / min(1, (trainer.step + 1) / 200))
        means = step(decaying)
        if len(rates) == 4:
            trainer.arena.values.fill_(lost)
            means[0] = lost
        return means

    monkeypatch.setattr(trainer, "train_step", diverging)
    said: list[str] = []
    trainer.run(said.append, save_every=0, exports=False)
    assert sum("diverged" in line for line in said) == 1
    assert trainer.step == 6  # the fourth was taken twice
    assert len(rates) == 7
    assert rates[4] == rates[3] / 2
    assert trainer.arena.values.abs().max() < 100


@needs_cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("model", LITE)
def test_a_step_waits_for_nothing_on_cuda(model: str, photographs: Path, tmp_path: Path) -> None:
    chosen = settings(photographs, model=model, device="cuda", bf16=True)
    trainer = Trainer(chosen, tmp_path)
    for _ in range(5):  # called, then captured, then replayed
        trainer.train_step(False)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.train_step(False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.arena.values.isfinite().all()


@needs_cuda
def test_replayed_steps_are_the_steps_on_cuda(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same crops, noise and updates whether operations are launched or replayed."""
    found = []
    for warm_up in (3, 100):
        monkeypatch.setattr(replay, "_WARM_UP", warm_up)
        chosen = settings(photographs, device="cuda", bf16=False)
        trainer = Trainer(chosen, tmp_path / str(warm_up))
        losses = [trainer.train_step(False)[0].item() for _ in range(12)]
        found.append(losses)
    assert len(set(found[0])) == 12
    assert found[0] == pytest.approx(found[1], rel=2e-2)


# ------------------------------------------------------------------------------- optimiser


class _Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 24, bias=False)
        nn.init.zeros_(self.layer.weight)


def test_soap_sees_directions_that_adam_does_not() -> None:
    """A regression with strongly correlated inputs, each optimiser at its best of two rates."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    mixing = turn * torch.logspace(0, -1.5, 16)
    target = torch.randn(24, 16, generator=generator)

    def loss_after(largest: int, rate: float) -> float:
        generator.manual_seed(1)
        model = _Regression()
        arena = Arena(model)
        optimiser = Soap(arena, Replay(generator), largest=largest, renew=10, statistics=2)
        for step in range(300):
            x = torch.randn(64, 16, generator=generator) @ mixing.T
            arena.gradients.zero_()
            (x @ (model.layer.weight - target).T).square().mean().backward()
            optimiser.step(rate * (1 - step / 300))
        return ((model.layer.weight - target) @ mixing).square().sum().item()

    adam, soap = (min(loss_after(largest, r) for r in (0.1, 0.3)) for largest in (0, 320))
    assert soap < 0.1 * adam


def test_arena_holds_every_parameter() -> None:
    """Values, gradients and matrices are views of the same memory, whatever the shape."""
    model = nn.Sequential(
        nn.Conv2d(6, 5, 3), nn.Linear(7, 4), nn.Conv2d(6, 5, 3), nn.Conv2d(4, 4, 3, groups=4),
        nn.LayerNorm(9),
    )  # fmt: skip
    wanted = [p.detach().clone() for p in model.parameters()]
    arena = Arena(model)
    for p, want in zip(model.parameters(), wanted, strict=True):
        assert torch.equal(p, want)
    assert [m.number for m in arena.matrices] == [2, 1]
    convolutions = arena.matrices[0].of(arena.values)
    assert torch.equal(convolutions[1], model[2].weight.flatten(2).transpose(1, 2))
    model[2].weight.square().sum().backward()
    assert torch.equal(arena.matrices[0].of(arena.gradients)[1], 2 * convolutions[1])
    arena.values.zero_()
    assert not any(p.any() for p in model.parameters())


def test_soap_turns_every_shape_of_layer_and_back() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.Conv2d(5, 6, 3), nn.Conv2d(4, 40, 3))
    arena = Arena(model)
    before = arena.values.clone()
    optimiser = Soap(arena, Replay(torch.Generator()), largest=32)
    arena.gradients.copy_(before)
    optimiser.step(0.1)
    for m, sides in zip(arena.matrices, optimiser.sides, strict=True):
        assert set(sides) == ({"right"} if m.out > 32 else {"left", "right"})
        moved = m.of(arena.values) - m.of(before)
        assert (moved * m.of(before)).sum() < 0  # downhill
        turned = _rotate(m.of(before), sides)
        assert not torch.allclose(turned, m.of(before))
        torch.testing.assert_close(_rotate(turned, sides, back=True), m.of(before))


# ------------------------------------------------------------------------------------ data


def test_crops_are_cut_from_the_photographs() -> None:
    """Every pixel tells where it comes from: crops are whole, flipped or not, from everywhere."""
    sizes = [(70, 90), (64, 100)]
    photographs = []
    for i, (h, w) in enumerate(sizes):
        rows, cols = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        photographs.append(torch.stack([torch.full_like(rows, i), rows, cols], 2).byte())
    crops = CropSampler(photographs, torch.device("cpu"))(400, 64).mul(255).round()
    which, rows, cols = crops.unbind(1)
    assert (which.flatten(1).amax(1) == which.flatten(1).amin(1)).all()
    assert (rows.diff(dim=1) == 1).all()
    steps = cols.diff(dim=2)
    assert (steps.abs() == 1).all() and 100 < (steps[:, 0, 0] == -1).sum() < 300
    for i, (h, w) in enumerate(sizes):
        own = which[:, 0, 0] == i
        assert 100 < own.sum() < 300
        assert rows[own].max() == h - 1 and cols[own].max() == w - 1
        assert rows[own].min() == 0 and cols[own].min() == 0


def test_a_tenth_is_held_out() -> None:
    photographs = [torch.full((8, 8, 3), i, dtype=torch.uint8) for i in range(25)]
    trained, held = divide(photographs)
    assert [int(p[0, 0, 0]) for p in held] == [9, 19]
    assert len(trained) == 23
    large = [torch.zeros(200, 100 + i, 3, dtype=torch.uint8) for i in range(50)]
    assert middle_crops(large, 256, 24).shape == (24, 3, 64, 64)
    assert divide(photographs[:3]) == (photographs[:3], photographs[:3])


def test_synthetic_pictures_are_the_same_every_time() -> None:
    first, second = synthetic_pictures(8, 64), synthetic_pictures(8, 64)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(p.shape == (64, 64, 3) and p.dtype == torch.uint8 for p in first)
    colours = [len(p.flatten(0, 1).unique(dim=0)) for p in first]
    assert min(colours[1::3]) > 4  # gradients


def test_loss_is_the_papers() -> None:
    x = torch.zeros(2, 3, 64, 64)
    out = {
        "x_hat": torch.full_like(x, 2 / 255),
        "likelihoods": {"y": torch.full((2, 8, 4, 4), 0.5), "z": torch.full((2, 4, 1, 1), 0.25)},
    }
    result = rate_distortion(out, x, torch.tensor([1.0, 4.0]))
    bpp = (8 * 16 + 4 * 2) / 64**2
    torch.testing.assert_close(result.mse, torch.tensor([4.0, 4.0]), rtol=1e-5, atol=0)
    loss = torch.tensor([0.0018 * 4 + bpp, 0.0130 * 4 + bpp])
    torch.testing.assert_close(result.loss, loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(lambdas_of(torch.tensor([6.0])), torch.tensor([0.0483]))
    # Beyond white is white; where it should not be, the gradient leads back.
    x_hat = torch.tensor([1.5, 1.5, -0.5]).view(1, 3, 1, 1).repeat(1, 1, 16, 16).requires_grad_()
    white = torch.tensor([1.0, 0.8, 0.2]).view(1, 3, 1, 1).repeat(1, 1, 16, 16)
    ones = torch.ones(1, 1, 1, 1)
    beyond = {"x_hat": x_hat, "likelihoods": {"y": ones, "z": ones}}
    mse = rate_distortion(beyond, white, torch.tensor([3.0])).mse.sum()
    assert mse.item() == pytest.approx(255**2 * (0.04 + 0.04) / 3, rel=1e-5)
    mse.backward()
    assert x_hat.grad is not None
    assert torch.equal(x_hat.grad.sum((0, 2, 3)).sign(), torch.tensor([0.0, 1.0, -1.0]))
    assert balance(torch.arange(1.0, 7.0)).mean() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("broken", ["nothing fits", "not finite", "no checkpoint"])
def test_a_start_that_is_none_is_refused(broken: str, photographs: Path, tmp_path: Path) -> None:
    path = tmp_path / "start.pt"
    state = build(registry.by_name(LITE[0])).state_dict()
    if broken == "nothing fits":
        torch.save({"model": {f"other.{k}": v for k, v in state.items()}}, path)
    elif broken == "not finite":
        torch.save({"model": state | {"log_gain": state["log_gain"] * torch.nan}}, path)
    else:
        path.write_bytes(b"hello")
    words = {"nothing fits": "nothing in it fits", "not finite": "log_gain is not finite"}
    with pytest.raises(WeightsError, match=words.get(broken, "not a training checkpoint")):
        Trainer(settings(photographs), tmp_path / "run", start=path)


def test_another_family_starts_from_what_both_have(photographs: Path, tmp_path: Path) -> None:
    wacnn, stf = (build(registry.by_name(name)) for name in ("wacnn-lite", "stf-lite"))
    with torch.no_grad():
        wacnn.log_gain.fill_(0.5)
    torch.save({"model": wacnn.state_dict()}, tmp_path / "wacnn.pt")
    trainer = Trainer(settings(photographs, model="stf-lite"), tmp_path, tmp_path / "wacnn.pt")
    assert (trainer.model.log_gain == 0.5).all()
    assert type(trainer.model) is type(stf)


def test_flat_colours_are_trained_on(photographs: Path, tmp_path: Path) -> None:
    """With a rectangle on every crop, the objective counts their error several times."""
    norms = []
    for weight in (0.0, 50.0):
        chosen = settings(photographs, flat=1.0, flat_weight=weight, synthetic=0.0)
        norms.append(Trainer(chosen, tmp_path / str(weight)).train_step(False)[3].item())
    assert norms[1] > 2 * norms[0]


def test_pasted_rectangles_are_flat() -> None:
    """Of one colour in 255ths each, on about their share of the crops; the rest is as it was."""
    generator = torch.Generator().manual_seed(0)
    crops = torch.rand(400, 3, 64, 64, generator=generator)
    pasted = paste_flat(crops, 0.25, generator)
    changed = (pasted != crops).any(1)
    assert 0.15 < changed.flatten(1).any(1).float().mean() < 0.35
    for x, places in zip(pasted, changed, strict=True):
        colours = x[:, places].T.unique(dim=0)
        assert len(colours) <= 1
        assert (colours * 255).frac().abs().max() < 1e-4 if len(colours) else True
    assert torch.equal(paste_flat(crops, 0.0, generator), crops)


def test_flat_blocks_are_told_and_weigh() -> None:
    x = torch.rand(2, 3, 64, 64)
    x[0, :, 16:48, 32:64] = 0.25
    x[0, 1, 20, 40] = 0.26
    flat = flat_blocks(x)
    assert flat[1].sum() == 0
    assert flat[0].sum() == 3 * 16 * 16
    assert flat[0, 0, 32:48, 32:].all()
    out = {"x_hat": x + 0.1, "likelihoods": {n: torch.ones(2, 1, 1, 1) for n in "yz"}}
    out["x_hat"].clamp_(0, 1)
    loss = rate_distortion(out, x, torch.tensor([3.0, 3.0]))
    share = loss.flat[0] * 64 * 64 / (3 * 256)
    torch.testing.assert_close(share, torch.tensor(25.5**2))
    assert loss.flat[1] == 0
