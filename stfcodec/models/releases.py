"""The released weights: every weights file that came with a version of stfcodec.

Importable without torch. A row stays for ever, and so does a weights file that is no preview: for
any stream this table says which version decodes it. docs/format.md has the rule.
"""

from __future__ import annotations

from typing import NamedTuple


class Release(NamedTuple):
    """One weights file of one model."""

    model: str
    """`ModelInfo.name`."""
    fingerprint: str
    """8 hex digits, as in a stream's header."""
    version: str
    """The first version of stfcodec that the file came with."""
    preview: bool
    """Whether later versions may come without it."""
    bd_rate: float
    """BD-rate in % against JPEG 4:4:4 on the 24 Kodak pictures, as measured for the release."""
    licence: str = "Apache-2.0"
    """SPDX identifier."""


RELEASES: tuple[Release, ...] = (
    Release("wacnn-lite", "39c281b3", "0.1.0", preview=True, bd_rate=-48.8),
    Release("stf-lite", "970972c9", "0.1.0", preview=True, bd_rate=-45.6),
    Release("wacnn-lite", "665f38d4", "0.2.0", preview=True, bd_rate=-50.9),
    Release("stf-lite", "9540c63e", "0.2.0", preview=True, bd_rate=-45.6),
    Release("wacnn-lite", "ed57dac3", "0.3.0", preview=True, bd_rate=-53.3),
    Release("wacnn-lite", "b4a8db0b", "0.4.0", preview=True, bd_rate=-57.2),
    Release("stf-lite", "d5fa4eb7", "0.4.0", preview=True, bd_rate=-54.6),
    Release("wacnn-lite", "fa4d5cde", "0.5.0", preview=True, bd_rate=-58.1),
    Release("stf-lite", "e397559b", "0.5.0", preview=True, bd_rate=-55.8),
    Release("stf-lite", "a492eddd", "0.6.0", preview=True, bd_rate=-56.5),
)


def find(model: str, fingerprint: bytes | str) -> Release | None:
    """The release of a model's weights with this fingerprint; None where there was none."""
    digits = _digits(fingerprint)
    for release in RELEASES:
        if (release.model, release.fingerprint) == (model, digits):
            return release
    return None


def is_preview(model: str) -> bool:
    """Whether the newest released weights of a model are a preview."""
    newest = next((r for r in reversed(RELEASES) if r.model == model), None)
    return newest is not None and newest.preview


def describe(model: str, fingerprint: bytes | str) -> str:
    """The fingerprint and the release it belongs to, for messages."""
    release = find(model, fingerprint)
    if release is None:
        return f"{_digits(fingerprint)} (of no release)"
    kind = "preview" if release.preview else "release"
    return f"{release.fingerprint} ({kind} {release.version})"


def _digits(fingerprint: bytes | str) -> str:
    return fingerprint if isinstance(fingerprint, str) else fingerprint.hex()
