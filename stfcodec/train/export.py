"""What a finished run leaves behind: a weights file, and `training.json`, the run's record.

The record goes into the manifest of the embedded weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from stfcodec.files import write_bytes
from stfcodec.models import locate, weights
from stfcodec.models.build import build
from stfcodec.models.coding_tables import CALIBRATION_BATCHES, fit_for_coding
from stfcodec.models.registry import ModelInfo
from stfcodec.train.data import calibration_crops

TRAINING_RECORD = "training.json"


def write_record(record: dict[str, Any], folder: Path) -> None:
    """Write what `Trainer.record` returns into `folder`."""
    text = json.dumps(record, indent=1) + "\n"
    write_bytes(folder / TRAINING_RECORD, text.encode(), overwrite=True)


def export_weights(
    info: ModelInfo,
    state: dict[str, Tensor],
    photographs: list[Tensor],
    crop: int,
    folder: Path,
    quality: float | None = None,
) -> Path:
    """Write a weights file that the codec can load into `folder`; return its path.

    state: the trained parameters, other entries are optional. photographs: (H, W, 3) uint8, from
    which crops of `crop`² pixels are cut; the integer form of the entropy networks and the CDF
    tables of y are fitted to these. The quantiles of z are fitted to its density.
    quality: of a model with a weights file for each quality.
    """
    model = build(info)
    model.load_state_dict(state, strict=False)
    model.eval()
    fit_for_coding(model, calibration_crops(photographs, crop, CALIBRATION_BATCHES))
    path = folder / locate.file_name(info, quality or 1)
    weights.save(model, path, locate.describe(info, quality or 1, "stfcodec train"))
    return path
