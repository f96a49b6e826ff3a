"""Lets Pillow open and save .stf files, once `register` was called or `pillow_plugin` imported.

Opening a file reads and checks all of it, and needs no torch. Pixels are decoded by `load`, which
every operation on pixels calls. Errors are those that Pillow's users expect; the `StfError` of this
package is the cause of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from fractions import Fraction
from math import ceil
from threading import Lock
from types import ModuleType
from typing import IO, Any

from PIL import Image, ImageFile, UnidentifiedImageError

from stfcodec import container, imageio
from stfcodec.errors import StfError, StreamError, UsageError
from stfcodec.formats import STREAM_MIME, STREAM_SUFFIX
from stfcodec.limits import DEFAULT_LIMITS, Limits
from stfcodec.models import registry
from stfcodec.settings import EncodeSettings
from stfcodec.view import smallest_scale

FORMAT = "STF"
"""Pillow's name of the format."""

_ANY_SIZE = Limits(pixels=1 << 48)
"""Pillow's own limit, `PIL.Image.MAX_IMAGE_PIXELS`, bounds the size."""

_OPTIONS = tuple(field.name for field in fields(EncodeSettings))
_METADATA = ("icc_profile", "exif", "xmp", "dpi")


def register() -> None:
    """Let Pillow open and save .stf files. A second call changes nothing."""
    Image.register_open(FORMAT, StfImageFile, container.has_signature)
    Image.register_save(FORMAT, _save)
    Image.register_save_all(FORMAT, _save_all)
    Image.register_extension(FORMAT, STREAM_SUFFIX)
    Image.register_mime(FORMAT, STREAM_MIME)


class StfImageFile(ImageFile.ImageFile):
    """An .stf file that Pillow has opened: an image of mode L, LA, RGB or RGBA.

    `info` has "model" and "quality", and "icc_profile", "exif", "xmp" and "dpi" where present.
    """

    format = FORMAT
    format_description = "Picture coded by stfcodec"

    _undecoded: bytes | None = None
    """The stream, until its pixels are decoded."""

    _scale = Fraction(1)
    """Size of the image in units of the picture's."""

    def _open(self) -> None:
        """Read the file. Raises UnidentifiedImageError if it is damaged or unknown here."""
        assert self.fp is not None
        data = self.fp.read(_ANY_SIZE.bytes + 1)
        try:
            stream = container.read(data, _ANY_SIZE)
            model = registry.by_id(stream.header.model_id)
        except StreamError as error:
            raise UnidentifiedImageError(str(error)) from error
        header, gray = stream.header, stream.header.channels == 1
        _check_size(header.width, header.height)
        self._size = header.width, header.height
        self._mode = ("L" if gray else "RGB") + ("" if stream.alpha is None else "A")
        icc = imageio.fitted_profile(stream.icc, gray, [])
        self.info.update(imageio.pillow_info(icc, stream.exif, stream.xmp))
        self.info.update(model=model.name, quality=header.quality)
        self._undecoded, self._decoding = data, Lock()

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """Let `load` decode a picture of 1/2, 1/4, 1/8 or 1/16 of the size, but at least `size`.

        `Image.thumbnail` calls it. mode: ignored. Returns the mode, and the part of the image that
        the picture fills; None if nothing changes.
        """
        if self._undecoded is None or size is None or self._scale < 1:
            return None
        width, height = self.size
        self._scale = smallest_scale(min(width / max(size[0], 1), height / max(size[1], 1)))
        if self._scale == 1:
            return None
        self._size = ceil(width * self._scale), ceil(height * self._scale)
        return self.mode, (0, 0, float(width * self._scale), float(height * self._scale))

    def load(self) -> Any:
        """Decode the pixels at the first call. Raises OSError, and ImportError without torch."""
        if self._undecoded is not None:
            with self._decoding:
                self._decode()
        return super().load()

    def _decode(self) -> None:
        if self._undecoded is None:  # by another thread meanwhile
            return
        with _errors_of_pillow():
            image = _api().decode(self._undecoded, limits=_ANY_SIZE, scale=self._scale)
        self.im, self.readonly = image.im, image.readonly
        self._undecoded = None
        if self.fp and self._exclusive_fp:
            self.fp.close()
        self.fp = None


def _check_size(width: int, height: int) -> None:
    """Raise DecompressionBombError for a picture that is over Pillow's limit once padded.

    Pillow compares the size without padding, which a line of 16 million pixels passes.
    """
    if Image.MAX_IMAGE_PIXELS is None:
        return
    most = max(DEFAULT_LIMITS.pixels, 2 * int(Image.MAX_IMAGE_PIXELS))  # from 2 times on it refuses
    if Limits(pixels=most).refuses(width, height):
        raise Image.DecompressionBombError(
            f"{width}x{height} pixels, padded to multiples of 64, are over the limit of {most}; "
            f"raise PIL.Image.MAX_IMAGE_PIXELS if the file can be trusted"
        )


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Write an image. The arguments of `Image.save` that are also ones of `encode` are passed on.

    Raises OSError, ValueError for an argument out of range, and ImportError without torch.
    """
    given = image.encoderinfo
    options = {name: given[name] for name in _OPTIONS if name in given}
    with _errors_of_pillow():
        data = _api().encode(_with_given_metadata(image), **options)
    fp.write(data)


def _save_all(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    raise ValueError("an .stf file holds one picture: save each frame without save_all")


def _with_given_metadata(image: Image.Image) -> Image.Image:
    """The current frame, with the metadata that arguments of `Image.save` give or take away."""
    given = image.encoderinfo
    if not any(name in given for name in _METADATA) and getattr(image, "n_frames", 1) == 1:
        return image
    frame = image.copy()
    kept = {name: given.get(name, image.info.get(name)) for name in (*_METADATA, "transparency")}
    if isinstance(kept["exif"], Image.Exif):
        kept["exif"] = kept["exif"].tobytes()
    frame.info = {name: value for name, value in kept.items() if value is not None}
    return frame


def _api() -> ModuleType:
    """The module with `encode` and `decode`. Raises ImportError where torch is not installed."""
    try:
        from stfcodec import api
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError("the pixels of .stf files need torch: pip install torch") from error
    return api


@contextmanager
def _errors_of_pillow() -> Iterator[None]:
    """Turn UsageError into ValueError, and other errors of this package into OSError."""
    try:
        yield
    except UsageError as error:
        raise ValueError(str(error)) from error
    except StfError as error:
        raise OSError(str(error)) from error
