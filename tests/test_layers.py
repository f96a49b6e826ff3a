"""Building blocks: shapes, inverses, and the values that define them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stfcodec.models.attention import (
    WindowAttention,
    WindowAttentionModule,
    partition,
    unpartition,
    windowed_attention,
)
from stfcodec.models.layers import GDN, Linear, LowerBound, PixelDeconv, ShuffledConv
from stfcodec.models.swin import PatchMerge, PatchSplit, SwinBlock


def test_window_attention_module_is_a_plug_in() -> None:
    block = WindowAttentionModule(24, window=4, heads=3, units=2)
    x = torch.randn(2, 24, 8, 12)
    assert block(x).shape == x.shape
    with pytest.raises(ValueError, match="multiple of the window 4"):
        block(torch.randn(1, 24, 6, 8))
    with pytest.raises(ValueError, match="multiple of heads"):
        WindowAttentionModule(24, heads=5)


def test_partition_inverts() -> None:
    x = torch.arange(2 * 8 * 12 * 3.0).view(2, 8, 12, 3)
    windows = partition(x, 4)
    assert windows.shape == (2 * 2 * 3, 16, 3)
    assert torch.equal(windows[1, :, 0].view(4, 4), x[0, :4, 4:8, 0])
    assert torch.equal(unpartition(windows, 4, 8, 12), x)


def test_attention_equals_its_definition() -> None:
    torch.manual_seed(0)
    attention = WindowAttention(12, window=2, heads=3).eval()
    x = torch.randn(5, 4, 12)
    q, k, v = attention.qkv(x).view(5, 4, 3, 3, 4).permute(2, 0, 3, 1, 4)
    bias = attention.relative_position_bias_table[attention.relative_position_index]
    weights = (q @ k.transpose(-1, -2) / 2 + bias.permute(2, 0, 1)).softmax(-1)
    expected = attention.proj((weights @ v).transpose(1, 2).reshape(5, 4, 12))
    torch.testing.assert_close(attention(x), expected)


def test_shifted_windows_do_not_look_across_the_picture_edge() -> None:
    """Changing the left edge must not change what a shifted window sees on the right edge."""
    torch.manual_seed(0)
    attention = WindowAttention(8, window=4, heads=2).eval()
    x = torch.randn(1, 8, 16, 8)
    y = x.clone()
    y[:, :, :2] += 1
    before, after = (windowed_attention(t, attention, 4, 2) for t in (x, y))
    torch.testing.assert_close(after[:, :, 2:], before[:, :, 2:])
    assert not torch.allclose(after[:, :, :2], before[:, :, :2])


@pytest.mark.parametrize("heads", [1, 2])
def test_large_logits_reach_through_the_mask_as_published(heads: int) -> None:
    """−100 is what the published networks have, once, not −∞. In float64: how float32 rounds logits
    of this size shows in the weights, and is not the same on every machine."""
    torch.manual_seed(0)
    attention = WindowAttention(8, window=4, heads=heads).double().eval()
    x = 30 * torch.randn(1, 8, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        attention.qkv.weight.mul_(3)
        expected = _shifted_attention_as_published(x, attention)
        quick = windowed_attention(x, attention, 4, 2)
    torch.testing.assert_close(quick, expected)
    torch.testing.assert_close(windowed_attention(x, attention, 4, 2).detach(), expected)
    far = x.clone()
    far[:, :2] += 100
    assert not torch.equal(windowed_attention(far, attention, 4, 2)[:, 6:], expected[:, 6:])


def _shifted_attention_as_published(x: Tensor, attention: WindowAttention) -> Tensor:
    """Attention in windows of 4, shifted by 2, of a map (1, 8, 8, C): the masks by regions."""
    region = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    regions = partition((3 * region[:, None] + region)[None, :, :, None], 4)
    mask = -100.0 * (regions != regions.transpose(1, 2))
    windows = partition(x.roll((-2, -2), (1, 2)), 4)
    width = windows.shape[-1] // attention.heads
    shape = 4, 16, 3, attention.heads, width
    q, k, v = attention.qkv(windows).view(shape).permute(2, 3, 0, 1, 4)
    bias = attention.relative_position_bias_table.t()[:, attention.relative_position_index]
    weights = (q @ k.transpose(-1, -2) * width**-0.5 + bias[:, None] + mask).softmax(-1)
    y = attention.proj((weights @ v).permute(1, 2, 0, 3).reshape(4, 16, -1))
    return unpartition(y, 4, 8, 8).roll((2, 2), (1, 2))


def test_gdn_definition() -> None:
    torch.manual_seed(0)
    gdn, inverse = GDN(4), GDN(4, inverse=True)
    x = torch.randn(1, 4, 3, 3)
    norm = (x**2 * 0.1 + 1).sqrt()
    torch.testing.assert_close(gdn(x), x / norm)
    torch.testing.assert_close(inverse(x), x * norm)


def test_lower_bound_lets_values_climb_back() -> None:
    bound = LowerBound(1.0)
    x = torch.tensor([0.5, 0.5, 2.0], requires_grad=True)
    (bound(x) * torch.tensor([-1.0, 1.0, 1.0])).sum().backward()
    assert bound(x).tolist() == [1.0, 1.0, 2.0]
    assert x.grad is not None
    assert x.grad.tolist() == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (PixelDeconv(6, 3), (2, 6, 5, 7)),
        (ShuffledConv(5, 3), (2, 20, 5, 7)),
        (Linear(6, 4), (2, 5, 7, 6)),
        (Linear(6, 4, bias=False), (5, 7, 6)),
        (SwinBlock(8, heads=2, window=2, shift=0, mlp_ratio=2), (2, 4, 6, 8)),
        (SwinBlock(8, heads=2, window=2, shift=1, mlp_ratio=2), (2, 4, 6, 8)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_cpu_kernels_equal_their_layers(layer: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    with torch.no_grad():
        quick = layer(x)
    torch.testing.assert_close(quick, layer(x).detach())
    assert quick.shape == layer(x).shape


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_attention_compiles_with_gradients() -> None:
    """Training compiles the networks; the compiler once stumbled over the edge masks."""
    block, x = SwinBlock(8, 2, 4, shift=2, mlp_ratio=2.0), torch.randn(1, 8, 8, 8)
    expected = torch.autograd.grad(block(x).square().sum(), block.mlp.fc1.weight)
    compiled = torch.compile(block, dynamic=False)
    found = torch.autograd.grad(compiled(x).square().sum(), block.mlp.fc1.weight)
    torch.testing.assert_close(found, expected)


def test_resampling_shapes() -> None:
    x = torch.randn(2, 4, 6, 8)
    assert PatchMerge(8, 10)(x).shape == (2, 2, 3, 10)
    assert PatchSplit(8, 10)(x).shape == (2, 8, 12, 10)
    block = SwinBlock(8, heads=2, window=2, shift=1, mlp_ratio=2)
    assert block(x).shape == x.shape
