"""Probability models of the latents: a factorised prior for z, a conditional Gaussian for y.

Both give likelihoods for training and, as `tables`, the integer CDF tables for coding. Parameter
and buffer names equal those of the published checkpoints.
"""

from __future__ import annotations

import copy
import math
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.entropy.tables import TAIL_MASS, CdfTables, gaussian_tables, pmf_to_cdf
from stfcodec.models.layers import LowerBound

SCALE_MIN, SCALE_MAX, SCALE_LEVELS = 0.11, 256.0, 64
"""Range and number of the scale levels, see `scale_levels`."""

LOG_SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_LEVELS - 1)
"""Difference between the logarithms of neighbouring scale levels."""

LIKELIHOOD_BOUND = 1e-9
"""Likelihoods are at least this, so that their logarithm and its gradient stay finite."""


def ste_round(x: Tensor) -> Tensor:
    """x rounded half to even, with a straight-through gradient."""
    return x + (torch.round(x) - x).detach()


def add_uniform_noise(x: Tensor) -> Tensor:
    """x + U(−½, ½), which stands for rounding in training (Ballé et al., 2017)."""
    return x + torch.rand_like(x) - 0.5


def scale_levels() -> Tensor:
    """The scales that have a CDF table: (64,) float32, log-spaced 0.11…256.

    Those of the published checkpoints, to the last bit, on every machine. torch.linspace and
    torch.exp round differently from processor to processor.
    """
    low, high = np.float32(math.log(SCALE_MIN)), np.float32(math.log(SCALE_MAX))
    step = float((high - low) / np.float32(SCALE_LEVELS - 1))
    half = np.arange(SCALE_LEVELS // 2)
    # With a fused multiply-add, from both ends to the middle.
    logarithms = np.concatenate([float(low) + half * step, float(high) - half[::-1] * step])
    exact = [math.exp(value) for value in logarithms.astype(np.float32).tolist()]
    return torch.tensor(exact, dtype=torch.float32)


class TabledPrior(nn.Module):
    """A prior that holds its integer CDF tables as buffers, which are empty until `update`."""

    _offset: Tensor
    _quantized_cdf: Tensor
    _cdf_length: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("_offset", "_quantized_cdf", "_cdf_length"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int32))
        self.likelihood_lower_bound = LowerBound(LIKELIHOOD_BOUND)

    def set_tables(self, tables: CdfTables) -> None:
        """Store the tables. Raises WeightsError where they are damaged."""
        tables.validate()
        self._quantized_cdf = torch.from_numpy(tables.cdf)
        self._cdf_length = torch.from_numpy(tables.length)
        self._offset = torch.from_numpy(tables.offset)
        self.__dict__.pop("tables", None)

    @property
    def has_tables(self) -> bool:
        """Whether tables are stored."""
        return self._quantized_cdf.numel() > 0

    @cached_property
    def tables(self) -> CdfTables:
        """The stored tables, ready for the coder. Raises WeightsError where there are none."""
        buffers = self._quantized_cdf, self._cdf_length, self._offset
        tables = CdfTables(*(b.cpu().numpy() for b in buffers))
        tables.validate()
        return tables


class EntropyBottleneck(TabledPrior):
    """Factorised prior: one learned cumulative per channel (Ballé et al., 2018, app. 6.1)."""

    target: Tensor

    def __init__(self, channels: int, filters: tuple[int, ...] = (3, 3, 3, 3)) -> None:
        super().__init__()
        self.layers = len(filters) + 1
        widths = (1, *filters, 1)
        scale = 10.0 ** (1 / self.layers)
        for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
            matrix = torch.full(
                (channels, fan_out, fan_in), math.log(math.expm1(1 / scale / fan_out))
            )
            self.register_parameter(f"_matrix{i}", nn.Parameter(matrix))
            bias = nn.Parameter(torch.empty(channels, fan_out, 1))
            nn.init.uniform_(bias, -0.5, 0.5)
            self.register_parameter(f"_bias{i}", bias)
            if i < self.layers - 1:
                factor = nn.Parameter(torch.zeros(channels, fan_out, 1))
                self.register_parameter(f"_factor{i}", factor)
        self.quantiles = nn.Parameter(torch.tensor([-10.0, 0.0, 10.0]).repeat(channels, 1, 1))
        bound = math.log(2 / TAIL_MASS - 1)
        self.register_buffer("target", torch.tensor([-bound, 0.0, bound], dtype=torch.float32))

    def medians(self) -> Tensor:
        """(1, C, 1, 1). The symbols of z are z − median, rounded."""
        return self.quantiles[:, 0, 1].detach()[None, :, None, None]

    def logits(self, z: Tensor) -> Tensor:
        """Logits of the cumulative. z: (C, 1, n) -> (C, 1, n)."""
        for i in range(self.layers):
            z = F.softplus(getattr(self, f"_matrix{i}")) @ z + getattr(self, f"_bias{i}")
            if i < self.layers - 1:
                z = z + torch.tanh(getattr(self, f"_factor{i}")) * torch.tanh(z)
        return z

    def interval(self, z: Tensor) -> Tensor:
        """Probability of [z − ½, z + ½]. z: (C, 1, n)."""
        lower, upper = self.logits(z - 0.5), self.logits(z + 0.5)
        # In the upper tail both sigmoids are nearly 1 and their difference cancels: flip the sign.
        sign = -torch.sign(lower + upper).detach()
        return (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()

    def likelihood(self, z: Tensor) -> Tensor:
        """Probability of each (noisy or rounded) hyper-latent. z: (B, C, H, W), same out."""
        flat = z.transpose(0, 1).reshape(z.shape[1], 1, -1)
        p = self.likelihood_lower_bound(self.interval(flat))
        return p.reshape(z.shape[1], z.shape[0], *z.shape[2:]).transpose(0, 1)

    def quantile_loss(self) -> Tensor:
        """Sum over channels of the distances, as logits, of the quantiles from where the tails hold
        TAIL_MASS and the median is (the auxiliary loss of Ballé et al., 2018). A scalar."""
        return (self.logits(self.quantiles) - self.target).abs().sum()

    @torch.no_grad()
    def fit_quantiles(self) -> None:
        """Set the outer quantiles so that the tails hold TAIL_MASS. The medians stay."""
        wide = copy.deepcopy(self).double()
        for column in (0, 2):
            low = torch.full_like(wide.quantiles[:, :, :1], -1e4)
            high = -low
            for _ in range(60):
                middle = (low + high) / 2
                below = wide.logits(middle) < wide.target[column]
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
            self.quantiles[:, :, column] = high[:, :, 0].to(self.quantiles)

    @torch.no_grad()
    def update(self) -> None:
        """Rebuild the integer tables, one per channel, from the learned cumulatives."""
        low, median, high = self.quantiles[:, 0].unbind(1)
        minima = torch.ceil(median - low).int().clamp(min=0)
        maxima = torch.ceil(high - median).int().clamp(min=0)
        length = minima + maxima + 1
        samples = torch.arange(int(length.max()), device=median.device)
        samples = samples[None] + (median - minima)[:, None]
        pmf = self.interval(samples[:, None])[:, 0]
        lower = self.logits(samples[:, None, :1] - 0.5)
        upper = self.logits(samples[:, None, -1:] + 0.5)
        tail = (torch.sigmoid(lower) + torch.sigmoid(-upper))[:, 0, 0]
        self.set_tables(_tables(pmf, tail, length, -minima))


class GaussianConditional(TabledPrior):
    """Gaussian with a predicted mean and scale, integrated over unit intervals."""

    scale_table: Tensor
    scale_bound: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale_table", torch.empty(0))
        self.register_buffer("scale_bound", torch.tensor([SCALE_MIN], dtype=torch.float32))
        self.lower_bound_scale = LowerBound(SCALE_MIN)

    def likelihood(self, residual: Tensor, scale: Tensor) -> Tensor:
        """Probability of each y − mean (noisy or rounded) under N(0, scale²). Scales below 0.11
        count as 0.11."""
        scale = self.lower_bound_scale(scale)
        distance = residual.abs()
        upper = _normal_cdf((0.5 - distance) / scale)
        return self.likelihood_lower_bound(upper - _normal_cdf((-0.5 - distance) / scale))

    def levels_of(self, scale: Tensor) -> Tensor:
        """The scale level of each scale: the first level that is not below it, or the last.
        int32."""
        return torch.bucketize(scale.contiguous(), self.scale_table[:-1]).to(torch.int32)

    @torch.no_grad()
    def update(self) -> None:
        """Rebuild the scale levels and their integer tables."""
        levels = scale_levels()
        self.scale_table = levels
        self.set_tables(gaussian_tables(levels.numpy()))


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(x * -(2**-0.5))


def _tables(pmf: Tensor, tail: Tensor, length: Tensor, offset: Tensor) -> CdfTables:
    """Tables from pmf (T, longest), of whose row t length[t] entries count, and from tail (T,), the
    probability of the escape."""
    cdf = np.zeros((len(length), int(length.max()) + 2), dtype=np.int32)
    for t, n in enumerate(length.tolist()):
        cdf[t, : n + 2] = pmf_to_cdf(torch.cat([pmf[t, :n], tail[t : t + 1]]).cpu().numpy())
    return CdfTables(cdf, (length + 2).cpu().numpy(), offset.cpu().numpy())
