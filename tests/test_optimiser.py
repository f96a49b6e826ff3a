"""The optimiser: parameters in one tensor, SOAP's rotations, gradient clipping."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stfcodec.train.clipping import SPIKE_FACTOR, GradientClipper
from stfcodec.train.cuda_graphs import GraphReplay
from stfcodec.train.flat_parameters import FlatParameters
from stfcodec.train.soap import Soap, rotate


class _Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 24, bias=False)
        nn.init.zeros_(self.layer.weight)


def test_soap_learns_correlated_inputs_faster_than_adam() -> None:
    """A regression with strongly correlated inputs, each optimiser at its best of two rates."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    mixing = rotation * torch.logspace(0, -1.5, 16)
    target = torch.randn(24, 16, generator=generator)

    def loss_after(max_width: int, rate: float) -> float:
        generator.manual_seed(1)
        model = _Regression()
        parameters = FlatParameters(model)
        optimiser = Soap(
            parameters,
            GraphReplay(generator),
            max_width=max_width,
            basis_interval=10,
            moment_interval=2,
        )
        for step in range(300):
            x = torch.randn(64, 16, generator=generator) @ mixing.T
            parameters.gradients.zero_()
            (x @ (model.layer.weight - target).T).square().mean().backward()
            optimiser.step(rate * (1 - step / 300))
        return ((model.layer.weight - target) @ mixing).square().sum().item()

    adam, soap = (min(loss_after(max_width, r) for r in (0.1, 0.3)) for max_width in (0, 320))
    assert soap < 0.1 * adam


def test_flat_parameters_hold_every_parameter() -> None:
    """Values, gradients and weight groups are views of the same memory, whatever the shape."""
    model = nn.Sequential(
        nn.Conv2d(6, 5, 3), nn.Linear(7, 4), nn.Conv2d(6, 5, 3), nn.Conv2d(4, 4, 3, groups=4),
        nn.LayerNorm(9),
    )  # fmt: skip
    wanted = [p.detach().clone() for p in model.parameters()]
    parameters = FlatParameters(model)
    for p, want in zip(model.parameters(), wanted, strict=True):
        assert torch.equal(p, want)
    assert [group.count for group in parameters.weight_groups] == [2, 1]
    convolutions = parameters.weight_groups[0].view_of(parameters.values)
    assert torch.equal(convolutions[1], model[2].weight.flatten(2).transpose(1, 2))
    model[2].weight.square().sum().backward()
    assert torch.equal(
        parameters.weight_groups[0].view_of(parameters.gradients)[1], 2 * convolutions[1]
    )
    parameters.values.zero_()
    assert not any(p.any() for p in model.parameters())


def test_soap_rotates_every_shape_of_layer_and_back() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.Conv2d(5, 6, 3), nn.Conv2d(4, 40, 3))
    parameters = FlatParameters(model)
    before = parameters.values.clone()
    optimiser = Soap(parameters, GraphReplay(torch.Generator()), max_width=32)
    parameters.gradients.copy_(before)
    optimiser.step(0.1)
    groups = zip(parameters.weight_groups, optimiser.preconditioners, strict=True)
    for group, preconditioner in groups:
        wanted = {"right"} if group.out_channels > 32 else {"left", "right"}
        assert set(preconditioner) == wanted
        weights = group.view_of(before)
        update = group.view_of(parameters.values) - weights
        assert (update * weights).sum() < 0  # downhill
        rotated = rotate(weights, preconditioner)
        assert not torch.allclose(rotated, weights)
        torch.testing.assert_close(rotate(rotated, preconditioner, back=True), weights)


def test_adam_s_moments_follow_the_bases() -> None:
    """Second moments along the new directions are those of gradients that are uncorrelated along
    the old ones."""
    generator = torch.Generator().manual_seed(0)
    parameters = FlatParameters(nn.Linear(6, 40, bias=False))
    optimiser = Soap(parameters, GraphReplay(generator), max_width=32)
    parameters.gradients.normal_(generator=generator)
    optimiser.step(0.1)
    (group,) = parameters.weight_groups
    moment, basis = optimiser.preconditioners[0]["right"]
    first, second = (
        group.view_of(optimiser.adam.state[optimiser.update][name])
        for name in ("exp_avg", "exp_avg_sq")
    )
    variances = torch.logspace(0, -6, 6)
    second.copy_(variances.expand_as(second))
    covariance = basis[0] @ variances.diag() @ basis[0].T
    gradient = rotate(first, optimiser.preconditioners[0], back=True)
    other = torch.randn(6, 6, generator=generator)
    moment.copy_(other @ other.T)
    before = basis.clone()
    optimiser.steps += 1
    optimiser._update_moments(update_bases=True)
    assert not torch.allclose(basis, before, atol=0.1)
    wanted = (basis[0].T @ covariance @ basis[0]).diagonal()
    torch.testing.assert_close(second, wanted.expand_as(second))
    torch.testing.assert_close(rotate(first, optimiser.preconditioners[0], back=True), gradient)


def test_gradients_are_clipped_relative_to_their_mean_norm() -> None:
    clip = GradientClipper(2.0, torch.device("cpu"))
    direction = torch.tensor([0.6, 0.8])

    def clipped_norm(norm: float) -> float:
        gradients = direction * norm
        assert clip(gradients).item() == pytest.approx(norm, nan_ok=True)
        return gradients.norm().item()

    assert clipped_norm(5.0) == pytest.approx(5)
    assert clip.mean_norm.item() == pytest.approx(5)
    assert clipped_norm(9.0) == pytest.approx(9)
    mean = clip.mean_norm.item()
    assert 5 < mean < 9
    assert clipped_norm(4 * mean) == pytest.approx(2 * mean)
    mean = clip.mean_norm.item()
    for spike in (SPIKE_FACTOR * mean * 1.01, float("inf"), float("nan")):
        assert clipped_norm(spike) == 0
        assert clip.mean_norm.item() == mean


def test_parameters_may_have_rates_of_their_own() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Conv2d(3, 2, 3), nn.Linear(4, 3))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    parameters = FlatParameters(model)
    rates = parameters.filled(lambda name: float(name.split(".")[0]))
    optimiser = Soap(parameters, GraphReplay(torch.Generator()), max_width=0, rates=rates)
    parameters.gradients.fill_(1.0)
    optimiser.step(0.01)
    for name, p in model.named_parameters():
        expected = before[name] - 0.01 * float(name.split(".")[0])
        assert torch.allclose(p, expected, atol=1e-6), name
