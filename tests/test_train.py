"""Training at tiny settings on the CPU: the loss falls, a resumed run is the same run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stfcodec.errors import UsageError, WeightsError
from stfcodec.models import registry, weights
from stfcodec.models.build import build
from stfcodec.train import cuda_graphs, loop
from stfcodec.train.checkpoint import CHECKPOINT, TRUNK
from stfcodec.train.data import load_photographs
from stfcodec.train.export import TRAINING_RECORD
from stfcodec.train.initialise import initialise_from_photographs
from stfcodec.train.log import LOG, LOSS_PLOT
from stfcodec.train.loop import run_training
from stfcodec.train.loss import rate_distortion
from stfcodec.train.settings import Settings
from stfcodec.train.trainer import Trainer

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


@pytest.mark.slow
@pytest.mark.parametrize("name", LITE)
def test_initial_model_is_already_a_codec(name: str, photographs: Path, tmp_path: Path) -> None:
    """Both transforms reproduce a picture before any step; random ones do not."""
    trainer = Trainer(settings(photographs, model=name), tmp_path)
    x = trainer.sampler(4, 128)
    model = trainer.model.eval()
    with torch.no_grad():
        initialised = (model.synthesis(model.analysis(x)) - x).square().mean()
        torch.manual_seed(0)
        random = build(registry.by_name(name)).eval()
        random_error = (random.synthesis(random.analysis(x)) - x).square().mean()
    assert initialised < 1e-3 < random_error  # better than 30 dB


def test_initial_transform_is_the_karhunen_loeve_transform(photographs: Path) -> None:
    """Latents are uncorrelated, and their spreads are what the entropy model expects."""
    x = torch.stack(load_photographs(photographs, 128)).permute(0, 3, 1, 2).float() / 255
    model = build(registry.by_name(LITE[0])).eval()
    initialise_from_photographs(model, x[:, :, :192, :256])
    with torch.no_grad():
        y = model.analysis(x[:, :, :192, :256]).permute(1, 0, 2, 3).flatten(1)
    moments = y @ y.T / y.shape[1]
    torch.testing.assert_close(
        moments.diagonal().sqrt().clamp(min=1e-3), model.log_spread.exp().data
    )
    off = moments - torch.diag(moments.diagonal())
    assert off.abs().max() < 1e-3 * moments.max()


def test_a_run_without_a_decay_leaves_a_trunk(photographs: Path, tmp_path: Path) -> None:
    run_training(Trainer(settings(photographs, steps=1, decay=0.0), tmp_path), lambda _: None)
    assert (tmp_path / TRUNK).exists()


@pytest.mark.slow
def test_run_decays_logs_and_exports(photographs: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    trainer = Trainer(settings(photographs), tmp_path)
    run_training(trainer, report=lines.append)
    assert trainer.learning_rate == 0
    last = [line for line in lines if line.startswith("step")][-1]
    assert float(last.split("held_out ")[1]) > -5
    assert {CHECKPOINT, TRUNK, LOG, TRAINING_RECORD} <= {p.name for p in tmp_path.iterdir()}
    pytest.importorskip("matplotlib")
    with Image.open(tmp_path / LOSS_PLOT) as plot:
        assert len(set(plot.convert("L").tobytes())) > 2  # something is drawn
    record = json.loads((tmp_path / TRAINING_RECORD).read_text())
    assert record["steps"] == 6
    assert record["photographs"] == 3
    model = weights.load(registry.by_name(LITE[0]), tmp_path / f"{LITE[0]}.safetensors")
    coded = model.compress(model.analysis(torch.rand(1, 3, 64, 64), 2.5), quality=2.5)
    assert model.decompress(coded, (1, 1), quality=2.5).shape == (1, 224, 4, 4)


@pytest.mark.slow
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


@pytest.mark.slow
def test_validation_is_of_averaged_weights(photographs: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings(photographs), tmp_path)
    before = trainer.validate()
    with torch.no_grad():
        trainer.parameters.values.add_(1)
    assert trainer.validate() == before
    assert trainer.model.training
    trainer.averaged_values.add_(1)
    assert trainer.validate() != before


@pytest.mark.slow
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
    assert torch.equal(straight.parameters.values, resumed.parameters.values)
    assert torch.equal(straight.averaged_values, resumed.averaged_values)


@pytest.mark.parametrize("spike", [float("nan"), float("inf"), 1e6])
def test_a_gradient_spike_is_dropped(
    spike: float, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(settings(photographs), tmp_path)
    trainer.train_step(False)
    mean_norm = trainer.clipper.mean_norm.clone()
    assert trainer.optimiser.update.grad is not None
    monkeypatch.setattr(
        "stfcodec.train.trainer.balancing_weights",
        lambda quality: torch.full_like(quality, spike),
    )
    trainer.train_step(False)
    assert not trainer.optimiser.update.grad.any()
    assert trainer.parameters.values.isfinite().all()
    assert trainer.clipper.mean_norm == mean_norm
    monkeypatch.undo()
    trainer.train_step(False)
    assert trainer.optimiser.update.grad.any()


def test_keys_of_checkpoints_stay(photographs: Path, tmp_path: Path) -> None:
    """Checkpoints of earlier versions, which lack the last two, resume."""
    trainer = Trainer(settings(photographs), tmp_path)
    state = trainer.state_dict()
    keys = {"settings", "model", "average", "optimiser", "generator", "random", "usual", "counters"}
    assert set(state) == keys | {"quantiles", "plateau"}
    trainer.load_state_dict({k: v for k, v in state.items() if k in keys})
    assert set(state["counters"]) == {"step", "elapsed", "pixels", "lowest", "slower"}
    assert set(state["optimiser"]) == {"steps", "adam", "sides"}
    assert {k for side in state["optimiser"]["sides"] for k in side} == {"left", "right"}


@pytest.mark.parametrize("broken", ["nothing fits", "not finite", "no checkpoint"])
def test_initial_weights_that_do_not_fit_are_refused(
    broken: str, photographs: Path, tmp_path: Path
) -> None:
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
        Trainer(settings(photographs), tmp_path / "run", initial_weights=path)


def test_another_family_starts_from_what_both_have(photographs: Path, tmp_path: Path) -> None:
    wacnn, stf = (build(registry.by_name(name)) for name in ("wacnn-lite", "stf-lite"))
    with torch.no_grad():
        wacnn.log_gain.fill_(0.5)
    torch.save({"model": wacnn.state_dict()}, tmp_path / "wacnn.pt")
    trainer = Trainer(settings(photographs, model="stf-lite"), tmp_path, tmp_path / "wacnn.pt")
    assert (trainer.model.log_gain == 0.5).all()
    assert type(trainer.model) is type(stf)


@pytest.mark.parametrize("part", ["g_a", "g_s"])
def test_only_one_part_is_trained(part: str, photographs: Path, tmp_path: Path) -> None:
    """Validation and export included; the rest keeps every bit."""
    trainer = Trainer(settings(photographs, part=part, steps=3), tmp_path)
    before = {k: v.clone() for k, v in trainer.model.named_parameters()}
    run_training(trainer, report=lambda line: None)
    changed = {k for k, v in trainer.model.named_parameters() if not torch.equal(v, before[k])}
    assert changed
    assert all(name.startswith(f"{part}.") for name in changed)


def test_flat_colours_are_trained_on(photographs: Path, tmp_path: Path) -> None:
    """With a rectangle on every crop, the objective counts their error several times."""
    norms = []
    for weight in (0.0, 50.0):
        chosen = settings(photographs, flat=1.0, flat_weight=weight, synthetic=0.0)
        norms.append(Trainer(chosen, tmp_path / str(weight)).train_step(False)[3].item())
    assert norms[1] > 2 * norms[0]


def test_bad_settings_are_refused(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="minutes or in steps"):
        Settings(model=LITE[0], data=".", minutes=1, steps=1)
    with pytest.raises(UsageError, match="unknown part"):
        Settings(model=LITE[0], data=".", part="h_a")
    with pytest.raises(UsageError, match="multiple of 64"):
        Settings(model=LITE[0], data=".", crop=100)
    with pytest.raises(UsageError, match="no picture of at least 512x512"):
        Trainer(settings(photographs, decay_crop=512), tmp_path)
    with pytest.raises(UsageError, match="for one λ"):
        Trainer(settings(photographs, model="wacnn"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [1e4, float("nan")])
def test_a_run_that_diverges_goes_back(
    lost: float, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOG_INTERVAL_S", 0.0)
    monkeypatch.setattr(loop, "DIVERGENCE_MIN_STEPS", 1)
    trainer = Trainer(settings(photographs, steps=6), tmp_path)
    train_step, rates = trainer.train_step, []

    def diverging_step(is_decay: bool) -> torch.Tensor:
        rates.append(trainer.learning_rate / min(1, (trainer.step + 1) / 200))
        means = train_step(is_decay)
        if len(rates) == 4:
            trainer.parameters.values.fill_(lost)
            means[0] = lost
        return means

    monkeypatch.setattr(trainer, "train_step", diverging_step)
    said: list[str] = []
    run_training(trainer, said.append, save_interval_s=0, export=False)
    assert sum("diverged" in line for line in said) == 1
    assert trainer.step == 6  # the fourth was taken twice
    assert len(rates) == 7
    assert rates[4] == rates[3] / 2
    assert trainer.parameters.values.abs().max() < 100


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
    assert trainer.parameters.values.isfinite().all()


@needs_cuda
def test_replayed_steps_are_the_steps_on_cuda(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same crops, noise and updates whether operations are launched or replayed."""
    found = []
    for warm_up in (3, 100):
        monkeypatch.setattr(cuda_graphs, "WARM_UP_CALLS", warm_up)
        chosen = settings(photographs, device="cuda", bf16=False)
        trainer = Trainer(chosen, tmp_path / str(warm_up))
        losses = [trainer.train_step(False)[0].item() for _ in range(12)]
        found.append(losses)
    assert len(set(found[0])) == 12
    assert found[0] == pytest.approx(found[1], rel=2e-2)


def test_entropy_model_may_learn_at_a_rate_of_its_own(photographs: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings(photographs, entropy_rate=0.0), tmp_path)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    for _ in range(3):
        trainer.train_step(False)
    moved = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved and {name.split(".")[0] for name in moved} == set(trainer.model.transforms)
