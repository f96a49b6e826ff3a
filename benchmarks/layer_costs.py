"""Output, parameters and multiply-accumulates of each layer of a model, counted on the network.

The network runs on torch's meta device, whose tensors have a shape and no values, so that counting
takes a second. `complexity_tables.py` makes tables of the counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stfcodec.models import blocks, layers, swin
from stfcodec.models.attention import AttentionModule, WindowAttention, WindowAttentionModule
from stfcodec.models.build import build
from stfcodec.models.lite import BlockTransform
from stfcodec.models.registry import ModelInfo

HEIGHT, WIDTH = 512, 768
"""Size of the picture whose shapes the tables give. Parameters and kMAC/pixel do not depend on
it."""

PARTS = {
    "g_a": ("g_a", "patch_embed", "layers"),
    "h_a": ("h_a",),
    "h_s for means": ("h_mean_s", "means.hyper"),
    "h_s for scales": ("h_scale_s", "scales.hyper"),
    "means": ("cc_mean_transforms", "means"),
    "scales": ("cc_scale_transforms", "scales"),
    "LRP": ("lrp_transforms",),
    "g_s": ("g_s", "syn_layers", "end_conv"),
    "factorised prior": ("entropy_bottleneck",),
    "gains and spreads": ("log_gain", "log_inverse", "log_spread"),
}
"""The parts of every model, in the order of the tables: the submodules and parameters of each. A
name belongs to the first part that has it."""

ENTROPY_NETWORKS = ("h_s for means", "h_s for scales", "means", "scales", "LRP")
"""The parts that both directions run."""


@dataclass(frozen=True)
class Layer:
    """One call of a layer, or of a block of layers."""

    part: str
    label: str
    output: tuple[int, int, int]
    """Channels, rows, columns."""
    parameters: int
    macs: int


@dataclass(frozen=True)
class ModelCosts:
    """What one picture of `pixels` pixels costs in a model."""

    info: ModelInfo
    pixels: int
    layers: Sequence[Layer]
    """In the order of the calls: g_a, h_a, entropy networks, g_s."""
    tensors: dict[str, tuple[int, int, int]]
    """Channels, rows, columns of x, y, z, ŷ and x̂."""
    parameters: Counter[str]
    """Of each part, those outside layers too."""
    attention_parameters: Counter[str]
    attention_macs: Counter[str]
    """Of the window attention in each part. They are counted in the layers as well."""
    total_macs: int

    def kmac(self, *parts: str) -> float:
        """kMAC/pixel of these parts together."""
        return sum(layer.macs for layer in self.layers if layer.part in parts) / self.pixels / 1e3

    @property
    def encode_kmac(self) -> float:
        """kMAC/pixel of encoding."""
        return self.kmac("g_a", "h_a", *ENTROPY_NETWORKS)

    @property
    def decode_kmac(self) -> float:
        """kMAC/pixel of decoding."""
        return self.kmac(*ENTROPY_NETWORKS, "g_s")


def measure(info: ModelInfo, height: int = HEIGHT, width: int = WIDTH) -> ModelCosts:
    """The costs of a model for a picture, whose sides are multiples of 64.

    Counted are the layers as they are defined, not the faster forms of `cpu_kernels.py`.
    """
    found: list[Layer] = []
    attention_parameters: Counter[str] = Counter()
    attention_macs: Counter[str] = Counter()
    counter = FlopCounterMode(display=False)
    with torch.device("meta"):
        model = build(info).eval()
        x = torch.empty(1, 3, height, width)
    for name, module, label in _layers(model):
        _watch(module, counter, _adder(found, name, module, label))
    for name, module in model.named_modules():
        if isinstance(module, WindowAttention):
            part = part_of(name)
            attention_parameters[part] += _count(module)

            def add(_: Tensor, macs: int, part: str = part) -> None:
                attention_macs[part] += macs

            _watch(module, counter, add)
    with torch.enable_grad(), counter:  # without gradients some layers run in another form
        y = model.analysis(x)
        z = model.hyper_analysis(y)
        y_hat = model.decode_symbols(z, 3.0, lambda _, mean, level: mean)
        x_hat = model.synthesis(y_hat)
    tensors = {"x": x, "y": y, "z": z, "ŷ": y_hat, "x̂": x_hat}
    parameters: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parameters[part_of(name)] += parameter.numel()
    return ModelCosts(
        info,
        height * width,
        found,
        {name: _size(tensor, channels_last=False) for name, tensor in tensors.items()},
        parameters,
        attention_parameters,
        attention_macs,
        counter.get_total_flops() // 2,
    )


def part_of(name: str) -> str:
    """The part that a submodule or parameter belongs to. Raises ValueError where none has it."""
    for part, prefixes in PARTS.items():
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes):
            return part
    raise ValueError(f"{name} belongs to no part")


# ----------------------------------------------------------------------------- what a layer is


def _layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module, str]]:
    """Name, module and label of each layer below a module."""
    label = _label(name, module)
    if label:
        yield name, module, label
        return
    for child_name, child in module.named_children():
        yield from _layers(child, f"{name}.{child_name}" if name else child_name)


def _label(name: str, module: nn.Module) -> str:
    """What a layer is called in the tables; empty where the module is none or has no weights."""
    match module:
        case nn.Sequential() if re.fullmatch(r"(cc_mean|cc_scale|lrp)_transforms\.\d+", name):
            widths = [str(m.out_channels) for m in module if isinstance(m, nn.Conv2d)]
            return f"slice network: 3×3 convolutions to {', '.join(widths)}"
        case nn.Sequential() if len(module) == 2 and isinstance(module[1], nn.PixelShuffle):
            return f"{_label('', module[0])}, pixel shuffle"
        case nn.Sequential() if all(_block_label(child) for child in module):
            return ", ".join(
                times(len(list(run)), label) for label, run in groupby(map(_block_label, module))
            )
        case WindowAttentionModule():
            return f"window attention module {_windows(module)}"
        case layers.GDN():
            return "inverse GDN" if module.inverse else "GDN"
        case swin.SwinBlock():
            return f"Swin block {_windows(module)}, {module.attn.heads} heads"
        case swin.PatchEmbed():
            side = module.proj.kernel_size[0]
            return f"patch embedding {side}×{side}"
        case swin.PatchMerge():
            return "patch merging"
        case swin.PatchSplit():
            return "patch splitting"
        case layers.ShuffledConv():
            return "pixel shuffle, 3×3 convolution"
        case BlockTransform():
            return "linear path, 16×16 blocks"
        case blocks.QualityScale():
            return "factors s_q"
        case nn.Conv2d() | nn.ConvTranspose2d():
            kernel, stride = module.kernel_size[0], module.stride[0]
            kind = "transposed " if isinstance(module, nn.ConvTranspose2d) else ""
            suffix = f", stride {stride}" if stride > 1 else ""
            return f"{kernel}×{kernel} {kind}convolution{suffix}"
        case nn.Linear():
            return "1×1 convolution"
        case _:
            return _block_label(module)


def _block_label(module: nn.Module) -> str:
    """The label of a block of the lite models; empty for everything else."""
    match module:
        case blocks.Residual(branch=blocks.DepthwiseMixer()):
            return "depthwise convolution"
        case blocks.Residual(branch=blocks.AttentionMixer()):
            return f"window attention {_windows(module)}"
        case nn.Sequential():
            match list(module):
                case [blocks.Residual(branch=blocks.DepthwiseMixer()), blocks.Residual()]:
                    return "depthwise block"
                case [blocks.Residual(branch=blocks.AttentionMixer()), blocks.Residual()]:
                    return f"Swin block {_windows(module)}"
    return ""


def _windows(module: nn.Module) -> str:
    """The size of the windows of a module with window attention."""
    window = next(m.window for m in module.modules() if isinstance(m, WindowAttention))
    return f"{window}×{window}"


def times(count: int, label: str) -> str:
    """The label of so many equal layers in a row."""
    return f"{count} × {label}" if count > 1 else label


# ------------------------------------------------------------------------------------ counting


def _watch(
    module: nn.Module, counter: FlopCounterMode, report: Callable[[Tensor, int], None]
) -> None:
    """Report the output and the multiply-accumulates of each call of a module."""
    starts: list[int] = []

    def begin(*_: object) -> None:
        starts.append(counter.get_total_flops())

    def end(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        report(output, (counter.get_total_flops() - starts.pop()) // 2)

    module.register_forward_pre_hook(begin)
    module.register_forward_hook(end)


def _adder(
    found: list[Layer], name: str, module: nn.Module, label: str
) -> Callable[[Tensor, int], None]:
    """What adds each call of a layer to `found`."""
    channels_last = not _channels_first(module)

    def add(output: Tensor, macs: int) -> None:
        size = _size(output, channels_last)
        found.append(Layer(part_of(name), label, size, _count(module), macs))

    return add


def _channels_first(module: nn.Module) -> bool:
    """Whether the layer's maps are (B, C, H, W) and not (B, H, W, C)."""
    while isinstance(module, nn.Sequential):
        module = module[0]
    published = nn.Conv2d | nn.ConvTranspose2d | layers.GDN | AttentionModule
    return isinstance(module, published) and not isinstance(module, blocks.Convolution)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _size(x: Tensor, channels_last: bool) -> tuple[int, int, int]:
    """Channels, rows and columns of a map."""
    _, a, b, c = x.shape
    return (c, a, b) if channels_last else (a, b, c)
