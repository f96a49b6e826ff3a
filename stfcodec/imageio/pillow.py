"""Pillow as this package needs it: our own limits, one kind of error, no setting of the process."""

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
from stfcodec.imageio.tiff import TiffReader

# Photographs and drawings only: Pillow also opens what runs an interpreter (EPS) or is no picture.
READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "PPM", "JPEG2000", "QOI", "TGA")


def open_image(fp: BinaryIO, formats: Sequence[str] = READABLE) -> ImageFile.ImageFile:
    """Pillow's image of a seekable file, its header read and no pixel decoded.

    `Image.open` would check sizes against `Image.MAX_IMAGE_PIXELS`, which belongs to the host
    program; whoever calls this checks sizes itself. Only Pillow's WebP reader still asks that
    limit, and refuses beyond twice its value. Raises ImageError.
    """
    fp.seek(0)
    prefix = fp.read(16)
    if not prefix:
        raise ImageError("the file is empty")
    trouble = f"not a picture of a known kind ({', '.join(formats)})"
    for name in formats:
        if name not in Image.OPEN:  # Pillow may be built without
            continue
        factory, accept = Image.OPEN[name]
        accepted = not accept or accept(prefix)
        if isinstance(accepted, str):
            trouble = accepted
        elif accepted:
            fp.seek(0)
            try:
                return TiffReader(fp) if name == "TIFF" else factory(fp, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                if accept:  # TGA has no signature and tries everything
                    trouble = f"{name} is damaged or of an unsupported kind: {first_line(error)}"
    raise ImageError(trouble)


def undecoded(image: Image.Image) -> IO[bytes] | None:
    """The open file of an image of which no pixel is decoded yet; None for all others."""
    return image.fp if isinstance(image, ImageFile.ImageFile) and image.tile else None


@contextmanager
def reading() -> Iterator[None]:
    """Everything that Pillow raises on bad input becomes ImageError.

    What this package raises itself, or a library that it calls, is a bug and passes through. So
    does a warning that the host program has turned into an error: the warning filters are the
    host's, and a picture that Pillow warns of is not refused for it.
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
        if not isinstance(error, OSError) and not is_pillows(error):
            raise
        raise ImageError(f"damaged or cut short: {first_line(error)}") from error


def is_pillows(error: Exception) -> bool:
    """Whether a frame of Pillow lies between the block that catches an error and its cause."""
    trace = error.__traceback__
    while trace:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.partition(".")[0] == "PIL":
            return True
        trace = trace.tb_next
    return False


def first_line(error: Exception) -> str:
    """The message of a foreign error, made fit for one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
