"""Columns of streams to columns of pictures, by themselves and in Ray Data."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collections_of_streams import fill, stream

import stfcodec
from stfcodec.data import RandomCrop, StfDecoder, View
from stfcodec.errors import StreamError, UsageError


def test_columns() -> None:
    batch = {"bytes": [stream(0), stream(1)], "path": ["a.stf", "b.stf"], "label": np.arange(2)}
    found = StfDecoder()(batch)
    assert set(found) == {"image", "path", "label"} and found["label"].tolist() == [0, 1]
    assert found["image"].shape == (2, 64, 64, 3) and found["image"].dtype == np.uint8
    alone = stfcodec.decode_picture(stream(1)).pixels
    assert np.abs(found["image"][1].astype(int) - alone.astype(int)).max() <= 1
    assert StfDecoder(view=View(scale=1 / 8))(batch)["image"].shape == (2, 8, 8, 3)
    assert StfDecoder(view=RandomCrop(32))(batch)["image"].shape == (2, 32, 32, 3)


def test_pictures_of_several_sizes() -> None:
    streams = np.array([stream(0), stream(0, 64, 30), stream(1)], object)
    column = StfDecoder()({"bytes": streams})["image"]
    assert [x.shape for x in column] == [(64, 64, 3), (30, 64, 3), (64, 64, 3)]


def test_errors_name_the_row() -> None:
    with pytest.raises(StreamError, match=r"^b\.stf: "):
        StfDecoder()({"bytes": [stream(0), stream(1)[:-1]], "path": ["a.stf", "b.stf"]})
    with pytest.raises(StreamError, match=r"^row 1: "):
        StfDecoder()({"bytes": [stream(0), b""]})
    with pytest.raises(UsageError, match="no column 'bytes' among image"):
        StfDecoder()({"image": [stream(0)]})


@pytest.fixture
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_an_actor_of_ray(cluster: Any) -> None:
    """It decodes as this process does, and its errors come back with their kind and name."""
    actor = cluster.remote(StfDecoder).remote(view=View((0, 0, 48, 48)))
    batch = {"bytes": [stream(0), stream(1)], "path": ["a.stf", "b.stf"]}
    found = cluster.get(actor.__call__.remote(batch))
    assert found["path"] == batch["path"]
    here = StfDecoder(view=View((0, 0, 48, 48)))(batch)
    assert np.abs(found["image"].astype(int) - here["image"].astype(int)).max() <= 1
    with pytest.raises(StreamError, match=r"b\.stf: "):
        cluster.get(actor.__call__.remote({**batch, "bytes": [stream(0), b"none"]}))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pandas") is None, reason="Ray Data needs pandas")
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_data(tmp_path: Path, cluster: Any) -> None:
    from ray import data

    fill(tmp_path, [f"{i}.stf" for i in range(4)])
    (tmp_path / "4.stf").write_bytes(stream(0, 80, 48))
    files = data.read_binary_files(str(tmp_path), include_paths=True)
    rows = files.map_batches(StfDecoder, batch_size=2, concurrency=1).take_all()
    found = {Path(row["path"]).name: row["image"] for row in rows}
    assert {name: x.shape for name, x in found.items()} == {
        **{f"{i}.stf": (64, 64, 3) for i in range(4)},
        "4.stf": (48, 80, 3),
    }
    alone = stfcodec.decode_picture(stream(3)).pixels
    assert np.abs(found["3.stf"].astype(int) - alone.astype(int)).max() <= 1
