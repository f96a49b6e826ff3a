"""Colours that a file describes otherwise than by an ICC profile become one.

The code points are those of ITU-T H.273, in PNG's cICP chunk and AVIF's nclx box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

from PIL import Image

from stfcodec.errors import ImageError
from stfcodec.imageio import bmp, icc, jpeg2000, png
from stfcodec.imageio.avif import nclx
from stfcodec.imageio.pillow import undecoded

_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
_SRGB = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
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
# What PNG's cHRM and TIFF's tags may state besides.
_NAMED = (*_PRIMARIES.values(), ("Adobe RGB", (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)))
_LIKE_SRGB = (1, 2, 6, 13, 14, 15)
"""The curve of BT.709, BT.601 and BT.2020 (1, 6, 14, 15) describes cameras. It is no inverse of a
display's, so viewers show such pictures as sRGB ones. 2 is unspecified."""
_EXPONENTS = {4: 2.2, 5: 2.8, 8: 1.0}
_HDR = {16: "PQ", 18: "HLG"}
_SRGB_EXPONENT = 1 / 0.45455  # how gAMA, a power, says sRGB
_IDENTITY_MATRIX = 0
_SAME_EXPONENT = 0.01
_QOI_COLOURS = 13  # offset of the byte
_DECODED_JP2 = (None, 16, 17, 18)  # sRGB, grey, and YCbCr that the decoder makes RGB of
_JP2_CMYK = 12
_OTHER_JP2 = {
    **{0: "bi-level", 1: "YCbCr (BT.709)", 3: "YCbCr (BT.601)", 4: "YCbCr (NTSC)"},
    **{9: "PhotoYCC", 11: "CMY", _JP2_CMYK: "CMYK", 13: "YCCK", 14: "CIELab", 15: "bi-level"},
    **{19: "CIEJab", 20: "e-sRGB", 21: "ROMM RGB", 22: "YPbPr (60 Hz)", 23: "YPbPr (50 Hz)"},
    24: "e-sYCC",
}
_WHITE_POINT, _PRIMARY_CHROMATICITIES = 318, 319  # TIFF tags


@dataclass(frozen=True)
class Colours:
    """What a file states, and `where`; `overrules` an ICC profile that it holds too.

    `icc` is a profile that Pillow does not show, and then all that is stated.
    """

    where: str
    name: str = "sRGB"
    primaries: icc.Chromaticities = _SRGB
    curve: tuple[float, ...] = icc.SRGB_CURVE
    trouble: str | None = None
    overrules: bool = False
    icc: bytes | None = None


def stated(image: Image.Image) -> Colours | None:
    """The description in a file of which no pixel is decoded yet; None if there is none."""
    fp = undecoded(image)
    if image.format == "AVIF":
        codes = nclx(fp) if fp else None
        return _of_code_points("AVIF nclx", codes[0], codes[1]) if codes else None
    if image.format == "PNG":
        chunk = png.cicp(fp) if fp else None
        return _of_cicp(chunk) if chunk else _of_older_chunks(image)
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        white, rest = tags.get(_WHITE_POINT, _D65), tags.get(_PRIMARY_CHROMATICITIES)
        return _of_numbers("TIFF tags", (*white, *rest), None) if rest else None
    of_file = {"JPEG2000": _of_jpeg_2000, "BMP": _of_bmp, "QOI": _of_qoi}.get(image.format or "")
    return of_file(fp, image.mode) if of_file and fp else None


def profile(
    colours: Colours | None, embedded: bytes | None, gray: bool, notes: list[str]
) -> bytes | None:
    """The ICC profile to carry: what is stated, or the embedded one; None stands for sRGB.

    Of grey pictures, for which primaries mean nothing, only the curve counts. Adds to `notes`
    what was made of the statement.
    """
    if colours is None or colours.icc is not None or (embedded and not colours.overrules):
        return embedded
    if colours.trouble:
        instead = "those of the ICC profile" if embedded else "sRGB"
        notes.append(f"{colours.trouble}: colours taken for {instead}")
        return embedded
    if embedded:
        notes.append(f"ICC profile left out: {colours.where} comes before it")
    if colours.curve == icc.SRGB_CURVE and (gray or _close(colours.primaries, _SRGB)):
        return None
    curve = "sRGB curve" if colours.curve == icc.SRGB_CURVE else f"gamma {colours.curve[0]:.3g}"
    name = curve if gray else f"{colours.name} primaries, {curve}"
    try:
        made = icc.profile(name, colours.primaries, colours.curve, gray)
    except ValueError as error:
        notes.append(f"{colours.where} makes no sense ({error}): colours taken for sRGB")
        return None
    notes.append(f"{name} stated by {colours.where}: kept as an ICC profile")
    return made


def _of_cicp(chunk: bytes) -> Colours:
    primaries, transfer, matrix, full_range = chunk
    if matrix != _IDENTITY_MATRIX or full_range != 1:
        kind = "narrow range" if matrix == _IDENTITY_MATRIX else f"matrix {matrix}"
        return Colours("PNG cICP", trouble=f"PNG cICP of an unusual kind ({kind})", overrules=True)
    return _of_code_points("PNG cICP", primaries, transfer, overrules=True)


def _of_code_points(where: str, primaries: int, transfer: int, overrules: bool = False) -> Colours:
    trouble = None
    if transfer in _HDR:
        trouble = f"{_HDR[transfer]} (HDR) stated by {where} is not supported"
    elif primaries not in _PRIMARIES or (transfer not in _LIKE_SRGB and transfer not in _EXPONENTS):
        trouble = f"{where} states primaries {primaries} and transfer {transfer}, unknown here"
    if trouble:
        return Colours(where, trouble=trouble, overrules=overrules)
    name, chromaticities = _PRIMARIES[primaries]
    curve = (_EXPONENTS[transfer],) if transfer in _EXPONENTS else icc.SRGB_CURVE
    return Colours(where, name, chromaticities, curve, overrules=overrules)


def _of_older_chunks(image: Image.Image) -> Colours | None:
    gamma, chromaticities = image.info.get("gamma"), image.info.get("chromaticity")
    if "srgb" in image.info or (gamma is None and chromaticities is None):
        return None
    where = " and ".join(
        name for name, there in (("cHRM", chromaticities), ("gAMA", gamma is not None)) if there
    )
    return _of_numbers(f"PNG {where}", chromaticities or _SRGB, gamma)


def _of_jpeg_2000(fp: IO[bytes], mode: str) -> Colours | None:
    found = jpeg2000.colours(fp)
    if isinstance(found, bytes):
        if found[16:20] == b"CMYK" and mode != "CMYK":
            raise ImageError("JPEG 2000 of inks by its ICC profile (CMYK): convert it to RGB first")
        return Colours("JP2 colr", icc=found)
    if found in _DECODED_JP2 or (found == _JP2_CMYK and mode == "CMYK"):
        return None
    name = _OTHER_JP2.get(found, f"colour space {found}")
    return Colours("JP2 colr", trouble=f"{name} stated by JP2 colr is not supported")


def _of_bmp(fp: IO[bytes], mode: str) -> Colours | None:
    found = bmp.stated(fp)
    if found is None:
        return None
    if isinstance(found, bytes):
        return Colours("BMP header", icc=found)
    if isinstance(found, str):
        return Colours("BMP header", trouble=found)
    if found.exponents and max(found.exponents) - min(found.exponents) > _SAME_EXPONENT:
        return Colours("BMP header", trouble="BMP whose channels have unlike curves")
    gamma = 1 / found.exponents[0] if found.exponents and found.exponents[0] else None
    return _of_numbers("BMP header", found.chromaticities or _SRGB, gamma)


def _of_qoi(fp: IO[bytes], mode: str) -> Colours | None:
    """Linear light is noted and not believed: Pillow's own writer states it of any picture."""
    position = fp.tell()
    fp.seek(_QOI_COLOURS)
    linear = fp.read(1) == b"\1"
    fp.seek(position)
    return Colours("QOI header", trouble="linear light stated by QOI header") if linear else None


def _of_numbers(where: str, chromaticities: tuple[float, ...], gamma: float | None) -> Colours:
    """`gamma` is the exponent of encoding, as in gAMA; None if only primaries are stated."""
    try:
        numbers = tuple(float(value) for value in chromaticities)
        exponent = _SRGB_EXPONENT if gamma is None else 1 / gamma
    except (TypeError, ValueError, ZeroDivisionError):
        return Colours(where, trouble=f"{where} makes no sense")
    if len(numbers) != 8 or not 0.1 < exponent < 10:
        return Colours(where, trouble=f"{where} makes no sense")
    name = next((name for name, known in _NAMED if _close(numbers, known)), "other")
    is_srgb = _close(numbers, _SRGB) or gamma is None
    if is_srgb and abs(1 / exponent - 1 / _SRGB_EXPONENT) <= 0.001:
        return Colours(where, name, numbers)
    return Colours(where, name, numbers, (exponent,))


def _close(one: icc.Chromaticities, other: icc.Chromaticities) -> bool:
    return all(abs(a - b) <= 0.002 for a, b in zip(one, other, strict=True))
