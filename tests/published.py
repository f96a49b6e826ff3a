"""The published networks as recorded facts: keys, golden values, and what makes both."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from types import ModuleType

import pytest
from photographs import MATERIAL
from torch import Tensor

UPSTREAM = MATERIAL / "upstream"
"""The folder of the recordings, which are not part of the checkout."""

FAMILIES = ("wacnn", "stf")

needs_recordings = pytest.mark.skipif(
    not (UPSTREAM / "golden.py").exists(), reason="no golden recordings beside the checkout"
)


@cache
def golden() -> ModuleType:
    """The program that fills networks and records what they give."""
    spec = importlib.util.spec_from_file_location("golden", UPSTREAM / "golden.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["golden"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published_keys(arch: str) -> list[dict]:
    """Keys, shapes and types of the published state dict."""
    return json.loads((UPSTREAM / f"upstream_{arch}_keys.json").read_text())["keys"]


def published_state(arch: str) -> dict[str, Tensor]:
    """A state dict as the authors' program saves it, with the golden parameters."""
    shapes = {entry["key"]: tuple(entry["shape"]) for entry in published_keys(arch)}
    return golden().fill_state_dict(shapes)
