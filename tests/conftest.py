"""Fixtures that several test files share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from commands import HEIGHT, WIDTH, Command, Outcome
from PIL import Image

from stfcodec.cli.main import main
from stfcodec.entropy.tables import CdfTables, gaussian_tables

if TYPE_CHECKING:
    from s3_server import S3Server
    from torch import Tensor

    from stfcodec.models.base import CompressionModel


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


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    from s3_server import S3Server

    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket, which the tests may read and write."""
    from s3_server import ALL, sign_in

    sign_in(monkeypatch, s3_server.url, ALL)
    return f"s3://{s3_server.bucket()}"


@pytest.fixture
def stf(capfdbinary: pytest.CaptureFixture[bytes], weights: list[str]) -> Command:
    """Run the command in this process; encode, decode and test get weights that exist."""

    def run(*arguments: object) -> Outcome:
        words = [str(argument) for argument in arguments]
        extra = weights if words[:1] in (["encode"], ["decode"], ["test"]) else []
        code = main([*words, *extra])
        captured = capfdbinary.readouterr()
        return Outcome(code, captured.out, captured.err.decode())

    return run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    Image.fromarray(np.stack([4 * x, 6 * y, 2 * (x + y)], -1).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def _coded(tmp_path_factory: pytest.TempPathFactory, weights: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("coded")
    Image.linear_gradient("L").convert("RGB").resize((WIDTH, HEIGHT)).save(folder / "photo.png")
    assert main(["encode", str(folder / "photo.png"), "--quiet", *weights]) == 0
    return folder / "photo.stf"


@pytest.fixture
def coded(tmp_path: Path, _coded: Path) -> Path:
    """A valid stream of a WIDTH x HEIGHT picture, in a file of its own."""
    return Path(shutil.copy(_coded, tmp_path / "coded.stf"))


@pytest.fixture(scope="session")
def model() -> CompressionModel:
    """A small model in the published layout: random weights with an integer form."""
    from photographs import photographs
    from small import SMALL

    from benchmarks.untrained_models import random_model

    return random_model(SMALL, photographs((128, 192), (192, 128), (64, 64)))


@pytest.fixture(scope="session")
def latents(model: CompressionModel) -> Tensor:
    """y (1, 224, 12, 16) of the small model."""
    import torch
    from photographs import photographs

    with torch.inference_mode():
        return model.analysis(photographs((192, 256))[0])


@pytest.fixture(scope="session")
def lite_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of wacnn-lite: random weights with an integer form."""
    from photographs import photographs

    from benchmarks.untrained_models import random_model
    from stfcodec.models import registry
    from stfcodec.models import weights as files

    path = tmp_path_factory.mktemp("random") / "wacnn-lite.safetensors"
    files.save(random_model(registry.by_name("wacnn-lite"), photographs((64, 128), (64, 64))), path)
    return path


@pytest.fixture(scope="session")
def gaussian() -> CdfTables:
    return gaussian_tables(np.geomspace(0.11, 64, 24))


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of installed weights, which does not exist yet."""
    from stfcodec.models import locate

    monkeypatch.setenv(locate.ENVIRONMENT, str(tmp_path / "installed"))
    return tmp_path / "installed"


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows a small model in the published layout, and calibration takes two crops."""
    from checkpoint_files import SMALL

    from stfcodec.checkpoints import samples
    from stfcodec.models import registry

    monkeypatch.setattr(registry, "MODELS", (*registry.MODELS, SMALL))
    few = samples.calibration_batches()[:2]
    monkeypatch.setattr(samples, "calibration_batches", lambda: few)
