"""SOAP: Adam in the eigenbasis of the gradients' second moments, layer by layer.

Rate and distortion pull at the same weights in different directions, and Adam, which looks at one
weight at a time, averages them slowly. In the eigenbasis of what the gradients of a layer have in
common the directions come apart, and each gets a step of its own size. Source: Vyas et al.,
"SOAP: Improving and stabilizing Shampoo using Adam" (2024); for learned image compression: Zhang &
Zhu, "Leveraging second-order curvature for efficient learned image compression" (2026).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stfcodec.train.arena import Arena, Matrices
from stfcodec.train.replay import Replay

_Sides = dict[str, tuple[Tensor, Tensor]]
"""left and right, where a side is rotated: second moments and basis, each (count, width, width)."""


_LONGEST = 2.0
"""Rates that a step moves a parameter, in its basis, at most."""


class Soap:
    """Adam on an arena's values, rotated where `largest` allows: with `largest` 0, plain Adam.

    Nothing here waits for the device.
    """

    def __init__(
        self,
        arena: Arena,
        replay: Replay,
        betas: tuple[float, float] = (0.95, 0.99),
        largest: int = 320,
        renew: int = 25,
        statistics: int = 4,
    ) -> None:
        """largest: a side with more channels keeps its own basis, as rotating it would cost too
        much. renew: steps between two looks at the bases; statistics: between two samples of the
        second moments."""
        self.arena, self.replay, self.beta = arena, replay, betas[1]
        self.renew, self.every = renew, statistics
        self.steps = 0
        # What Adam moves is 0 before each step and its update, rotated, after it.
        self.moved = nn.Parameter(torch.zeros_like(arena.values))
        self.moved.grad = torch.zeros_like(arena.values)
        device = arena.values.device
        self.rate = torch.zeros((), device=device)
        self.adam = torch.optim.Adam(
            [self.moved], self.rate, betas, fused=True, capturable=device.type == "cuda"
        )
        self.sides: list[_Sides] = []
        for m in arena.matrices:
            sides: _Sides = {}
            for side, width in (("left", m.out), ("right", m.into)):
                if width <= largest:
                    eye = torch.eye(width, device=arena.values.device)
                    basis = eye.repeat(m.number, 1, 1)
                    sides[side] = (torch.zeros_like(basis), basis)
            self.sides.append(sides)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step along the gradients."""
        self.steps += 1
        self.rate.fill_(rate)
        renewing = self.steps == 1 or self.steps % self.renew == 0
        if renewing or self.steps % self.every == 1:
            if renewing:
                self._watch(renewing)
            else:
                self.replay("watch", self._watch)
        self.replay("update", self._update)

    def _update(self) -> Tensor:
        """Adam in the bases of today. Returns the values."""
        assert self.moved.grad is not None
        rotated = self.moved.grad.copy_(self.arena.gradients)
        for m, sides in zip(self.arena.matrices, self.sides, strict=True):
            if sides:
                m.of(rotated).copy_(_rotate(m.of(self.arena.gradients), sides))
        self.moved.zero_()
        self.adam.step()
        # Momentum turns with the bases, second moments do not: along a direction that was quiet in
        # the old basis Adam's step would be hundreds of rates long.
        self.moved.copy_(self.moved.clamp(-_LONGEST * self.rate, _LONGEST * self.rate))
        for m, sides in zip(self.arena.matrices, self.sides, strict=True):
            if sides:
                update = m.of(self.moved)
                update.copy_(_rotate(update, sides, back=True))
        return self.arena.values.add_(self.moved)

    def _watch(self, renewing: bool = False) -> Tensor:
        """Averages the second moments; `renewing` turns the bases towards their eigenvectors."""
        for m, sides in zip(self.arena.matrices, self.sides, strict=True):
            if sides:
                self._watch_matrices(m, sides, m.of(self.arena.gradients), renewing)
        return self.arena.values

    def _watch_matrices(self, m: Matrices, sides: _Sides, gradient: Tensor, renewing: bool) -> None:
        first = self.steps == 1
        weight = 1.0 if first else 1 - self.beta**self.every
        old = {k: (m2, basis.clone() if renewing else basis) for k, (m2, basis) in sides.items()}
        for side, (moment, basis) in sides.items():
            rows = gradient if side == "left" else gradient.transpose(1, 3)
            rows = rows.flatten(2)
            moment.lerp_(rows @ rows.transpose(1, 2), weight)
            if first:
                basis.copy_(_eigenvectors(moment))
            elif renewing:
                basis.copy_(self._improve(m, side, moment, basis))
        if renewing and not first:
            mean = m.of(self.adam.state[self.moved]["exp_avg"])
            mean.copy_(_rotate(_rotate(mean, old, back=True), sides))

    def _improve(self, m: Matrices, side: str, moment: Tensor, basis: Tensor) -> Tensor:
        """One step of orthogonal iteration, largest eigenvalue first; the squares follow the
        order."""
        moved = moment @ basis
        order = (basis * moved).sum(1).argsort(1, descending=True)
        square = m.of(self.adam.state[self.moved]["exp_avg_sq"])
        if side == "left":
            square.copy_(square.gather(1, order[:, :, None, None].expand_as(square)))
        else:
            square.copy_(square.gather(3, order[:, None, None, :].expand_as(square)))
        return torch.linalg.qr(moved.gather(2, order[:, None, :].expand_as(moved)))[0]

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "adam": self.adam.state_dict(),
            "sides": [{k: list(v) for k, v in s.items()} for s in self.sides],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self.adam.load_state_dict(state["adam"])
        # A checkpoint may come from another device, whose Adam has its rate elsewhere.
        device = self.moved.device
        self.adam.param_groups[0].update(lr=self.rate, capturable=device.type == "cuda")
        self.sides = [
            {k: (a.to(device), b.to(device)) for k, (a, b) in s.items()} for s in state["sides"]
        ]


def _rotate(x: Tensor, sides: _Sides, back: bool = False) -> Tensor:
    """x (n, out, taps, in) into the bases, leftᵀ · x · right, or back."""
    if "left" in sides:
        left = sides["left"][1]
        x = ((left if back else left.transpose(1, 2)) @ x.flatten(2)).view(x.shape)
    if "right" in sides:
        right = sides["right"][1]
        x = (x.flatten(1, 2) @ (right.transpose(1, 2) if back else right)).view(x.shape)
    return x


def _eigenvectors(moment: Tensor) -> Tensor:
    """Columns, largest eigenvalue first. One batch's gradient may be of low rank, or zero."""
    trace = moment.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-30)
    share = moment.double() / trace[:, None, None]
    share.diagonal(dim1=1, dim2=2).add_(1e-6)
    return torch.linalg.eigh(share)[1].flip(2).to(moment.dtype).contiguous()
