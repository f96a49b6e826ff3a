"""Takes the inputs of a command one by one, and names each of them in the errors about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stfcodec import batch, files
from stfcodec.cli import messages, native_stderr
from stfcodec.errors import StfError, UsageError, WeightsError
from stfcodec.limits import Limits
from stfcodec.settings import EncodeSettings

if TYPE_CHECKING:
    from stfcodec.imageio import Picture


@contextmanager
def named(source: str) -> Iterator[None]:
    """Put the name of a file before the message of an error."""
    try:
        yield
    except (UsageError, WeightsError):  # what the request lacks, whatever the file
        raise
    except StfError as error:
        raise type(error)(f"{source}: {error}") from error


def each(names: Sequence[str], act: Callable[[str], None], as_json: bool) -> int:
    """Act on each name; return the command's exit code. A failure does not stop the others.

    as_json: failures become records, too.
    """
    codes = []
    for name in dict.fromkeys(names):
        try:
            act(name)
            codes.append(0)
        except BrokenPipeError:
            raise
        except Exception as error:
            failure = batch.explain(error)
            messages.fail(name, failure, as_json)
            codes.append(failure.exit_code)
    return codes[0] if len(codes) == 1 else int(any(codes))


def read_bytes(source: Path | None, limits: Limits) -> bytes:
    """A file's bytes, or those of standard input for None. Raises StfError."""
    if source is None:
        return files.read_standard_input(limits.bytes)
    return files.read_bytes(source, limits.bytes)


def read_picture(data: bytes, settings: EncodeSettings) -> Picture:
    """A picture file's bytes as encode reads them. Raises ImageError."""
    with native_stderr.collector() as native:
        picture: Picture = batch.Encode(settings, native.collect).unpack(data)
    return picture
