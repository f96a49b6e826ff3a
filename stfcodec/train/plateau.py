"""The learning-rate schedule of the paper's recipe: falls when the held-out loss stops falling."""

from __future__ import annotations

import math

_FACTOR = 0.3
"""The learning rate is multiplied by this."""
_PATIENCE = 4
"""So many validations in a row without a lower loss are waited for; the next lowers the rate."""
_MIN_IMPROVEMENT = 1e-4
"""A loss counts as lower if it is so much lower, as a share of the lowest."""


class Plateau:
    """The factor of the learning rate, after the losses that it has observed.

    The rule and its numbers are those of the authors' training (`ReduceLROnPlateau` of torch).
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self.lowest = math.inf
        self.waited = 0

    def observe(self, log_loss: float) -> None:
        """Count a validation. log_loss: ln(loss) on held-out photographs."""
        if log_loss < self.lowest + math.log1p(-_MIN_IMPROVEMENT):
            self.lowest, self.waited = log_loss, 0
            return
        self.waited += 1
        if self.waited > _PATIENCE:
            self.factor *= _FACTOR
            self.waited = 0

    def state_dict(self) -> dict[str, float]:
        return {"factor": self.factor, "lowest": self.lowest, "waited": self.waited}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.factor, self.lowest = state["factor"], state["lowest"]
        self.waited = int(state["waited"])
