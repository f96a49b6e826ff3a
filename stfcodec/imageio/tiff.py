"""Finds TIFF files that Pillow would misread, by their directories, and reads some of them right.

Reference: TIFF revision 6.0 (Adobe, 1992).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import IO

from PIL import Image, ImageFile, TiffImagePlugin

from stfcodec.errors import ImageError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_DIRECTORIES = 32  # read of one file
_MAX_ENTRIES = 4096  # of a directory, and values of an entry
# By field type: bytes of a value.
_VALUE_BYTES = dict.fromkeys((1, 2, 6, 7), 1) | {3: 2, 8: 2, 4: 4, 9: 4, 11: 4, 13: 4}
_VALUE_BYTES |= dict.fromkeys((5, 10, 12, 16, 17, 18), 8)
# By field type: unsigned integers as of `struct`.
_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_BLOCKS = {34675: "ICC profile", 700: "XMP"}

_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_FILL_ORDER, _CHANNELS, _PLANAR, _TILE_WIDTH, _SUBDIRECTORIES = 266, 277, 284, 322, 330
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBSAMPLING, _DNG_VERSION = 338, 339, 530, 50706
_GREY, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 1, 2, 3, 5, 6, 8
_SENSOR = (32803, 34892)  # colour filter array, linear raw
_TAGS_READ = (
    *(_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _CHANNELS),
    *(_PLANAR, _TILE_WIDTH, _SUBDIRECTORIES, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBSAMPLING),
    _DNG_VERSION,
)
_SAMPLE_FORMATS = {2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}

_RAW = "raw photograph (camera sensor data): develop it to TIFF or PNG first"

Tags = dict[int, tuple[int, ...]]
"""Tag to values."""


@dataclass(frozen=True)
class _DirectoryReader:
    """Reads numbers and directories of one file, TIFF or BigTIFF."""

    fp: IO[bytes]
    order: str
    """Byte order as of `struct`."""
    is_big: bool

    @property
    def offset_format(self) -> str:
        return "Q" if self.is_big else "I"

    def directory(self, offset: int) -> tuple[Tags, int]:
        """The values of the tags in `_TAGS_READ`, and the offset of the next directory.

        Values that are unreadable or no unsigned integers are left out. For the tags in `_BLOCKS`
        the value is the offset of the block's end.
        """
        count = self.number(offset, "Q" if self.is_big else "H")
        first, entry_bytes, inline_bytes = (
            (offset + 8, 20, 8) if self.is_big else (offset + 2, 12, 4)
        )
        tags: Tags = {}
        for entry in range(first, first + entry_bytes * min(count, _MAX_ENTRIES), entry_bytes):
            tag, field_type = self._numbers(entry, "HH")
            if tag in _BLOCKS:
                tags[tag] = (self._value_end(entry, field_type),)
            if tag not in _TAGS_READ or field_type not in _FORMATS:
                continue
            values = self.number(entry + 4, self.offset_format)
            if not 0 < values <= _MAX_ENTRIES:
                continue
            format = _FORMATS[field_type] * values
            value_offset = entry + entry_bytes - inline_bytes
            if struct.calcsize(self.order + format) > inline_bytes:
                value_offset = self.number(value_offset, self.offset_format)
            try:
                tags[tag] = self._numbers(value_offset, format)
            except (struct.error, OverflowError, ValueError):
                continue
        return tags, self.number(first + entry_bytes * count, self.offset_format)

    def _value_end(self, entry: int, field_type: int) -> int:
        """Offset of the end of an entry's value: 0 if it is inline, huge if its type is unknown."""
        inline_bytes = 8 if self.is_big else 4
        length = _VALUE_BYTES.get(field_type, 1 << 64) * self.number(entry + 4, self.offset_format)
        if length <= inline_bytes:
            return 0
        return self.number(entry + 4 + inline_bytes, self.offset_format) + length

    def _numbers(self, offset: int, format: str) -> tuple[int, ...]:
        self.fp.seek(offset)
        size = struct.calcsize(self.order + format)
        return struct.unpack(self.order + format, self.fp.read(size))

    def number(self, offset: int, format: str) -> int:
        return self._numbers(offset, format)[0]


def check_readable(fp: IO[bytes], notes: list[str], by_pillow_alone: bool = False) -> None:
    """Raise ImageError, naming the kind of file, if Pillow would misread it or take a thumbnail.

    What Pillow leaves out is added to `notes`. Files that cannot be parsed pass, for Pillow to
    refuse. by_pillow_alone: the image was opened by the host program, hence not by `TiffReader`.
    The position in the file is restored.
    """
    position = fp.tell()
    try:
        fp.seek(0)
        head = fp.read(16)
        reader = _DirectoryReader(fp, "<" if head[:2] == b"II" else ">", b"+" in head[2:4])
        directories = _directories(reader)
        fp.seek(0, os.SEEK_END)
        file_end = fp.tell()
    finally:
        fp.seek(position)
    if not directories:
        return
    first, *others = directories
    if head[8:10] == b"CR" or _DNG_VERSION in first:
        raise ImageError(_RAW)
    if problem := _not_the_picture(first, others) or _misread(first, by_pillow_alone):
        raise ImageError(problem)
    alpha = first.get(_EXTRA_SAMPLES, ())[:1] in {(1,), (2,)}
    if extra := len(first.get(_EXTRA_SAMPLES, ())) - alpha:
        notes.append(f"not carried: extra channels of the TIFF ({extra})")
    cut_short = [name for tag, name in _BLOCKS.items() if first.get(tag, (0,))[0] > file_end]
    notes.extend(f"unreadable {name} left out" for name in cut_short)


def _directories(reader: _DirectoryReader) -> list[Tags]:
    """The first directory, then its subdirectories and those chained to it, as far as readable."""
    directories: list[Tags] = []
    try:
        queue, seen = [reader.number(8 if reader.is_big else 4, reader.offset_format)], set()
        while queue and len(directories) < _MAX_DIRECTORIES:
            offset = queue.pop(0)
            if not offset or offset in seen:
                continue
            seen.add(offset)
            tags, following = reader.directory(offset)
            directories.append(tags)
            queue += [*tags.get(_SUBDIRECTORIES, ()), following]
    except (struct.error, OverflowError, ValueError):
        pass
    return directories


def _not_the_picture(first: Tags, others: list[Tags]) -> str | None:
    """What the file is, if its first directory is only a preview of the picture."""
    if any(tags.get(_PHOTOMETRIC, (0,))[0] in _SENSOR for tags in (first, *others)):
        return _RAW
    is_reduced = first.get(_SUBFILE_TYPE, (0,))[0] & 1
    if is_reduced and any(_area(tags) > _area(first) for tags in others):
        return "TIFF whose first picture is a reduced copy of another: extract the other"
    return None


def _area(tags: Tags) -> int:
    return tags.get(_WIDTH, (0,))[0] * tags.get(_HEIGHT, (0,))[0]


def _misread(tags: Tags, by_pillow_alone: bool) -> str | None:
    """What kind of pixels a directory has, if Pillow would misread them or not name them."""
    bits = max(tags.get(_BITS, (1,)))
    sample_format = _SAMPLE_FORMATS.get(max(tags.get(_SAMPLE_FORMAT, (1,))))
    if sample_format:
        kind = f"{bits}-bit {sample_format} samples"
        return f"TIFF of {kind}: convert it to 8 or 16 bits without sign first"
    photometric = tags.get(_PHOTOMETRIC, (0,))[0]
    is_compressed = tags.get(_COMPRESSION, (1,)) != (1,)
    if photometric == _YCBCR and not is_compressed and tags.get(_SUBSAMPLING, (2, 2)) != (1, 1):
        return "uncompressed TIFF with subsampled YCbCr: save it as RGB or with compression"
    if tags.get(_PLANAR) == (2,):
        has_one_plane = tags.get(_CHANNELS, (1,)) == (1,)
        is_deep = bits == 16 and photometric != _CMYK  # Pillow has no mode for 16-bit CMYK
        by_reader = not by_pillow_alone and (is_deep or has_one_plane)
        reads = _reads_planes if is_compressed or by_reader else _reads_uncompressed_planes
        if not reads(tags, photometric):
            return (
                f"{bits}-bit TIFF with separate planes: save it with interleaved channels or as PNG"
            )
    return None


def _reads_planes(tags: Tags, photometric: int) -> bool:
    """Whether libtiff (compressed files) or `TiffReader` read these planes correctly."""
    channels, extra = tags.get(_CHANNELS, (1,))[0], tags.get(_EXTRA_SAMPLES, ())
    if photometric == _RGB:
        return channels == 3 or (extra != () and (channels == 4 or set(extra) == {0}))
    return photometric != _LAB and (photometric > _RGB or channels == 1 or extra == (0,))


def _reads_uncompressed_planes(tags: Tags, photometric: int) -> bool:
    """Whether Pillow itself reads uncompressed planes correctly.

    It takes plane n for the channel of the n-th letter of the mode's name, as bytes, and inverts
    nothing.
    """
    channels, extra = tags.get(_CHANNELS, (1,))[0], tags.get(_EXTRA_SAMPLES, ())
    if set(tags.get(_BITS, ())) != {8} or tags.get(_FILL_ORDER, (1,)) != (1,):
        return False
    if (photometric, channels) == (_RGB, 4):
        return extra == (2,) or (not extra and _TILE_WIDTH not in tags)
    return (photometric, channels) in {(_GREY, 1), (_PALETTE, 1), (_RGB, 3), (_CMYK, 4)}


class TiffReader(TiffImagePlugin.TiffImageFile):
    """Pillow's reader without its process-wide pixel limit, and with planes read correctly."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size, None).im
        super().load_prepare()

    def _setup(self) -> None:
        if self.tag_v2.get(_CHANNELS, 1) == 1:
            self.tag_v2[_PLANAR] = 1  # a single plane is the same interleaved
        super()._setup()
        depths = set(self.tag_v2.get(_BITS, (1,)))
        has_planes = self.tag_v2.get(_PLANAR) == 2 and not self.use_load_libtiff
        if has_planes and depths == {16} and self.mode in ("RGB", "RGBA"):
            # Pillow would read each plane as bytes.
            order = "L" if self.tag_v2._endian == "<" else "B"
            self.tile = [_with_16_bits(tile, order) for tile in self.tile]


def _with_16_bits(tile: ImageFile._Tile, order: str) -> ImageFile._Tile:
    """The tile of a plane, whose raw mode is the letter of its channel, with 16-bit samples."""
    assert isinstance(tile.args, tuple)
    channel, *others = tile.args
    return tile._replace(args=(f"{channel};16{order}", *others))
