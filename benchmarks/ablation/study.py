"""Training the runs of the study: how long each takes, from what it starts, what it gives."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.ablation.initialise import initialise
from benchmarks.ablation.networks import build, describe
from benchmarks.ablation.runs import Run, all_runs
from stfcodec.errors import UsageError
from stfcodec.files import OutputExistsError, write_bytes
from stfcodec.models.base import CompressionModel
from stfcodec.models.registry import ModelInfo
from stfcodec.train.checkpoint import CHECKPOINT, load_checkpoint
from stfcodec.train.data import centre_crops, load_photographs, split_held_out
from stfcodec.train.export import TRAINING_RECORD, write_record
from stfcodec.train.loop import run_training
from stfcodec.train.settings import Settings
from stfcodec.train.trainer import Trainer

STEPS = "steps.json"
_SIDE = 256
_INITIAL_CROPS, _INITIAL_SIDE = 48, 192
_TIMED_STEPS, _TIMED_ROUNDS = 25, 3
_FEWEST = 10
_SAVE_INTERVAL_S = 120.0


def settings(data: Path, steps: int, seed: int, device: str) -> Settings:
    """The settings of every run, from probes of the hyperprior without attention."""
    return Settings(
        model="",
        data=str(data),
        minutes=None,
        steps=steps,
        rate=1e-4,
        entropy_rate=10.0,
        warmup=30,
        decay=0.4,
        batch=2,
        crop=_SIDE,
        decay_crop=_SIDE,
        flat=0.0,
        flat_weight=0.0,
        ema=0.99,
        device=device,
        seed=seed,
    )


class Study:
    """The runs on one folder of photographs; all files are below the folder `out`."""

    def __init__(self, data: Path, out: Path, minutes: float, device: str, threads: int) -> None:
        """minutes: of training for each run, on `device` or on so many CPU threads.

        Raises UsageError where `data` has fewer than ten photographs, of which one is held out, and
        where `out` is of a study of other minutes, device or threads.
        """
        self.data, self.out, self.minutes, self.device = data, out, minutes, device
        self.budget = {"minutes": minutes, "device": device, "threads": threads}
        self.photographs = load_photographs(data, _SIDE)
        if len(self.photographs) < _FEWEST:
            raise UsageError(f"{data}: {len(self.photographs)} photographs; give {_FEWEST} or more")
        out.mkdir(parents=True, exist_ok=True)
        if (out / STEPS).exists():
            self.steps()

    def steps(self) -> dict[str, int]:
        """Steps of each codec, "wacnn-window" and so on, that take the minutes on this machine.

        They are measured once, with all codecs taking turns, and kept. A budget in steps does not
        depend on what else the machine does meanwhile, and makes a run reproducible.
        """
        path = self.out / STEPS
        if not path.exists():
            seconds = self._seconds_per_step()
            steps = {name: round(60 * self.minutes / s) for name, s in seconds.items()}
            record = {**self.budget, "seconds_per_step": seconds, "steps": steps}
            with suppress(OutputExistsError):  # another process was faster: its steps count
                write_bytes(path, json.dumps(record, indent=1).encode(), overwrite=False)
        stored = json.loads(path.read_text(encoding="utf-8"))
        for name, value in self.budget.items():
            if stored[name] != value:
                raise UsageError(
                    f"{path} is of a study with {name} {stored[name]}, not {value}: name another "
                    f"--out, or give it again"
                )
        found: dict[str, int] = stored["steps"]
        return found

    def train(self, run: Run, report: Callable[[str], object]) -> None:
        """Train one run, from where it was broken off if it was. A finished one stays.

        report: receives each row of the log, as of `run_training`.
        """
        folder = self.out / run.name
        if (folder / TRAINING_RECORD).exists():
            return
        steps = self.steps()[run.codec]
        trainer = self._trainer(run, steps, folder, self.photographs)
        run_training(
            trainer,
            lambda row: report(f"{run.name}  {row}"),
            save_interval_s=_SAVE_INTERVAL_S,
            export=False,
        )
        write_record(trainer.record(), folder)

    def _trainer(self, run: Run, steps: int, folder: Path, photographs: list[Tensor]) -> Trainer:
        trained_on, _ = split_held_out(photographs)

        def network(_: ModelInfo) -> CompressionModel:
            """All kinds of one seed start as the same codec, and get the same noise."""
            plain, model = build(run.base, "none"), build(run.base, run.attention)
            if not (folder / CHECKPOINT).exists():
                torch.manual_seed(run.seed)
                initialise(plain, centre_crops(trained_on, _INITIAL_SIDE, _INITIAL_CROPS))
                model.load_state_dict(plain.state_dict(), strict=False)
                torch.manual_seed(run.seed)
            return model

        chosen = replace(settings(self.data, steps, run.seed, self.device), model=run.name)
        return Trainer(chosen, folder, None, describe(run.name), network, photographs)

    def _seconds_per_step(self) -> dict[str, float]:
        """Medians over rounds in which every codec does some optimiser steps."""
        with TemporaryDirectory() as scratch:
            trainers = {
                run.codec: self._trainer(run, 1000, Path(scratch) / run.name, self.photographs[:64])
                for run in all_runs(1)
            }
            times: dict[str, list[float]] = {codec: [] for codec in trainers}
            for _ in range(_TIMED_ROUNDS):
                for codec, trainer in trainers.items():
                    trainer.train_step(False)  # fills the caches
                    times[codec].append(_mean_seconds(trainer))
        return {codec: round(median(found), 4) for codec, found in times.items()}


def _mean_seconds(trainer: Trainer) -> float:
    """Seconds of an optimiser step. SOAP's bases are updated in every 25th."""
    start = time.perf_counter()
    for _ in range(_TIMED_STEPS):
        loss = trainer.train_step(False)
    float(loss[0])  # waits for the device
    return (time.perf_counter() - start) / _TIMED_STEPS


def trained(folder: Path, run: Run) -> CompressionModel:
    """The averaged parameters of a finished run, with CDF tables, on the CPU."""
    model = build(run.base, run.attention)
    model.load_state_dict(load_checkpoint(folder / CHECKPOINT, run.name)["average"])
    model.entropy_bottleneck.fit_quantiles()
    model.update()
    return model.eval().requires_grad_(False)
