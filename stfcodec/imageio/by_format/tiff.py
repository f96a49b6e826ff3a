"""Finds TIFF files that Pillow would misread, by their directories, and reads some of them right.

Reference: TIFF revision 6.0 (Adobe, 1992).
"""

from __future__ import annotations

from collections import deque
from typing import IO

from PIL import Image, ImageFile, TiffImagePlugin

from stfcodec.errors import ImageError
from stfcodec.imageio.metadata.directories import DirectoryError, DirectoryReader, Entry

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_DIRECTORIES = 32  # read of one file
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
_REDUCED, _MASK = 1, 4  # bits of the subfile type
_KINDS = {
    **{0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "Lab"},
    **{9: "Lab (ICC)", 10: "Lab (ITU)", 32844: "LogL", 32845: "LogLuv"},
}
_ALPHA = (1, 2, 999)  # premultiplied, not so, and a mistake of Corel Draw that Pillow knows
_SAMPLE_FORMATS = {2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}

_RAW = "raw photograph (camera sensor data): develop it to TIFF or PNG first"

Tags = dict[int, tuple[int, ...]]
"""Tag to values."""


def check_readable(fp: IO[bytes], notes: list[str], by_pillow_alone: bool = False) -> None:
    """Raise ImageError, naming the kind of file, if Pillow would misread it or take a thumbnail.

    What Pillow leaves out is added to `notes`. Files that cannot be parsed pass, for Pillow to
    refuse. by_pillow_alone: the image was opened by the host program, hence not by `TiffReader`.
    The position in the file is restored.
    """
    position = fp.tell()
    try:
        reader = DirectoryReader.of(fp)
        head = fp.read(12)
        directories = _directories(reader)
        file_end = reader.end()
    finally:
        fp.seek(position)
    if not directories:
        return
    first, *others = directories
    if head[4:6] == b"CR" or _DNG_VERSION in first:
        raise ImageError(_RAW)
    if problem := _not_the_picture(first, others) or _misread(first, by_pillow_alone):
        raise ImageError(problem)
    alpha = first.get(_EXTRA_SAMPLES, (0,))[0] in _ALPHA
    if extra := len(first.get(_EXTRA_SAMPLES, ())) - alpha:
        notes.append(f"not carried: extra channels of the TIFF ({extra})")
    cut_short = [name for tag, name in _BLOCKS.items() if first.get(tag, (0,))[0] > file_end]
    notes.extend(f"unreadable {name} left out" for name in cut_short)


def pages(fp: IO[bytes]) -> int:
    """How many pages are neither reduced copies nor masks. The position in the file is restored."""
    position, found, seen = fp.tell(), 0, set[int]()
    try:
        reader = DirectoryReader.of(fp)
        offset = reader.first_offset()
        while offset and offset not in seen and len(seen) < _MAX_DIRECTORIES:
            seen.add(offset)
            entries, offset = reader.directory(offset)
            kind = _tags(reader, entries).get(_SUBFILE_TYPE, (0,))[0]
            found += not kind & (_REDUCED | _MASK)
    except DirectoryError:
        pass
    finally:
        fp.seek(position)
    return found


def _directories(reader: DirectoryReader) -> list[Tags]:
    """The first directory, then its subdirectories and those chained to it, as far as readable."""
    directories: list[Tags] = []
    try:
        queue, seen = deque([reader.first_offset()]), set[int]()
        while queue and len(directories) < _MAX_DIRECTORIES:
            offset = queue.popleft()
            if not offset or offset in seen:
                continue
            seen.add(offset)
            entries, following = reader.directory(offset)
            tags = _tags(reader, entries)
            directories.append(tags)
            queue += [*tags.get(_SUBDIRECTORIES, ()), following]
    except DirectoryError:
        pass
    return directories


def _tags(reader: DirectoryReader, entries: list[Entry]) -> Tags:
    """The values of the tags in `_TAGS_READ`; of those in `_BLOCKS`, the offset of the end.

    Values that are unreadable or no unsigned integers are left out.
    """
    tags: Tags = {}
    for entry in {entry.tag: entry for entry in entries}.values():
        if entry.tag in _BLOCKS:
            tags[entry.tag] = (entry.value_at + entry.size,)
        elif entry.tag in _TAGS_READ and (values := reader.integers(entry)):
            tags[entry.tag] = values
    return tags


def _not_the_picture(first: Tags, others: list[Tags]) -> str | None:
    """What the file is, if its first directory is only a preview of the picture."""
    if any(tags.get(_PHOTOMETRIC, (0,))[0] in _SENSOR for tags in (first, *others)):
        return _RAW
    is_reduced = first.get(_SUBFILE_TYPE, (0,))[0] & _REDUCED
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
        try:
            super()._setup()
        except (SyntaxError, KeyError) as error:
            if problem := self._unsupported(error):
                raise ImageError(problem) from error
            raise
        depths = set(self.tag_v2.get(_BITS, (1,)))
        has_planes = self.tag_v2.get(_PLANAR) == 2 and not self.use_load_libtiff
        if has_planes and depths == {16} and self.mode in ("RGB", "RGBA"):
            # Pillow would read each plane as bytes.
            order = "L" if self.tag_v2._endian == "<" else "B"
            self.tile = [_with_16_bits(tile, order) for tile in self.tile]

    def _unsupported(self, error: Exception) -> str | None:
        """What kind of TIFF Pillow has refused; None if the file rather makes no sense."""
        compression = self.tag_v2.get(_COMPRESSION, 1)
        if compression not in TiffImagePlugin.COMPRESSION_INFO:
            return f"TIFF with compression {compression}: save it with LZW, Deflate or none"
        kind = _KINDS.get(self.tag_v2.get(_PHOTOMETRIC, 0))
        if str(error) != "unknown pixel mode" or kind is None:
            return None
        bits, channels = max(self.tag_v2.get(_BITS, (1,))), self.tag_v2.get(_CHANNELS, 1)
        found = f"{bits}-bit {kind} in {channels} channel{'s' * (channels != 1)}"
        return f"TIFF of {found} is not supported: save it as 8-bit RGB or grey, or as PNG"


def _with_16_bits(tile: ImageFile._Tile, order: str) -> ImageFile._Tile:
    """The tile of a plane, whose raw mode is the letter of its channel, with 16-bit samples."""
    assert isinstance(tile.args, tuple)
    channel, *others = tile.args
    return tile._replace(args=(f"{channel};16{order}", *others))
