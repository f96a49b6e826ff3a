"""Writes PNG files of 16 bits a channel, which Pillow has for one grey channel only.

Reference: PNG specification, third edition (W3C), sections 9 and 12.7.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

import numpy as np

from stfcodec.imageio.by_format import png

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_SUB, _UP, _PAETH = 1, 2, 4
_FILTERS = np.array([_SUB, _UP, _PAETH], np.uint8)
_STRIP_BYTES = 1 << 20


def with_samples(data: bytes, samples: np.ndarray) -> list[bytes]:
    """The parts of a PNG file, whose picture is replaced.

    data: a PNG file with all other chunks. samples: uint16 (H, W, 1 to 4), grey or RGB, with alpha
    or without.
    """
    height, width, channels = samples.shape
    parts, is_written = [png.MAGIC], False
    for name, at, length in png.chunks(io.BytesIO(data)):
        content = data[at : at + length]
        if name == b"IHDR":
            size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
            content = size + bytes([16, _COLOUR_TYPES[channels], 0, 0, 0])
        elif name == b"IDAT":
            if not is_written:
                parts += (png.chunk(name, piece) for piece in _compressed(samples))
            is_written = True
            continue
        parts.append(png.chunk(name, content))
    return parts


def _compressed(samples: np.ndarray) -> Iterator[bytes]:
    compressor = zlib.compressobj()
    for strip in _filtered(samples):
        if piece := compressor.compress(strip.data):
            yield piece
    yield compressor.flush()


def _filtered(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Strips of rows as PNG compresses them: a filter's number, then the differences.

    Of three filters each row gets the one with the smallest sum of differences.
    """
    height, width, channels = samples.shape
    step = 2 * channels  # bytes of a pixel
    rows_at_once = max(1, _STRIP_BYTES // (step * width))
    above = np.zeros((1, step * (width + 1)), np.uint8)
    for top in range(0, height, rows_at_once):
        strip = samples[top : top + rows_at_once].astype(">u2").view(np.uint8)
        rows = np.pad(strip.reshape(len(strip), -1), ((0, 0), (step, 0)))  # black before each row
        up = np.concatenate([above, rows[:-1]])
        above = rows[-1:]
        row, left, up_left, up = rows[:, step:], rows[:, :-step], up[:, :-step], up[:, step:]
        candidates = np.stack([row - left, row - up, row - _paeth(left, up, up_left)])
        sizes = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
        best = sizes.argmin(axis=0)
        chosen = candidates[best, np.arange(len(best))]
        yield np.concatenate([_FILTERS[best][:, None], chosen], axis=1)


def _paeth(left: np.ndarray, up: np.ndarray, up_left: np.ndarray) -> np.ndarray:
    """Of three neighbours the one nearest to left + up − up_left; ties in this order."""
    a, b, c = (plane.astype(np.int16) for plane in (left, up, up_left))
    to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    up_or_corner = np.where(to_b <= to_c, up, up_left)
    return np.where((to_a <= to_b) & (to_a <= to_c), left, up_or_corner)
