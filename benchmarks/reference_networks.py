"""The reference implementation: paper-size WACNN and STF, run as the authors' code runs them.

It is the anchor of the speed-up that `speedup.py` measures: eager float32 in NCHW, softmax
attention whose bias and shift mask are computed on every call, mean and scale transforms apart, one
pass over the scales for each of the 63 table boundaries, and symbols and indexes that go through
Python lists into compressai's range coder. It shares no code with `stfcodec.models`, so that
optimisations there do not change it. Layers are addressed by their published state-dict names.

Source: Zou, Song, Zhang, "The Devil Is in the Details: Window-based Attention for Image
Compression", CVPR 2022; github.com/Googolxx/STF.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import compressai_coder
from stfcodec.models.channelwise import ChannelwiseModel
from stfcodec.models.registry import WacnnWidths


class Strings(NamedTuple):
    """A coded picture as the authors' code has it: strings of y and z, and the (h, w) of z."""

    y: bytes
    z: bytes
    size: tuple[int, int]


class ReferenceCodec:
    """The float networks of a paper-size model, with the authors' coding loop.

    Pictures are (H, W, 3) uint8 with sides that are multiples of 64.
    """

    def __init__(self, model: ChannelwiseModel, widths: object) -> None:
        self.ans = compressai_coder.load()
        self.is_wacnn = isinstance(widths, WacnnWidths)
        self.slices, self.support = model.slices, model.support
        self.state = {k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}

    # -------------------------------------------------------------------------- coding

    @torch.no_grad()
    def encode(self, picture: np.ndarray) -> Strings:
        x = torch.tensor(picture).permute(2, 0, 1)[None].float().contiguous() / 255
        y = self.analysis(x)
        z = self._convolutions("h_a", y, strides={4: 2, 8: 2})
        z_symbols = torch.round(z - self._medians()).int()
        z_string = self.ans.RansEncoder().encode_with_indexes(
            z_symbols.reshape(-1).tolist(),
            self._channels(z.shape).reshape(-1).tolist(),
            *self._tables("entropy_bottleneck"),
        )  # fmt: skip
        symbols: list[int] = []
        indexes: list[int] = []
        targets = y.chunk(self.slices, 1)
        loop = self._slices(z_symbols + self._medians())
        for target, (mean, index) in zip(targets, loop, strict=True):
            rounded = torch.round(target - mean).int()
            symbols.extend(rounded.reshape(-1).tolist())
            indexes.extend(index.reshape(-1).tolist())
            self._found = rounded + mean
        encoder = self.ans.BufferedRansEncoder()
        encoder.encode_with_indexes(symbols, indexes, *self._tables("gaussian_conditional"))
        return Strings(encoder.flush(), z_string, (z.shape[2], z.shape[3]))

    @torch.no_grad()
    def decode(self, strings: Strings) -> np.ndarray:
        shape = (1, self._medians().shape[1], *strings.size)
        z = self.ans.RansDecoder().decode_with_indexes(
            strings.z,
            self._channels(shape).reshape(-1).tolist(),
            *self._tables("entropy_bottleneck"),
        )  # fmt: skip
        decoder = self.ans.RansDecoder()
        decoder.set_stream(strings.y)
        tables = self._tables("gaussian_conditional")
        for mean, index in self._slices(torch.tensor(z).reshape(shape) + self._medians()):
            found = decoder.decode_stream(index.reshape(-1).tolist(), *tables)
            self._found = torch.Tensor(found).reshape(mean.shape) + mean
        x_hat = self.synthesis(torch.cat(self._decoded, 1)).clamp_(0, 1)
        return x_hat[0].mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()

    def _slices(self, z_hat: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Mean and table index of each slice; the caller sets `_found` to the decoded slice."""
        upsampled = {2, 6}
        scales = self._convolutions("h_scale_s", z_hat, upsampled=upsampled)
        means = self._convolutions("h_mean_s", z_hat, upsampled=upsampled)
        decoded: list[Tensor] = []
        self._decoded = decoded
        for i in range(self.slices):
            seen = decoded[: self.support]
            mean_support = torch.cat([means, *seen], 1)
            mean = self._convolutions(f"cc_mean_transforms.{i}", mean_support)
            scale_support = torch.cat([scales, *seen], 1)
            scale = self._convolutions(f"cc_scale_transforms.{i}", scale_support)
            yield mean, self._indexes(scale)
            lrp_support = torch.cat([mean_support, self._found], 1)
            lrp = self._convolutions(f"lrp_transforms.{i}", lrp_support)
            decoded.append(self._found + 0.5 * torch.tanh(lrp))

    def _indexes(self, scale: Tensor) -> Tensor:
        table = self.state["gaussian_conditional.scale_table"]
        scale = torch.max(scale, self.state["gaussian_conditional.scale_bound"])
        index = torch.full(scale.shape, len(table) - 1, dtype=torch.int32)
        for level in table[:-1]:
            index -= (scale <= level).int()
        return index

    def _tables(self, name: str) -> tuple[Any, Any, Any]:
        keys = ("_quantized_cdf", "_cdf_length", "_offset")
        cdf, length, offset = (self.state[f"{name}.{k}"].tolist() for k in keys)
        return cdf, length, offset

    def _medians(self) -> Tensor:
        return self.state["entropy_bottleneck.quantiles"][:, :, 1:2].reshape(1, -1, 1, 1)

    @staticmethod
    def _channels(shape: tuple[int, ...]) -> Tensor:
        return torch.arange(shape[1], dtype=torch.int32)[None, :, None, None].expand(shape)

    # ---------------------------------------------------------------------- transforms

    def analysis(self, x: Tensor) -> Tensor:
        """g_a: (1, 3, H, W) -> (1, M, H/16, W/16)."""
        if not self.is_wacnn:
            return self._stf_analysis(x)
        x = self._gdn("g_a.1", self._down("g_a.0", x))
        x = self._gdn("g_a.3", self._down("g_a.2", x))
        x = self._gdn("g_a.6", self._down("g_a.5", self._attention_module("g_a.4", x)))
        return self._attention_module("g_a.8", self._down("g_a.7", x))

    def synthesis(self, y_hat: Tensor) -> Tensor:
        """g_s: (1, M, H/16, W/16) -> (1, 3, H, W)."""
        if not self.is_wacnn:
            return self._stf_synthesis(y_hat)
        x = self._up("g_s.1", self._attention_module("g_s.0", y_hat))
        x = self._up("g_s.3", self._gdn("g_s.2", x, inverse=True))
        x = self._attention_module("g_s.5", self._gdn("g_s.4", x, inverse=True))
        x = self._gdn("g_s.7", self._up("g_s.6", x), inverse=True)
        return self._up("g_s.8", x)

    def _stf_analysis(self, x: Tensor) -> Tensor:
        weight, bias = self._weights("patch_embed.proj")
        x = F.conv2d(x, weight, bias, stride=weight.shape[2]).permute(0, 2, 3, 1)
        x = self._norm("patch_embed.norm", x)
        for stage in range(self._count("layers")):
            x = self._swin_blocks(f"layers.{stage}", x)
            if f"layers.{stage}.downsample.reduction.weight" in self.state:
                corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
                x = self._norm(f"layers.{stage}.downsample.norm", torch.cat(corners, -1))
                x = self._linear(f"layers.{stage}.downsample.reduction", x)
        return x.permute(0, 3, 1, 2).contiguous()

    def _stf_synthesis(self, y_hat: Tensor) -> Tensor:
        x = y_hat.permute(0, 2, 3, 1).contiguous()
        for stage in range(self._count("syn_layers")):
            x = self._swin_blocks(f"syn_layers.{stage}", x)
            if f"syn_layers.{stage}.downsample.reduction.weight" in self.state:
                x = self._norm(f"syn_layers.{stage}.downsample.norm", x)
                x = self._linear(f"syn_layers.{stage}.downsample.reduction", x)
                x = F.pixel_shuffle(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        x = x.permute(0, 3, 1, 2).contiguous()
        x = F.pixel_shuffle(self._convolution("end_conv.0", x), 2)
        return self._convolution("end_conv.2", x)

    # -------------------------------------------------------------------------- layers

    def _weights(self, name: str) -> tuple[Tensor, Tensor | None]:
        return self.state[f"{name}.weight"], self.state.get(f"{name}.bias")

    def _count(self, name: str) -> int:
        """The number of numbered children of a module."""
        below = [k.removeprefix(f"{name}.") for k in self.state if k.startswith(f"{name}.")]
        return len({key.split(".")[0] for key in below})

    def _convolution(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight, bias = self._weights(name)
        return F.conv2d(x, weight, bias, stride, padding=weight.shape[2] // 2)

    def _down(self, name: str, x: Tensor) -> Tensor:
        return self._convolution(name, x, stride=2)

    def _up(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._weights(name)
        return F.conv_transpose2d(x, weight, bias, 2, padding=2, output_padding=1)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, *self._weights(name))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *self._weights(name))

    def _convolutions(
        self,
        name: str,
        x: Tensor,
        strides: dict[int, int] | None = None,
        upsampled: set[int] | None = None,
    ) -> Tensor:
        """Five 3×3 convolutions, at indexes 0, 2, 4, 6 and 8 of a Sequential, with GELU between."""
        for index in (0, 2, 4, 6, 8):
            if index in (upsampled or ()):
                x = F.pixel_shuffle(self._convolution(f"{name}.{index}.0", x), 2)
            else:
                x = self._convolution(f"{name}.{index}", x, (strides or {}).get(index, 1))
            x = x if index == 8 else F.gelu(x)
        return x

    def _gdn(self, name: str, x: Tensor, inverse: bool = False) -> Tensor:
        def effective(part: str) -> Tensor:
            bound = self.state[f"{name}.{part}_reparam.lower_bound.bound"]
            pedestal = self.state[f"{name}.{part}_reparam.pedestal"]
            return torch.max(self.state[f"{name}.{part}"], bound) ** 2 - pedestal

        norm = F.conv2d(x**2, effective("gamma")[:, :, None, None], effective("beta"))
        return x * (torch.sqrt(norm) if inverse else torch.rsqrt(norm))

    def _residual_unit(self, name: str, x: Tensor) -> Tensor:
        out = F.gelu(self._convolution(f"{name}.conv.0", x))
        out = F.gelu(self._convolution(f"{name}.conv.2", out))
        return F.gelu(self._convolution(f"{name}.conv.4", out) + x)

    def _attention_module(self, name: str, x: Tensor) -> Tensor:
        a, b = x, x.permute(0, 2, 3, 1)
        units = self._count(f"{name}.conv_a")
        for i in range(units):
            a = self._residual_unit(f"{name}.conv_a.{i}", a)
        b = x + self._windows(f"{name}.conv_b.0.attn", b, shifted=True).permute(0, 3, 1, 2)
        for i in range(1, units + 1):
            b = self._residual_unit(f"{name}.conv_b.{i}", b)
        return a * torch.sigmoid(self._convolution(f"{name}.conv_b.{units + 1}", b)) + x

    def _swin_blocks(self, name: str, x: Tensor) -> Tensor:
        for i in range(self._count(f"{name}.blocks")):
            block = f"{name}.blocks.{i}"
            attended = self._windows(
                f"{block}.attn", self._norm(f"{block}.norm1", x), shifted=i % 2 == 1
            )
            x = x + attended
            hidden = F.gelu(self._linear(f"{block}.mlp.fc1", self._norm(f"{block}.norm2", x)))
            x = x + self._linear(f"{block}.mlp.fc2", hidden)
        return x

    def _windows(self, name: str, x: Tensor, shifted: bool) -> Tensor:
        """Window attention of a map (B, H, W, C), shifted by half a window or not."""
        table = self.state[f"{name}.relative_position_bias_table"]
        window = (round(table.shape[0] ** 0.5) + 1) // 2
        _, H, W, C = x.shape
        shift = window // 2 if shifted else 0
        mask = _mask(H, W, window, shift) if shift else None
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        tokens = _partition(x, window)
        n, size, heads = tokens.shape[0], window * window, table.shape[1]
        qkv = self._linear(f"{name}.qkv", tokens)
        q, k, v = qkv.reshape(n, size, 3, heads, C // heads).permute(2, 0, 3, 1, 4)
        logits = (q * (C // heads) ** -0.5) @ k.transpose(-2, -1)
        index = self.state[f"{name}.relative_position_index"].view(-1)
        logits = logits + table[index].view(size, size, heads).permute(2, 0, 1).contiguous()
        if mask is not None:
            grouped = logits.view(-1, mask.shape[0], heads, size, size)
            logits = (grouped + mask[None, :, None]).view(n, heads, size, size)
        out = (torch.softmax(logits, -1) @ v).transpose(1, 2).reshape(n, size, C)
        out = self._linear(f"{name}.proj", out)
        x = out.view(-1, H // window, W // window, window, window, C)
        x = x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, H, W, C)
        return torch.roll(x, (shift, shift), (1, 2)) if shift else x


def _partition(x: Tensor, window: int) -> Tensor:
    B, H, W, C = x.shape
    x = x.view(B, H // window, window, W // window, window, C)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window * window, C)


def _mask(height: int, width: int, window: int, shift: int) -> Tensor:
    regions = torch.zeros(1, height, width, 1)
    bands = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for n, (rows, columns) in enumerate((r, c) for r in bands for c in bands):
        regions[:, rows, columns] = n
    tokens = _partition(regions, window).squeeze(-1)
    difference = tokens[:, None] - tokens[:, :, None]
    return difference.masked_fill(difference != 0, -100.0)
