"""The two directions of the codec as tasks over files: pictures to streams, and back.

A third task checks streams, and makes nothing of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from stfcodec.errors import ImageError
from stfcodec.formats import DEEP
from stfcodec.limits import DEFAULT_LIMITS, Limits
from stfcodec.settings import EncodeSettings
from stfcodec.view import WHOLE, View

if TYPE_CHECKING:
    from stfcodec.container import StreamInfo
    from stfcodec.imageio import Picture


@dataclass(frozen=True)
class Coded:
    """What coding one file gave: the stream's facts, and what is still to be packed into bytes."""

    content: Any
    info: StreamInfo
    notes: tuple[str, ...] = ()
    input_bytes: int = 0
    checksum: str = ""
    """SHA-256 of the input, in hexadecimal."""
    attributes: os.stat_result | None = None
    """Of the input, where that is a regular file."""
    seconds: float = 0.0
    size: tuple[int, int] | None = None
    """Width and height of the output; None where they are the stream's."""
    psnr: float | None = None
    """Of the picture that the stream decodes to, in dB, where the task measures it."""


class Packed(NamedTuple):
    """An output file's bytes, None where none is written, and notes on what was left out of it."""

    data: bytes | None
    notes: tuple[str, ...] = ()


class Task(Protocol):
    """One direction of the codec. Only `prepare` and `code` run in the calling thread."""

    @property
    def limits(self) -> Limits: ...

    def prepare(self) -> None:
        """Load what every file needs; raises StfError where no file could be coded."""

    def check(self, head: bytes) -> None:
        """Raise StfError for the first bytes of a file that cannot be coded."""

    def unpack(self, data: bytes) -> Any:
        """From a file's bytes to what `code` takes."""

    def code(self, item: Any) -> Coded: ...

    def pack(self, coded: Coded) -> Packed:
        """From what `code` gave to the output file."""


@dataclass(frozen=True)
class Encode:
    """Pictures to .stf streams."""

    settings: EncodeSettings
    collect: Callable[[list[str]], AbstractContextManager[object]] = nullcontext
    """Runs while a picture is read, and adds what C libraries say of it to a list of lines."""
    measures: bool = False
    """Decode each stream, for its PSNR."""

    @property
    def limits(self) -> Limits:
        return self.settings.limits

    def prepare(self) -> None:
        from stfcodec.models import locate

        settings = self.settings
        if settings.weights is None:  # missing ones are told before torch is imported
            locate.find(settings.model_info, settings.quality)
        from stfcodec import api

        api.encoding_codec(settings)

    def check(self, head: bytes) -> None:
        """Raise ImageError for a stream. `imageio` decides which other files it can read."""
        from stfcodec import container

        if container.has_signature(head):
            raise ImageError("is coded already: 'stfcodec decode' makes a picture of it")

    def unpack(self, data: bytes) -> Any:
        from stfcodec import imageio

        lines: list[str] = []
        try:
            with self.collect(lines):
                picture = imageio.read_picture(data, self.limits)
        except ImageError as error:
            raise (ImageError(f"{error}: {lines[0]}") if lines else error) from error.__cause__
        if lines:
            note = f"may be damaged: {lines[0]}" + " and more" * (len(lines) > 1)
            picture = replace(picture, notes=(*picture.notes, note))
        return imageio.without_metadata(picture) if self.settings.strip else picture

    def code(self, item: Any) -> Coded:
        from stfcodec import api, container

        data = api.encode_with(item, self.settings)
        psnr = self._psnr(item, data) if self.measures else None
        return Coded(data, container.inspect(data), item.notes, psnr=psnr)

    def _psnr(self, picture: Picture, data: bytes) -> float:
        from stfcodec import api, imageio, metrics

        settings = self.settings
        decoded = api.decode_picture(
            data, device=settings.device, weights=settings.weights, limits=settings.limits
        )
        source = imageio.without_hidden_colours(picture)  # as it was coded
        return metrics.psnr(source.pixels, decoded.pixels)

    def pack(self, coded: Coded) -> Packed:
        return Packed(coded.content)


class _OfStreams:
    """What tasks whose inputs are streams share."""

    def prepare(self) -> None:
        # In the calling thread: two threads must not import numpy at the same time.
        from stfcodec import api  # noqa: F401

    def check(self, head: bytes) -> None:
        from stfcodec import container

        container.check_signature(head)

    def unpack(self, data: bytes) -> bytes:
        return data


@dataclass(frozen=True)
class Decode(_OfStreams):
    """.stf streams to pictures in one file format of `formats.WRITABLE`."""

    format: str = "PNG"
    device: str = "auto"
    weights: Path | None = None
    limits: Limits = DEFAULT_LIMITS
    background: str | None = None
    """Colour to put transparent pictures on, as of `api.decode`."""
    strip: bool = False
    """Leave out ICC profile, EXIF, XMP and IPTC."""
    view: View = WHOLE
    """What of each picture is decoded."""
    depth: int | None = None
    """Bits a channel, as of `api.decode_picture`; no more than the format holds."""

    def code(self, item: bytes) -> Coded:
        from stfcodec import api, container

        info = container.inspect(item)
        picture = api.decode_picture(
            item,
            device=self.device,
            weights=self.weights,
            limits=self.limits,
            background=self.background,
            strip=self.strip,
            crop=self.view.crop,
            scale=self.view.scale,
            depth=self.depth if self.format in DEEP else 8,
        )
        height, width = picture.pixels.shape[:2]
        return Coded(picture, info, picture.notes, size=(width, height))

    def pack(self, coded: Coded) -> Packed:
        from io import BytesIO

        from stfcodec import imageio

        buffer = BytesIO()
        notes = imageio.write_picture(coded.content, buffer, self.format)
        return Packed(buffer.getvalue(), notes)


@dataclass(frozen=True)
class Verify(_OfStreams):
    """.stf streams whose symbols and alpha planes are decoded, and nothing is made of them."""

    weights: Path | None = None
    limits: Limits = DEFAULT_LIMITS

    def code(self, item: bytes) -> Coded:
        from stfcodec import api, container

        info = container.inspect(item)
        api.verify_stream(item, weights=self.weights, limits=self.limits)
        return Coded(None, info)

    def pack(self, coded: Coded) -> Packed:
        return Packed(None)
