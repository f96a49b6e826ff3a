"""Checkpoints for tests: parameters, and one state dict as different programs save it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from small import SMALL as SMALL_WACNN
from torch import Tensor

from stfcodec.models.build import build

SMALL = replace(SMALL_WACNN, id=99)
"""With an id of its own, so that streams name it."""

_TABLES = ("_quantized_cdf", "_cdf_length", "_offset", "scale_table")


def small_state(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return build(SMALL).state_dict()


def filled_state() -> dict[str, Tensor]:
    """Parameters from arithmetic alone, so that they are the same everywhere."""
    state = build(SMALL).state_dict()
    for name, t in state.items():
        if name.endswith(("weight", "bias", "table")) or "._bias" in name:
            noise = torch.arange(t.numel(), dtype=torch.float64) * 7919 % 1009 / 1009 - 0.5
            fan_in = t[0].numel() if t.dim() > 1 else 16
            state[name] = (noise * 3 / fan_in**0.5).float().view_as(t)
    return state


def save(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


def layouts(state: dict[str, Tensor]) -> Iterator[tuple[str, object]]:
    """Pairs of a name and what torch saves. All hold the same parameters."""
    yield "plain", state
    yield "published", {"epoch": 3, "state_dict": state, "loss": torch.tensor(1.0)}
    yield "parallel", {"state_dict": {f"module.{key}": t for key, t in state.items()}}
    yield "compiled", {"state_dict": {f"_orig_mod.module.{key}": t for key, t in state.items()}}
    absent = {key: t for key, t in state.items() if not key.endswith(_TABLES)}
    yield "no tables", {"state_dict": absent}
    stale = {key: torch.full((7, 3), 5) if key.endswith(_TABLES) else t for key, t in state.items()}
    yield "stale tables", {"state_dict": stale}
    network = torch.nn.Linear(2, 2)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, "min")
    plateau.step(1.0)
    yield (
        "optimiser beside it",
        {
            "state_dict": state,
            "optimizer": optimiser.state_dict(),
            "aux_optimizer": optimiser.state_dict(),
            "lr_scheduler": plateau.state_dict(),
        },
    )
    renamed = {}
    for key, t in state.items():
        for old, new in (("matrix", "matrices"), ("bias", "biases"), ("factor", "factors")):
            key = key.replace(f"bottleneck._{old}", f"bottleneck.{new}.")
        renamed[key] = t
    yield "newer compressai", {"state_dict": renamed}
