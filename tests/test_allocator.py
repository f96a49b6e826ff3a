"""Keeping freed memory: asked for once, and never against the user's own settings."""

from __future__ import annotations

import os
import platform

import pytest

from stfcodec.allocator import keep_freed_memory

ask = keep_freed_memory.__wrapped__


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith(("MALLOC_", "GLIBC_TUNABLES")):
            monkeypatch.delenv(name)
    return monkeypatch


def test_glibc_is_asked(no_settings: pytest.MonkeyPatch) -> None:
    assert ask() == (platform.libc_ver()[0] == "glibc")


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_users_settings_stay(name: str, no_settings: pytest.MonkeyPatch) -> None:
    no_settings.setenv(name, "1")
    assert not ask()


def test_other_systems_are_left_alone(no_settings: pytest.MonkeyPatch) -> None:
    no_settings.setattr("ctypes.CDLL", lambda _: object())
    assert not ask()
