"""Settings of one training run.

The field names are part of the format of `training.json` and of checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stfcodec.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """One training run: a model, a folder of photographs, a budget and the hyperparameters.

    Raises UsageError where a value is out of its range.
    """

    model: str
    """Name of a model."""
    data: str
    """Folder of the photographs."""
    minutes: float | None = 30.0
    """Budget in minutes of training time; None: `steps` is the budget."""
    steps: int | None = None
    """Budget in optimiser steps; None: `minutes` is the budget. Steps are reproducible."""
    rate: float = 1e-3
    """Learning rate between warm-up and decay."""
    entropy_rate: float = 1.0
    """Learning rate of all but the transforms, as a multiple of `rate`. Convolutions with many
    inputs need a lower rate than the entropy model does, where no parametrisation evens that out.
    """
    warmup: int = 200
    """Steps over which the learning rate rises linearly."""
    decay: float = 0.4
    """Share of the budget over which the learning rate falls linearly to zero, in 0…1."""
    epoch: int | None = None
    """Steps between two validations; where the last few brought no lower loss, the learning rate
    falls (`plateau.Plateau`). None: it does not, and validations come with checkpoints."""
    batch: int = 4
    """Crops per step."""
    crop: int = 256
    """Side of a crop in pixels, a multiple of 64."""
    decay_crop: int = 256
    """Side of a crop during the decay; the batch then keeps the number of pixels per step."""
    synthetic: float = 0.04
    """Synthetic pictures as a share of the photographs' area."""
    shrunk: float = 0.0
    """Photographs are also trained on at this scale (0: at full size only). Downscaling removes
    most of the artefacts of lossy sources."""
    flat: float = 0.15
    """Share of the crops onto which a rectangle of one colour is pasted."""
    flat_weight: float = 6.0
    """Additional weight of the squared error on blocks of one colour, where errors are most
    visible."""
    clip: float = 2.0
    """Gradients are clipped to this multiple of the running mean of their norm."""
    clip_norm: float | None = None
    """Gradients are clipped to this norm instead, and none is dropped."""
    ema: float = 0.998
    """Decay per step of the exponential moving average of the parameters."""
    optimiser: str = "soap"
    """"soap" or "adam"."""
    betas: tuple[float, float] = (0.95, 0.99)
    """Decay rates of the optimiser's first and second moments."""
    auxiliary_rate: float = 0.0
    """Learning rate of Adam for the quantiles of z, which have a loss of their own. 0: they stay
    until the export, which fits them."""
    quality: float | None = None
    """Train at this one quality, 1…6; None: at all of them, for models of variable rate."""
    part: str | None = None
    """Train only "g_a" or "g_s" and freeze the rest, which computes as in coding; None: train the
    whole model."""
    device: str = "cpu"
    bf16: bool = True
    """Networks compute in bfloat16, except in some steps of the decay."""
    compile: bool = False
    """Use torch.compile."""
    limit: int | None = None
    """At most this many photographs."""
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise UsageError("give a training budget either in minutes or in steps")
        if self.optimiser not in ("soap", "adam"):
            raise UsageError(f"unknown optimiser {self.optimiser!r}; choose soap or adam")
        if self.part not in (None, "g_a", "g_s"):
            raise UsageError(f"unknown part {self.part!r}; choose g_a or g_s")
        for name, size in (("crop", self.crop), ("decay crop", self.decay_crop)):
            if size % 64 or size <= 0:
                raise UsageError(f"{name} {size} is not a positive multiple of 64")


_PAPER_PICTURES = 300_000
"""An epoch of the authors' training."""
PAPER_STEPS = 1_800_000
"""Steps of the authors' training: about 100 epochs of 16 pictures a step."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "optimiser": "adam",
        "rate": 1e-4,
        "betas": (0.9, 0.999),
        "warmup": 1,
        "decay": 0.0,
        "epoch": _PAPER_PICTURES // 16,
        "batch": 16,
        "crop": 256,
        "decay_crop": 256,
        "synthetic": 0.0,
        "flat": 0.0,
        "flat_weight": 0.0,
        "clip_norm": 1.0,
        "ema": 0.0,
        "auxiliary_rate": 1e-3,
        "bf16": False,
    }
}
"""Settings of known recipes by name, without a budget. "paper" is that of the authors of WACNN and
STF."""
