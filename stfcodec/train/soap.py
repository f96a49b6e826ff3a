"""SOAP: Adam in the eigenbasis of the gradients' second moments, layer by layer.

Rate and distortion pull at the same weights in different directions, and Adam, which looks at one
weight at a time, averages them slowly. In the eigenbasis of what the gradients of a layer have in
common the directions come apart, and each gets a step of its own size. Source: Vyas et al.,
"SOAP: Improving and stabilizing Shampoo using Adam" (2024); for learned image compression: Zhang &
Zhu, "Leveraging second-order curvature for efficient learned image compression" (2026).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_LARGEST = 256
"""A side with more channels keeps its own basis: rotating it would cost more than the step."""

_EVERY = 10
"""Steps between two looks at the basis."""

_STATISTICS = 2
"""Steps between two samples of the second moments."""

_EPS = 1e-8


class Soap(torch.optim.Optimizer):
    """Adam; the weights of convolutions and linear layers are seen as (out, taps, in) and rotated.

    parameters: all of them. rotated: those with two channel sides, (a, b) or (a, b, k, k). State
    is tensors only, so that checkpoints load with weights_only.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        rotated: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.99),
    ) -> None:
        chosen = {id(p) for p in rotated}
        groups: list[dict] = [{"params": [], "rotate": True}, {"params": [], "rotate": False}]
        for p in parameters:
            groups[id(p) not in chosen]["params"].append(p)
        super().__init__([g for g in groups if g["params"]], {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step along the gradients that are there."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    gradient = _matrices(p.grad) if group["rotate"] else p.grad
                    update = self._update(self.state[p], gradient, group["betas"])
                    p.sub_(_weights(update, p) if group["rotate"] else update, alpha=group["lr"])

    @staticmethod
    def _update(state: dict, gradient: Tensor, betas: tuple[float, float]) -> Tensor:
        """Adam's update of one parameter, in its basis, turned back."""
        if not state:
            state["step"] = torch.zeros(())
            state["mean"] = torch.zeros_like(gradient)
            state["square"] = torch.zeros_like(gradient)
        state["step"] += 1
        step = int(state["step"])
        if gradient.ndim == 3:
            _watch(state, gradient, step, betas[1])
            gradient = _rotate(gradient, state)
        mean = state["mean"].lerp_(gradient, 1 - betas[0])
        square = state["square"].lerp_(gradient.square(), 1 - betas[1])
        scale = (1 - betas[1] ** step) ** 0.5 / (1 - betas[0] ** step)
        update = mean / square.sqrt().add_(_EPS) * scale
        return _rotate(update, state, back=True) if update.ndim == 3 else update


def _matrices(weight: Tensor) -> Tensor:
    """(a, b) or (a, b, k, k) -> (a, k·k, b); no copy where it is channels-last."""
    return weight.flatten(2).transpose(1, 2) if weight.ndim == 4 else weight[:, None]


def _weights(matrices: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_matrices`, in the shape of `like`."""
    return matrices.transpose(1, 2).reshape(like.shape) if like.ndim == 4 else matrices[:, 0]


def _rotate(x: Tensor, state: dict, back: bool = False) -> Tensor:
    """x (a, taps, b) into the basis, leftᵀ · x · right, or back; a side without a basis stays."""
    left, right = state.get("left_basis"), state.get("right_basis")
    if back:
        left, right = (None if q is None else q.T for q in (left, right))
    if left is not None:
        x = (left.T @ x.reshape(len(x), -1)).view(x.shape)
    return x if right is None else x @ right


def _watch(state: dict, gradient: Tensor, step: int, beta: float) -> None:
    """Averages the second moments of both sides; turns the basis towards their eigenvectors."""
    renew = step % _EVERY == 0
    if step > 1 and step % _STATISTICS and not renew:
        return
    new: dict[str, Tensor] = {}
    for side, dim in (("left", 0), ("right", 2)):
        if gradient.shape[dim] > _LARGEST or gradient.shape[dim] < 2:
            continue
        rows = gradient.movedim(dim, 0).flatten(1)
        moment = rows @ rows.T
        if step == 1:
            state[f"{side}_moment"] = moment
            state[f"{side}_basis"] = _eigenvectors(moment)
        else:
            state[f"{side}_moment"].lerp_(moment, 1 - beta**_STATISTICS)
            if renew:
                new[side] = _improve(state, side, dim)
    if new:
        mean = _rotate(state["mean"], state, back=True)
        state.update({f"{side}_basis": basis for side, basis in new.items()})
        state["mean"] = _rotate(mean, state)


def _eigenvectors(moment: Tensor) -> Tensor:
    """Columns, largest eigenvalue first. One batch's gradient may be of low rank, or zero."""
    share = moment.double() / moment.trace().clamp(min=1e-30)
    share.diagonal().add_(1e-6)
    return torch.linalg.eigh(share)[1].flip(1).to(moment.dtype).contiguous()


def _improve(state: dict, side: str, dim: int) -> Tensor:
    """One step of orthogonal iteration, largest eigenvalue first; the squares follow the order."""
    moment, basis = state[f"{side}_moment"], state[f"{side}_basis"]
    moved = moment @ basis
    order = (basis * moved).sum(0).argsort(descending=True)
    state["square"] = state["square"].index_select(dim, order)
    return torch.linalg.qr(moved[:, order])[0]
