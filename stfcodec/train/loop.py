"""The training loop, with a budget in minutes or in steps.

The learning rate follows a warmup-stable-decay schedule (Hu et al., "MiniCPM", 2024): it rises
over the warm-up, stays constant, and falls to zero over the last part of the budget, the decay.
The state before the decay, the trunk, is saved as `trunk.pt`, from which a later run can continue.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from stfcodec.allocator import keep_freed_memory
from stfcodec.train.checkpoint import CHECKPOINT, TRUNK
from stfcodec.train.log import LOG, LOSS_PLOT, append_row, plot_log
from stfcodec.train.trainer import Trainer

LOG_INTERVAL_S = 30.0
"""Seconds between two rows of the log. Only then is the device waited for."""
DIVERGENCE_RISE = 0.3
"""The run has diverged if the mean loss of a row is higher than the lowest row's by this share, or
NaN."""
_STEADY_MEGAPIXELS = 20.0
"""The rise counts for rows of so many megapixels. The mean of fewer is noisier, and so are the
limits: by the square root of the ratio."""
DIVERGENCE_MIN_STEPS = 8
"""Rows of fewer steps are too noisy to tell."""


def prepare_process(threads: int | None) -> None:
    """Set up a process of its own for training. threads: of the CPU; None: torch's default."""
    if threads is not None:
        torch.set_num_threads(threads)
    # Vanishing gradients pass through the smallest floats, with which CPUs take up to a hundred
    # times as long. Threads inherit this, so it comes before the first of them.
    torch.set_flush_denormal(True)
    keep_freed_memory()


def run_training(
    trainer: Trainer,
    report: Callable[[str], object] = print,
    save_interval_s: float = 600.0,
    export: bool = True,
    after_save: Callable[[], object] = lambda: None,
) -> Path | None:
    """Train until the budget is used, then export the weights, and return the path of their file.

    report: receives each row of the log as a line of text. save_interval_s: seconds between two
    checkpoints; another is saved at the end and on KeyboardInterrupt. export: False: write
    checkpoints and the log only, and return None. after_save: called after each checkpoint.
    """
    folder = trainer.folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _train(trainer, report, save_interval_s, after_save)
    except KeyboardInterrupt:
        trainer.save(CHECKPOINT)
        raise
    if not export:
        return None
    weights = trainer.export()
    if not plot_log(folder / LOG, folder / LOSS_PLOT):
        report(f"no {LOSS_PLOT}: matplotlib is not installed")
    return weights


def _train(
    trainer: Trainer,
    report: Callable[[str], object],
    save_interval_s: float,
    after_save: Callable[[], object],
) -> None:
    folder, epoch = trainer.folder, trainer.settings.epoch or 0
    if not (folder / CHECKPOINT).exists():
        trainer.save(CHECKPOINT)
    step_end = last_save = row_start = time.monotonic()
    sums, steps, pixels_before = torch.zeros(4, device=trainer.device), 0, trainer.pixels
    while trainer.progress < 1:
        is_decay = trainer.progress >= 1 - trainer.settings.decay
        if is_decay and not (folder / TRUNK).exists():
            trainer.save(TRUNK)
        sums += trainer.train_step(is_decay)
        steps += 1
        now = time.monotonic()
        trainer.elapsed, step_end = trainer.elapsed + now - step_end, now
        ends_epoch = epoch > 0 and trainer.step % epoch == 0
        if now - row_start < LOG_INTERVAL_S and trainer.progress < 1 and not ends_epoch:
            continue
        means = (sums / steps).tolist()  # waits for the device
        megapixels = (trainer.pixels - pixels_before) / 1e6
        if _has_diverged(trainer, means[0], steps, megapixels):
            trainer.restore_with_half_the_rate()
            report(f"diverged at loss {means[0]:.3g}: back to step {trainer.step}, half the rate")
        now = time.monotonic()
        speed = megapixels / (now - row_start)
        validation_loss = None
        if ends_epoch or now - last_save >= save_interval_s or trainer.progress >= 1:
            validation_loss = trainer.validate()
            if ends_epoch:
                trainer.plateau.observe(validation_loss)
            trainer.save(CHECKPOINT)
            last_save = now
        row = _log_row(trainer, means, speed, validation_loss)
        append_row(folder / LOG, row)
        report("  ".join(f"{name} {value}" for name, value in row.items()))
        if validation_loss is not None:
            after_save()
        sums, steps, pixels_before = torch.zeros_like(sums), 0, trainer.pixels
        row_start = time.monotonic()
    if not (folder / TRUNK).exists():  # without a decay, or with steps longer than it
        trainer.save(TRUNK)


def _has_diverged(trainer: Trainer, loss: float, steps: int, megapixels: float) -> bool:
    """Whether the mean loss of the last steps is that of a lost model; updates the lowest loss."""
    trainer.lowest_loss = min(trainer.lowest_loss, loss)
    noise = math.sqrt(max(1.0, _STEADY_MEGAPIXELS / megapixels))
    below = loss < (1 + DIVERGENCE_RISE * noise) * trainer.lowest_loss  # False for NaN
    return steps >= DIVERGENCE_MIN_STEPS and not below


def _log_row(
    trainer: Trainer, means: list[float], speed: float, validation_loss: float | None
) -> dict[str, object]:
    """means: of what `Trainer.train_step` returns. speed: megapixels per second."""
    loss, bpp, mse, norm = means
    return {
        "step": trainer.step,
        "minutes": round(trainer.elapsed / 60, 2),
        "megapixels": round(trainer.pixels / 1e6, 1),
        "megapixels_per_s": round(speed, 3),
        "rate": f"{trainer.learning_rate:.2e}",
        "loss": round(loss, 4),
        "bpp": round(bpp, 4),
        "psnr": round(10 * math.log10(255**2 / mse), 2),
        "gradient": round(norm, 2),
        "held_out": "" if validation_loss is None else round(validation_loss, 4),
    }
