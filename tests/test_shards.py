"""Shards: what goes in and out of WebDataset tar files and Parquet files, and what is damaged."""

from __future__ import annotations

import decimal
import gzip
import io
import sys
from pathlib import Path
from typing import Any

import pytest
from text_collections import KEEPING, NAMING, RESUME, failures, members, outputs, shout, tar, texts

from stfcodec import shards
from stfcodec.errors import StfError
from stfcodec.shards import Kind, Sample, ShardError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("webdataset")

KINDS: tuple[Kind, ...] = ("tar", "parquet")
SUFFIXES = NAMING.suffixes


def convert(
    tmp_path: Path, data: bytes, suffix: str = ".tar", **options: Any
) -> tuple[dict[str, str], dict[str, bytes]]:
    """Failures, and what is in the output, of a collection that is one shard."""
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "in" / f"s{suffix}").write_bytes(data)
    told = failures(shout([tmp_path / "in"], tmp_path / "out", **options))
    return told, outputs(tmp_path / "out")


def parquet(rows: Any, schema: Any = None) -> bytes:
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def table(data: bytes) -> Any:
    return pq.read_table(io.BytesIO(data))


# Lone files ---------------------------------------------------------------------------------------

NAMES = ("a.txt", "d/a.txt", "ü b.txt", "v1.0/a.b.c.txt", "100%.txt", "%2E.txt", "d/_x.txt")


@pytest.mark.parametrize("kind", KINDS)
def test_names_survive_a_way_into_shards_and_out(tmp_path: Path, kind: Kind) -> None:
    folder = texts(tmp_path / "in", *NAMES, f"{'long' * 30}/{'name' * 30}.txt")
    assert not failures(shout([folder], tmp_path / "packed", size=4, kind=kind))
    assert set(outputs(tmp_path / "packed")) == {f"shard-00000{n}.{kind}" for n in (0, 1)}
    from stfcodec.batch import Naming

    back = Naming(frozenset({".out"}), ".txt")
    told = shout([tmp_path / "packed"], tmp_path / "back", unpacks=True, naming=back)
    assert not failures(told)
    found = {name.partition("/")[2]: data for name, data in outputs(tmp_path / "back").items()}
    wanted = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.txt")}
    assert {name: path.read_bytes().upper() for name, path in wanted.items()} == found


@pytest.mark.parametrize("kind", KINDS)
def test_equal_samples_make_equal_bytes(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    folder = texts(tmp_path / "in", *NAMES)
    shout([folder], tmp_path / "1", size=4, kind=kind)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e6)
    shout([folder], tmp_path / "2", size=4, kind=kind)
    assert outputs(tmp_path / "1") == outputs(tmp_path / "2")


def test_shards_are_those_of_webdataset_and_of_hugging_face(tmp_path: Path) -> None:
    from webdataset import tariterators

    folder = texts(tmp_path / "in", "a.txt", "d/b.c.txt")
    for kind in KINDS:
        shout([folder], tmp_path / kind, size=9, kind=kind)
    url = str(tmp_path / "tar" / "shard-000000.tar")
    with Path(url).open("rb") as file:
        read = ({**member, "__url__": url} for member in tariterators.tar_file_iterator(file))
        samples = list(tariterators.group_by_keys(read))
    found = [(sample["__key__"], sample["out"]) for sample in samples]
    assert found == [("a", b"A.TXT"), ("d/b%2Ec", b"D/B.C.TXT")]
    rows = pq.read_table(tmp_path / "parquet" / "shard-000000.parquet").to_pylist()
    assert rows == [
        {"key": "a", "image": {"bytes": b"A.TXT", "path": "a.out"}},
        {"key": "d/b.c", "image": {"bytes": b"D/B.C.TXT", "path": "d/b.c.out"}},
    ]


# Tar files ----------------------------------------------------------------------------------------


def test_labels_stay_as_they_are(tmp_path: Path) -> None:
    data = tar(
        ("a.cls", b"1"),
        ("a.txt", b"t"),
        ("b.seg.TXT", b"x"),
        ("b.json", b"{}"),
        ("c._meta.json", b"m"),
        ("c.txt", b"4"),
        ("only.cls", b"5"),
    )
    told, found = convert(tmp_path, data)
    assert not told
    assert members(found["s.tar"]) == {
        "a.cls": b"1",
        "a.out": b"T",
        "b.seg.out": b"X",
        "b.json": b"{}",
        "c._meta.json": b"m",
        "c.out": b"4",
        "only.cls": b"5",
    }


def test_two_pictures_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    data = tar(("a.md", b"1"), ("a.txt", b"2"), ("b.out", b"3"), ("b.txt", b"4"), ("c.txt", b"5"))
    told, found = convert(tmp_path, data)
    assert set(told) == {"a.txt", "b.txt"}
    assert all("is the output of another picture of the shard" in text for text in told.values())
    assert members(found["s.tar"]) == {"c.out": b"5"}
    again = tmp_path / "kept"
    again.mkdir()
    told, found = convert(again, tar(("a.md", b"1"), ("a.txt", b"2")), naming=KEEPING)
    assert not told
    assert members(found["s.tar"]) == {"a.md.out": b"1", "a.txt.out": b"2"}


@pytest.mark.parametrize("resumes", [False, True])
def test_samples_of_one_name_become_one_file(tmp_path: Path, resumes: bool) -> None:
    """The first, whether a run is the first one or goes on."""
    options: dict[str, Any] = {"unpacks": True}
    if resumes:
        options["resumption"] = RESUME
    told, found = convert(
        tmp_path, tar(("a.txt", b"1"), ("b.txt", b"2"), ("a.txt", b"3")), **options
    )
    assert set(told) == {"a.txt"}
    assert found == {"s/a.out": b"1", "s/b.out": b"2"}


@pytest.mark.parametrize("name", ["../x.txt", "/tmp/x.txt", "a/../../x.txt", "a\\x.txt"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    told, found = convert(tmp_path, tar(("a.txt", b"1"), (name, b"2")), unpacks=True)
    assert set(told) == {"s.tar"}
    assert "is a name that leads out of the folder" in told["s.tar"]
    assert not [path for path in tmp_path.rglob("x.*") if path.is_file()]
    assert set(found) <= {"s/a.out"}


def test_a_tar_file_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = tar(("a.txt", b"1" * 600), ("b.txt", b"2" * 600), ("c.txt", b"3"))
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512
    path = tmp_path / "s.tar"
    for cut in [*range(0, end + 1024, 97), end, end + 512]:
        path.write_bytes(data[:cut])
        with (
            pytest.raises(ShardError, match=r"^\S+s\.tar: ") as error,
            shards.reading(path) as found,
        ):
            list(found.samples)
        assert "object at" not in str(error.value)
    path.write_bytes(data[: end + 1024])
    with shards.reading(path) as found:
        assert [sample.key for sample in found.samples] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "damaged"),
        (b"no tar" * 500, "damaged"),
        (gzip.compress(tar(("a.txt", b"1"))), "is compressed: unpack it first"),
        (tar(("a.txt", b"1"), ("a.txt", b"2")), "a.txt: duplicate file name in tar file"),
    ],
    ids=["empty", "none", "compressed", "twice"],
)
def test_tar_files_that_are_none(tmp_path: Path, data: bytes, words: str) -> None:
    told, found = convert(tmp_path, data)
    assert words in told["s.tar"]
    assert not found, "nothing half-written stays"


def test_a_shard_without_samples(tmp_path: Path) -> None:
    for suffix, data in {
        ".tar": tar(),
        ".parquet": parquet([], pa.schema([("image", pa.binary())])),
    }.items():
        told, found = convert(tmp_path, data, suffix, existing="replace")
        assert not told
        assert f"s{suffix}" in found


# Parquet ------------------------------------------------------------------------------------------


def test_pictures_as_hugging_face_has_them(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": b"x", "path": "d/b.txt"}, "label": 3},
        {"image": {"bytes": b"y", "path": None}, "label": None},
        {"image": {"bytes": None, "path": "c.txt"}, "label": 1},
        {"image": None, "label": 1},
    ]
    source = pa.Table.from_pylist(rows).replace_schema_metadata({"huggingface": "{}"})
    told, found = convert(tmp_path, parquet(source), ".parquet")
    assert not told
    coded = table(found["s.parquet"])
    assert coded.schema.equals(source.schema, check_metadata=True)
    assert coded.to_pylist() == [
        {"image": {"bytes": b"X", "path": "d/b.out"}, "label": 3},
        {"image": {"bytes": b"Y", "path": "1.out"}, "label": None},
        *rows[2:],
    ]


COLUMNS: dict[str, Any] = {
    "nanoseconds": pa.array([1234567890123456789], pa.timestamp("ns")),
    "zone": pa.array([1], pa.timestamp("us", "Europe/Berlin")),
    "duration": pa.array([1], pa.duration("ns")),
    "time": pa.array([1], pa.time64("ns")),
    "half": pa.array([1.5], pa.float16()),
    "large": pa.array([2**64 - 1], pa.uint64()),
    "decimal": pa.array([decimal.Decimal("1.20")]),
    "dictionary": pa.array(["a"]).dictionary_encode(),
    "text": pa.array(["ü"], pa.large_string()),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32())),
    "nested": pa.array([{"a": [{"b": 1}]}]),
    "fixed": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
    "null": pa.nulls(1),
    "bytes": pa.array([b"as they are"]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_all_types_stay_as_they_are(tmp_path: Path, name: str) -> None:
    source = pa.table({"image": pa.array([b"x"]), name: COLUMNS[name]})
    data = parquet(source)
    told, found = convert(tmp_path, data, ".parquet")
    assert not told
    coded = table(found["s.parquet"])
    assert coded.column("image").to_pylist() == [b"X"]
    assert coded.column(name).equals(table(data).column(name))


def test_columns_are_renamed_as_a_whole(tmp_path: Path) -> None:
    """The first rows hold no file: more of them than are written at a time."""
    rows = [{"txt": b"x" if n > 17 else None, "k": n} for n in range(40)]
    told, found = convert(tmp_path, parquet(rows), ".parquet")
    assert not told
    coded = table(found["s.parquet"]).to_pylist()
    assert coded == [{"out": b"X" if n > 17 else None, "k": n} for n in range(40)]


def test_a_row_that_cannot_be_coded_is_left_out(tmp_path: Path) -> None:
    rows = [{"txt": b"y" if n > 15 else b"x" * 1001, "k": n} for n in range(20)]
    told, found = convert(tmp_path, parquet(rows), ".parquet")
    assert set(told) == {f"{n}.txt" for n in range(16)}
    assert table(found["s.parquet"]).to_pylist() == [{"out": b"Y", "k": n} for n in range(16, 20)]


def test_columns_that_would_get_one_name(tmp_path: Path) -> None:
    data = parquet([{"md": b"1", "txt": b"2"}])
    told, found = convert(tmp_path, data, ".parquet")
    assert told == {"s.parquet": "two columns would become out: --keep-suffix keeps them apart"}
    assert not found
    (tmp_path / "kept").mkdir()
    told, found = convert(tmp_path / "kept", data, ".parquet", naming=KEEPING)
    assert not told
    assert table(found["s.parquet"]).to_pylist() == [{"md.out": b"1", "txt.out": b"2"}]


@pytest.mark.parametrize(
    "path", ["", "..", "/", ".", "a/", "x\0y.txt", "n" * 300 + ".txt", "../a.txt"]
)
def test_paths_in_rows_are_names_and_no_orders(tmp_path: Path, path: str) -> None:
    data = parquet([{"image": {"bytes": b"x", "path": path}}])
    told, found = convert(tmp_path, data, ".parquet")
    assert not told
    assert table(found["s.parquet"]).to_pylist()[0]["image"]["bytes"] == b"X"
    (tmp_path / "unpacked").mkdir()
    told, found = convert(tmp_path / "unpacked", data, ".parquet", unpacks=True)
    assert all("bug" not in text for text in told.values())
    assert bool(told) != bool(found)
    assert all(name.startswith("s/") for name in found)


def test_parquet_files_that_are_cut_are_refused(tmp_path: Path) -> None:
    data = parquet([{"txt": bytes([n]) * 100} for n in range(40)])
    for cut in (0, 3, len(data) // 2, len(data) - 9, len(data) - 1):
        told, found = convert(tmp_path, data[:cut], ".parquet", existing="replace")
        assert "the shard is damaged: " in told["s.parquet"]
        assert not found


def test_a_damaged_page_is_told_of(tmp_path: Path) -> None:
    data = bytearray(parquet([{"txt": bytes([n]) * 100} for n in range(40)]))
    data[10:60] = bytes(50)
    told, found = convert(tmp_path, bytes(data), ".parquet")
    assert "the shard is damaged: " in told["s.parquet"]
    assert not found


# Samples ------------------------------------------------------------------------------------------


def test_a_sample_finds_its_files() -> None:
    fields = {"txt": b"1", "seg.txt": b"2", "image": b"3", "json": b"{}", "n": 5, "d": {"a": 1}}
    sample = Sample("k", {**fields, "hf": {"bytes": b"4", "path": "x.md"}})
    assert sample.files(SUFFIXES) == {
        "txt": "k.txt",
        "seg.txt": "k.seg.txt",
        "image": "k.image",
        "hf": "x.md",
    }
    assert [sample.data(name) for name in sample.files(SUFFIXES)] == [b"1", b"2", b"3", b"4"]


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.tar").write_bytes(tar(("a.txt", b"1")))
    (tmp_path / "s.parquet").write_bytes(parquet([{"txt": b"1"}]))
    for suffix, module in {"tar": "webdataset", "parquet": "pyarrow"}.items():
        with monkeypatch.context() as patch:
            for name in list(sys.modules):
                if name.partition(".")[0] == module:
                    patch.delitem(sys.modules, name)
            patch.setitem(sys.modules, module, None)
            with (
                pytest.raises(StfError, match=rf"shards need {module}.*: pip install 'stfcodec"),
                shards.reading(tmp_path / f"s.{suffix}") as found,
            ):
                list(found.samples)
    with pytest.raises(StfError, match=r"cannot read .*none\.tar: No such file"):
        shards.reading(tmp_path / "none.tar").__enter__()
