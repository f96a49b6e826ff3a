"""Where the time of coding one picture goes: each way as a whole, then operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import median_seconds
from stfcodec import imageio
from stfcodec.allocator import keep_freed_memory
from stfcodec.codec import codec_for
from stfcodec.models import registry

_RUNS = 9


@click.command()
@click.argument("model")
@click.argument("picture", type=click.Path(exists=True, path_type=Path))
@click.option("-q", "--quality", type=float, default=registry.DEFAULT_QUALITY, show_default=True)
@click.option("--weights", type=click.Path(exists=True, path_type=Path))
@click.option("--rows", default=20, show_default=True, help="Operators to list.")
def main(model: str, picture: Path, quality: float, weights: Path | None, rows: int) -> None:
    """Profile MODEL on PICTURE, in memory: no files, no start-up."""
    keep_freed_memory()  # as the commands do
    source = imageio.read_picture(picture)
    codec = codec_for(registry.by_name(model), quality, path=weights)
    stream = codec.encode(source, quality)
    megapixels = source.pixels[..., 0].size / 1e6
    ways: dict[str, Callable[[], object]] = {
        "encode": lambda: codec.encode(source, quality),
        "decode": lambda: codec.decode(stream),
    }
    for way, run in ways.items():
        spent = median_seconds(run, _RUNS) / megapixels
        click.echo(f"{model} {way}: {spent:.3f} s/MP, {codec.model.precision}")
        # Without the shapes of inputs: what keeps them scatters the heap, and large tensors would
        # wait for fresh memory, which they do not otherwise.
        with profile(activities=[ProfilerActivity.CPU]) as found:
            for _ in range(_RUNS):
                run()
        operators = found.key_averages()
        total = sum(e.self_cpu_time_total for e in operators)
        for e in sorted(operators, key=lambda e: -e.self_cpu_time_total)[:rows]:
            own = e.self_cpu_time_total
            click.echo(
                f"  {own / total:6.1%} {own / 1e3 / _RUNS:7.2f} ms {e.count // _RUNS:4} x {e.key}"
            )


if __name__ == "__main__":
    main()
