"""Weights that a version of stfcodec wrote streams with. Importable without torch.

A row stays for ever, and so do weights that are no preview: whoever has a stream finds out here
which version decodes it. docs/format.md has the rule.
"""

from __future__ import annotations

from typing import NamedTuple


class Release(NamedTuple):
    """One set of weights of one model."""

    model: str
    fingerprint: str
    """8 hex digits, as in a stream's header."""
    version: str
    """The version that it came with."""
    preview: bool
    """Whether later versions may do without it."""


RELEASES: tuple[Release, ...] = (
    Release("wacnn-lite", "39c281b3", "0.1.0", preview=True),
    Release("stf-lite", "970972c9", "0.1.0", preview=True),
    Release("wacnn-lite", "665f38d4", "0.2.0", preview=True),
    Release("stf-lite", "9540c63e", "0.2.0", preview=True),
)


def find(model: str, fingerprint: bytes | str) -> Release | None:
    """The row of a model's weights; None for weights that never came with a version."""
    digits = fingerprint if isinstance(fingerprint, str) else fingerprint.hex()
    for release in RELEASES:
        if (release.model, release.fingerprint) == (model, digits):
            return release
    return None


def is_preview(model: str) -> bool:
    """Whether the weights that this version has of a model may be gone from the next one."""
    last = next((r for r in reversed(RELEASES) if r.model == model), None)
    return last is not None and last.preview


def describe(model: str, fingerprint: bytes | str) -> str:
    """The fingerprint and where weights with it come from, for messages."""
    digits = fingerprint if isinstance(fingerprint, str) else fingerprint.hex()
    release = find(model, digits)
    if release is None:
        return f"{digits} (of no release)"
    return f"{digits} ({'preview' if release.preview else 'release'} {release.version})"
