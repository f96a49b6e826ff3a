"""Finding and restarting networks that have fallen silent.

GELU passes neither signal nor gradient where its input is far below zero. A unit that big steps have
pushed there for every input never comes back, and a network whose units all are there says the same
thing about every picture. The loss does not tell: it just stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from stfcodec.models.entropy_model import CompressionModel

_SILENT_BELOW = -3.0
"""GELU's slope there is −0.012, and vanishes fast beyond."""
_RARE = 0.01
"""A unit that speaks at fewer positions than this counts as silent."""


def silent_shares(model: CompressionModel, x: Tensor, quality: Tensor) -> dict[str, float]:
    """For each hyper-synthesis and context network the largest share, over its hidden layers, of
    units that are silent at every position of x (B, 3, H, W) at quality (B,)."""
    shares: dict[str, float] = {}
    hooks = []
    for name, network in _networks(model):
        shares[name] = 0.0

        def note(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            heard = (inputs[0] > _SILENT_BELOW).float().mean((0, 2, 3))
            silent = (heard < _RARE).float().mean().item()
            shares[name] = max(shares[name], silent)

        for layer in network:
            if isinstance(layer, nn.GELU):
                hooks.append(layer.register_forward_pre_hook(note))
    _run(model, x, quality)
    for hook in hooks:
        hook.remove()
    return shares


@torch.no_grad()
def revive(model: CompressionModel, x: Tensor, quality: Tensor) -> list[str]:
    """Restarts the context networks of which at least half is silent, and names them.

    Hidden layers start anew, with every unit at mean 0 and spread 1 over x; the last layer says
    what it said on average, and nothing else until it has learned to.
    """
    shares = silent_shares(model, x, quality)
    chosen = {
        name: network
        for name, network in _networks(model)
        if shares[name] >= 0.5 and name.split(".")[0].endswith("_transforms")
    }
    seen: dict[str, Tensor] = {}
    hooks = [
        network.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
        for name, network in chosen.items()
    ]
    _run(model, x, quality)
    for hook in hooks:
        hook.remove()
    for name, network in chosen.items():
        _restart(network, seen[name])
    return list(chosen)


def _restart(network: nn.Sequential, x: Tensor) -> None:
    *hidden, last = network
    usual = network(x).mean((0, 2, 3))
    for layer in hidden:
        if isinstance(layer, nn.Conv2d):
            # Inputs may differ a hundredfold in spread; each shall be heard.
            spread = x.std((0, 2, 3)) + 0.1
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            layer.weight.div_(spread[:, None, None])
            layer.bias.zero_()
            out = layer(x)
            unit = out.std((0, 2, 3)) + 1e-6
            layer.weight.div_(unit[:, None, None, None])
            layer.bias.copy_(-out.mean((0, 2, 3)) / unit)
        x = layer(x)
    last.weight.zero_()
    last.bias.copy_(usual)


def _networks(model: CompressionModel) -> Iterator[tuple[str, nn.Sequential]]:
    for name in ("h_mean_s", "h_scale_s"):
        yield name, model.get_submodule(name)
    for kind in ("cc_mean_transforms", "cc_scale_transforms", "lrp_transforms"):
        for i, network in enumerate(model.get_submodule(kind)):
            yield f"{kind}.{i}", network


def _run(model: CompressionModel, x: Tensor, quality: Tensor) -> None:
    """The model as it codes, whatever mode it is in."""
    training = model.training
    with torch.no_grad():
        model.eval()(x, quality)
    model.train(training)
