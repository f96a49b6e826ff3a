"""The state of a training run, and its operations: one step, validation, saving, exporting.

`loop.py` repeats the steps until the budget is used. Within a step nothing waits for the device,
because all decisions are tensor operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stfcodec.errors import UsageError
from stfcodec.models import registry
from stfcodec.models.base import CompressionModel
from stfcodec.models.build import build
from stfcodec.models.lite import LiteModel
from stfcodec.models.registry import ModelInfo
from stfcodec.train.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from stfcodec.train.clipping import GradientClipper
from stfcodec.train.cuda_graphs import GraphReplay
from stfcodec.train.data import (
    CropSampler,
    centre_crops,
    load_photographs,
    split_held_out,
    training_pictures,
)
from stfcodec.train.export import export_weights, write_record
from stfcodec.train.flat_parameters import FlatParameters
from stfcodec.train.initialise import initialise_from_file, initialise_from_photographs
from stfcodec.train.loss import (
    balancing_weights,
    lambda_at,
    rate_distortion,
    stratified_qualities,
)
from stfcodec.train.plateau import Plateau
from stfcodec.train.settings import Settings
from stfcodec.train.soap import Soap
from stfcodec.train.synthetic import paste_rectangles

_FLOAT32_INTERVAL = 8
"""One in so many steps of the decay computes in float32. Weights trained in bfloat16 alone adapt to
its rounding, but most machines decode in float32."""
_BASIS_INTERVAL = {"cpu": 25, "cuda": 100}
"""Steps between two updates of SOAP's bases. On a GPU an update takes as long as 9 steps."""
_MAX_ROTATED_WIDTH = {"soap": 320, "adam": 0}
_INITIALISATION_CROPS = 128
_VALIDATION_CROPS, _VALIDATION_CROP_SIDE = 24, 256
_VALIDATION_BATCH = 6


class Trainer:
    """A run that can be interrupted at any step.

    A new Trainer on the same folder resumes from the last checkpoint and then computes what an
    uninterrupted run would have computed.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        initial_weights: Path | None = None,
        info: ModelInfo | None = None,
        network: Callable[[ModelInfo], CompressionModel] = build,
        photographs: list[Tensor] | None = None,
    ) -> None:
        """Load the photographs and build the model.

        folder: receives all files of the run. If it holds a checkpoint, the run resumes from it.
        initial_weights: a weights file or checkpoint to start from; None: a lite model is
        initialised from the photographs, others at random. info: the model, by default the one of
        the registry that the settings name. network: what makes it from there. photographs:
        (H, W, 3) uint8, in place of those below `settings.data`. Raises UsageError or WeightsError
        if something does not fit.
        """
        self.settings, self.folder = settings, folder
        self.initial_weights = initial_weights
        self.device = torch.device(settings.device)
        self.info = info or registry.by_name(settings.model)
        self.qualities = _qualities(settings, self.info)
        """Whole qualities at which the model is validated."""
        torch.manual_seed(settings.seed)
        min_side = max(settings.crop, settings.decay_crop)
        if photographs is None:
            photographs = load_photographs(Path(settings.data), min_side, settings.limit)
        self.photographs, held_out = split_held_out(photographs)
        pictures = training_pictures(self.photographs, settings, min_side)
        self.sampler = CropSampler(pictures, self.device, settings.seed)
        validation = centre_crops(held_out, _VALIDATION_CROP_SIDE, _VALIDATION_CROPS)
        self.validation_crops = validation.to(self.device)
        self.model = network(self.info)
        resumes = (folder / CHECKPOINT).exists()
        if not resumes:
            self._initialise()
        self.model.to(self.device)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(settings.part is None or name.startswith(f"{settings.part}."))
        self._set_training_mode()
        self.parameters = FlatParameters(self.model)
        self.averaged_values = self.parameters.values.clone()
        """Exponential moving average of the parameters, which is what is exported."""
        self.clipper = GradientClipper(settings.clip, self.device, settings.clip_norm)
        self.replay = GraphReplay(self.sampler.generator)
        self.optimiser = Soap(
            self.parameters,
            self.replay,
            settings.betas,
            max_width=_MAX_ROTATED_WIDTH[settings.optimiser],
            basis_interval=_BASIS_INTERVAL.get(self.device.type, _BASIS_INTERVAL["cpu"]),
            rates=self._rates(),
        )
        self.quantiles = self.model.entropy_bottleneck.quantiles
        self.quantile_optimiser = torch.optim.Adam([self.quantiles], settings.auxiliary_rate)
        self.plateau = Plateau()
        self.step = 0
        """Optimiser steps done."""
        self.elapsed = 0.0
        """Seconds of training, over all resumptions."""
        self.pixels = 0
        """Pixels trained on."""
        self.lowest_loss = math.inf
        """Lowest mean loss of a row of the log."""
        self.rate_factor = 1.0
        """Factor of the learning rate, halved after every divergence."""
        if resumes:
            self.load_state_dict(load_checkpoint(folder / CHECKPOINT, self.info.name))
        self.compiled_model = (
            torch.compile(self.model, dynamic=False) if settings.compile else self.model
        )

    def _rates(self) -> Tensor | None:
        """Multiples of the learning rate, if not all parameters have the same."""
        if self.settings.entropy_rate == 1:
            return None
        transforms = self.model.transforms
        return self.parameters.filled(
            lambda name: 1.0 if name.split(".")[0] in transforms else self.settings.entropy_rate
        )

    def _initialise(self) -> None:
        if self.initial_weights is not None:
            initialise_from_file(self.model, self.info, self.initial_weights)
        elif isinstance(self.model, LiteModel):
            crops = self.sampler(_INITIALISATION_CROPS, self.settings.crop)
            initialise_from_photographs(self.model, crops.cpu())

    def _set_training_mode(self) -> None:
        """With frozen parts latents are rounded, as in coding, rather than noisy."""
        self.model.train(self.settings.part is None)

    # -------------------------------------------------------------------------- schedule

    @property
    def progress(self) -> float:
        """Share of the budget used, 0…1."""
        s = self.settings
        return self.step / s.steps if s.steps else self.elapsed / (60 * (s.minutes or 1))

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        s = self.settings
        warmup = min(1.0, (self.step + 1) / s.warmup)
        decay = min(1.0, max(0.0, 1 - self.progress) / s.decay) if s.decay else 1.0
        return self.rate_factor * self.plateau.factor * s.rate * warmup * decay

    # ----------------------------------------------------------------------- one step

    def train_step(self, is_decay: bool) -> Tensor:
        """Do one optimiser step.

        Returns (loss, bpp, mse, gradient norm), means of the batch, detached. The next step may
        overwrite the tensor.
        """
        s = self.settings
        size = s.decay_crop if is_decay else s.crop
        batch = max(1, s.batch * s.crop**2 // size**2)
        bf16 = s.bf16 and not (is_decay and self.step % _FLOAT32_INTERVAL == 0)
        means = self.replay((size, bf16), lambda: self._compute_gradients(batch, size, bf16))
        self.optimiser.step(self.learning_rate)
        if s.auxiliary_rate:
            self._fit_quantiles()
        self.averaged_values.lerp_(self.parameters.values, 1 - s.ema)
        self.step += 1
        self.pixels += batch * size**2
        return means

    def _fit_quantiles(self) -> None:
        """Do one step on the quantiles of z, which the rate-distortion loss does not change."""
        loss = self.model.entropy_bottleneck.quantile_loss()
        (gradient,) = torch.autograd.grad(loss, self.quantiles)
        assert self.quantiles.grad is not None
        self.quantiles.grad.copy_(gradient)
        self.quantile_optimiser.step()

    def _compute_gradients(self, batch: int, size: int, bf16: bool) -> Tensor:
        """Fill the gradients from a random batch, clipped. Returns the same as `train_step`."""
        s = self.settings
        x = paste_rectangles(self.sampler(batch, size), s.flat, self.sampler.generator)
        quality = stratified_qualities(batch, self.sampler.generator)
        weight = balancing_weights(quality)
        if s.quality is not None:
            quality.fill_(s.quality)
            weight.fill_(1)
        self.model.precision = torch.bfloat16 if bf16 else torch.float32
        # In a run in bfloat16, steps in float32 are too few to be worth compiling.
        model = self.compiled_model if bf16 == s.bf16 else self.model
        loss = rate_distortion(model(x, quality), x, quality)
        gradients = self.parameters.gradients.zero_()
        objective = loss.loss + s.flat_weight * lambda_at(quality) * loss.flat_mse
        (objective * weight).mean().backward()
        norm = self.clipper(gradients)
        means = [part.detach().mean() for part in (loss.loss, loss.bpp, loss.mse)]
        return torch.stack([*means, norm])

    @torch.no_grad()
    def validate(self) -> float:
        """Mean over the whole qualities of ln(loss), with averaged parameters on held-out
        photographs, in float32."""
        self.model.eval()
        self.model.precision = torch.float32
        log_losses = []
        with self._values_replaced_by(self.averaged_values):
            for q in self.qualities:
                losses = []
                for x in self.validation_crops.split(_VALIDATION_BATCH):
                    quality = torch.full((len(x),), float(q), device=self.device)
                    losses.append(rate_distortion(self.model(x, quality), x, quality).loss)
                log_losses.append(torch.cat(losses).mean().log())
        self._set_training_mode()
        return torch.stack(log_losses).mean().item()

    @contextmanager
    def _values_replaced_by(self, values: Tensor) -> Iterator[None]:
        """The model has these parameters inside the block, and its own after it in any case."""
        own = self.parameters.values.clone()
        try:
            self.parameters.values.copy_(values)
            yield
        finally:
            self.parameters.values.copy_(own)

    # -------------------------------------------------------------------------- state and files

    @torch.no_grad()
    def _model_state(self, values: Tensor) -> dict[str, Tensor]:
        """The model's state dict with these parameters in place of its own."""
        with self._values_replaced_by(values):
            return {k: v.clone() for k, v in self.model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on. The keys are those of checkpoint files."""
        return {
            "settings": asdict(self.settings),
            "model": self._model_state(self.parameters.values),
            "average": self._model_state(self.averaged_values),
            "optimiser": self.optimiser.state_dict(),
            "quantiles": self.quantile_optimiser.state_dict(),
            "plateau": self.plateau.state_dict(),
            "generator": self.sampler.generator.get_state(),
            "random": torch.get_rng_state(),
            "usual": self.clipper.mean_norm,
            "counters": {
                "step": self.step,
                "elapsed": self.elapsed,
                "pixels": self.pixels,
                "lowest": self.lowest_loss,
                "slower": self.rate_factor,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the settings stay those of this run."""
        with torch.no_grad():
            self.model.load_state_dict(state["average"])
            self.averaged_values.copy_(self.parameters.values)
            self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if "plateau" in state:
            self.quantile_optimiser.load_state_dict(state["quantiles"])
            self.plateau.load_state_dict(state["plateau"])
        self.sampler.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        self.clipper.mean_norm.copy_(state["usual"])
        counters = state["counters"]
        self.step, self.pixels = counters["step"], counters["pixels"]
        self.elapsed = counters["elapsed"]
        self.lowest_loss = counters.get("lowest", math.inf)
        self.rate_factor = counters.get("slower", 1.0)
        self.replay.clear()  # the optimiser's tensors are others now

    def save(self, name: str) -> None:
        """Write a checkpoint of this name into the run's folder."""
        save_checkpoint(self.state_dict(), self.folder / name)

    def restore_with_half_the_rate(self) -> None:
        """Return to the last checkpoint after a divergence. Time used stays used."""
        elapsed, rate_factor = self.elapsed, self.rate_factor / 2
        self.load_state_dict(load_checkpoint(self.folder / CHECKPOINT, self.info.name))
        self.elapsed, self.rate_factor = elapsed, rate_factor

    def record(self) -> dict[str, Any]:
        """How the weights were trained, for `training.json` and the manifest."""
        return {
            "settings": asdict(self.settings) | {"data": Path(self.settings.data).name},
            "photographs": len(self.photographs),
            "steps": self.step,
            "minutes": round(self.elapsed / 60, 1),
            "megapixels": round(self.pixels / 1e6),
            "started_from": self.initial_weights.name if self.initial_weights else None,
        }

    def export(self) -> Path:
        """Write the averaged weights and the record of the run; return the path of the weights."""
        write_record(self.record(), self.folder)
        state = self._model_state(self.averaged_values)
        crop = self.settings.decay_crop
        quality = self.settings.quality
        return export_weights(self.info, state, self.photographs, crop, self.folder, quality)


def _qualities(settings: Settings, info: ModelInfo) -> tuple[float, ...]:
    """The qualities that a run is validated at. Raises UsageError where the model does not have the
    quality of the settings, or needs one."""
    if settings.quality is not None:
        return (registry.check_quality(settings.quality, info),)
    if not info.variable_rate:
        raise UsageError(f"{info.name} is trained for one λ: give --lambda or --quality")
    return registry.WHOLE_QUALITIES
