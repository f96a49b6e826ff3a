"""Where the time of coding one picture goes: each way as a whole, then operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from torch.profiler import ProfilerActivity, profile

from stfcodec import imageio
from stfcodec.bench.timing import median_seconds
from stfcodec.codec import codec_for
from stfcodec.models import registry


@click.command()
@click.argument("model")
@click.argument("picture", type=click.Path(exists=True, path_type=Path))
@click.option("-q", "--quality", type=float, default=registry.DEFAULT_QUALITY, show_default=True)
@click.option("--weights", type=click.Path(exists=True, path_type=Path))
@click.option("--rows", default=20, show_default=True, help="Operators to list.")
def main(model: str, picture: Path, quality: float, weights: Path | None, rows: int) -> None:
    """Profile MODEL on PICTURE, in memory: no files, no start-up."""
    source = imageio.read_picture(picture)
    codec = codec_for(registry.by_name(model), quality, path=weights)
    stream = codec.encode(source, quality)
    megapixels = source.pixels[..., 0].size / 1e6
    ways: dict[str, Callable[[], object]] = {
        "encode": lambda: codec.encode(source, quality),
        "decode": lambda: codec.decode(stream),
    }
    for way, run in ways.items():
        spent = median_seconds(run, 9) / megapixels
        click.echo(f"{model} {way}: {spent:.3f} s/MP, {codec.model.precision}")
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
            run()
        events = found.key_averages(group_by_input_shape=True)
        total = sum(e.self_cpu_time_total for e in events)
        for e in sorted(events, key=lambda e: -e.self_cpu_time_total)[:rows]:
            shapes = [s for s in e.input_shapes if s]
            own = e.self_cpu_time_total
            click.echo(f"  {own / total:6.1%} {own / 1e3:7.2f} ms {e.count:4} x {e.key} {shapes}")


if __name__ == "__main__":
    main()
