"""The training run: keyed to a budget of minutes or steps, resumable, always fully decayed.

A run has two parts. The *trunk* (warm-up, then a constant rate) ends in a checkpoint, `trunk.pt`,
from which a later run goes on. The *decay* (rate to zero, larger crops) turns it into weights worth
shipping. Both fit into the budget given. Inside a step nothing waits for the device: what has to be
decided there is decided by tensors, and sums are read every half minute.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stfcodec.errors import UsageError, WeightsError
from stfcodec.models import locate, registry, weights
from stfcodec.models.base import CompressionModel
from stfcodec.models.build import build
from stfcodec.models.coding_tables import BATCHES, make_coding
from stfcodec.models.lite import LiteModel
from stfcodec.train.arena import Arena
from stfcodec.train.curve import draw
from stfcodec.train.data import (
    CropSampler,
    calibration_crops,
    divide,
    load_photographs,
    middle_crops,
    shrink,
)
from stfcodec.train.loss import balance, lambdas_of, rate_distortion, spread_qualities
from stfcodec.train.replay import Replay
from stfcodec.train.soap import Soap
from stfcodec.train.start import start as start_from
from stfcodec.train.synthetic import paste_flat, synthetic_pictures

CHECKPOINT, TRUNK, LOG, CURVE = "last.pt", "trunk.pt", "log.csv", "loss.png"
TRAINING = "training.json"
"""How exported weights were trained, for the manifest."""
_QUALITIES = len(registry.LAMBDAS)
_FLOAT_EVERY = 8
"""Every so many steps of the decay run in float32: weights that only ever met bfloat16 settle on
how it rounds, and most machines decode in float32."""
_RENEW = {"cpu": 25, "cuda": 100}
"""Steps between two looks at SOAP's bases. A look takes as long as 9 steps on a GPU."""
_DIVERGED, _ENOUGH_STEPS = 2.0, 8
"""A line of the log that means so many steps and so many times the lowest loss is of a model that
is lost."""
_SPIKE = 8.0
"""A gradient this many times its usual norm is not followed: one such step costs minutes."""
_SHOW = 30.0
"""Seconds between two lines of the log."""
_COUNTERS = "step", "elapsed", "pixels", "lowest", "slower"
_VALIDATION_CROPS, _VALIDATION_SIDE = 24, 256
_START_CROPS = 128


@dataclass(frozen=True)
class Settings:
    """One run. Sizes are pixels, `rate` is the learning rate."""

    model: str
    data: str
    minutes: float | None = 30.0
    steps: int | None = None
    """Budget in optimiser steps instead of minutes: the same everywhere, for tests."""
    rate: float = 1e-3
    warmup: int = 200
    decay: float = 0.4
    """Share of the budget spent on the decay."""
    batch: int = 4
    crop: int = 256
    decay_crop: int = 256
    """Crop size during the decay, at the same number of pixels a step."""
    synthetic: float = 0.04
    """Share of the crops that come from pictures drawn, not photographed."""
    shrunk: float = 0.0
    """Photographs are trained on at this scale too (0: at their own alone): what was lossy is
    sharper when smaller."""
    flat: float = 0.15
    """Share of the crops on which a rectangle of one colour is pasted."""
    flat_weight: float = 6.0
    """Of the error on blocks of one colour, beside its part in the loss: there it is seen most."""
    clip: float = 2.0
    """Gradients are shortened to this many times their usual norm."""
    ema: float = 0.998
    optimiser: str = "soap"
    """soap or adam."""
    quality: float | None = None
    """Train at this quality only, to see what covering all of them costs."""
    device: str = "cpu"
    bf16: bool = True
    """Networks in bfloat16, but for some steps of the decay."""
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
        if not isinstance(self.info.widths, registry.LiteWidths):
            raise UsageError(f"{settings.model}: only lite models are trained here")
        torch.manual_seed(settings.seed)
        smallest = max(settings.crop, settings.decay_crop)
        photographs = load_photographs(Path(settings.data), smallest, settings.limit)
        self.photographs, held_out = divide(photographs)
        sources = [*self.photographs]
        if settings.shrunk:
            sources += shrink(self.photographs, settings.shrunk, smallest)
        area = sum(p.shape[0] * p.shape[1] for p in sources)
        drawn = round(settings.synthetic * area / (smallest * 2) ** 2)
        pictures = [*sources, *synthetic_pictures(drawn, 2 * smallest)]
        self.sampler = CropSampler(pictures, self.device, settings.seed)
        self.held_out = middle_crops(held_out, _VALIDATION_SIDE, _VALIDATION_CROPS).to(self.device)
        self.model = build(self.info)
        if not (folder / CHECKPOINT).exists():
            if start is not None:
                _begin_from(self.model, _trained_state(self.info, start), start)
            elif isinstance(self.model, LiteModel):
                start_from(self.model, self.sampler(_START_CROPS, settings.crop).cpu())
        self.model.to(self.device).train()
        self.arena = Arena(self.model)
        self.average = self.arena.values.clone()
        largest = {"adam": 0, "soap": 320}[settings.optimiser]
        self.replay = Replay(self.sampler.generator)
        renew = _RENEW.get(self.device.type, 25)
        self.optimiser = Soap(self.arena, self.replay, largest=largest, renew=renew)
        self.step, self.elapsed, self.pixels = 0, 0.0, 0
        self.usual = torch.zeros((), device=self.device)
        """The usual norm of the gradients; 0 until the first step."""
        self.lowest, self.slower = math.inf, 1.0
        """Loss of the best line of the log; what the rate is multiplied by since a divergence."""
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
        return self.slower * s.rate * warm * min(1.0, left)

    # ------------------------------------------------------------------------------ steps

    def run(
        self,
        report: Callable[[str], object] = print,
        save_every: float = 600.0,
        exports: bool = True,
        saved: Callable[[], object] = lambda: None,
    ) -> None:
        """Trains until the budget is used, saving every `save_every` seconds and when interrupted,
        then exports. `saved` is called after each checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._train(report, save_every, saved)
        except KeyboardInterrupt:
            self.save(self.folder / CHECKPOINT)
            raise
        if not exports:
            return
        self.export()
        if not draw(self.folder / LOG, self.folder / CURVE):
            report(f"no {CURVE}: matplotlib is not installed")

    def _train(
        self, report: Callable[[str], object], save_every: float, saved: Callable[[], object]
    ) -> None:
        if not (self.folder / CHECKPOINT).exists():
            self.save(self.folder / CHECKPOINT)
        last = kept = shown = time.monotonic()
        sums, steps, seen = torch.zeros(4, device=self.device), 0, self.pixels
        while self.progress < 1:
            decaying = self.progress >= 1 - self.settings.decay
            if decaying and not (self.folder / TRUNK).exists():
                self.save(self.folder / TRUNK)
            sums += self.train_step(decaying)
            steps += 1
            now = time.monotonic()
            self.elapsed, last = self.elapsed + now - last, now
            if now - shown < _SHOW and self.progress < 1:
                continue
            means = (sums / steps).tolist()  # waits for the device
            self.lowest = min(self.lowest, means[0])
            if steps >= _ENOUGH_STEPS and not means[0] < _DIVERGED * self.lowest:
                self._fall_back()
                report(f"diverged at loss {means[0]:.3g}: back to step {self.step}, half the rate")
            now = time.monotonic()
            speed = (self.pixels - seen) / 1e6 / (now - shown)
            validation = None
            if now - kept >= save_every or self.progress >= 1:
                validation = self.validate()
                self.save(self.folder / CHECKPOINT)
                kept = now
            report(self._log(means, speed, validation))
            if validation is not None:
                saved()
            sums, steps, seen, shown = torch.zeros_like(sums), 0, self.pixels, time.monotonic()

    def train_step(self, decaying: bool) -> Tensor:
        """One optimiser step. Returns (loss, bpp, mse, gradient norm) of the batch, detached; the
        next step may overwrite them."""
        s = self.settings
        size = s.decay_crop if decaying else s.crop
        batch = max(1, s.batch * s.crop**2 // size**2)
        bf16 = s.bf16 and not (decaying and self.step % _FLOAT_EVERY == 0)
        means = self.replay((size, bf16), lambda: self._gradients(batch, size, bf16))
        self.optimiser.step(self._rate())
        self.average.lerp_(self.arena.values, 1 - s.ema)
        self.step += 1
        self.pixels += batch * size**2
        return means

    def _gradients(self, batch: int, size: int, bf16: bool) -> Tensor:
        """Fills the arena's gradients; the rest as `train_step`. Waits for nothing."""
        s = self.settings
        x = paste_flat(self.sampler(batch, size), s.flat, self.sampler.generator)
        quality = spread_qualities(batch, self.sampler.generator)
        if s.quality is not None:
            quality.fill_(s.quality)
        self.model.precision = torch.bfloat16 if bf16 else torch.float32
        # Few steps are of float32: too few to compile them, too.
        model = self.run_model if bf16 else self.model
        loss = rate_distortion(model(x, quality), x, quality)
        gradients = self.arena.gradients.zero_()
        objective = loss.loss + s.flat_weight * lambdas_of(quality) * loss.flat
        (objective * balance(quality)).mean().backward()
        with torch.no_grad():
            norm = gradients.norm()
            usual = torch.where(self.usual > 0, self.usual, norm)
            follow = torch.isfinite(norm) & (norm < _SPIKE * usual)
            # Not to one norm for all: gradients of the highest qualities are the longest.
            gradients.mul_((s.clip * usual / norm).clamp(max=1))
            gradients.masked_fill_(~follow, 0)
            self.usual.copy_(torch.where(follow, torch.lerp(usual, norm, 0.02), usual))
            means = (loss.loss.mean(), loss.bpp.mean(), loss.mse.mean(), norm)
            return torch.stack([m.detach().float() for m in means])

    @torch.no_grad()
    def validate(self) -> float:
        """The mean over the qualities of ln(loss), of averaged weights on photographs held out."""
        self.model.eval()
        logs = []
        with self._holding(self.average):
            for q in range(1, _QUALITIES + 1):
                losses = []
                for x in self.held_out.split(6):
                    quality = torch.full((len(x),), float(q), device=self.device)
                    losses.append(rate_distortion(self.model(x, quality), x, quality).loss)
                logs.append(torch.cat(losses).mean().log())
        self.model.train()
        return torch.stack(logs).mean().item()

    @contextmanager
    def _holding(self, values: Tensor) -> Iterator[None]:
        """Inside, the model has these values; outside its own, also when interrupted."""
        trained = self.arena.values.clone()
        try:
            self.arena.values.copy_(values)
            yield
        finally:
            self.arena.values.copy_(trained)

    # -------------------------------------------------------------------------- on disk

    @torch.no_grad()
    def _state(self, values: Tensor) -> dict[str, Tensor]:
        """The model's state with these values in place of its own."""
        with self._holding(values):
            return {k: v.clone() for k, v in self.model.state_dict().items()}

    def save(self, path: Path) -> None:
        """Everything needed to go on, written whole or not at all."""
        state = {
            "settings": asdict(self.settings),
            "model": self._state(self.arena.values),
            "average": self._state(self.average),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.sampler.generator.get_state(),
            "random": torch.get_rng_state(),
            "usual": self.usual,
            "counters": {name: getattr(self, name) for name in _COUNTERS},
        }
        temporary = path.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(path)

    def _resume(self, path: Path) -> None:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["settings"]["model"] != self.info.name:
            raise UsageError(f"{path} is a run of {state['settings']['model']}")
        with torch.no_grad():
            self.model.load_state_dict(state["average"])
            self.average.copy_(self.arena.values)
            self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.sampler.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        self.usual = state["usual"].to(self.device)
        for name, value in state["counters"].items():
            setattr(self, name, value)

    def _fall_back(self) -> None:
        """To the last checkpoint, at half the rate. The clock goes on."""
        elapsed, slower = self.elapsed, self.slower / 2
        self._resume(self.folder / CHECKPOINT)
        self.elapsed, self.slower = elapsed, slower
        self.replay.clear()

    def record(self) -> dict[str, Any]:
        """How the weights were trained, for the manifest."""
        return {
            "settings": asdict(self.settings) | {"data": Path(self.settings.data).name},
            "photographs": len(self.photographs),
            "steps": self.step,
            "minutes": round(self.elapsed / 60, 1),
            "megapixels": round(self.pixels / 1e6),
            "started_from": self.start,
        }

    def export(self) -> Path:
        """Ships the averaged weights."""
        s = self.settings
        (self.folder / TRAINING).write_text(json.dumps(self.record(), indent=1) + "\n")
        average = self._state(self.average)
        return export(self.info, average, self.photographs, s.decay_crop, self.folder)

    def _log(self, means: list[float], speed: float, validation: float | None) -> str:
        """speed: megapixels a second."""
        loss, bpp, mse, norm = means
        row = {
            "step": self.step,
            "minutes": round(self.elapsed / 60, 2),
            "megapixels": round(self.pixels / 1e6, 1),
            "megapixels_per_s": round(speed, 3),
            "rate": f"{self._rate():.2e}",
            "loss": round(loss, 4),
            "bpp": round(bpp, 4),
            "psnr": round(10 * math.log10(255**2 / mse), 2),
            "gradient": round(norm, 2),
            "held_out": "" if validation is None else round(validation, 4),
        }
        path = self.folder / LOG
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        return "  ".join(f"{k} {v}" for k, v in row.items())


def export(
    info: registry.ModelInfo,
    state: dict[str, Tensor],
    photographs: list[Tensor],
    crop: int,
    folder: Path,
) -> Path:
    """Writes weights with these parameters into `folder`: tails of z fitted, what decides
    probabilities in integers, tables of y fitted to what these code, the rest in float16."""
    model = build(info)
    model.load_state_dict(state, strict=False)
    model.eval()
    model.entropy_bottleneck.fit_quantiles()
    model.update()
    make_coding(model, calibration_crops(photographs, crop, BATCHES))
    path = folder / locate.file_name(info, 1)
    weights.save(model, path)
    return path


def _begin_from(model: CompressionModel, state: dict[str, Tensor], path: Path) -> None:
    """Takes what the model has too, by name and shape: another family shares all but its bodies.
    Raises WeightsError where that is nothing, or not finite."""
    own = dict(model.named_parameters())
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    if not fitting:
        raise WeightsError(f"{path}: nothing in it fits this model")
    for name, value in fitting.items():
        if not torch.isfinite(value).all():
            raise WeightsError(f"{path}: damaged ({name} is not finite)")
    model.load_state_dict(fitting, strict=False)


def _trained_state(info: registry.ModelInfo, path: Path) -> dict[str, Tensor]:
    """Parameters of a weights file, or the raw (not averaged) ones of a checkpoint."""
    if path.suffix != ".pt":
        return dict(weights.load(info, path).named_parameters())
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
        return {k: v for k, v in state.items() if isinstance(v, Tensor)}
    except Exception as error:  # unpickling garbage raises almost anything
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(f"{path}: not a training checkpoint ({reason})") from None
