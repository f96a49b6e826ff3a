"""From a checkpoint to weights that code: which model it is of, its integer form, and its cost.

`stfcodec weights import` is made of this package. `models/state_dicts.py` reads the files.
"""
