"""SOAP: Adam in the eigenbasis of the gradients' second moments, layer by layer.

Rate and distortion pull the same weights in different directions, and Adam, which scales each
weight separately, averages them slowly. In the eigenbasis of a layer's gradients the directions
separate, and each is scaled on its own. Sources: Vyas et al., "SOAP: Improving and Stabilizing
Shampoo using Adam" (2024); for learned image compression: Zhang & Zhu, "Leveraging second-order
curvature for efficient learned image compression" (2026).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stfcodec.train.cuda_graphs import GraphReplay
from stfcodec.train.flat_parameters import FlatParameters, WeightGroup

Preconditioner = dict[str, tuple[Tensor, Tensor]]
"""Of one weight group: "left" (output channels) and "right" (input channels), where that side is
rotated, to the second moments of the gradients and their eigenvectors in columns, each
(count, width, width)."""

_MAX_UPDATE = 2.0
"""Bound of a step's update in the eigenbasis, in multiples of the learning rate."""


class Soap:
    """Adam on flat parameters, in rotated coordinates where a weight has few enough channels.

    With `max_width` 0 nothing is rotated, and it is Adam. No operation waits for the device.
    """

    def __init__(
        self,
        parameters: FlatParameters,
        replay: GraphReplay,
        betas: tuple[float, float] = (0.95, 0.99),
        max_width: int = 320,
        basis_interval: int = 25,
        moment_interval: int = 4,
        rates: Tensor | None = None,
    ) -> None:
        """betas: decay rates of Adam; the second is also that of the second moments.
        max_width: sides with more channels are not rotated, which would cost too much.
        basis_interval: steps between two updates of the eigenvectors.
        moment_interval: steps between two updates of the second moments.
        rates: for each value of `parameters`, a multiple of the learning rate."""
        self.parameters, self.replay, self.beta = parameters, replay, betas[1]
        self.basis_interval, self.moment_interval = basis_interval, moment_interval
        self.steps, self.rates = 0, rates
        values = parameters.values
        # The parameter that Adam sees: 0 before its step, hence the step's update after it.
        self.update = nn.Parameter(torch.zeros_like(values))
        self.update.grad = torch.zeros_like(values)
        self.learning_rate = torch.zeros((), device=values.device)
        self.adam = torch.optim.Adam(
            [self.update],
            self.learning_rate,
            betas,
            fused=True,
            capturable=values.device.type == "cuda",
        )
        self.preconditioners: list[Preconditioner] = []
        for group in parameters.weight_groups:
            preconditioner: Preconditioner = {}
            for side, width in (("left", group.out_channels), ("right", group.in_channels)):
                if width <= max_width:
                    basis = torch.eye(width, device=values.device).repeat(group.count, 1, 1)
                    preconditioner[side] = (torch.zeros_like(basis), basis)
            self.preconditioners.append(preconditioner)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Change the parameters along their gradients."""
        self.steps += 1
        self.learning_rate.fill_(learning_rate)
        if self.steps == 1 or self.steps % self.basis_interval == 0:
            self._update_moments(update_bases=True)
        elif self.steps % self.moment_interval == 1:
            self.replay("moments", self._update_moments)
        self.replay("update", self._update_parameters)

    def _update_parameters(self) -> Tensor:
        """Adam's step in the present eigenbases. Returns the parameters."""
        assert self.update.grad is not None
        gradients = self.parameters.gradients
        rotated = self.update.grad.copy_(gradients)
        for group, preconditioner in self._rotated_groups():
            group.view_of(rotated).copy_(rotate(group.view_of(gradients), preconditioner))
        self.update.zero_()
        self.adam.step()
        if any(self.preconditioners):
            # Where a basis changes much, second moments are estimates, and single updates could be
            # many learning rates long.
            bound = _MAX_UPDATE * self.learning_rate
            self.update.copy_(self.update.clamp(-bound, bound))
        for group, preconditioner in self._rotated_groups():
            update = group.view_of(self.update)
            update.copy_(rotate(update, preconditioner, back=True))
        if self.rates is not None:
            self.update.mul_(self.rates)
        return self.parameters.values.add_(self.update)

    def _rotated_groups(self) -> list[tuple[WeightGroup, Preconditioner]]:
        groups = zip(self.parameters.weight_groups, self.preconditioners, strict=True)
        return [(group, preconditioner) for group, preconditioner in groups if preconditioner]

    def _update_moments(self, update_bases: bool = False) -> Tensor:
        """Average the second moments; optionally rotate the bases towards their eigenvectors.

        Returns the parameters, unchanged.
        """
        for group, preconditioner in self._rotated_groups():
            gradient = group.view_of(self.parameters.gradients)
            self._update_preconditioner(group, preconditioner, gradient, update_bases)
        return self.parameters.values

    def _update_preconditioner(
        self,
        group: WeightGroup,
        preconditioner: Preconditioner,
        gradient: Tensor,
        update_bases: bool,
    ) -> None:
        is_first = self.steps == 1
        weight = 1.0 if is_first else 1 - self.beta**self.moment_interval
        rotations: dict[str, Tensor] = {}
        for side, (moment, basis) in preconditioner.items():
            rows = gradient if side == "left" else gradient.transpose(1, 3)
            rows = rows.flatten(2)
            moment.lerp_(rows @ rows.transpose(1, 2), weight)
            if is_first:
                basis.copy_(_eigenvectors(moment))
            elif update_bases:
                iterated = _iterate_basis(moment, basis)
                rotations[side] = basis.transpose(1, 2) @ iterated
                basis.copy_(iterated)
        if rotations:
            # In the new basis a direction's variance is the mean of the old ones', weighted by the
            # squared cosines between old and new directions.
            moments = self.adam.state[self.update]
            for name, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
                moment = group.view_of(moments[name])
                moment.copy_(_multiply(moment, {k: r**power for k, r in rotations.items()}))

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on besides parameters and gradients."""
        return {
            "steps": self.steps,
            "adam": self.adam.state_dict(),
            "sides": [{k: list(v) for k, v in p.items()} for p in self.preconditioners],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, possibly on another device."""
        self.steps = state["steps"]
        self.adam.load_state_dict(state["adam"])
        device = self.update.device
        capturable = device.type == "cuda"
        self.adam.param_groups[0].update(lr=self.learning_rate, capturable=capturable)
        self.preconditioners = [
            {k: (moment.to(device), basis.to(device)) for k, (moment, basis) in p.items()}
            for p in state["sides"]
        ]


def rotate(x: Tensor, preconditioner: Preconditioner, back: bool = False) -> Tensor:
    """x (count, out_channels, taps, in_channels) in the eigenbases: leftᵀ · x · right.

    With `back`, the inverse.
    """
    matrices = {
        side: basis.transpose(1, 2) if back else basis
        for side, (_, basis) in preconditioner.items()
    }
    return _multiply(x, matrices)


def _multiply(x: Tensor, matrices: dict[str, Tensor]) -> Tensor:
    """x (n, out, taps, in) as leftᵀ · x · right, with the matrices that are given."""
    if "left" in matrices:
        x = (matrices["left"].transpose(1, 2) @ x.flatten(2)).view(x.shape)
    if "right" in matrices:
        x = (x.flatten(1, 2) @ matrices["right"]).view(x.shape)
    return x


def _iterate_basis(moment: Tensor, basis: Tensor) -> Tensor:
    """One orthogonal iteration: the new basis, largest eigenvalue first."""
    product = moment @ basis
    order = (basis * product).sum(1).argsort(1, descending=True)
    return torch.linalg.qr(product.gather(2, order[:, None, :].expand_as(product)))[0]


def _eigenvectors(moment: Tensor) -> Tensor:
    """Eigenvectors in columns, largest eigenvalue first. (n, width, width) -> the same.

    The gradient of one batch may be of low rank or zero, hence the normalisation and the small
    multiple of the identity.
    """
    trace = moment.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-30)
    normalised = moment.double() / trace[:, None, None]
    normalised.diagonal(dim1=1, dim2=2).add_(1e-6)
    return torch.linalg.eigh(normalised)[1].flip(2).to(moment.dtype).contiguous()
