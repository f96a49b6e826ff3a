"""One picture to one stream and back: padding, the transforms, and the entropy-coded latents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stfcodec import imageio, refinement, tiling
from stfcodec.container import Header, Stream
from stfcodec.errors import UsageError, WeightsError
from stfcodec.geometry import DOWNSAMPLING_Z, padded
from stfcodec.imageio import Picture
from stfcodec.models import host, locate, registry, releases, weights
from stfcodec.models.base import CompressionModel
from stfcodec.models.coding import CodedLatents
from stfcodec.models.registry import ModelInfo
from stfcodec.view import WHOLE, View

PRECISION = "STFCODEC_PRECISION"
"""Environment variable with the data type of the transforms: float32, bfloat16 or auto."""


@dataclass(frozen=True)
class Codec:
    """A loaded model on a device.

    Only the transforms run on the device. The networks that the probabilities of symbols depend on
    stay on the CPU, where encoder and decoder agree to the last bit.
    """

    info: ModelInfo
    model: CompressionModel
    device: torch.device
    core: int = tiling.CORE
    """Side of the kept part of the transforms' tiles in pixels, see `tiling.run`."""

    def _analysis(self, pixels: Tensor, quality: float) -> Tensor:
        """g_a: uint8 or uint16 (H, W, 3), sides multiples of 64 -> y (1, M, H/16, W/16)."""
        peak = _peak(pixels.dtype)

        def run(tile: Tensor) -> Tensor:
            return first.run(tile.to(self.device).float() / peak)

        first, *others = self.model.analysis_stages(quality)
        y = tiling.run([first._replace(run=run), *others], pixels.permute(2, 0, 1)[None], self.core)
        return y.float().cpu()

    @host.plain_torch()
    @torch.inference_mode()
    def synthesis(
        self, y_hat: Tensor, headers: Sequence[Header], view: View, depth: int, where: torch.device
    ) -> Tensor:
        """g_s: ŷ (B, M, h, w) -> the view's pixels (B, 3, H, W), uint8 or uint16, as `depth` says.

        headers: of the B pictures, which have one size. where: the device of the result. The
        channels of a grey picture are equal.
        """
        dtype = torch.uint8 if depth == 8 else torch.uint16
        peak = _peak(dtype)
        qualities = [header.quality for header in headers]
        # Of a type of their own: that of the host program may be half as long.
        quality = torch.tensor(qualities, dtype=torch.float32, device=self.device)
        is_grey = [header.channels == 1 for header in headers]
        grey = torch.tensor(is_grey, device=self.device)[:, None, None, None]

        def run(tile: Tensor) -> Tensor:
            x_hat = last.run(tile).clamp_(0, 1)
            if any(is_grey):
                x_hat = torch.where(grey, x_hat.mean(1, keepdim=True), x_hat)
            return x_hat.mul(peak).round_().to(dtype).to(where)

        if view.divisor == 1:
            *others, last = self.model.synthesis_stages(quality)
        else:
            *others, last = self.model.scaled_synthesis_stages(quality, view.divisor)
        stages = [*others, last._replace(run=run)]
        y_hat = y_hat.to(self.device, memory_format=torch.channels_last)
        rows, cols = view.spans(headers[0].width, headers[0].height)
        pixels, *seen = tiling.run_part(stages, y_hat, self.core, rows, cols)
        kept_rows, kept_cols = (
            slice(inner.start - outer.start, inner.stop - outer.start)
            for inner, outer in zip(
                map(view.decoded, (rows, cols)), map(view.decoded, seen), strict=True
            )
        )
        return pixels[..., kept_rows, kept_cols]

    @host.plain_torch()
    def encode(self, picture: Picture, quality: float, effort: int = 0) -> Stream:
        """Codes one picture.

        quality: as `registry.check_quality` returned it. effort: iterations of the refinement of
        the latents; above 0 only if the codec was loaded with `refines`.
        """
        height, width = picture.pixels.shape[:2]
        pixels = _pad(picture.pixels)
        with torch.inference_mode():
            y = self._analysis(pixels, quality)
        if effort:
            size = height, width
            y = refinement.refine(self.model, pixels, size, y, quality, effort, self.device)
        header = Header(
            width=width,
            height=height,
            channels=1 if picture.gray else 3,
            bit_depth=8 * picture.pixels.itemsize,
            model_id=self.info.id,
            fingerprint=self.model.fingerprint,
            quality=quality,
        )
        return Stream(
            header,
            *self.model.compress(y, quality),
            icc=picture.icc,
            exif=picture.exif,
            xmp=picture.xmp,
            iptc=picture.iptc,
            alpha=None if picture.alpha is None else imageio.encode_alpha(picture.alpha),
        )

    @host.plain_torch()
    def verify(self, stream: Stream) -> None:
        """Decodes all of a stream but the pixels: the symbols, and the alpha plane.

        Raises StreamError if the stream is damaged, WeightsError if it was made with other weights.
        """
        self._check_fingerprint(stream)
        _alpha(stream)
        self.latents(stream)

    @host.plain_torch()
    def bits_per_position(self, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
        """Bits at each position of y (h, w) and of z (h/4, w/4), float32.

        Raises StreamError if the stream is damaged, WeightsError if it was made with other weights.
        """
        self._check_fingerprint(stream)
        return self.model.bits_per_position(*_coded_latents(stream))

    def _check_fingerprint(self, stream: Stream) -> None:
        """Raises WeightsError if the stream was made with other weights."""
        fingerprints = stream.header.fingerprint, self.model.fingerprint
        if fingerprints[0] != fingerprints[1]:
            needed, here = (releases.describe(self.info.name, f) for f in fingerprints)
            raise WeightsError(f"the stream needs weights {needed} of {self.info.name}, not {here}")

    @host.plain_torch()
    def latents(self, stream: Stream) -> Tensor:
        """ŷ (1, M, h, w) after the inverse gain, on the CPU: what `synthesis` takes.

        Raises StreamError if the stream is damaged, WeightsError if it was made with other weights.
        """
        self._check_fingerprint(stream)
        return self.model.decompress(*_coded_latents(stream))

    @host.plain_torch()
    def decode(self, stream: Stream, view: View = WHOLE, depth: int | None = None) -> Picture:
        """The coded picture, or what of it the view shows.

        depth: bits a channel, 8 or 16; None for those of the source. Raises StreamError if the
        stream is damaged, WeightsError if it was made with other weights, UsageError if the view
        reaches beyond the picture.
        """
        header = stream.header
        rows, cols = view.spans(header.width, header.height)
        self._check_fingerprint(stream)
        alpha = _alpha(stream)
        if alpha is not None:
            alpha = imageio.reduced(alpha, view.divisor)[view.decoded(rows), view.decoded(cols)]
            alpha = np.ascontiguousarray(alpha)
        depth = depth or header.bit_depth
        pixels = self.synthesis(self.latents(stream), [header], view, depth, torch.device("cpu"))
        return Picture(
            pixels=np.ascontiguousarray(pixels[0].permute(1, 2, 0).numpy()),
            gray=header.channels == 1,
            alpha=alpha,
            icc=stream.icc,
            exif=stream.exif,
            xmp=stream.xmp,
            iptc=stream.iptc,
            notes=(),
        )


def _alpha(stream: Stream) -> np.ndarray | None:
    """The alpha plane, uint8 (height, width). Raises StreamError."""
    if stream.alpha is None:
        return None
    return imageio.decode_alpha(stream.alpha, stream.header.width, stream.header.height)


def _coded_latents(stream: Stream) -> tuple[CodedLatents, tuple[int, int], float]:
    """The latents of a stream, the size (h, w) of z, and the quality."""
    header = stream.header
    height, width = (padded(n) // DOWNSAMPLING_Z for n in (header.height, header.width))
    return CodedLatents(stream.z, stream.y, stream.checksum), (height, width), header.quality


def codec_for(
    info: ModelInfo,
    quality: float,
    device: str = "auto",
    path: Path | None = None,
    refines: bool = False,
    fingerprint: bytes | None = None,
) -> Codec:
    """A codec with loaded weights; the last few codecs are cached.

    device: auto, cpu or cuda. path: a weights file in place of the embedded or installed one.
    refines: whether the codec has the float networks, without which it cannot encode with effort.
    fingerprint: that of the weights which a stream needs; all folders of weights are searched for
    them. Raises WeightsError, and UsageError for a device that is not there.
    """
    found = _device(device)

    def load(path: Path) -> Codec:
        if fingerprint is None:
            locate.check_stated(path, info, quality)
        key = locate.identity(path), host.float32_precision()
        return _load(info, path, found, _precision(found), refines, key)

    if path is not None or fingerprint is None:
        return load(path or locate.find(info, quality))
    problem = locate.missing(info, quality, fingerprint)
    for candidate in locate.with_fingerprint(fingerprint):
        try:
            codec = load(candidate)
        except WeightsError as error:  # another file may be whole
            problem = error
        else:
            if codec.model.fingerprint == fingerprint:
                return codec
            found_here = codec.model.fingerprint.hex()
            problem = WeightsError(
                f"{candidate}: damaged (its fingerprint is {found_here}); get or import it again"
            )
    raise problem


@lru_cache(maxsize=4)
@host.plain_torch()
def _load(
    info: ModelInfo,
    path: Path,
    device: torch.device,
    precision: torch.dtype,
    refines: bool,
    _: object,
) -> Codec:
    """Loads a codec. The last argument only tells cached codecs apart: it changes when the file at
    `path` or the process's float32 precision does."""
    model = weights.load(info, path, coding=not refines).requires_grad_(False)
    if model.integer is None:
        raise WeightsError(
            f"{path}: these weights have no integer form, without which other machines could not "
            f"decode; 'stfcodec weights import' makes one"
        )
    model.set_precision(precision)
    for name in model.transforms:
        model.get_submodule(name).to(device, memory_format=torch.channels_last)
    return Codec(info, model, device)


def _device(name: str) -> torch.device:
    # "auto" is the CPU, until the CUDA tests have passed on a CUDA device.
    if registry.check_device(name) == "auto":
        return torch.device("cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device here: use --device cpu")
    return torch.device(name)


def _precision(device: torch.device) -> torch.dtype:
    """The data type of the transforms: bfloat16 where the CPU has instructions for it, as emulated
    it is slower than float32.

    Raises UsageError if the environment variable has another value than it may have.
    """
    wanted = os.environ.get(PRECISION, "auto")
    if wanted not in ("auto", "float32", "bfloat16"):
        raise UsageError(f"{PRECISION}={wanted!r}: choose auto, float32 or bfloat16")
    if wanted == "auto":
        wanted = "bfloat16" if device.type == "cpu" and _cpu_has_bfloat16() else "float32"
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def _cpu_has_bfloat16() -> bool:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def _peak(dtype: torch.dtype) -> int:
    """The value of white."""
    return 255 if dtype == torch.uint8 else 65535


def _pad(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) with the last row and column repeated up to multiples of 64."""
    height, width = pixels.shape[:2]
    below, beside = padded(height) - height, padded(width) - width
    return torch.from_numpy(np.pad(pixels, ((0, below), (0, beside), (0, 0)), mode="edge"))
