"""stfcodec quantize: a checkpoint to weights whose entropy networks are integers."""

from __future__ import annotations

from pathlib import Path

import click

from stfcodec.cli import messages
from stfcodec.errors import UsageError
from stfcodec.models import registry


@click.command("quantize")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE")
@click.option("-m", "--model", default=registry.DEFAULT_MODEL, show_default=True)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--crop", type=int, default=256, show_default=True, help="Side of the crops.")
def command(checkpoint: Path, data: Path, output: Path, model: str, limit: int, crop: int) -> int:
    """Make the integer form of CHECKPOINT's entropy networks, fitted to the pictures below DIR.

    CHECKPOINT is one of the published ones, one of a training run, or weights of this program.
    OUTPUT (.safetensors) holds all that coding needs. Printed is what integers cost, in bits and
    PSNR, on other crops.
    """
    from stfcodec.models import weights
    from stfcodec.models.coding_tables import CALIBRATION_BATCHES, fit_for_coding
    from stfcodec.models.integer_cost import curves, summary
    from stfcodec.train.data import calibration_crops, load_photographs

    if not data.is_dir():
        raise UsageError(f"{data} is not a folder of pictures")
    if output.suffix != ".safetensors":
        raise UsageError(f"-o {output}: the name must end in .safetensors")
    if crop <= 0 or crop % 64:
        raise UsageError(f"crop {crop} is not a positive multiple of 64")
    info = registry.by_name(model)
    network = weights.load(info, checkpoint)
    photographs = load_photographs(data, crop, limit)
    *batches, others = calibration_crops(photographs, crop, CALIBRATION_BATCHES + 1)
    fit_for_coding(network, batches)
    pictures = [x.mul(255).round().byte().permute(1, 2, 0).numpy() for x in others]
    qualities = registry.WHOLE_QUALITIES if info.variable_rate else [1]
    cost = summary(*curves(network, pictures, qualities))
    weights.save(network, output)
    messages.say(f"{output}: {cost}, on {len(pictures)} other crops")
    return 0
