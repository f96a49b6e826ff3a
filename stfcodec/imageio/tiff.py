"""What Pillow reads wrongly of TIFF, told from the directories before it is asked."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import IO

from PIL import Image, ImageFile, TiffImagePlugin

from stfcodec.errors import ImageError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DIRECTORIES = 32  # looked at in one file
_ENTRIES = 4096
_LENGTHS = dict.fromkeys((1, 2, 6, 7), 1) | {3: 2, 8: 2, 4: 4, 9: 4, 11: 4, 13: 4}
_LENGTHS |= dict.fromkeys((5, 10, 12, 16, 17, 18), 8)
_BLOCKS = {34675: "ICC profile", 700: "XMP"}
_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_FILL_ORDER, _CHANNELS, _PLANAR, _TILE_WIDTH, _SUBDIRECTORIES = 266, 277, 284, 322, 330
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBSAMPLING, _DNG_VERSION = 338, 339, 530, 50706
_GREY, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 1, 2, 3, 5, 6, 8
_SENSOR = (32803, 34892)  # colour filter array, linear raw
_READ = (
    *(_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _CHANNELS),
    *(_PLANAR, _TILE_WIDTH, _SUBDIRECTORIES, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBSAMPLING),
    _DNG_VERSION,
)
_KINDS = {2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}

_RAW = "raw photograph (camera sensor data): develop it to TIFF or PNG first"

Tags = dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class _Layout:
    """How the numbers of one file are stored; `big` is BigTIFF."""

    order: str
    big: bool

    def directory(self, fp: IO[bytes], at: int) -> tuple[Tags, int]:
        """The unsigned integers of the tags of `_READ`, and the offset of the next directory.

        Unreadable values are left out. Of the tags of `_BLOCKS` the end in the file is told.
        """
        count = self._number(fp, at, "Q" if self.big else "H")
        first, step, inline = (at + 8, 20, 8) if self.big else (at + 2, 12, 4)
        tags: Tags = {}
        for entry in range(first, first + step * min(count, _ENTRIES), step):
            tag, kind = self._numbers(fp, entry, "HH")
            if tag in _BLOCKS:
                tags[tag] = (self._end(fp, entry, kind),)
            if tag not in _READ or kind not in _FORMATS:
                continue
            amount = self._number(fp, entry + 4, "Q" if self.big else "I")
            if not 0 < amount <= _ENTRIES:
                continue
            format = _FORMATS[kind] * amount
            place = entry + step - inline
            if struct.calcsize(self.order + format) > inline:
                place = self._number(fp, place, "Q" if self.big else "I")
            try:
                tags[tag] = self._numbers(fp, place, format)
            except (struct.error, OverflowError, ValueError):
                continue
        return tags, self._number(fp, first + step * count, "Q" if self.big else "I")

    def _end(self, fp: IO[bytes], entry: int, kind: int) -> int:
        """Where the value of an entry ends, behind any file if it is of no known kind."""
        size, inline = ("Q", 8) if self.big else ("I", 4)
        length = _LENGTHS.get(kind, 1 << 64) * self._number(fp, entry + 4, size)
        if length <= inline:
            return 0
        return self._number(fp, entry + 4 + inline, size) + length

    def _numbers(self, fp: IO[bytes], at: int, format: str) -> tuple[int, ...]:
        fp.seek(at)
        return struct.unpack(self.order + format, fp.read(struct.calcsize(self.order + format)))

    def _number(self, fp: IO[bytes], at: int, format: str) -> int:
        return self._numbers(fp, at, format)[0]


def check(fp: IO[bytes], notes: list[str], by_pillow_alone: bool = False) -> None:
    """Raise ImageError, saying what the file is, if Pillow would garble it or take a thumbnail.

    Adds to `notes` what Pillow leaves out. Nothing is raised for what cannot be parsed, which is
    for Pillow to refuse. An image that the host program has opened is read `by_pillow_alone`,
    without what `TiffReader` mends. The position in the file is kept.
    """
    position = fp.tell()
    try:
        fp.seek(0)
        head = fp.read(16)
        layout = _Layout("<" if head[:2] == b"II" else ">", b"+" in head[2:4])
        directories = _directories(fp, layout, head)
        fp.seek(0, os.SEEK_END)
        file_end = fp.tell()
    finally:
        fp.seek(position)
    if not directories:
        return
    first, *others = directories
    if head[8:10] == b"CR" or _DNG_VERSION in first:
        raise ImageError(_RAW)
    if trouble := _instead_of_photograph(first, others) or _misread(first, by_pillow_alone):
        raise ImageError(trouble)
    alpha = first.get(_EXTRA_SAMPLES, ())[:1] in {(1,), (2,)}
    if spare := len(first.get(_EXTRA_SAMPLES, ())) - alpha:
        notes.append(f"not carried: extra channels of the TIFF ({spare})")
    cut = [name for tag, name in _BLOCKS.items() if first.get(tag, (0,))[0] > file_end]
    notes.extend(f"unreadable {name} left out" for name in cut)


def _directories(fp: IO[bytes], layout: _Layout, head: bytes) -> list[Tags]:
    """The first directory, those below it, and what is chained to it."""
    found: list[Tags] = []
    try:
        at = layout._number(fp, 8, "Q") if layout.big else layout._number(fp, 4, "I")
        waiting, seen = [at], set()
        while waiting and len(found) < _DIRECTORIES:
            at = waiting.pop(0)
            if not at or at in seen:
                continue
            seen.add(at)
            tags, following = layout.directory(fp, at)
            found.append(tags)
            waiting += [*tags.get(_SUBDIRECTORIES, ()), following]
    except (struct.error, OverflowError, ValueError):
        pass
    return found


def _instead_of_photograph(first: Tags, others: list[Tags]) -> str | None:
    """What the first directory is no photograph but a stand-in for."""
    if any(tags.get(_PHOTOMETRIC, (0,))[0] in _SENSOR for tags in (first, *others)):
        return _RAW
    is_reduced = first.get(_SUBFILE_TYPE, (0,))[0] & 1
    if is_reduced and any(_area(tags) > _area(first) for tags in others):
        return "TIFF whose first picture is a reduced copy of another: extract the other"
    return None


def _area(tags: Tags) -> int:
    return tags.get(_WIDTH, (0,))[0] * tags.get(_HEIGHT, (0,))[0]


def _misread(tags: Tags, by_pillow_alone: bool) -> str | None:
    """What the pixels of this directory are, if Pillow would garble them or not say."""
    bits = max(tags.get(_BITS, (1,)))
    kind = _KINDS.get(max(tags.get(_SAMPLE_FORMAT, (1,))))
    if kind:
        return f"TIFF of {bits}-bit {kind} samples: convert it to 8 or 16 bits without sign first"
    photometric = tags.get(_PHOTOMETRIC, (0,))[0]
    compressed = tags.get(_COMPRESSION, (1,)) != (1,)
    if photometric == _YCBCR and not compressed and tags.get(_SUBSAMPLING, (2, 2)) != (1, 1):
        return "uncompressed TIFF with subsampled YCbCr: save it as RGB or with compression"
    if tags.get(_PLANAR) == (2,):
        one_plane = tags.get(_CHANNELS, (1,)) == (1,)
        deep = bits == 16 and photometric != _CMYK  # Pillow has no such planes of inks
        mended = not by_pillow_alone and (deep or one_plane)
        by_libtiff = compressed or mended
        if not (_reads_planes if by_libtiff else _reads_plain_planes)(tags, photometric):
            return (
                f"{bits}-bit TIFF with separate planes: save it with interleaved channels or as PNG"
            )
    return None


def _reads_planes(tags: Tags, photometric: int) -> bool:
    """Whether planes that libtiff interleaves for Pillow come out right."""
    channels, extra = tags.get(_CHANNELS, (1,))[0], tags.get(_EXTRA_SAMPLES, ())
    if photometric == _RGB:
        return channels == 3 or (extra != () and (channels == 4 or set(extra) == {0}))
    return photometric != _LAB and (photometric > _RGB or channels == 1 or extra == (0,))


def _reads_plain_planes(tags: Tags, photometric: int) -> bool:
    """Whether Pillow itself reads uncompressed planes rightly.

    It takes the letters of the mode's name for the planes, which is right for whole bytes without
    any inversion.
    """
    channels, extra = tags.get(_CHANNELS, (1,))[0], tags.get(_EXTRA_SAMPLES, ())
    if set(tags.get(_BITS, ())) != {8} or tags.get(_FILL_ORDER, (1,)) != (1,):
        return False
    if (photometric, channels) == (_RGB, 4):
        return extra == (2,) or (not extra and _TILE_WIDTH not in tags)
    return (photometric, channels) in {(_GREY, 1), (_PALETTE, 1), (_RGB, 3), (_CMYK, 4)}


class TiffReader(TiffImagePlugin.TiffImageFile):
    """Pillow's, without its process-wide pixel limit, and right where that garbles planes."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)
        super().load_prepare()

    def _setup(self) -> None:
        if self.tag_v2.get(_CHANNELS, 1) == 1:
            self.tag_v2[_PLANAR] = 1  # one plane is no plane apart
        super()._setup()
        depths = set(self.tag_v2.get(_BITS, (1,)))
        planes_apart = self.tag_v2.get(_PLANAR) == 2 and not self.use_load_libtiff
        if planes_apart and depths == {16} and self.mode in ("RGB", "RGBA"):
            # Pillow takes each plane for one of bytes.
            order = "L" if self.tag_v2._endian == "<" else "B"
            self.tile = [_of_16_bits(tile, order) for tile in self.tile]


def _of_16_bits(tile: ImageFile._Tile, order: str) -> ImageFile._Tile:
    """A tile of one plane, its raw mode the letter of a channel."""
    assert isinstance(tile.args, tuple)
    channel, *others = tile.args
    return tile._replace(args=(f"{channel};16{order}", *others))
