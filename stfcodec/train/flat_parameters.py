"""All parameters of a model in one tensor, and all their gradients in another.

Norms, averages and updates are then a few operations on long vectors instead of several on each of
hundreds of short ones. Weight matrices of one shape lie next to each other, as one batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class WeightGroup:
    """A batch of `count` weight matrices of one shape, at `offset` in a flat tensor.

    A weight is a linear layer (1 tap) or a convolution (height × width taps).
    """

    offset: int
    count: int
    out_channels: int
    taps: int
    in_channels: int

    def view_of(self, flat: Tensor) -> Tensor:
        """The group's part of a flat tensor, as (count, out_channels, taps, in_channels)."""
        size = self.count * self.out_channels * self.taps * self.in_channels
        part = flat[self.offset : self.offset + size]
        return part.view(self.count, self.out_channels, self.taps, self.in_channels)


class FlatParameters:
    """Moves the parameters of a model that require gradients into one float32 tensor.

    The tensor is on their device. Their values and `grad` become views: of `values`, and of
    `gradients`, to which backward passes add. Weights of convolutions are stored channels last.
    """

    def __init__(self, model: nn.Module) -> None:
        by_shape: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
        others: list[nn.Parameter] = []
        layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
        weights = {id(m.weight) for m in model.modules() if isinstance(m, layers)}
        for p in model.parameters():
            if not p.requires_grad:
                continue
            if id(p) in weights and min(p.shape[:2]) > 1:
                by_shape[tuple(p.shape)].append(p)
            else:
                others.append(p)
        ordered = [p for same_shape in by_shape.values() for p in same_shape] + others
        names = {id(p): name for name, p in model.named_parameters()}
        self.sizes = {names[id(p)]: p.numel() for p in ordered}
        """The number of values of each parameter by its name, in the order of the tensor."""
        length = sum(p.numel() for p in ordered)
        device = ordered[0].device
        self.values = torch.empty(length, device=device)
        self.gradients = torch.zeros(length, device=device)
        self.weight_groups: list[WeightGroup] = []
        offset = 0
        for shape, same_shape in by_shape.items():
            out_channels, in_channels, *kernel = shape
            taps = torch.Size(kernel).numel()
            group = WeightGroup(offset, len(same_shape), out_channels, taps, in_channels)
            self.weight_groups.append(group)
            offset += len(same_shape) * torch.Size(shape).numel()
        offset = 0
        for p in ordered:
            part = slice(offset, offset + p.numel())
            value, gradient = (_view(t[part], p.shape) for t in (self.values, self.gradients))
            value.copy_(p.detach())
            p.data, p.grad = value, gradient
            offset = part.stop

    def filled(self, value: Callable[[str], float]) -> Tensor:
        """A tensor in the order of `values`, with one value for each parameter, by its name."""
        sizes = torch.tensor(list(self.sizes.values()), device=self.values.device)
        values = torch.tensor([value(name) for name in self.sizes], device=self.values.device)
        return values.repeat_interleave(sizes)


def _view(flat: Tensor, shape: torch.Size) -> Tensor:
    """A view of this shape, of which four dimensions are stored channels last."""
    if len(shape) != 4:
        return flat.view(shape)
    out_channels, in_channels, *kernel = shape
    return flat.view(out_channels, *kernel, in_channels).permute(0, 3, 1, 2)
