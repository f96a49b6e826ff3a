"""Transforms that lean with quality.

One g_a for all qualities has to choose: where bits are dear it should leave out what costs more
than it shows, where they are cheap keep everything. So each parameter of the transforms is a
straight line over quality, p + lean(q)·tilt: one network at run time, two to store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from stfcodec.models.registry import MAX_QUALITY, MIN_QUALITY


def lean(quality: Tensor | float) -> Tensor | float:
    """−½ at the lowest quality, ½ at the highest."""
    return (quality - (MAX_QUALITY + MIN_QUALITY) / 2) / (MAX_QUALITY - MIN_QUALITY)


class Tilt(nn.Module):
    """By how much the parameters of the transforms differ between the highest and the lowest
    quality: one tensor each, called as the parameter is, with / for the dots; 0 at first."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, p in parameters.items():
            self.register_parameter(name.replace(".", "/"), nn.Parameter(torch.zeros_like(p)))

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """The names of the parameters, and what is added to them."""
        for name, slope in self.named_parameters():
            yield name.replace("/", "."), slope


@contextmanager
def replaced(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the named parameters are these tensors, through which gradients pass."""
    places = {name: _place(model, name) for name in values}
    kept = {name: holder[key] for name, (holder, key) in places.items()}
    try:
        for name, (holder, key) in places.items():
            holder[key] = values[name]  # type: ignore[assignment]
        yield
    finally:
        for name, (holder, key) in places.items():
            holder[key] = kept[name]


def _place(model: nn.Module, name: str) -> tuple[dict[str, nn.Parameter | None], str]:
    path, _, key = name.rpartition(".")
    return model.get_submodule(path)._parameters, key
