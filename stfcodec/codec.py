"""One picture to one stream and back: padding, the transforms, and the entropy-coded latents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stfcodec import imageio, tiling
from stfcodec.container import Header, Stream
from stfcodec.errors import UsageError, WeightsError
from stfcodec.imageio import Picture
from stfcodec.models import store, weights
from stfcodec.models.entropy_model import (
    DOWNSAMPLING_Z,
    ENTROPY_PARTS,
    CodedLatents,
    CompressionModel,
)
from stfcodec.models.registry import ModelInfo


@dataclass(frozen=True)
class Codec:
    """A loaded model on a device.

    Only the transforms run there: what decides a symbol's probability stays on the CPU, where
    encoder and decoder agree to the last bit.
    """

    info: ModelInfo
    model: CompressionModel
    device: torch.device

    def _analysis(self, x: Tensor) -> Tensor:
        return self.model.analysis(_channels_last(x.to(self.device))).cpu()

    def _synthesis(self, y_hat: Tensor) -> Tensor:
        return self.model.synthesis(_channels_last(y_hat.to(self.device))).cpu()

    def encode(self, picture: Picture, quality: float) -> Stream:
        """Codes one picture. quality: as `registry.check_quality` returned it."""
        height, width = picture.pixels.shape[:2]
        with torch.inference_mode():
            x = _pad(torch.from_numpy(picture.pixels).permute(2, 0, 1)[None].float() / 255)
            y = tiling.analysis(self._analysis, x, self.model.margin)
            coded = self.model.compress(y, quality)
        header = Header(
            width=width,
            height=height,
            channels=1 if picture.gray else 3,
            bit_depth=8,
            model_id=self.info.id,
            fingerprint=self.model.fingerprint,
            quality=quality,
        )
        alpha = None if picture.alpha is None else imageio.encode_alpha(picture.alpha)
        return Stream(
            header,
            *coded,
            icc=picture.icc,
            exif=picture.exif,
            xmp=picture.xmp,
            alpha=alpha,
        )

    def decode(self, stream: Stream) -> Picture:
        """The coded picture. Raises StreamError where the symbols turn out damaged, WeightsError
        where the stream was made with other weights."""
        header = stream.header
        if header.fingerprint != self.model.fingerprint:
            raise WeightsError(
                f"the stream needs weights {header.fingerprint.hex()} of {self.info.name}, "
                f"here are {self.model.fingerprint.hex()}: name the right file with --weights"
            )
        size = _padded(header.height), _padded(header.width)
        coded = CodedLatents(stream.z, stream.y, stream.checksum)
        alpha = None
        if stream.alpha is not None:
            alpha = imageio.decode_alpha(stream.alpha, header.width, header.height)
        with torch.inference_mode():
            positions = size[0] // DOWNSAMPLING_Z, size[1] // DOWNSAMPLING_Z
            y_hat = self.model.decompress(coded, positions, header.quality)
            x_hat = tiling.synthesis(self._synthesis, y_hat, self.model.margin)
            x_hat = x_hat[0, :, : header.height, : header.width].clamp_(0, 1)
            gray = header.channels == 1
            if gray:
                x_hat = x_hat.mean(0, keepdim=True).expand(3, -1, -1)
            pixels = x_hat.mul(255).round_().byte().permute(1, 2, 0).numpy()
        return Picture(
            pixels=np.ascontiguousarray(pixels),
            gray=gray,
            alpha=alpha,
            icc=stream.icc,
            exif=stream.exif,
            xmp=stream.xmp,
            notes=(),
        )


def codec_for(
    info: ModelInfo, quality: float, device: str = "auto", path: Path | None = None
) -> Codec:
    """A codec with weights, kept for the next picture.

    path: a weights file instead of the embedded or installed one. Raises WeightsError, and
    UsageError for a device that is not there.
    """
    return _load(info, path or store.find(info, quality), _device(device))


@lru_cache(maxsize=4)
def _load(info: ModelInfo, path: Path, device: torch.device) -> Codec:
    model = weights.load(info, path)
    if model.integer is None:
        raise WeightsError(
            f"{path}: these weights have no integer form, without which other machines could not "
            f"decode; make one with 'stfcodec quantize'"
        )
    for name, part in model.named_children():
        if name not in ENTROPY_PARTS:
            part.to(device, memory_format=torch.channels_last)
    return Codec(info, model, device)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device here: use --device cpu")
    if name not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {name!r}; choose auto, cpu or cuda")
    return torch.device(name)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _padded(side: int) -> int:
    return -(-side // DOWNSAMPLING_Z) * DOWNSAMPLING_Z


def _pad(x: Tensor) -> Tensor:
    """Repeats the last row and column up to multiples of 64; (1, 3, H, W)."""
    height, width = x.shape[2:]
    padding = (0, _padded(width) - width, 0, _padded(height) - height)
    return F.pad(x, padding, mode="replicate")
