"""Training of the lite models: from photographs to weights. Coding imports nothing from here.

A run:

* `settings`: the hyperparameters and the budget of a run.
* `trainer`: the state of a run, one step, validation.
* `loop`: steps until the budget is used, logging and saving.
* `checkpoint`, `log`, `export`: the files that it writes.
* `remote`: a run on another machine with a GPU, as a command of its own.

What a step consists of:

* `data`, `synthetic`: crops of photographs and of pictures drawn for training.
* `loss`: the rate-distortion loss.
* `initialise`: parameters before the first step.
* `flat_parameters`, `clipping`, `soap`: parameters in one tensor, gradient clipping, the optimiser.
* `cuda_graphs`: fast repetition of all this on a GPU.
"""
