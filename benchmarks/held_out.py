"""The photographs that no training run sees, as a folder of pictures to measure on."""

from __future__ import annotations

from pathlib import Path

import click
from PIL import Image

from benchmarks.options import EXISTING_FOLDER


@click.command()
@click.argument("photographs", type=EXISTING_FOLDER)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--min-side",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    default=256,
    show_default=True,
    help="Crop of the training run, which skips smaller photographs.",
)
@click.option("--max-side", type=click.IntRange(min=1), help="Cut the middle out of larger ones.")
def main(photographs: Path, out: Path, min_side: int, max_side: int | None) -> None:
    """Write the held-out tenth of PHOTOGRAPHS into the new folder OUT, as PNG files and a note.

    PHOTOGRAPHS is a folder that `stfcodec train` trains on. `python -m benchmarks` puts the note on
    the page of OUT.
    """
    from benchmarks.pictures import NOTE, middle_crop
    from stfcodec.errors import UsageError
    from stfcodec.train.data import find_pictures, load_photographs, split_held_out

    if out.exists() and any(out.iterdir()):
        raise click.UsageError(f"{out} is not empty: give a new folder")
    try:
        trained_on, held_out = split_held_out(load_photographs(photographs, min_side))
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    if held_out is trained_on:
        raise click.UsageError(f"{photographs}: ten photographs are needed to hold one out")
    out.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(held_out, 1):
        image = pixels.numpy()
        if max_side is not None:
            image = middle_crop(image, max_side)
        Image.fromarray(image).save(out / f"{number:03}.png")
    kinds = sorted({path.suffix[1:].upper() for path in find_pictures(photographs)})
    (out / NOTE).write_text(_note(kinds), encoding="utf-8")
    click.echo(f"{out}: {len(held_out)} photographs")


def _note(kinds: list[str]) -> str:
    """What a reader of the measurements must know. kinds: formats of the photographs' files."""
    return (
        "The pictures are the held-out tenth of the training photographs. No training step saw "
        "them, but choices between training runs were made by them. Their sources are "
        f"{' and '.join(kinds)} files. A lossy source carries the traces of its codec, which may "
        "favour a codec of the same kind.\n"
    )


if __name__ == "__main__":
    main()
