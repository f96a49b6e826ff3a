"""Shards of streams as an iterable dataset."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from collections_of_streams import stream, write_tars
from torch.utils.data import DataLoader

import stfcodec
from stfcodec import shards, storage
from stfcodec.data import RandomCrop, StfShards, View
from stfcodec.errors import StfError, StreamError, UsageError
from stfcodec.shards import Sample, ShardError

pytest.importorskip("webdataset")
BAD = Path(__file__).resolve().parent / "bad"
SMALL = View((0, 0, 16, 16), 1 / 16)


def keys(source: Any, **arguments: Any) -> list[str]:
    return [key for (key,) in StfShards(source, fields=["__key__"], view=SMALL, **arguments)]


def test_a_sample_has_all_fields(tmp_path: Path) -> None:
    write_tars(tmp_path, [2, 1])
    samples = list(StfShards(tmp_path))
    assert [s["__key__"] for s in samples] == ["0-0", "0-1", "1-0"]
    last = samples[1]
    assert torch.equal(last["stf"], pixels(stream(2)))
    assert (last["cls"], last["json"], last["txt"]) == (0, {"number": 1}, "Füchse")
    assert last["bin"] == b"\x01" and set(last) == {"__key__", "stf", "cls", "json", "txt", "bin"}


def test_fields_become_batches(tmp_path: Path) -> None:
    write_tars(tmp_path, [2, 2])
    dataset = StfShards([tmp_path / "1.tar"], fields=["stf", "cls"], view=RandomCrop(48))
    x, label = next(iter(DataLoader(dataset, batch_size=2)))
    assert x.shape == (2, 3, 48, 48) and x.dtype == torch.uint8 and label.tolist() == [1, 1]
    (mean,) = next(iter(StfShards(tmp_path, fields=["stf"], transform=lambda x: x.float().mean())))
    assert mean.shape == ()


def pixels(data: bytes) -> torch.Tensor:
    return torch.from_numpy(stfcodec.decode_picture(data, depth=8).pixels).permute(2, 0, 1)


def test_parquet(tmp_path: Path) -> None:
    """Streams in bare bytes and in structures; other columns keep their values."""
    pytest.importorskip("pyarrow")
    with (tmp_path / "a.parquet").open("wb") as file, shards.writing(file, "parquet") as writer:
        for i in range(3):
            held = {"bytes": stream(i), "path": f"{i}.stf"}
            jpeg = {"bytes": b"\xff\xd8", "path": f"{i}.jpg"}
            fields = {"id": i, "image": stream(1), "left": held, "thumb": jpeg, "score": i / 2}
            writer.write(Sample(str(i), fields))
    found = list(StfShards(tmp_path))
    assert [s["__key__"] for s in found] == ["0", "1", "2"]
    assert torch.equal(found[2]["image"], pixels(stream(1)))
    assert torch.equal(found[2]["left"], pixels(stream(2)))
    assert found[2]["score"] == 1.0 and found[2]["thumb"]["bytes"] == b"\xff\xd8"


def test_pairs_have_one_crop(tmp_path: Path) -> None:
    with (tmp_path / "a.tar").open("wb") as file, shards.writing(file, "tar") as writer:
        writer.write(Sample("a", {"left.stf": stream(0), "right.stf": stream(0)}))
    for _ in range(3):
        (sample,) = StfShards(tmp_path, view=RandomCrop(24))
        assert torch.equal(sample["left.stf"], sample["right.stf"])


@pytest.mark.parametrize("counts", [[2, 3, 1, 2, 3], [7], [3, 4]])
@pytest.mark.parametrize(("world", "workers"), [(1, 1), (2, 2), (3, 1), (2, 3)])
@pytest.mark.parametrize("shuffle", [0, 3])
def test_parts_neither_overlap_nor_lose(
    tmp_path: Path, counts: list[int], world: int, workers: int, shuffle: int
) -> None:
    """Of readers of whole shards and of readers that share them, before anything is decoded."""
    expected = write_tars(tmp_path, counts)
    found: Counter[str] = Counter()
    for part in range(world * workers):
        dataset = StfShards(tmp_path, shuffle=shuffle)
        read = dataset._read(dataset.shards, part, world * workers, None)  # type: ignore[arg-type]
        found.update(sample.key for _, sample in read)
    assert found == Counter(expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker")  # of one core
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_and_ranks_share_the_samples(tmp_path: Path, method: str) -> None:
    """Workers that live on see a new epoch, and give its order again."""
    expected = write_tars(tmp_path, [3, 2, 4])
    orders = []
    for rank in range(2):
        dataset = StfShards(
            tmp_path, fields=["__key__"], view=SMALL, shuffle=4, seed=1, rank=rank, world=2
        )
        loader = DataLoader(
            dataset,
            batch_size=None,
            num_workers=2,
            multiprocessing_context=method,
            persistent_workers=True,
        )
        for epoch in (0, 1, 0):
            dataset.set_epoch(epoch)
            orders.append([key for (key,) in loader])
    for epoch in range(3):
        assert sorted(orders[epoch] + orders[3 + epoch]) == expected
    assert orders[0] == orders[2] and orders[3] == orders[5] and orders[0] != orders[1]


def test_order_follows_seed_and_epoch(tmp_path: Path) -> None:
    expected = write_tars(tmp_path, [4, 4])
    assert keys(tmp_path) == expected
    first = keys(tmp_path, shuffle=3, seed=7)
    assert first != expected and sorted(first) == expected
    assert keys(tmp_path, shuffle=3, seed=7) == first != keys(tmp_path, shuffle=3, seed=8)
    dataset = StfShards(tmp_path, fields=["__key__", "stf"], view=RandomCrop(32), shuffle=3, seed=7)
    runs = []
    for epoch in (0, 5, 0):
        dataset.set_epoch(epoch)
        runs.append([(key, int(x.sum())) for key, x in dataset])
    assert [key for key, _ in runs[0]] == first
    assert runs[0] == runs[2] != runs[1]  # crops, too


def test_a_large_buffer_mixes_shards(tmp_path: Path) -> None:
    write_tars(tmp_path, [6, 6])
    assert len({key[0] for key in keys(tmp_path, shuffle=12)[:6]}) == 2
    assert len({key[0] for key in keys(tmp_path, shuffle=1)[:6]}) == 1


def report_rank(rank: int, folder: str, method: str) -> None:
    """One process of two: writes which samples it sees."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    dataset = StfShards(folder, fields=["__key__"], view=SMALL)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=method)
    Path(folder, f"seen-{rank}.txt").write_text(" ".join(key for (key,) in loader))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_ranks_come_from_torch_distributed(tmp_path: Path, method: str) -> None:
    """In workers, too, which do not know of it where they are spawned."""
    expected = write_tars(tmp_path, [2, 1, 1])
    torch.multiprocessing.spawn(report_rank, (str(tmp_path), method), nprocs=2)
    seen = [(tmp_path / f"seen-{rank}.txt").read_text().split() for rank in range(2)]
    assert all(seen) and sorted(seen[0] + seen[1]) == expected


def test_urls() -> None:
    pytest.importorskip("fsspec")
    system = storage._file_system("memory://data-shards")[0]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo("a.stf")
        member.size = len(stream(0))
        tar.addfile(member, io.BytesIO(stream(0)))
    system.pipe_file("/data-shards/0.tar", file.getvalue())
    try:
        (sample,) = StfShards("memory://data-shards")
        assert torch.equal(sample["stf"], pixels(stream(0)))
    finally:
        system.rm("/data-shards", recursive=True)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A shard with damage of every kind, and one that is cut off."""
    with (tmp_path / "0.tar").open("wb") as file, shards.writing(file, "tar") as writer:
        writer.write(Sample("good", {"stf": stream(0), "cls": b"1"}))
        writer.write(Sample("cut", {"stf": stream(0)[:-4], "cls": b"1"}))
        writer.write(Sample("bit", {"stf": (BAD / "y-bit.stf").read_bytes(), "cls": b"1"}))
        writer.write(Sample("class", {"stf": stream(0), "cls": b"fox"}))
        writer.write(Sample("none", {"cls": b"1"}))
        writer.write(Sample("small", {"stf": stream(0, 20, 20), "cls": b"1"}))
        writer.write(Sample("bare", {"stf": stream(0)}))
        writer.write(Sample("last", {"stf": stream(0), "cls": b"1"}))
    write_tars(tmp_path / "..", [2])
    whole = (tmp_path / ".." / "0.tar").read_bytes()
    (tmp_path / "1.tar").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def test_damage_is_skipped_and_told(damaged: Path) -> None:
    dataset = StfShards(damaged, fields=["__key__", "cls"], view=RandomCrop(32), on_error="skip")
    for _ in range(2):  # counted anew
        with pytest.warns(UserWarning, match=r"^7 damaged .* skipped; the first: .*0\.tar: cut"):
            assert [key for key, _ in dataset][:2] == ["good", "last"]
        assert dataset.skipped == 7
    with pytest.warns(UserWarning, match="^6 damaged"):  # also where it ends early
        assert next(iter(islice(dataset, 1, 2)))[0] == "last"


def test_damage_is_raised_with_its_name(damaged: Path) -> None:
    found = iter(StfShards(damaged / "0.tar"))
    assert next(found)["__key__"] == "good"
    with pytest.raises(StreamError, match=r"0\.tar: cut: "):
        next(found)
    with pytest.raises(ShardError, match=r"1\.tar"):
        list(StfShards(damaged / "1.tar"))


@pytest.mark.filterwarnings("default")  # the worker's own
def test_skips_in_workers_are_counted(damaged: Path) -> None:
    dataset = StfShards(damaged / "0.tar", fields=["__key__"], on_error="skip")
    loader = DataLoader(dataset, batch_size=None, num_workers=1)
    assert len(list(loader)) == 4 and dataset.skipped == 4


def test_what_fails_for_all_is_not_skipped(tmp_path: Path) -> None:
    write_tars(tmp_path, [1])
    foreign = StfShards(tmp_path, on_error="skip", weights=tmp_path / "none.safetensors")
    with pytest.raises(StfError, match=r"none\.safetensors"):
        list(foreign)
    dataset = StfShards(tmp_path, on_error="skip")
    (tmp_path / "0.tar").unlink()
    with pytest.raises(StfError, match=r"cannot read .*0\.tar"):
        list(dataset)


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \.parquet or \.tar file in"):
        StfShards(tmp_path)
    write_tars(tmp_path, [1])
    for bad, words in (
        ({"rank": 0}, "give both"),
        ({"rank": 2, "world": 2}, "give both"),
        ({"shuffle": -1}, "shuffle -1"),
        ({"on_error": "ignore"}, "choose raise or skip"),
    ):
        with pytest.raises(UsageError, match=words):
            StfShards(tmp_path, **bad)  # type: ignore[arg-type]
    with pytest.raises(ShardError, match=r"0\.tar: 0-0: no field 'label', only __key__"):
        list(StfShards(tmp_path, fields=["label"]))
