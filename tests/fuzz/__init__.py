"""A structure-aware fuzzer of the whole decoder, from bytes to picture: `python -m tests.fuzz`.

`stream` takes streams apart and puts them together, `mutate` damages them, `worker` decodes them
within limits, and `__main__` counts what came of it.
"""
