"""Training data and the loss: crops, held-out photographs, synthetic pictures, rate-distortion."""

from __future__ import annotations

import pytest
import torch

from stfcodec.train.data import CropSampler, centre_crops, split_held_out
from stfcodec.train.loss import balancing_weights, flat_block_mask, lambda_at, rate_distortion
from stfcodec.train.synthetic import paste_rectangles, synthetic_pictures


def test_crops_are_cut_from_the_photographs() -> None:
    """Pixels encode their position: crops are contiguous, flipped or not, from everywhere."""
    sizes = [(70, 90), (64, 100)]
    photographs = []
    for i, (h, w) in enumerate(sizes):
        rows, cols = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        photographs.append(torch.stack([torch.full_like(rows, i), rows, cols], 2).byte())
    crops = CropSampler(photographs, torch.device("cpu"))(400, 64).mul(255).round()
    which, rows, cols = crops.unbind(1)
    assert (which.flatten(1).amax(1) == which.flatten(1).amin(1)).all()
    assert (rows.diff(dim=1) == 1).all()
    differences = cols.diff(dim=2)
    assert (differences.abs() == 1).all()
    assert 100 < (differences[:, 0, 0] == -1).sum() < 300
    for i, (h, w) in enumerate(sizes):
        own = which[:, 0, 0] == i
        assert 100 < own.sum() < 300
        assert rows[own].max() == h - 1 and cols[own].max() == w - 1
        assert rows[own].min() == 0 and cols[own].min() == 0


def test_a_tenth_is_held_out() -> None:
    photographs = [torch.full((8, 8, 3), i, dtype=torch.uint8) for i in range(25)]
    trained, held = split_held_out(photographs)
    assert [int(p[0, 0, 0]) for p in held] == [9, 19]
    assert len(trained) == 23
    large = [torch.zeros(200, 100 + i, 3, dtype=torch.uint8) for i in range(50)]
    assert centre_crops(large, 256, 24).shape == (24, 3, 64, 64)
    assert split_held_out(photographs[:3]) == (photographs[:3], photographs[:3])


def test_synthetic_pictures_are_the_same_every_time() -> None:
    first, second = synthetic_pictures(8, 64), synthetic_pictures(8, 64)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(p.shape == (64, 64, 3) and p.dtype == torch.uint8 for p in first)
    colours = [len(p.flatten(0, 1).unique(dim=0)) for p in first]
    assert min(colours[1::3]) > 4  # gradients


def test_loss_is_the_papers() -> None:
    x = torch.zeros(2, 3, 64, 64)
    out = {
        "x_hat": torch.full_like(x, 2 / 255),
        "likelihoods": {"y": torch.full((2, 8, 4, 4), 0.5), "z": torch.full((2, 4, 1, 1), 0.25)},
    }
    result = rate_distortion(out, x, torch.tensor([1.0, 4.0]))
    bpp = (8 * 16 + 4 * 2) / 64**2
    torch.testing.assert_close(result.mse, torch.tensor([4.0, 4.0]), rtol=1e-5, atol=0)
    loss = torch.tensor([0.0018 * 4 + bpp, 0.0130 * 4 + bpp])
    torch.testing.assert_close(result.loss, loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(lambda_at(torch.tensor([6.0])), torch.tensor([0.0483]))
    # Beyond white is white; where it should not be, the gradient leads back.
    x_hat = torch.tensor([1.5, 1.5, -0.5]).view(1, 3, 1, 1).repeat(1, 1, 16, 16).requires_grad_()
    white = torch.tensor([1.0, 0.8, 0.2]).view(1, 3, 1, 1).repeat(1, 1, 16, 16)
    ones = torch.ones(1, 1, 1, 1)
    beyond = {"x_hat": x_hat, "likelihoods": {"y": ones, "z": ones}}
    mse = rate_distortion(beyond, white, torch.tensor([3.0])).mse.sum()
    assert mse.item() == pytest.approx(255**2 * (0.04 + 0.04) / 3, rel=1e-5)
    mse.backward()
    assert x_hat.grad is not None
    assert torch.equal(x_hat.grad.sum((0, 2, 3)).sign(), torch.tensor([0.0, 1.0, -1.0]))
    assert balancing_weights(torch.arange(1.0, 7.0)).mean() == pytest.approx(1, abs=1e-4)


def test_pasted_rectangles_are_flat() -> None:
    """Each has one 8-bit colour; about the given share of the crops has one."""
    generator = torch.Generator().manual_seed(0)
    crops = torch.rand(400, 3, 64, 64, generator=generator)
    pasted = paste_rectangles(crops, 0.25, generator)
    changed = (pasted != crops).any(1)
    assert 0.15 < changed.flatten(1).any(1).float().mean() < 0.35
    for x, places in zip(pasted, changed, strict=True):
        colours = x[:, places].T.unique(dim=0)
        assert len(colours) <= 1
        assert (colours * 255).frac().abs().max() < 1e-4 if len(colours) else True
    assert torch.equal(paste_rectangles(crops, 0.0, generator), crops)


def test_error_on_flat_blocks_is_counted_apart() -> None:
    x = torch.rand(2, 3, 64, 64)
    x[0, :, 16:48, 32:64] = 0.25
    x[0, 1, 20, 40] = 0.26
    flat = flat_block_mask(x)
    assert flat[1].sum() == 0
    assert flat[0].sum() == 3 * 16 * 16
    assert flat[0, 0, 32:48, 32:].all()
    out = {"x_hat": x + 0.1, "likelihoods": {n: torch.ones(2, 1, 1, 1) for n in "yz"}}
    out["x_hat"].clamp_(0, 1)
    loss = rate_distortion(out, x, torch.tensor([3.0, 3.0]))
    share = loss.flat_mse[0] * 64 * 64 / (3 * 256)
    torch.testing.assert_close(share, torch.tensor(25.5**2))
    assert loss.flat_mse[1] == 0
