"""Files of .stf as a map-style dataset of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from stfcodec.data import places
from stfcodec.data.crops import RandomCrop, below, view_of
from stfcodec.data.decoding import Weights, decode_streams, naming
from stfcodec.data.places import Found, Place
from stfcodec.errors import UsageError
from stfcodec.formats import STREAM_SUFFIXES
from stfcodec.limits import DEFAULT_LIMITS, Limits
from stfcodec.storage import Location
from stfcodec.view import WHOLE, View


class StfDataset(Dataset[Any]):
    """The pictures of .stf files, decoded when they are asked for, on the CPU.

    An item is a picture, uint8 (3, H, W) of 0…255, or a pair of it and its label. The channels of a
    grey picture are equal; alpha is left out, and colours are those of the file's profile. A
    process loads a model once, however many items it gives.

    source: the path or URL of a folder, which is searched with its subfolders, or of a file, or
    several of them.
    view: what of each picture is decoded, a `View` or a `RandomCrop`. Places of random crops come
    from torch's random numbers, for which DataLoader seeds its workers.
    transform: a function of the picture, whose result takes its place.
    labelled: whether items have labels. The folders right below each folder of `source` are the
    classes, in the order of their names.
    weights: the path of a weights file to use in place of those that the streams name.
    limits: the largest stream and picture that are accepted.

    Raises UsageError where there is no .stf file, or one without a class, and StfError where a
    folder cannot be read. An item raises what `stfcodec.decode` raises, with the name of the file.
    """

    files: list[Path | Location]
    """By name within each folder, in the order of the items."""
    classes: list[str]
    """Names of the classes, whose places in this list are the labels."""
    labels: list[int]
    """Of the items; empty unless `labelled`."""

    def __init__(
        self,
        source: Place | Iterable[Place],
        *,
        view: View | RandomCrop = WHOLE,
        transform: Callable[[Tensor], Any] | None = None,
        labelled: bool = False,
        weights: Weights = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        found = places.find(source, STREAM_SUFFIXES)
        self.files = [file.place for file in found]
        self.classes, self.labels = _labels(found) if labelled else ([], [])
        self.view = view
        self.transform = transform
        self._weights = weights
        self._limits = limits

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        file = self.files[index]
        with naming(str(file)):
            stream = places.read(file, self._limits)
            view = view_of(self.view, stream.header.width, stream.header.height, below)
            (picture,) = decode_streams([stream], [view], [str(file)], "cpu", self._weights)
        item = picture if self.transform is None else self.transform(picture)
        return (item, self.labels[index]) if self.labels else item


def _labels(found: Sequence[Found]) -> tuple[list[str], list[int]]:
    """The classes, and the number of each file's class. Raises UsageError."""
    for file in found:
        if "/" not in file.below:
            advice = "labels are the names of folders below a folder that you name"
            raise UsageError(f"{file.place} lies in no folder of a class: {advice}")
    names = [file.below.partition("/")[0] for file in found]
    classes = sorted(set(names))
    number = {name: i for i, name in enumerate(classes)}
    return classes, [number[name] for name in names]
