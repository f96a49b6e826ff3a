"""Makes small ICC profiles from primaries, a white point and a tone curve (ICC.1:2010, v4)."""

from __future__ import annotations

import struct

import numpy as np

Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue, in this order."""

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""Parameters g, a, b, c, d of a parametric curve: (a·x + b)^g from d on, c·x below it."""

SRGB_COLOURS: Chromaticities = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)

_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_MAX_COEFFICIENT = 4.0  # of matrices that make sense


def make_profile(name: str, colours: Chromaticities, curve: tuple[float, ...], gray: bool) -> bytes:
    """A display profile for RGB, or for grey of the white point's colour.

    name: the description in the profile. curve: one exponent, or parameters as `SRGB_CURVE`. Raises
    ValueError if the primaries do not span a triangle around the white point.
    """
    function = 0 if len(curve) == 1 else 3
    tone_curve = b"para" + struct.pack(">IHH", 0, function, 0) + _s15fixed16(*curve)
    return with_tone_curve(name, colours, tone_curve, gray)


def with_tone_curve(name: str, colours: Chromaticities, tone_curve: bytes, gray: bool) -> bytes:
    """As `make_profile`, with the curve as the data of a tag of type `curv` or `para`."""
    matrix, adaptation = _matrices(colours)
    tags = {
        b"desc": _text(name),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(_D50),
        b"chad": b"sf32" + bytes(4) + _s15fixed16(*adaptation.ravel()),
    }
    if gray:
        tags |= {b"kTRC": tone_curve}
    else:
        tags |= {letter + b"XYZ": _xyz(matrix[:, n]) for n, letter in enumerate((b"r", b"g", b"b"))}
        tags |= {letter + b"TRC": tone_curve for letter in (b"r", b"g", b"b")}
    return _file(tags, b"GRAY" if gray else b"RGB ")


def _matrices(colours: Chromaticities) -> tuple[np.ndarray, np.ndarray]:
    """From RGB to XYZ under D50, and from XYZ under the white point to D50 (Bradford), each 3x3."""
    if min(colours[1::2]) <= 0:
        raise ValueError("chromaticity outside the diagram")
    x, y = np.array(colours[::2]), np.array(colours[1::2])
    columns = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    white, primaries = columns[:, 0], columns[:, 1:]
    try:
        scale = np.linalg.solve(primaries, white)
    except np.linalg.LinAlgError as error:
        raise ValueError("primaries on one line") from error
    cones = _BRADFORD @ white
    if min(cones) <= 0 or min(scale) <= 0:
        raise ValueError("white point outside the primaries")
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / cones) @ _BRADFORD
    matrix = adaptation @ (primaries * scale)
    if not all((np.abs(m) < _MAX_COEFFICIENT).all() for m in (matrix, adaptation)):
        raise ValueError("primaries too far apart")
    return matrix, adaptation


def _file(tags: dict[bytes, bytes], space: bytes) -> bytes:
    """A profile of these tags: header, tag table, data. Equal data is stored once."""
    data_offset, offsets = 128 + 4 + 12 * len(tags), {}
    table, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        if data not in offsets:
            offsets[data] = data_offset + len(body)
            body += data + bytes(-len(data) % 4)
        table += tag + struct.pack(">II", offsets[data], len(data))
    header = struct.pack(
        *(">I4xI4s4s4s6H4s", data_offset + len(body), 0x04300000, b"mntr", space, b"XYZ "),
        *(2000, 1, 1, 0, 0, 0, b"acsp"),
    )
    header = header.ljust(68, b"\0") + _s15fixed16(*_D50)
    return header.ljust(128, b"\0") + table + body


def _text(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">3I2s2s2I", 0, 1, 12, b"en", b"US", len(data), 28) + data


def _xyz(values: tuple[float, ...] | np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + _s15fixed16(*values)


def _s15fixed16(*values: float) -> bytes:
    """Signed fixed-point numbers with 16 fractional bits."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
