"""Where in a picture the bits of its stream go: bits per latent position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stfcodec.container import StreamInfo
from stfcodec.geometry import DOWNSAMPLING_Y, DOWNSAMPLING_Z

_Z_SPAN = DOWNSAMPLING_Z // DOWNSAMPLING_Y


@dataclass(frozen=True, eq=False)
class BitAllocation:
    """Bits of one stream at each latent position: what `bit_allocation` returns.

    A position of the latents y stands for 16×16 pixels, a position of the hyper-latents z for
    64×64. Positions cover the picture as it is coded, padded to multiples of 64 pixels: h is the
    padded height divided by 16, w the padded width divided by 16.
    """

    y: np.ndarray
    """Bits of y, float32 (h, w)."""
    z: np.ndarray
    """Bits of z, float32 (h/4, w/4)."""
    info: StreamInfo
    """What the stream says about itself."""

    @property
    def positions(self) -> np.ndarray:
        """Bits of y and z at each position of y, float32 (h, w)."""
        return per_position(self.y, self.z)

    @property
    def bits(self) -> float:
        """All bits of y and z. What else a file holds is `info.overhead_bytes`."""
        return float(self.y.sum(dtype=np.float64) + self.z.sum(dtype=np.float64))

    @property
    def concentration(self) -> float:
        """Share of the bits that the tenth of the positions with the most bits takes, 0.1…1."""
        return share_of_top_tenth(self.positions, self.positions)

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as plain values for json.dumps, bits rounded to hundredths."""
        info = self.info
        return {
            "quality": info.quality,
            "width": info.width,
            "height": info.height,
            "bytes": info.total_bytes,
            "bpp": info.bpp,
            "bits": round(self.bits, 2),
            "y_bits": round(float(self.y.sum(dtype=np.float64)), 2),
            "z_bits": round(float(self.z.sum(dtype=np.float64)), 2),
            "overhead_bytes": info.overhead_bytes,
            "concentration": round(self.concentration, 4),
            "pixels_per_position": DOWNSAMPLING_Y,
            "positions": np.round(self.positions.astype(np.float64), 2).tolist(),
        }


def per_position(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Bits of y (h, w) and of z (h/4, w/4) at each position of y: bits of z spread over their
    area."""
    share = z / _Z_SPAN**2
    return y + share.repeat(_Z_SPAN, 0).repeat(_Z_SPAN, 1)


def share_of_top_tenth(bits: np.ndarray, values: np.ndarray) -> float:
    """The share of `bits` that lies where `values`, an array of the same shape, are highest.

    A tenth of the positions counts, rounded up. Bits that are equal everywhere give a tenth.
    """
    count = -(-bits.size // 10)
    top = np.argsort(values, axis=None)[bits.size - count :]
    total = float(bits.sum(dtype=np.float64))
    return float(bits.ravel()[top].sum(dtype=np.float64)) / total if total else count / bits.size
