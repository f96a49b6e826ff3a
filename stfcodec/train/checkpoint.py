"""Checkpoints of a training run, dictionaries saved by torch.

`last.pt` is where an interrupted run resumes. `trunk.pt` is the state before the decay, from which
a later run can continue.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stfcodec.errors import UsageError
from stfcodec.files import atomic_write

CHECKPOINT, TRUNK = "last.pt", "trunk.pt"


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write what `Trainer.state_dict` returns; an existing file is replaced."""
    with atomic_write(path, overwrite=True) as file:
        torch.save(state, file)


def load_checkpoint(path: Path, model: str) -> dict[str, Any]:
    """Read a checkpoint into CPU memory. Raises UsageError if it is of another model."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state["settings"]["model"] != model:
        raise UsageError(f"{path} is a run of {state['settings']['model']}")
    return state
