"""The attention study: window attention against non-local attention against none.

`python -m benchmarks.ablation` trains small codecs that differ in their attention alone, measures
them, and writes docs/ablation.md.
"""
