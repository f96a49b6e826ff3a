"""Turns colour descriptions of all formats into ICC profiles, which `Picture` carries.

PNG's cICP chunk and AVIF's nclx box have code points of ITU-T H.273; PNG, TIFF and BMP may state
numbers, JPEG 2000 an enumerated space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

from PIL import Image

from stfcodec.errors import ImageError
from stfcodec.imageio.by_format import bmp, jpeg2000, png
from stfcodec.imageio.by_format.avif import nclx
from stfcodec.imageio.colours import icc
from stfcodec.imageio.pillow import undecoded_file

_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
_SRGB = icc.SRGB_COLOURS
_P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
_SMPTE = ("SMPTE C", (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070))
_PRIMARIES: dict[int, tuple[str, icc.Chromaticities]] = {
    1: ("sRGB", _SRGB),
    2: ("sRGB", _SRGB),  # unspecified
    4: ("NTSC 1953", (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08)),
    5: ("BT.601 (625 lines)", (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: _SMPTE,
    7: _SMPTE,
    8: ("film", (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049)),
    9: ("BT.2020", (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    11: ("DCI-P3", (0.314, 0.351, *_P3)),
    12: ("Display P3", (*_D65, *_P3)),
    22: ("EBU 3213", (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077)),
}
_ADOBE_RGB = ("Adobe RGB", (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06))
_KNOWN_PRIMARIES = (*_PRIMARIES.values(), _ADOBE_RGB)
_SRGB_TRANSFERS = (1, 2, 6, 13, 14, 15)
"""Transfer functions that are shown as sRGB. Those of BT.709, BT.601 and BT.2020 (1, 6, 14, 15)
describe cameras and are not the inverse of a display's. 2 is unspecified."""
_EXPONENTS = {4: 2.2, 5: 2.8, 8: 1.0}  # of other transfer functions
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
_SRGB_EXPONENT = 1 / 0.45455  # which stands for sRGB in gAMA
_IDENTITY_MATRIX = 0
_EXPONENT_TOLERANCE = 0.01
_QOI_COLOUR_SPACE = 13  # offset of the byte
_JP2_SRGB = (None, 16, 17, 18)  # absent, sRGB, grey, and YCbCr, which the decoder converts
_JP2_CMYK = 12
_JP2_UNSUPPORTED = {
    **{0: "bi-level", 1: "YCbCr (BT.709)", 3: "YCbCr (BT.601)", 4: "YCbCr (NTSC)"},
    **{9: "PhotoYCC", 11: "CMY", _JP2_CMYK: "CMYK", 13: "YCCK", 14: "CIELab", 15: "bi-level"},
    **{19: "CIEJab", 20: "e-sRGB", 21: "ROMM RGB", 22: "YPbPr (60 Hz)", 23: "YPbPr (50 Hz)"},
    24: "e-sYCC",
}
_WHITE_POINT, _PRIMARY_CHROMATICITIES = 318, 319  # TIFF tags


@dataclass(frozen=True)
class ColourDescription:
    """What a file says of its colours, besides the ICC profile that Pillow exposes."""

    source: str
    """The part of the file, for notes."""
    name: str = "sRGB"
    """Of the primaries."""
    primaries: icc.Chromaticities = _SRGB
    curve: tuple[float, ...] = icc.SRGB_CURVE
    """One exponent, or `icc.SRGB_CURVE`."""
    problem: str | None = None
    """Why the description cannot be used."""
    overrides_icc: bool = False
    """It takes precedence over an ICC profile in the same file."""
    profile: bytes | None = None
    """A profile that Pillow does not expose. Name, primaries and curve are then unused."""


def description_in(image: Image.Image) -> ColourDescription | None:
    """The description in a file of which no pixel is decoded yet; None if there is none."""
    file = undecoded_file(image)
    if image.format == "AVIF":
        codes = nclx(file) if file else None
        return from_code_points("AVIF nclx", codes[0], codes[1]) if codes else None
    if image.format == "PNG":
        chunk = png.cicp(file) if file else None
        return _from_cicp(chunk) if chunk else _from_older_png_chunks(image)
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        white, primaries = tags.get(_WHITE_POINT, _D65), tags.get(_PRIMARY_CHROMATICITIES)
        return _from_numbers("TIFF tags", (*white, *primaries), None) if primaries else None
    readers = {"JPEG2000": _from_jpeg_2000, "BMP": _from_bmp, "QOI": _from_qoi}
    reader = readers.get(image.format or "")
    return reader(file, image.mode) if reader and file else None


def profile_for(
    description: ColourDescription | None, embedded: bytes | None, gray: bool, notes: list[str]
) -> bytes | None:
    """The ICC profile of a picture, embedded or made from a description; None stands for sRGB.

    embedded: the profile in the file. gray: only the curve counts, as primaries mean nothing for
    grey. What was done with the description is added to `notes`.
    """
    if description is None or description.profile is not None:
        return embedded
    if embedded and not description.overrides_icc:
        return embedded
    if description.problem:
        assumed = "those of the ICC profile" if embedded else "sRGB"
        notes.append(f"{description.problem}: colours taken for {assumed}")
        return embedded
    if embedded:
        notes.append(f"ICC profile left out: {description.source} comes before it")
    has_srgb_curve = description.curve == icc.SRGB_CURVE
    if has_srgb_curve and (gray or _are_close(description.primaries, _SRGB)):
        return None
    curve = "sRGB curve" if has_srgb_curve else f"gamma {description.curve[0]:.3g}"
    name = curve if gray else f"{description.name} primaries, {curve}"
    try:
        profile = icc.make_profile(name, description.primaries, description.curve, gray)
    except ValueError as error:
        notes.append(f"{description.source} makes no sense ({error}): colours taken for sRGB")
        return None
    notes.append(f"{name} stated by {description.source}: kept as an ICC profile")
    return profile


def from_code_points(
    source: str, primaries: int, transfer: int, overrides_icc: bool = False
) -> ColourDescription:
    """A description by the H.273 codes of its primaries and its transfer function."""
    problem = None
    if transfer in _HDR_TRANSFERS:
        problem = f"{_HDR_TRANSFERS[transfer]} (HDR) stated by {source} is not supported"
    elif primaries not in _PRIMARIES or transfer not in (*_SRGB_TRANSFERS, *_EXPONENTS):
        problem = f"{source} states primaries {primaries} and transfer {transfer}, unknown here"
    if problem:
        return ColourDescription(source, problem=problem, overrides_icc=overrides_icc)
    name, chromaticities = _PRIMARIES[primaries]
    curve = (_EXPONENTS[transfer],) if transfer in _EXPONENTS else icc.SRGB_CURVE
    return ColourDescription(source, name, chromaticities, curve, overrides_icc=overrides_icc)


def _from_cicp(chunk: bytes) -> ColourDescription:
    primaries, transfer, matrix, full_range = chunk
    if matrix != _IDENTITY_MATRIX or full_range != 1:
        kind = "narrow range" if matrix == _IDENTITY_MATRIX else f"matrix {matrix}"
        problem = f"PNG cICP of an unusual kind ({kind})"
        return ColourDescription("PNG cICP", problem=problem, overrides_icc=True)
    return from_code_points("PNG cICP", primaries, transfer, overrides_icc=True)


def _from_older_png_chunks(image: Image.Image) -> ColourDescription | None:
    """From cHRM and gAMA, unless there is an sRGB chunk."""
    gamma, chromaticities = image.info.get("gamma"), image.info.get("chromaticity")
    if "srgb" in image.info or (gamma is None and chromaticities is None):
        return None
    present = (("cHRM", chromaticities), ("gAMA", gamma is not None))
    source = f"PNG {' and '.join(name for name, is_present in present if is_present)}"
    return _from_numbers(source, chromaticities or _SRGB, gamma)


def _from_jpeg_2000(fp: IO[bytes], mode: str) -> ColourDescription | None:
    found = jpeg2000.colour_description(fp)
    if isinstance(found, bytes):
        if found[16:20] == b"CMYK" and mode != "CMYK":
            raise ImageError("JPEG 2000 of inks by its ICC profile (CMYK): convert it to RGB first")
        return ColourDescription("JP2 colr", profile=found)
    if found in _JP2_SRGB or (found == _JP2_CMYK and mode == "CMYK"):
        return None
    name = _JP2_UNSUPPORTED.get(found, f"colour space {found}")
    return ColourDescription("JP2 colr", problem=f"{name} stated by JP2 colr is not supported")


def _from_bmp(fp: IO[bytes], mode: str) -> ColourDescription | None:
    source = "BMP header"
    found = bmp.colour_description(fp)
    if found is None:
        return None
    if isinstance(found, bytes):
        return ColourDescription(source, profile=found)
    if isinstance(found, str):
        return ColourDescription(source, problem=found)
    exponents = found.exponents
    if exponents and max(exponents) - min(exponents) > _EXPONENT_TOLERANCE:
        return ColourDescription(source, problem="BMP whose channels have unlike curves")
    gamma = 1 / exponents[0] if exponents and exponents[0] else None
    return _from_numbers(source, found.chromaticities or _SRGB, gamma)


def _from_qoi(fp: IO[bytes], mode: str) -> ColourDescription | None:
    """Linear light gives only a note, because Pillow's own writer states it of any picture."""
    position = fp.tell()
    fp.seek(_QOI_COLOUR_SPACE)
    is_linear = fp.read(1) == b"\1"
    fp.seek(position)
    if not is_linear:
        return None
    return ColourDescription("QOI header", problem="linear light stated by QOI header")


def _from_numbers(
    source: str, chromaticities: tuple[float, ...], gamma: float | None
) -> ColourDescription:
    """A description by chromaticities, in the order of `icc.Chromaticities`, and an exponent.

    gamma: the exponent of encoding, as in gAMA; None: not stated, hence sRGB's curve.
    """
    try:
        numbers = tuple(float(value) for value in chromaticities)
        exponent = _SRGB_EXPONENT if gamma is None else 1 / gamma
    except (TypeError, ValueError, ZeroDivisionError):
        return ColourDescription(source, problem=f"{source} makes no sense")
    if len(numbers) != 8 or not 0.1 < exponent < 10:
        return ColourDescription(source, problem=f"{source} makes no sense")
    known = (name for name, primaries in _KNOWN_PRIMARIES if _are_close(numbers, primaries))
    name = next(known, "other")
    may_be_srgb = _are_close(numbers, _SRGB) or gamma is None
    if may_be_srgb and abs(1 / exponent - 1 / _SRGB_EXPONENT) <= 0.001:
        return ColourDescription(source, name, numbers)
    return ColourDescription(source, name, numbers, (exponent,))


def _are_close(one: icc.Chromaticities, other: icc.Chromaticities) -> bool:
    return all(abs(a - b) <= 0.002 for a, b in zip(one, other, strict=True))
