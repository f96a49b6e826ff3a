"""What the integer form of the entropy networks costs, in rate and time, against the float one; and
what tables fitted to photographs save.

    python -m benchmarks.exactness PICTURES [--weights FILE]
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import numpy as np
import torch
from torch import Tensor

from stfcodec.entropy.tables import gaussian_tables
from stfcodec.models.base import CompressionModel
from stfcodec.models.integer_backends import FloatBackend, best_backend
from stfcodec.models.integer_cost import analyse, count_bits, curves, decode_with, summary
from stfcodec.models.priors import scale_levels


@torch.inference_mode()
def saved(
    model: CompressionModel, pictures: Sequence[np.ndarray], qualities: Sequence[float]
) -> list[float]:
    """By how much the tables of y change the bits, against those of Gaussians: −0.01 is one per
    cent fewer. One number a quality."""
    both = model.gaussian_conditional.tables, gaussian_tables(scale_levels().numpy())
    bits = np.zeros((2, len(qualities)))
    for pixels in pictures:
        for i, quality in enumerate(qualities):
            y = analyse(model, pixels, quality)
            bits[:, i] += count_bits(model, model.integer, y, quality, both)[0]
    return list(bits[0] / bits[1] - 1)


@torch.inference_mode()
def seconds(model: CompressionModel, y: Tensor, quality: float, rounds: int = 15) -> list[float]:
    """Median times of the networks alone (no range coding), taken in turns: with the float form,
    with the integer form as it runs here, and with integers in float32 convolutions."""
    if model.integer is None:
        raise ValueError("the model has no integer form")
    z, targets = model.targets(y, quality)
    # Prepared once each: both are ready all the time.
    plain = model.new_integer()
    plain.load_state_dict(model.integer.state_dict())
    model.integer.prepare()
    plain.prepare(FloatBackend())
    forms = (None, model.integer, plain)
    times: tuple[list[float], ...] = ([], [], [])
    for _ in range(rounds):
        for form, spent in zip(forms, times, strict=True):
            start = time.perf_counter()
            decode_with(model, form, z, quality, lambda i, mean, _: torch.round(targets[i] - mean))
            spent.append(time.perf_counter() - start)
    return [median(t) for t in times]


def main() -> None:
    """python -m benchmarks.exactness PICTURES [--weights FILE] …: the figures of the docs."""
    import argparse
    from pathlib import Path

    from stfcodec.allocator import keep_freed_memory
    from stfcodec.imageio import read_picture
    from stfcodec.models import locate, registry, weights

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--model", default=registry.DEFAULT_MODEL)
    parser.add_argument("--weights", type=Path, help="with an integer form")
    parser.add_argument(
        "--float", type=Path, help="compare with the entropy networks of these weights instead"
    )
    parser.add_argument("--qualities", type=float, nargs="+", default=[1.0, 2, 3, 4, 5, 6])
    parser.add_argument(
        "--gaussian", action="store_true", help="what fitted tables save against Gaussian ones"
    )
    parser.add_argument("--time", action="store_true", help="times only, on the first picture")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    keep_freed_memory()  # as coding does
    info = registry.by_name(options.model)
    path = options.weights or locate.find(info, options.qualities[0])
    model = weights.load(info, path)
    if options.float:
        original = weights.load(info, options.float)
        for name in model.integer_replaces:
            model.get_submodule(name).load_state_dict(original.get_submodule(name).state_dict())
    pictures = [_whole_blocks(read_picture(p).pixels) for p in options.pictures]
    if options.time:
        _print_times(model, analyse(model, pictures[0], 3.0), options.rounds)
        return
    if options.gaussian:
        for quality, share in zip(
            options.qualities, saved(model, pictures, options.qualities), strict=True
        ):
            print(f"quality {quality:g}: {100 * share:+.2f} % bits")
        return
    found = curves(model, pictures, options.qualities)
    for quality, floating, integer in zip(options.qualities, *found, strict=True):
        print(
            f"quality {quality:g}: float {floating.bpp:.4f} bpp {floating.psnr:.3f} dB, "
            f"integer {integer.bpp:.4f} bpp {integer.psnr:.3f} dB"
        )
    print(f"{info.name}, {len(pictures)} pictures: {summary(*found)}")


def _print_times(model: CompressionModel, y: Tensor, rounds: int) -> None:
    floating, best, plain = seconds(model, y, 3.0, rounds)
    print(
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}: float "
        f"{1e3 * floating:.1f} ms; {type(best_backend()).__name__} {1e3 * best:.1f} ms, ratio "
        f"{best / floating:.2f}; FloatBackend {1e3 * plain:.1f} ms, ratio {plain / floating:.2f}"
    )


def _whole_blocks(pixels: np.ndarray) -> np.ndarray:
    """Without what is beyond the last multiple of 64 pixels each way."""
    height, width = (n // 64 * 64 for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])


if __name__ == "__main__":
    main()
