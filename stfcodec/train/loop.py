"""The training run: keyed to a budget of minutes or steps, resumable, always fully decayed.

A run has two parts. The *trunk* (warm-up, then a constant rate on small crops) ends in a
checkpoint, `trunk.pt`, from which a later run goes on. The *decay* (rate to zero, larger crops)
turns it into weights worth shipping. Both fit into the budget given.
"""

from __future__ import annotations

import csv
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stfcodec.allocator import keep_freed_memory
from stfcodec.errors import UsageError, WeightsError
from stfcodec.models import registry, store, weights
from stfcodec.models.build import build
from stfcodec.models.entropy_model import CompressionModel
from stfcodec.models.fitting import BATCHES, make_coding
from stfcodec.train.curve import draw
from stfcodec.train.data import CropSampler, calibration_crops, load_photographs, place
from stfcodec.train.initialise import initialise
from stfcodec.train.loss import balance, opposite_qualities, rate_distortion
from stfcodec.train.revive import revive, silent_shares
from stfcodec.train.soap import Soap

CHECKPOINT, TRUNK, LOG, CURVE = "last.pt", "trunk.pt", "log.csv", "loss.png"
TRAINING = "training.json"
"""How exported weights were trained, for the manifest."""
_QUALITIES = len(registry.LAMBDAS)
_FLOAT_EVERY = 3
"""Every so many steps of the decay run in float32: weights that only ever met bfloat16 settle on
how it rounds, and most machines decode in float32."""
_SPIKE = 8.0
"""A gradient this many times its usual norm is not followed: one such step costs minutes."""


@dataclass(frozen=True)
class Settings:
    """One run. Sizes are pixels, `rate` is the learning rate."""

    model: str
    data: str
    minutes: float | None = 30.0
    steps: int | None = None
    """Budget in optimiser steps instead of minutes: the same everywhere, for tests."""
    rate: float = 3e-4
    warmup: int = 300
    decay: float = 0.3
    """Share of the budget spent on the decay."""
    batch: int = 8
    crop: int = 128
    decay_crop: int = 256
    """Crop size during the decay, at the same number of pixels a step."""
    clip: float = 2.0
    """Gradients are shortened to this many times their usual norm."""
    ema: float = 0.998
    optimiser: str = "soap"
    """soap or adam."""
    quality: float | None = None
    """Train at this quality only, to see what covering all of them costs."""
    device: str = "cpu"
    bf16: bool = True
    """Transforms in bfloat16, but for some steps of the decay."""
    compile: bool = False
    limit: int | None = None
    """At most this many photographs."""
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise UsageError("give a training budget either in minutes or in steps")
        if self.optimiser not in ("soap", "adam"):
            raise UsageError(f"unknown optimiser {self.optimiser!r}; choose soap or adam")
        if self.quality is not None:
            registry.check_quality(self.quality, registry.by_name(self.model))
        for name, size in (("crop", self.crop), ("decay crop", self.decay_crop)):
            if size % 64 or size <= 0:
                raise UsageError(f"{name} {size} is not a positive multiple of 64")


class Trainer:
    """Holds everything a run needs to stop at any step and go on as if it had not."""

    def __init__(self, settings: Settings, folder: Path, start: Path | None = None) -> None:
        """start: weights or a checkpoint to begin from; without, it is fitted to the data."""
        self.settings, self.folder = settings, folder
        self.start = str(start.name) if start else None
        self.device = torch.device(settings.device)
        self.info = registry.by_name(settings.model)
        keep_freed_memory()
        torch.manual_seed(settings.seed)
        self.generator = torch.Generator().manual_seed(settings.seed)
        photographs = load_photographs(Path(settings.data), settings.decay_crop, settings.limit)
        self.sampler = CropSampler(place(photographs, self.device), self.generator)
        self.model = build(self.info)
        self.revived: list[str] = []
        if not (folder / CHECKPOINT).exists():
            if start is not None:
                self.model.load_state_dict(_trained_state(self.info, start), strict=False)
                self.revived = revive(self.model, *self._probe())
            elif self.info.variable_rate:
                initialise(self.model, self.sampler(min(256, 8 * settings.batch), 128).cpu())
        self.model.to(self.device, memory_format=torch.channels_last).train()
        self.average = torch.optim.swa_utils.AveragedModel(
            self.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.ema)
        )
        self.optimiser = _optimiser(self.model, settings)
        self.step, self.elapsed, self.pixels = 0, 0.0, 0
        self.gradient = 0.0  # its usual norm; 0 until the first step
        if (folder / CHECKPOINT).exists():
            self._resume(folder / CHECKPOINT)
        self.run_model = (
            torch.compile(self.model, dynamic=False) if settings.compile else self.model
        )

    # -------------------------------------------------------------------------- schedule

    @property
    def progress(self) -> float:
        """Share of the budget used, 0…1."""
        s = self.settings
        return self.step / s.steps if s.steps else self.elapsed / (60 * (s.minutes or 1))

    def _rate(self) -> float:
        s = self.settings
        warm = min(1.0, (self.step + 1) / s.warmup)
        left = max(0.0, 1 - self.progress) / s.decay
        return s.rate * warm * min(1.0, left)

    # ------------------------------------------------------------------------------ steps

    def run(self, report=print, save_every: float = 600.0) -> None:
        """Trains until the budget is used, saving every `save_every` seconds, then exports."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.revived:
            report(f"restarted, because most of their units were silent: {', '.join(self.revived)}")
        last = saved = shown = time.monotonic()
        window: list[Tensor] = []
        seen = self.pixels
        while self.progress < 1:
            decaying = self.progress >= 1 - self.settings.decay
            if decaying and not (self.folder / TRUNK).exists():
                self.save(self.folder / TRUNK)
            window.append(self.train_step(decaying))
            now = time.monotonic()
            self.elapsed, last = self.elapsed + now - last, now
            if now - shown >= 30 or self.progress >= 1:
                speed = (self.pixels - seen) / 1e6 / (now - shown)
                report(self._log(torch.stack(window).mean(0).tolist(), speed))
                window, shown, seen = [], now, self.pixels
            if now - saved >= save_every:
                self.save(self.folder / CHECKPOINT)
                saved = now
        self.save(self.folder / CHECKPOINT)
        self.export()
        if not draw(self.folder / LOG, self.folder / CURVE):
            report(f"no {CURVE}: matplotlib is not installed")

    def train_step(self, decaying: bool) -> Tensor:
        """One optimiser step. Returns (loss, bpp, mse, gradient norm) of the batch, detached."""
        s = self.settings
        size = s.decay_crop if decaying else s.crop
        batch = max(1, s.batch * s.crop**2 // size**2)
        x = self.sampler(batch, size).to(self.device, non_blocking=True)
        quality = opposite_qualities(batch, self.generator)
        if s.quality is not None:
            quality.fill_(s.quality)
        quality = quality.to(self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        bf16 = s.bf16 and not (decaying and self.step % _FLOAT_EVERY == 0)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            out = self.run_model(x, quality)
        quality = quality.repeat_interleave(batch // len(quality))
        loss = rate_distortion(out, x, quality)
        weights_ = balance(quality)
        self.optimiser.zero_grad(set_to_none=True)
        (loss.loss * weights_).mean().backward()
        norm = nn.utils.get_total_norm(
            [p.grad for p in self.model.parameters() if p.grad is not None]
        )
        length = norm.item()
        usual = self.gradient or length
        # Not to one norm for all: gradients of the highest qualities are the longest.
        nn.utils.clip_grads_with_norm_(self.model.parameters(), s.clip * usual, norm)
        if math.isfinite(length) and length < _SPIKE * usual:
            self.gradient = 0.98 * usual + 0.02 * length
            self.optimiser.step()
            self.average.update_parameters(self.model)
        self.step += 1
        self.pixels += x.shape[0] * size**2
        means = (loss.loss.mean(), loss.bpp.mean(), loss.mse.mean(), norm)
        return torch.stack([m.detach().float() for m in means])

    def _probe(self) -> tuple[Tensor, Tensor]:
        """The same crops every time, one in six at each quality, to see which units are silent."""
        x = torch.cat(self._fixed_crops(self.settings.crop, _QUALITIES))
        return x, torch.arange(1.0, _QUALITIES + 1).repeat(len(x) // _QUALITIES)

    def _fixed_crops(self, size: int, batches: int) -> list[Tensor]:
        """`calibration_crops` of the run's photographs, on the CPU."""
        photographs = [p.cpu() for p in self.sampler.photographs]
        return calibration_crops(photographs, size, batches)

    # -------------------------------------------------------------------------- on disk

    def save(self, path: Path) -> None:
        """Everything needed to go on, written whole or not at all."""
        state = {
            "settings": asdict(self.settings),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "random": torch.get_rng_state(),
            "revived": self.revived,
            "counters": {
                name: getattr(self, name) for name in ("step", "elapsed", "pixels", "gradient")
            },
        }
        temporary = path.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(path)

    def _resume(self, path: Path) -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["settings"]["model"] != self.info.name:
            raise UsageError(f"{path} is a run of {state['settings']['model']}")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        self.revived = state.get("revived", [])
        for name, value in state["counters"].items():
            setattr(self, name, value)

    def export(self) -> Path:
        """Ships the averaged weights: tails of z fitted, entropy networks in integers, tables of y
        fitted to what these code, the rest in float16."""
        model = build(self.info)
        model.load_state_dict(self.average.module.state_dict())
        silent = silent_shares(model, *self._probe())
        model.entropy_bottleneck.fit_quantiles()
        model.update()
        make_coding(model, self._fixed_crops(self.settings.decay_crop, BATCHES))
        path = self.folder / store.file_name(self.info, 1)
        weights.save(model, path)
        settings = asdict(self.settings) | {"data": Path(self.settings.data).name}
        record = {
            "settings": settings,
            "photographs": len(self.sampler.photographs),
            "steps": self.step,
            "minutes": round(self.elapsed / 60, 1),
            "megapixels": round(self.pixels / 1e6),
            "started_from": self.start,
            "restarted": self.revived,
            "silent": round(max(silent.values()), 3),
        }
        (self.folder / TRAINING).write_text(json.dumps(record, indent=1) + "\n")
        return path

    def _log(self, means: list[float], speed: float) -> str:
        """speed: megapixels a second."""
        loss, bpp, mse, norm = means
        psnr = 10 * math.log10(255**2 / mse)
        row = {
            "step": self.step,
            "minutes": round(self.elapsed / 60, 2),
            "megapixels": round(self.pixels / 1e6, 1),
            "megapixels_per_s": round(speed, 3),
            "rate": f"{self._rate():.2e}",
            "loss": round(loss, 4),
            "bpp": round(bpp, 4),
            "psnr": round(psnr, 2),
            "gradient": round(norm, 2),
        }
        path = self.folder / LOG
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        return "  ".join(f"{k} {v}" for k, v in row.items())


def _optimiser(model: CompressionModel, settings: Settings) -> torch.optim.Optimizer:
    if settings.optimiser == "adam":
        return torch.optim.Adam(model.parameters(), lr=settings.rate)
    layers = nn.Conv2d, nn.ConvTranspose2d, nn.Linear
    weights_ = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, layers)}
    rotated: list[Tensor] = [p for n, p in model.named_parameters() if n in weights_]
    if model.tilt is not None:
        rotated += [slope for n, slope in model.tilt.items() if n in weights_]
    return Soap(model.parameters(), rotated, lr=settings.rate)


def _trained_state(info: registry.ModelInfo, path: Path) -> dict[str, Tensor]:
    """Parameters of a weights file, or the raw (not averaged) ones of a checkpoint."""
    if path.suffix != ".pt":
        return dict(weights.load(info, path).named_parameters())
    try:
        return torch.load(path, map_location="cpu", weights_only=True)["model"]
    except (OSError, RuntimeError, KeyError) as error:
        raise WeightsError(f"{path}: not a training checkpoint ({error})") from None
