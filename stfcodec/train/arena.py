"""All parameters of a model in one tensor, all gradients in another.

Norms, averages and updates are then a few operations on long vectors instead of some on each of
hundreds of short ones. Weight matrices of one shape lie side by side, as one batch of matrices.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Matrices(NamedTuple):
    """Where `number` weights of one shape lie, as (number, out, taps, in)."""

    start: int
    number: int
    out: int
    taps: int
    into: int

    def of(self, flat: Tensor) -> Tensor:
        """(number, out, taps, in), a view."""
        size = self.number * self.out * self.taps * self.into
        part = flat[self.start : self.start + size]
        return part.view(self.number, self.out, self.taps, self.into)


class Arena:
    """Moves the parameters of a model, on its device, into one float32 tensor, `values`; what
    backward passes add up lies in `gradients`.

    Weights of convolutions lie channels last.
    """

    def __init__(self, model: nn.Module) -> None:
        kinds: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
        rest: list[nn.Parameter] = []
        layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
        weights = {id(m.weight) for m in model.modules() if isinstance(m, layers)}
        for p in model.parameters():
            if id(p) in weights and min(p.shape[:2]) > 1:
                kinds[tuple(p.shape)].append(p)
            else:
                rest.append(p)
        ordered = [p for same in kinds.values() for p in same] + rest
        length = sum(p.numel() for p in ordered)
        device = ordered[0].device
        self.values = torch.empty(length, device=device)
        self.gradients = torch.zeros(length, device=device)
        self.matrices: list[Matrices] = []
        start = 0
        for shape, same in kinds.items():
            out, into, *kernel = shape
            self.matrices.append(Matrices(start, len(same), out, _product(tuple(kernel)), into))
            start += len(same) * _product(shape)
        start = 0
        for p in ordered:
            place = slice(start, start + p.numel())
            value, gradient = (_view(t[place], p.shape) for t in (self.values, self.gradients))
            value.copy_(p.detach())
            p.data, p.grad = value, gradient
            start = place.stop


def _product(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def _view(flat: Tensor, shape: torch.Size) -> Tensor:
    if len(shape) != 4:
        return flat.view(shape)
    out, into, *kernel = shape
    return flat.view(out, *kernel, into).permute(0, 3, 1, 2)
