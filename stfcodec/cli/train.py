"""stfcodec train: photographs to weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from stfcodec.cli import commands, messages, values
from stfcodec.errors import UsageError
from stfcodec.models import registry
from stfcodec.train.settings import PAPER_STEPS, PRESETS, Settings


@click.command("train", cls=commands.Command)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of photographs, searched with its subfolders.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of the run: checkpoints, log, weights.",
)
@click.option(
    "-m",
    "--model",
    type=values.ModelName(),
    default=registry.DEFAULT_MODEL,
    show_default=True,
    metavar="MODEL",
    help="Network to train; 'stfcodec models' lists them.",
)
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Budget in minutes."
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Budget in steps, instead of minutes.",
)
@click.option(
    "--start",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Begin from a weights file or a checkpoint (.pt) rather than from photographs.",
)
@click.option(
    "--rate", type=float, default=1e-3, show_default=True, metavar="R", help="Learning rate."
)
@click.option(
    "--optimiser",
    type=click.Choice(["soap", "adam"]),
    default="soap",
    show_default=True,
    help="SOAP gets further in the same time.",
)
@click.option(
    "--quality", type=float, metavar="Q", help="Train at one quality only (default: all)."
)
@click.option("--lambda", "lmbda", type=float, metavar="L", help="Its λ, instead of --quality.")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="Settings of a known recipe: paper, of the authors of WACNN and STF. Options given beside "
    "it count more. The budget is not part of it.",
)
@click.option(
    "--part", type=click.Choice(["g_a", "g_s"]), help="Train this part only (default: the model)."
)
@click.option(
    "--warmup",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    metavar="N",
    help="Steps over which the rate rises from zero.",
)
@click.option(
    "--decay",
    type=click.FloatRange(0, 1),
    default=0.4,
    show_default=True,
    metavar="SHARE",
    help="Share of the budget over which the rate falls to zero.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="N",
    help="Crops a step.",
)
@click.option(
    "--crop",
    type=int,
    default=256,
    show_default=True,
    metavar="PIXELS",
    help="Side of the crops, a multiple of 64.",
)
@click.option(
    "--decay-crop",
    type=int,
    default=256,
    show_default=True,
    metavar="PIXELS",
    help="The same during the decay.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use at most this many photographs.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Of the crops and of the noise.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="DEVICE",
    help="Where the networks train: cpu or cuda.",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads to use.")
@click.option("--bf16/--no-bf16", default=True, show_default=True, help="Transforms in bfloat16.")
@click.option("--compile/--no-compile", default=False, show_default=True, help="torch.compile.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end on stdout.")
@click.pass_context
def command(
    context: click.Context,
    /,
    data: Path,
    out: Path,
    start: Path | None,
    threads: int | None,
    lmbda: float | None,
    preset: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Train a model on the pictures below DIR, within a budget of minutes or steps.

    wacnn and stf are trained for one λ, which --lambda or --quality gives.

    OUT receives last.pt (checkpoint), trunk.pt (before the decay; a later run goes on from it with
    --start), log.csv, and at the end the weights. The same command run again resumes.
    """
    from stfcodec.train.loop import prepare_process, run_training
    from stfcodec.train.trainer import Trainer

    if not data.is_dir():
        raise UsageError(f"{data} is not a folder of pictures")
    if lmbda is not None:
        if options["quality"] is not None:
            raise UsageError("--quality and --lambda set the same thing; give one")
        info = registry.by_name(options["model"])
        options["quality"] = registry.quality_from_lambda(lmbda, info)
    if preset is not None:
        if options["minutes"] is None and options["steps"] is None:
            raise UsageError(
                f"--preset {preset} sets no budget: give --minutes or --steps "
                f"(the paper's authors took about {PAPER_STEPS})"
            )
        chosen = {name for name in options if _is_given(context, name)}
        options |= {k: v for k, v in PRESETS[preset].items() if k not in chosen}
    prepare_process(threads)
    settings = Settings(data=str(data), **options)
    with messages.recorded(str(data), as_json):
        trainer = Trainer(settings, out, start)
        weights = run_training(trainer, report=messages.say)
    if as_json:
        record = trainer.record()
        messages.record(
            {
                "input": str(data),
                "output": str(weights),
                "model": settings.model,
                "quality": settings.quality,
                **{name: record[name] for name in ("photographs", "steps", "minutes")},
            }
        )
    return 0


def _is_given(context: click.Context, option: str) -> bool:
    """Whether the user gave an option, rather than leave it at its default."""
    return context.get_parameter_source(option) is not ParameterSource.DEFAULT
