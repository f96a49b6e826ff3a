"""Files of .stf as a dataset, and batches of streams."""

from __future__ import annotations

import os
import pickle
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from collections_of_streams import fill, stream
from torch import Tensor
from torch.utils.data import DataLoader

import stfcodec
from stfcodec import storage
from stfcodec.data import RandomCrop, StfDataset, View, decode_batch
from stfcodec.errors import StfError, StreamError, UsageError, WeightsError

BAD = Path(__file__).resolve().parent / "bad"


def decoded(data: bytes | Path, **view: object) -> Tensor:
    pixels = stfcodec.decode_picture(data, depth=8, **view).pixels  # type: ignore[arg-type]
    return torch.from_numpy(pixels).permute(2, 0, 1)


def test_a_folder_is_searched_by_name(tmp_path: Path) -> None:
    names = ["b.stf", "a/c.STF", "a/b/d.stf", ".hidden/e.stf", "a/._f.stf"]
    paths = fill(tmp_path, names)
    (tmp_path / "notes.txt").write_text("no stream")
    dataset = StfDataset(tmp_path)
    assert dataset.files == [paths[2], paths[1], paths[0]]
    item = dataset[2]
    assert item.dtype == torch.uint8 and item.shape == (3, 64, 64) and item.is_contiguous()
    assert torch.equal(item, decoded(stream(0)))
    item += 1  # no tensor of inference mode
    assert dataset.classes == dataset.labels == []


def test_files_and_folders_in_their_order(tmp_path: Path) -> None:
    first, second, third = fill(tmp_path, ["z/1.stf", "a/2.stf", "a/3.bin"])
    dataset = StfDataset([str(first), tmp_path / "a", third])
    assert dataset.files == [first, second, third]
    assert len({tuple(x.flatten().tolist()) for x in dataset}) == 3


def test_a_link_to_a_folder_is_told_of(tmp_path: Path) -> None:
    fill(tmp_path, ["here/1.stf", "elsewhere/2.stf"])
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="link to a folder"):
        assert len(StfDataset(tmp_path / "here")) == 1


def test_labels_are_folders(tmp_path: Path) -> None:
    fill(tmp_path / "1", ["dog/a.stf", "cat/deep/a.stf"])
    fill(tmp_path / "2", ["cat/b.stf", "ant/a.stf"])
    dataset = StfDataset([tmp_path / "1", tmp_path / "2"], labelled=True)
    assert dataset.classes == ["ant", "cat", "dog"] and dataset.labels == [1, 2, 0, 1]
    picture, label = dataset[2]
    assert label == 0 and torch.equal(picture, decoded(stream(1)))
    with pytest.raises(UsageError, match=r"a\.stf lies in no folder of a class"):
        StfDataset(tmp_path / "1" / "dog", labelled=True)
    with pytest.raises(UsageError, match="no folder of a class"):
        StfDataset(tmp_path / "1" / "dog" / "a.stf", labelled=True)


def test_transform_takes_the_place(tmp_path: Path) -> None:
    fill(tmp_path, ["c/a.stf"])
    mean, label = StfDataset(tmp_path, transform=lambda x: float(x.float().mean()), labelled=True)[
        0
    ]
    assert mean == pytest.approx(float(decoded(stream(0)).float().mean())) and label == 0


@pytest.mark.parametrize("scale", [1, Fraction(1, 2), Fraction(1, 8)])
def test_a_crop_is_that_of_the_whole(tmp_path: Path, scale: Fraction) -> None:
    path = tmp_path / "a.stf"
    path.write_bytes(stream(2, 200, 130))
    left, top, width, height = (int(n * scale) for n in (32, 24, 80, 64))
    (found,) = StfDataset(path, view=View((32, 24, 80, 64), scale))
    whole = decoded(path, scale=scale)[:, top : top + height, left : left + width]
    assert found.shape == (3, height, width)
    assert (found.int() - whole.int()).abs().max() <= 1


def test_random_crops_lie_within_and_differ(tmp_path: Path) -> None:
    path = tmp_path / "a.stf"
    path.write_bytes(stream(2, 200, 130))
    whole = decoded(path).int()
    dataset = StfDataset([path] * 4, view=RandomCrop(48))
    torch.manual_seed(5)
    crops = [dataset[i] for i in range(4)]
    torch.manual_seed(5)
    assert all(torch.equal(dataset[i], crops[i]) for i in range(4))
    windows = whole.unfold(1, 48, 1).unfold(2, 48, 1)  # (3, 83, 153, 48, 48)
    places = set()
    for crop in crops:
        far = (windows - crop.int()[:, None, None]).abs().amax((0, 3, 4))
        assert far.min() <= 1
        places.add(int(far.argmin()))
    assert len(places) == 4


def test_random_crops_of_a_scale_have_one_size() -> None:
    for side, divisor in ((50, 4), (48, 16), (1, 8)):
        crop = RandomCrop(side, Fraction(1, divisor))
        for width in range(side, side + 40):
            for draw in (lambda n: n - 1, lambda n: 0):
                _, cols = crop.view(width, side, draw).spans(width, side)
                view = View(scale=Fraction(1, divisor))
                assert (view.decoded(cols).stop - view.decoded(cols).start) == -(-side // divisor)
    with pytest.raises(UsageError, match="whole numbers"):
        RandomCrop(1.5)  # type: ignore[arg-type]


def test_urls(tmp_path: Path) -> None:
    system = storage._file_system("memory://data-files")[0]
    for name in ("cat/a.stf", "dog/b.stf"):
        system.pipe_file(f"/data-files/{name}", stream(1))
    try:
        dataset = StfDataset("memory://data-files", labelled=True)
        assert dataset.classes == ["cat", "dog"]
        assert torch.equal(dataset[1][0], decoded(stream(1)))
        fill(tmp_path, ["here.stf"])
        both = StfDataset(["memory://data-files/cat/a.stf", tmp_path.as_uri()])
        assert [x.shape for x in both] == [(3, 64, 64)] * 2
        system.pipe_file("/data-files/dog/b.stf", b"no stream")
        with pytest.raises(StreamError, match=r"^memory://data-files/dog/b\.stf: "):
            dataset[1]
        system.pipe_file("/data-files/dog/b.stf", stream(1) + b"more")
        with pytest.raises(StreamError, match=r"^memory://data-files/dog/b\.stf"):
            dataset[1]
    finally:
        system.rm("/data-files", recursive=True)


def test_what_is_wrong_is_told_with_the_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \.stf file in .*: name files"):
        StfDataset(tmp_path)
    with pytest.raises(UsageError, match="a list"):
        StfDataset([])
    with pytest.raises(UsageError, match="nowhere does not exist"):
        StfDataset(tmp_path / "nowhere")
    for name in ("cut-in-data", "y-bit", "wrong-checksum", "empty"):
        shutil.copy(BAD / f"{name}.stf", tmp_path)
        with pytest.raises(StreamError, match=rf"^.*{name}\.stf: "):
            StfDataset(tmp_path / f"{name}.stf")[0]
    with pytest.raises(WeightsError, match="foreign"):
        StfDataset(BAD / "foreign-fingerprint.stf")[0]
    (path,) = fill(tmp_path, ["good.stf"])
    for view, words in ((RandomCrop(65), "64x64 pixels are less"), (View((0, 0, 65, 1)), "beyond")):
        with pytest.raises(UsageError, match=rf"good\.stf: .*{words}"):
            StfDataset(path, view=view)[0]
    dataset = StfDataset(path)
    path.unlink()
    with pytest.raises(StfError, match=r"cannot read .*good\.stf"):
        dataset[0]


def test_limits_are_kept(tmp_path: Path) -> None:
    (path,) = fill(tmp_path, ["a.stf"])
    with pytest.raises(StreamError, match=r"a\.stf.*over the limit"):
        StfDataset(path, limits=stfcodec.Limits(pixels=4095))[0]


class Threads:
    """A transform that can be pickled: the process, and how many threads torch has there."""

    def __call__(self, picture: Tensor) -> tuple[int, int, int]:
        return os.getpid(), torch.get_num_threads(), int(picture.sum())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker")  # of one core
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers(tmp_path: Path, method: str) -> None:
    """Each decodes its share with one thread, and loads the model once."""
    fill(tmp_path, [f"{i}.stf" for i in range(6)])
    dataset = StfDataset(tmp_path, transform=Threads())
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=method)
    found = list(loader)
    assert len({pid for pid, _, _ in found}) == 2
    assert {threads for _, threads, _ in found} == {1}
    assert [total for _, _, total in found] == [dataset[i][2] for i in range(6)]


def test_datasets_are_pickled(tmp_path: Path) -> None:
    fill(tmp_path, ["c/a.stf"])
    dataset = StfDataset(tmp_path, view=RandomCrop(32), labelled=True)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.files == dataset.files and again[0][0].shape == (3, 32, 32)


def test_damage_in_a_worker_names_the_file(tmp_path: Path) -> None:
    fill(tmp_path, ["a.stf"])
    shutil.copy(BAD / "y-bit.stf", tmp_path)
    loader = DataLoader(StfDataset(tmp_path), batch_size=None, num_workers=1)
    with pytest.raises(StreamError, match=r"y-bit\.stf"):
        list(loader)


def test_a_batch_is_what_each_stream_gives_alone() -> None:
    """Of two models, several qualities, in colour and grey, tiled alike."""
    grey = stfcodec.encode(np.tile(np.arange(96, dtype=np.uint8), (80, 1)))
    streams = [stream(i, 96, 80, model) for i in range(3) for model in ("wacnn-lite", "stf-lite")]
    streams.append(grey)
    for view in (View(), View(scale=1 / 8), View((16, 8, 48, 40), 1 / 2)):
        batch = decode_batch(streams, view=view)
        assert batch.dtype == torch.uint8 and batch.is_contiguous()
        for found, data in zip(batch, streams, strict=True):
            alone = decoded(data, crop=view.crop, scale=view.scale)
            assert (found.int() - alone.int()).abs().max() <= 1
        assert torch.equal(batch[-1, 0], batch[-1, 2]) and not torch.equal(batch[0, 0], batch[0, 2])


def test_threads_change_no_batch() -> None:
    streams = [stream(i, 96, 80) for i in range(4)]
    assert torch.equal(decode_batch(streams, threads=3), decode_batch(streams))


def test_a_batch_of_several_sizes() -> None:
    streams = [stream(0, 96, 80), stream(1, 96, 80), stream(0, 80, 96)]
    with pytest.raises(UsageError, match="stream 2 has 80x96 pixels, stream 0 96x80"):
        decode_batch(streams)
    assert decode_batch(streams, view=View((0, 0, 64, 64))).shape == (3, 3, 64, 64)
    with pytest.raises(UsageError, match=r"stream 2: .*beyond"):
        decode_batch(streams, view=View((0, 0, 90, 64)))


def test_bad_batches() -> None:
    with pytest.raises(UsageError, match="no streams"):
        decode_batch([])
    for name in ("cut-in-data", "y-bit"):
        with pytest.raises(StreamError, match="stream 1: "):
            decode_batch([stream(0), (BAD / f"{name}.stf").read_bytes()])
    with pytest.raises(WeightsError, match="stream 1: "):
        decode_batch([stream(0), BAD / "foreign-fingerprint.stf"], threads=2)
    with pytest.raises(UsageError, match="device"):
        decode_batch([stream(0)], device="abacus")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_cuda() -> None:
    streams = [stream(i, 96, 80) for i in range(4)]
    batch = decode_batch(streams, device="cuda", threads=2)
    assert batch.device.type == "cuda"
    for found, data in zip(batch, streams, strict=True):
        alone = decoded(data, device="cuda")
        assert (found.cpu().int() - alone.int()).abs().max() <= 1
