"""Opens files with Pillow under this package's limits, without changing settings of the process.

Turns the errors that Pillow raises on bad files into ImageError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, BinaryIO

from PIL import (  # importing registers the formats, which two threads must not do at once
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    QoiImagePlugin,  # noqa: F401
    TgaImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from stfcodec.errors import ImageError
from stfcodec.formats import READABLE
from stfcodec.imageio.by_format.tiff import TiffReader


def open_image(fp: BinaryIO, formats: Sequence[str] = tuple(READABLE)) -> ImageFile.ImageFile:
    """A Pillow image of a seekable file: its header is read, no pixel is decoded.

    The caller checks the size. `Image.open` would compare it with `Image.MAX_IMAGE_PIXELS`, which
    belongs to the host program. Pillow's WebP reader still does, and refuses twice that value.
    Raises ImageError if the file is of none of the formats.
    """
    fp.seek(0)
    prefix = fp.read(16)
    if not prefix:
        raise ImageError("the file is empty")
    problem = f"not a picture of a known kind ({', '.join(formats)})"
    for name in formats:
        if name not in Image.OPEN:  # Pillow may be built without it
            continue
        factory, accept = Image.OPEN[name]
        accepted = not accept or accept(prefix)
        if isinstance(accepted, str):
            problem = accepted
        elif accepted:
            fp.seek(0)
            try:
                return TiffReader(fp) if name == "TIFF" else factory(fp, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                if accept:  # TGA has no signature and accepts every file
                    problem = f"{name} is damaged or of an unsupported kind: {first_line(error)}"
    raise ImageError(problem)


def undecoded_file(image: Image.Image) -> IO[bytes] | None:
    """The open file of an image of which no pixel is decoded yet; None for all others."""
    return image.fp if isinstance(image, ImageFile.ImageFile) and image.tile else None


@contextmanager
def errors_as_image_errors() -> Iterator[None]:
    """Turn what Pillow raises on bad input into ImageError.

    Errors raised by this package itself, or by a library that it calls, are bugs and pass through.
    So do warnings that the host program has turned into errors: the warning filters are its own.
    """
    try:
        yield
    except (ImageError, Warning):
        raise
    except MemoryError as error:
        raise ImageError("too large for the memory of this machine") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"over the limit of Pillow: {first_line(error)}") from error
    except Exception as error:  # on damaged files plugins raise nearly every built-in error
        if isinstance(error, OSError) and error.strerror:
            raise ImageError(f"cannot be read: {error.strerror}") from error
        if not isinstance(error, OSError) and not raised_by_pillow(error):
            raise
        raise ImageError(f"damaged or cut short: {first_line(error)}") from error


def raised_by_pillow(error: Exception) -> bool:
    """Whether a function of Pillow is on the traceback of a caught error."""
    trace = error.__traceback__
    while trace:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.partition(".")[0] == "PIL":
            return True
        trace = trace.tb_next
    return False


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the name of its class if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
