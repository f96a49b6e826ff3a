"""The sample pictures that come with the program, as crops to calibrate on and pictures to measure.

`pictures/README.md` names their sources.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stfcodec.imageio import read_picture

_FOLDER = Path(__file__).parent / "pictures"


def calibration_batches() -> list[Tensor]:
    """20 batches of one crop (1, 3, 256, 256), float32 in 0…1."""
    return [
        torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        for pixels in _pictures("calibrate")
    ]


def measured_pictures() -> list[np.ndarray]:
    """4 pictures (256, 256, 3) uint8, on which nothing is calibrated."""
    return _pictures("measure")


def _pictures(kind: str) -> list[np.ndarray]:
    return [read_picture(path).pixels for path in sorted(_FOLDER.glob(f"{kind}-*.webp"))]
