"""One state dict as different programs save it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_TABLES = ("_quantized_cdf", "_cdf_length", "_offset", "scale_table")


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
