"""Profile of coding one picture: seconds of each direction, and the operators that take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from benchmarks.options import (
    model_option,
    picture_argument,
    quality_option,
    rounds_option,
    weights_option,
)
from benchmarks.timing import median_seconds
from stfcodec.models import registry


@click.command()
@picture_argument
@model_option
@quality_option
@weights_option
@rounds_option(9)
@click.option(
    "--operators",
    type=click.IntRange(min=0),
    metavar="N",
    default=20,
    show_default=True,
    help="Operators to list.",
)
def main(
    picture: Path, model: str, quality: float, weights: Path | None, rounds: int, operators: int
) -> None:
    """Profile coding PICTURE in memory, without files and start-up."""
    from torch.profiler import ProfilerActivity, profile

    from stfcodec import imageio
    from stfcodec.allocator import keep_freed_memory
    from stfcodec.codec import codec_for

    keep_freed_memory()  # as the commands do
    source = imageio.read_picture(picture)
    codec = codec_for(registry.by_name(model), quality, path=weights)
    stream = codec.encode(source, quality)
    megapixels = source.pixels[..., 0].size / 1e6
    directions: dict[str, Callable[[], object]] = {
        "encode": lambda: codec.encode(source, quality),
        "decode": lambda: codec.decode(stream),
    }
    for direction, run in directions.items():
        seconds = median_seconds(run, rounds) / megapixels
        click.echo(f"{model} {direction}: {seconds:.3f} s/MP, {codec.model.precision}")
        # Shapes of inputs are not recorded: their storage fragments the heap, and large tensors
        # would be allocated anew each time, which does not happen otherwise.
        with profile(activities=[ProfilerActivity.CPU]) as found:
            for _ in range(rounds):
                run()
        events = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)
        total = sum(e.self_cpu_time_total for e in events)
        for e in events[:operators]:
            own = e.self_cpu_time_total
            click.echo(
                f"  {own / total:6.1%} {own / 1e3 / rounds:7.2f} ms {e.count // rounds:4} x {e.key}"
            )


if __name__ == "__main__":
    main()
