"""The bad files: streams that are each wrong in one way. `make_golden` calls this to write them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from stfcodec import api
from stfcodec.batch import Failure, explain
from stfcodec.errors import StfError
from tests.fuzz.stream import START, Fields, assembled, framed

BAD = Path(__file__).parent / "bad"
FOREIGN = bytes(4)
"""A fingerprint that no weights have."""


def framing(sound: Fields) -> Iterator[tuple[str, bytes]]:
    """Wrong before any payload is looked at."""
    data, (head, latents) = sound.bytes(), sound.chunks()
    icon = (b"icon", b"anything")
    yield "empty", b""
    yield "not-a-stream", b"\x89PNG\r\n\x1a\n" + data[8:]
    yield "text-mode", data.replace(b"\r\n", b"\n")
    yield "version-2", data[:8] + b"\x02" + data[9:]
    yield "cut-in-signature", data[:5]
    yield "cut-before-version", data[:8]
    yield "cut-in-head", data[:20]
    yield "cut-after-head", assembled([head])
    yield "cut-in-data", data[: len(data) // 2]
    yield "cut-by-one", data[:-1]
    yield "trailing-byte", data + b"\0"
    yield "twice-in-one-file", data + data
    yield "bit-in-head", _flipped(data, len(START) + 6)
    yield "bit-in-data", _flipped(data, len(data) // 2)
    yield "bit-in-crc", _flipped(data, len(data) - 1)
    yield "crc-of-payload-alone", data[:-4] + zlib.crc32(latents[1]).to_bytes(4, "big")
    yield "unknown-critical", assembled([head, (b"TILE", b""), latents])
    yield "head-in-another-case", assembled([(b"HEAd", head[1]), latents])
    yield "type-not-letters", assembled([head, (b"ic0n", b""), latents])
    yield "head-twice", assembled([head, head, latents])
    yield "data-first", assembled([latents, head])
    yield "data-twice", assembled([head, latents, latents])
    yield "optional-first", assembled([icon, head, latents])
    yield "65-chunks", assembled([head, *[icon] * 63, latents])
    for name, length in {
        "varint-too-long": b"\x80\x80\x80\x80\x80\x00",
        "varint-over-32-bits": b"\xff\xff\xff\xff\x1f",
        "varint-not-shortest": b"\x88\x00",
        "length-4-gib": b"\xff\xff\xff\xff\x0f",
        "length-one-more": b"\x09",
    }.items():
        start = START + framed(*head)
        yield name, start + framed(b"icon", b"anything", length) + framed(*latents)


def headers(sound: Fields) -> Iterator[tuple[str, bytes]]:
    """Wrong in HEAD."""
    changes: dict[str, dict[str, Any]] = {
        "width-0": {"width": 0},
        "height-0": {"height": 0},
        "width-2-24": {"width": 1 << 24},
        "height-4-gib": {"height": (1 << 32) - 1},
        "huge": {"width": (1 << 24) - 1, "height": (1 << 24) - 1},
        "large": {"width": 16384, "height": 16385},
        "wide-and-thin": {"width": (1 << 24) - 1, "height": 1},
        "high-and-thin": {"width": 1, "height": (1 << 24) - 1},
        "larger-than-coded": {"width": sound.width + 64},
        "smaller-than-coded": {"width": 1, "height": 1},
        "model-0": {"model": 0},
        "model-retired": {"model": 1},
        "model-unknown": {"model": 999},
        "model-65536": {"model": 65536},
        "foreign-fingerprint": {"fingerprint": FOREIGN},
        "pixel-format-4": {"packed": 4 << 13 | 3500},
        "pixel-format-7": {"packed": 7 << 13 | 3500},
        "quality-0": {"packed": 1 << 13},
        "quality-999": {"packed": 1 << 13 | 999},
        "quality-6001": {"packed": 1 << 13 | 6001},
        "quality-8191": {"packed": 1 << 13 | 8191},
    }
    for name, changed in changes.items():
        yield name, replace(sound, **changed).bytes()
    (kind, head), latents = sound.chunks()
    yield "head-empty", assembled([(kind, b""), latents])
    yield "head-short", assembled([(kind, head[:-1]), latents])
    yield "head-long", assembled([(kind, head + b"\0"), latents])


def payloads(sound: Fields, other: Fields, foreign: Fields) -> Iterator[tuple[str, bytes]]:
    """Wrong in DATA. `other` is a sound stream of the same model, `foreign` one of another."""
    z, y = sound.z, sound.y
    changes: dict[str, dict[str, Any]] = {
        "z-and-y-swapped": {"z": y, "y": z},
        "z-empty": {"z": b""},
        "y-empty": {"y": b""},
        "z-cut": {"z": z[:-4]},
        "z-cut-in-word": {"z": z[:-1]},
        "y-cut": {"y": y[:-4]},
        "y-cut-in-word": {"y": y[:-1]},
        "y-half": {"y": y[: len(y) // 8 * 4]},
        "y-longer": {"y": y + bytes(4)},
        "z-longer": {"z": z + bytes(4)},
        "z-state-low": {"z": bytes(8) + z[8:]},
        "z-state-high": {"z": b"\xff" * 8 + z[8:]},
        "y-zeros": {"y": y[:8] + bytes(len(y) - 8)},
        "z-bit": {"z": _flipped(z, 5)},
        "y-bit": {"y": _flipped(y, len(y) // 2)},
        "z-of-another-file": {"z": other.z},
        "y-of-another-file": {"y": other.y},
        "latents-of-another-model": {"model": foreign.model, "fingerprint": foreign.fingerprint},
        "wrong-checksum": {"checksum": sound.checksum ^ 1},
    }
    for name, changed in changes.items():
        yield name, replace(sound, **changed).bytes()
    head, (kind, latents) = sound.chunks()
    yield "data-empty", assembled([head, (kind, b"")])
    yield "data-without-checksum", assembled([head, (kind, b"\0abc")])
    yield "z-past-the-end", assembled([head, (kind, b"\xff\x7f" + latents)])


def optional_chunks(sound: Fields, alpha: bytes) -> Iterator[tuple[str, bytes]]:
    """Wrong between HEAD and DATA. `alpha` is the plane of a picture of another size."""
    bomb = zlib.compress(bytes((16 << 20) + 1), 9)
    metadata = zlib.compress(b"metadata")
    for name, optional in {
        "metadata-bomb": [(b"exif", bomb)],
        "metadata-twice": [(b"iccp", metadata), (b"iccp", metadata)],
        "metadata-not-zlib": [(b"xmpm", b"metadata")],
        "metadata-cut": [(b"xmpm", metadata[:-1])],
        "metadata-trailing": [(b"exif", metadata + b"\0")],
        "metadata-wrong-adler": [(b"exif", _flipped(metadata, len(metadata) - 1))],
        "alpha-of-another-size": [(b"alph", alpha)],
        "alpha-cut": [(b"alph", alpha[:4])],
        "alpha-empty": [(b"alph", b"")],
        "alpha-not-png": [(b"alph", b"GIF89a" + alpha)],
    }.items():
        yield name, replace(sound, optional=optional).bytes()


def write_bad(golden: Path) -> None:
    """Makes the files of golden ones, and records how each is refused.

    The folder of the user's weights stands as {folder} in messages.
    """
    plain, other, transparent = (
        Fields.of((golden / f"{name}.stf").read_bytes())
        for name in ("stf-lite-3.5-70x50-rgb", "stf-lite-1-70x50-grey", "wacnn-lite-1-130x65-rgba")
    )
    streams = dict(framing(plain))
    streams |= dict(headers(plain))
    streams |= dict(payloads(plain, other, transparent))
    streams |= dict(optional_chunks(plain, dict(transparent.optional)[b"alph"]))
    expected = {}
    for name, data in streams.items():
        (BAD / f"{name}.stf").write_bytes(data)
        message, exit_code, _ = refusal(data)
        expected[name] = {"exit_code": exit_code, "message": message}
    (BAD / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", "utf-8")


def refusal(data: bytes) -> Failure:
    """What the command line says of a stream. Raises AssertionError where it is decoded."""
    try:
        api.decode(data, device="cpu")
    except StfError as error:
        return explain(error)
    raise AssertionError("a bad file is decoded")


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
