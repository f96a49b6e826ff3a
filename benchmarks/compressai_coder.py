"""The range coder of compressai, loaded without its package, which would need torchvision."""

from __future__ import annotations

import importlib.util
from functools import cache
from importlib.machinery import PathFinder
from typing import Any


@cache
def load() -> Any:
    """compressai's compiled module `ans`, or None if it is not installed."""
    package = importlib.util.find_spec("compressai")
    places = package.submodule_search_locations if package else None
    spec = PathFinder.find_spec("compressai.ans", places) if places else None
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
