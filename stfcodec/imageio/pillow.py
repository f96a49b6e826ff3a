"""Pillow as this package needs it: our own limits, and one kind of error."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from PIL import Image, UnidentifiedImageError

from stfcodec.errors import ImageError

# Photographs and drawings only: Pillow also opens what runs an interpreter (EPS) or is no picture.
READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "PPM", "JPEG2000", "QOI", "TGA")


class Relaxed:
    """While any thread is inside: no pixel limit of Pillow's own, no warnings of Pillow's.

    Both settings belong to the process, so the first one in changes them and the last one out
    restores them. Whoever enters checks sizes itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._undo = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                Image.init()  # registers the formats, which two threads must not do at once
                self._undo.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._undo.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = None

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._undo.close()


relaxed = Relaxed()


@contextmanager
def reading() -> Iterator[None]:
    """Relaxed, with everything Pillow raises on bad input turned into ImageError."""
    with relaxed:
        try:
            yield
        except ImageError:
            raise
        except UnidentifiedImageError as error:
            raise ImageError(f"not a picture of a known kind ({', '.join(READABLE)})") from error
        except MemoryError as error:
            raise ImageError("too large for the memory of this machine") from error
        except Exception as error:  # on damaged files plugins raise nearly every built-in error
            raise ImageError(f"damaged or cut short: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The message of a foreign error, made fit for one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
