"""TIFF files of every layout, written in code so that what they must be read as is known."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

_TYPES = {1: "B", 3: "H", 4: "I", 5: "I"}  # TIFF's numbers of field types
_RATIONAL = 5
Tags = dict[int, tuple[int, tuple[int, ...]]]
"""Tag to (field type, values); of rationals, numerators and denominators in turn."""


def directory(tags: Tags, at: int, order: str = "<", following: int = 0) -> bytes:
    """A directory to be placed at the offset `at`, with the values that do not fit behind it."""
    table, tail = struct.pack(order + "H", len(tags)), b""
    tail_at = at + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        count = len(values) // (2 if kind == _RATIONAL else 1)
        data = b"".join(struct.pack(order + _TYPES[kind], value) for value in values)
        if len(data) > 4:
            data, tail = struct.pack(order + "I", tail_at + len(tail)), tail + data
            tail += bytes(len(tail) % 2)
        table += struct.pack(order + "HHI", tag, kind, count) + data.ljust(4, b"\0")
    return table + struct.pack(order + "I", following) + tail


def tiff(
    samples: np.ndarray,
    order: str = "<",
    planar: bool = False,
    compressed: bool = False,
    predictor: bool = False,
    tile: int = 0,
    rows: int = 0,
    photometric: int | None = None,
    extra: tuple[int, ...] = (),
    bits: int = 0,
    more: Tags | None = None,
) -> bytes:
    """The samples (H, W) or (H, W, C) as strips of so many `rows` or square tiles.

    `bits` packs samples of fewer bits than the array's. `predictor` is the horizontal one.
    """
    samples = samples if samples.ndim == 3 else samples[..., None]
    height, width, channels = samples.shape
    depth = bits or samples.itemsize * 8
    kind = {"u": 1, "b": 1, "i": 2, "f": 3}[samples.dtype.kind]
    if photometric is None:
        photometric = 2 if channels > 2 else 1
    planes = [samples[..., c : c + 1] for c in range(channels)] if planar else [samples]
    parts = []
    for block in (b for plane in planes for b in _blocks(plane, tile, rows or height)):
        raw = _packed(block, order, bits, predictor)
        parts.append(zlib.compress(raw) if compressed else raw)
    sizes = [len(part) for part in parts]
    offsets = [8 + sum(sizes[:n]) for n in range(len(sizes))]
    tags: Tags = {
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, (depth,) * channels),
        259: (3, (8 if compressed else 1,)),
        262: (3, (photometric,)),
        277: (3, (channels,)),
        284: (3, (2 if planar else 1,)),
        317: (3, (2 if predictor else 1,)),
        339: (3, (kind,) * channels),
    }
    if extra:
        tags[338] = (3, extra)
    if tile:
        tags |= {322: (4, (tile,)), 323: (4, (tile,))}
        tags |= {324: (4, tuple(offsets)), 325: (4, tuple(sizes))}
    else:
        tags |= {278: (4, (rows or height,))}
        tags |= {273: (4, tuple(offsets)), 279: (4, tuple(sizes))}
    at = 8 + sum(sizes)
    data = b"".join(parts) + bytes(at % 2)
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, at + at % 2)
    return head + data + directory(tags | (more or {}), at + at % 2, order)


def _blocks(plane: np.ndarray, tile: int, rows: int) -> Iterator[np.ndarray]:
    height, width, channels = plane.shape
    if not tile:
        for y in range(0, height, rows):
            yield plane[y : y + rows]
        return
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            part = plane[y : y + tile, x : x + tile]
            whole = np.zeros((tile, tile, channels), plane.dtype)
            whole[: part.shape[0], : part.shape[1]] = part
            yield whole


def _packed(block: np.ndarray, order: str, bits: int, predictor: bool) -> bytes:
    if predictor:
        block = np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))
    if not bits:
        return block.astype(block.dtype.newbyteorder(order)).tobytes()
    rows = block.reshape(len(block), -1)
    digits = rows[..., None] >> np.arange(bits)[::-1] & 1
    return np.packbits(digits.reshape(len(block), -1).astype(np.uint8), axis=1).tobytes()
