"""Finding and restarting networks that have fallen silent.

GELU passes neither signal nor gradient where its input is far below zero. A unit that big steps
have pushed there for every input never comes back, and a network of such units says the same about
every picture. The loss does not tell: it just stays where it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.models.entropy_model import CompressionModel

_SILENT_BELOW = -3.0
"""GELU's slope there is −0.012, and vanishes fast beyond."""
_RARE = 0.01
"""A unit that speaks at fewer positions than this counts as silent."""


def silent_shares(model: CompressionModel, x: Tensor, quality: Tensor) -> dict[str, float]:
    """For each context network the largest share, over its hidden layers, of units that are silent
    on x (B, 3, H, W) at quality (B,)."""
    networks = _context_networks(model)
    gelus = {
        f"{name}.{i}": layer
        for name, network in networks.items()
        for i, layer in enumerate(network.children())
        if isinstance(layer, nn.GELU)
    }
    shares = dict.fromkeys(networks, 0.0)
    for name, inputs in _inputs(model, gelus, x, quality).items():
        heard = (inputs > _SILENT_BELOW).float().mean((0, 2, 3))
        network = name.rpartition(".")[0]
        shares[network] = max(shares[network], (heard < _RARE).float().mean().item())
    return shares


@torch.no_grad()
def revive(model: CompressionModel, x: Tensor, quality: Tensor) -> list[str]:
    """Restarts the context networks of which at least half is silent, and names them.

    Hidden layers start anew, with every unit at mean 0 and spread 1 over x; the last layer says
    what it said on average, and nothing else until it has learned to.
    """
    shares = silent_shares(model, x, quality)
    chosen = {n: network for n, network in _context_networks(model).items() if shares[n] >= 0.5}
    for name, inputs in _inputs(model, chosen, x, quality).items():
        _restart(chosen[name], inputs)
    return list(chosen)


def _restart(network: nn.Module, x: Tensor) -> None:
    usual = network(x).mean((0, 2, 3))
    *hidden, last = (layer for layer in network.children() if isinstance(layer, nn.Conv2d))
    for layer in hidden:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        # Inputs may differ a hundredfold in spread; each shall be heard.
        layer.weight.div_(x.std((0, 2, 3))[:, None, None] + 0.1)
        layer.bias.zero_()
        out = layer(x)
        spread, mean = out.std((0, 2, 3)) + 1e-6, out.mean((0, 2, 3))
        layer.weight.div_(spread[:, None, None, None])
        layer.bias.copy_(-mean / spread)
        x = F.gelu(layer(x))
    last.weight.zero_()
    last.bias.copy_(usual)


def _context_networks(model: CompressionModel) -> dict[str, nn.Module]:
    return {
        f"{kind}.{i}": network
        for kind in ("cc_mean_transforms", "cc_scale_transforms", "lrp_transforms")
        for i, network in model.get_submodule(kind).named_children()
    }


def _inputs(
    model: CompressionModel, modules: dict[str, nn.Module], x: Tensor, quality: Tensor
) -> dict[str, Tensor]:
    """What each of the modules is given when x is coded."""
    found: dict[str, Tensor] = {}
    hooks = []
    for name, module in modules.items():

        def note(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            found[name] = inputs[0]

        hooks.append(module.register_forward_pre_hook(note))
    training = model.training
    with torch.no_grad():
        model.eval()(x, quality)
    model.train(training)
    for hook in hooks:
        hook.remove()
    return found
