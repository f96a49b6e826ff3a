"""What a trained codec of the study gives on pictures: rate, distortion, and where the bits go."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ablation.runs import Run
from benchmarks.ablation.study import trained
from stfcodec.bits import per_position, share_of_top_tenth
from stfcodec.files import write_bytes
from stfcodec.geometry import DOWNSAMPLING_Y, DOWNSAMPLING_Z
from stfcodec.metrics import psnr
from stfcodec.models.base import CompressionModel
from stfcodec.train.export import TRAINING_RECORD
from stfcodec.train.log import LOG

QUALITIES = (1.0, 2.5, 4.0, 5.5)
ALLOCATION_QUALITY = 2.5
"""Where the distribution of bits is measured."""
MEASURED = "measured.json"


def measure(out: Path, run: Run, pictures: Sequence[np.ndarray], name: str) -> dict[str, Any]:
    """The record of a finished run, kept in its folder.

    pictures: uint8 (H, W, 3), sides multiples of 64. name: of the set of pictures.
    """
    folder = out / run.name
    pixels = sum(picture[..., 0].size for picture in pictures)
    path = folder / MEASURED
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if (found["set"], found["pictures"], found["pixels"]) == (name, len(pictures), pixels):
            return found
    model = trained(folder, run)
    training = json.loads((folder / TRAINING_RECORD).read_text(encoding="utf-8"))
    log = read_log(folder)
    record = {
        **asdict(run),
        "parameters": sum(p.numel() for p in model.parameters()),
        "kmac_per_pixel": _kmac_per_pixel(model, pictures[0]),
        "steps": training["steps"],
        "megapixels": training["megapixels"],
        "minutes": training["minutes"],
        "decay": training["settings"]["decay"],
        "held_out": float(log[-1]["held_out"]),
        "training_loss": [(int(row["step"]), float(row["loss"])) for row in log],
        "set": name,
        "pictures": len(pictures),
        "pixels": pixels,
        **_on_pictures(model, pictures),
    }
    write_bytes(path, json.dumps(record, indent=1).encode(), overwrite=True)
    return record


def read_log(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's log, without those of steps that were done again after a break."""
    with (folder / LOG).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept: list[dict[str, str]] = []
    for row in rows:
        while kept and int(kept[-1]["step"]) >= int(row["step"]):
            kept.pop()
        kept.append(row)
    return kept


@torch.inference_mode()
def _on_pictures(model: CompressionModel, pictures: Sequence[np.ndarray]) -> dict[str, Any]:
    """Mean bpp of range-coded latents and mean PSNR at each quality, and the share of the bits
    that the tenth of the positions with the most bits, and with the most detail, takes."""
    bpp: dict[float, list[float]] = {quality: [] for quality in QUALITIES}
    decibels: dict[float, list[float]] = {quality: [] for quality in QUALITIES}
    most_bits, most_detail = [], []
    for pixels in pictures:
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        size = pixels.shape[0] // DOWNSAMPLING_Z, pixels.shape[1] // DOWNSAMPLING_Z
        y = model.analysis(x)
        for quality in QUALITIES:
            coded = model.compress(y, quality)
            x_hat = model.synthesis(model.decompress(coded, size, quality), quality)
            decoded = x_hat[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
            bpp[quality].append(8 * (len(coded.y) + len(coded.z)) / pixels[..., 0].size)
            decibels[quality].append(psnr(pixels, decoded))
            if quality == ALLOCATION_QUALITY:
                bits = per_position(*model.bits_per_position(coded, size, quality))
                most_bits.append(share_of_top_tenth(bits, bits))
                most_detail.append(share_of_top_tenth(bits, detail(pixels)))
    return {
        "points": [
            {"quality": q, "bpp": round(mean(bpp[q]), 5), "psnr": round(mean(decibels[q]), 4)}
            for q in QUALITIES
        ],
        "share_of_most_bits": round(mean(most_bits), 4),
        "share_of_most_detail": round(mean(most_detail), 4),
    }


def detail(pixels: np.ndarray) -> np.ndarray:
    """How much happens at each latent position: the standard deviation of its pixels, (h, w)."""
    side = DOWNSAMPLING_Y
    gray = pixels.astype(np.float64).mean(2)
    height, width = (n // side for n in gray.shape)
    return gray.reshape(height, side, width, side).std((1, 3))


def _kmac_per_pixel(model: CompressionModel, pixels: np.ndarray) -> float:
    """Thousand multiply-accumulates per pixel of g_a and g_s together."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.synthesis(model.analysis(x))
    return round(counter.get_total_flops() / 2 / x[0, 0].numel() / 1e3, 1)
