"""Shards with .stf streams as an iterable dataset of PyTorch."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from stfcodec import api, container, shards
from stfcodec.container import Stream
from stfcodec.data import places
from stfcodec.data.crops import RandomCrop, view_of
from stfcodec.data.decoding import Weights, decode_streams, naming
from stfcodec.data.places import Place
from stfcodec.errors import StfError, StreamError, UsageError, one_line
from stfcodec.formats import STREAM_SUFFIXES
from stfcodec.limits import DEFAULT_LIMITS, Limits
from stfcodec.shards import Sample, ShardError
from stfcodec.storage import Location
from stfcodec.view import WHOLE, View

KEY = "__key__"
"""The field that has the key of a sample, as WebDataset calls it."""

_READ: dict[str, Callable[[bytes], Any]] = {"cls": int, "json": json.loads, "txt": bytes.decode}
"""What the bytes of fields with these suffixes become."""

_Named = tuple[Path | Location, Sample]
"""A sample and its shard."""

_COUNTERS = 256
"""Workers that count on their own what they skip."""


class StfShards(IterableDataset[Any]):
    """The samples of shards, WebDataset tar files and Parquet files, with their streams decoded.

    A sample is a dictionary of its fields, and of its key under "__key__". Streams become pictures,
    uint8 (3, H, W) of 0…255, as of `StfDataset`. Bytes of fields whose name ends in cls become an
    int, those of json an object, those of txt a str. Everything else stays as it is.

    Each sample is read once by all workers of all ranks together. Whole shards are divided among
    them; where there are fewer shards than readers, several read one shard and take turns. Every
    rank needs the same number of workers.

    source: the path or URL of a folder, which is searched with its subfolders, or of a shard, or
    several of them.
    fields: names of the fields that a sample has as a tuple, in place of the dictionary.
    view: what of each picture is decoded, a `View` or a `RandomCrop`.
    transform: a function of the picture, whose result takes its place.
    shuffle: how many samples wait, still coded, for one of them to be drawn; the order of shards is
    shuffled, too. 0 keeps the order of the shards.
    seed: with the epoch, decides the order and the places of random crops.
    rank, world: which of how many processes this one is; None asks torch.distributed.
    on_error: what is done about a damaged sample or shard, and about a picture that is smaller than
    the crop. "raise" ends the iteration with its error. "skip" goes on without it, or without the
    rest of the shard, and warns at the end of the iteration.
    weights: the path of a weights file to use in place of those that the streams name.
    limits: the largest stream and picture that are accepted.

    Raises UsageError where there is no shard, and for arguments out of range. Iterating raises
    StfError and its kinds, with the names of shard and sample.
    """

    def __init__(
        self,
        source: Place | Iterable[Place],
        *,
        fields: Sequence[str] | None = None,
        view: View | RandomCrop = WHOLE,
        transform: Callable[[Tensor], Any] | None = None,
        shuffle: int = 0,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        weights: Weights = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise UsageError(f"on_error {on_error!r}: choose raise or skip")
        if shuffle < 0:
            raise UsageError(f"shuffle {shuffle}: choose 0 for no shuffling, or more")
        if (rank is None) != (world is None) or not 0 <= (rank or 0) < (world or 1):
            raise UsageError(
                f"rank {rank} of world {world}: give both, or neither; ranks begin at 0"
            )
        self.shards = [found.place for found in places.find(source, shards.SUFFIXES)]
        self.fields = None if fields is None else tuple(fields)
        self.view = view
        self.transform = transform
        self.shuffle = shuffle
        self.seed = seed
        self._given_rank = None if rank is None or world is None else (rank, world)
        self._on_error = on_error
        self._weights = weights
        self._limits = limits
        # In memory that worker processes share, also those that live on from epoch to epoch.
        self._epoch, self._skipped = _shared(1), _shared(_COUNTERS)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration, before it begins: each epoch has its own."""
        self._epoch.fill_(epoch)

    @property
    def skipped(self) -> int:
        """How many samples and shards the last iteration has skipped, in all its workers."""
        return int(self._skipped.sum())

    def __getstate__(self) -> dict[str, Any]:
        """For a process that is spawned, where torch.distributed is not initialised."""
        return {**self.__dict__, "_given_rank": self._rank()}

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        rank, world = self._rank() or (0, 1)
        part, parts = number * world + rank, workers * world  # ranks get shards in turn
        epoch = int(self._epoch)
        order = list(self.shards)
        if self.shuffle:
            random.Random(f"{self.seed} {epoch}").shuffle(order)
        drawn, crops_drawn = (
            random.Random(f"{self.seed} {epoch} {part} {of}") for of in ("order", "crops")
        )
        skips = _Skips(self._on_error == "skip", self._skipped[number % _COUNTERS])
        try:
            samples = self._read(order, part, parts, skips)
            for shard, sample in _shuffled(samples, self.shuffle, drawn):
                try:
                    item = self._decoded(sample, f"{shard}: {sample.key}", crops_drawn)
                except StfError as error:
                    skips.note(error)
                else:
                    yield item
        finally:
            skips.tell()

    def _rank(self) -> tuple[int, int] | None:
        """Which of how many processes this one is, where that is known."""
        distributed = torch.distributed
        if self._given_rank is None and distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return self._given_rank

    def _read(
        self, order: Sequence[Path | Location], part: int, parts: int, skips: _Skips
    ) -> Iterator[_Named]:
        """The samples of one of the readers, each with its shard."""
        first = part % len(order)
        turn, turns = part // len(order), -(-(parts - first) // len(order))
        for shard in order[first::parts]:
            try:
                with shards.reading(shard) as reader:
                    for i, sample in enumerate(reader.samples):
                        if i % turns == turn:
                            yield shard, sample
            except ShardError as error:
                skips.note(error)

    def _decoded(self, sample: Sample, name: str, drawn: random.Random) -> Any:
        """The item that a sample becomes. Raises StfError, which has the name."""
        with naming(name):
            streams = _streams(sample, self._limits)
            sizes = [(stream.header.width, stream.header.height) for stream in streams.values()]
            # One place for all pictures of one size, which may be pairs.
            views = {size: view_of(self.view, *size, drawn.randrange) for size in sizes}
            pictures = decode_streams(
                list(streams.values()),
                [views[size] for size in sizes],
                [f"{name}: {field}" for field in streams],
                "cpu",
                self._weights,
            )
            found: dict[str, Any] = {KEY: sample.key}
            found |= {f: _value(f, v) for f, v in sample.values().items() if f not in streams}
            for field, picture in zip(streams, pictures, strict=True):
                found[field] = picture if self.transform is None else self.transform(picture)
            if self.fields is None:
                return found
            for field in self.fields:
                if field not in found:
                    raise ShardError(f"no field {field!r}, only {', '.join(found)}")
        return tuple(found[field] for field in self.fields)


def _shared(count: int) -> Tensor:
    """Numbers (count,) from 0, int64, in shared memory."""
    numbers = torch.zeros(count, dtype=torch.int64)
    numbers.share_memory_()  # type: ignore[no-untyped-call]
    return numbers


class _Skips:
    """What an iteration leaves out."""

    def __init__(self, allowed: bool, counter: Tensor) -> None:
        self._allowed = allowed
        self._counter = counter.zero_()
        self._first = ""

    def note(self, error: StfError) -> None:
        """Count what has failed, or raise the error."""
        if not (self._allowed and isinstance(error, StreamError | ShardError | UsageError)):
            raise error
        self._counter += 1
        self._first = self._first or str(error)

    def tell(self) -> None:
        """Warn if anything was left out."""
        if count := int(self._counter):
            what = f"{count} damaged or too small samples or shards were skipped"
            warnings.warn(f"{what}; the first: {self._first}", stacklevel=3)


def _shuffled(samples: Iterator[_Named], size: int, drawn: random.Random) -> Iterator[_Named]:
    """The samples, each drawn from `size` that wait; in their order for 0."""
    if not size:
        yield from samples
        return
    waiting: list[_Named] = []
    for sample in samples:
        if len(waiting) < size:
            waiting.append(sample)
            continue
        i = drawn.randrange(size)
        yield waiting[i]
        waiting[i] = sample
    drawn.shuffle(waiting)
    yield from waiting


def _streams(sample: Sample, limits: Limits) -> dict[str, Stream]:
    """The streams of a sample by field. Raises StreamError, and ShardError where there are none."""
    found = {}
    for field, name in sample.files(STREAM_SUFFIXES).items():
        data = sample.data(field)
        if PurePosixPath(name).suffix.lower() in STREAM_SUFFIXES or container.has_signature(data):
            found[field] = api.read_stream(data, limits)
    if not found:
        raise ShardError(f"no .stf stream among the fields {', '.join(sample.fields)}")
    return found


def _value(field: str, value: Any) -> Any:
    """What a field other than a stream becomes. Raises ShardError."""
    kind = field.rpartition(".")[2].lower()
    if not isinstance(value, bytes) or kind not in _READ:
        return value
    try:
        return _READ[kind](value)
    except ValueError as error:
        raise ShardError(f"the field {field!r} is damaged: {one_line(error)}") from error
