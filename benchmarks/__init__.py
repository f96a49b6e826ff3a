"""Measurements of the codec: rate, distortion, time and memory; README.md lists the commands.

The package stfcodec imports nothing from here.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout, which holds `benchmarks`, `docs` and `README.md`."""
