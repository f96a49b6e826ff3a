"""Fixtures that several test files share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options with which encode and decode find weights: none where they are embedded.

    Until trained weights are, a wacnn-lite at its random start does: a bad coder, but one.
    """
    import torch

    from stfcodec.models import locate, registry

    info = registry.by_name(registry.DEFAULT_MODEL)
    if locate.status(info) != "missing":
        return []
    from stfcodec.models import build
    from stfcodec.models import weights as files
    from stfcodec.models.calibrate import quantise

    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    model = build.build(info)
    model.update()
    model.integer = quantise(model, [torch.rand(1, 3, 64, 64)])
    files.save(model, path)
    return ["--weights", str(path)]
