"""The outer step: an ascent over whole iterations (outer-PPO: Tan et al. 2024, arXiv 2411.00666)."""

import dataclasses

from rlgd.hyperparameters import hyperparameters, traced


@hyperparameters
class Outer:
    """A step over a whole iteration, after the updates of the iteration have moved the parameters from w to w_end.

        d = w_end - w;    v = outer_momentum v + d;    w = w + outer_learning_rate (d + outer_momentum v)

    With both fields at None there is no such step, and w_end stays.
    """

    outer_learning_rate: float | None = traced(
        None, "share of a whole iteration's displacement that is taken; None: all of it", "(0, inf)"
    )
    outer_momentum: float | None = traced(
        None, "Nesterov momentum over whole iterations, in addition to the optimizer's; None: none", "[0, 1)"
    )

    @property
    def is_set(self) -> bool:
        """Whether there is an outer step."""
        return self.outer_learning_rate is not None or self.outer_momentum is not None

    def resolved(self) -> "Outer":
        """A copy in which both fields are set if one is: the other is then 1 and 0, which change nothing."""
        if not self.is_set:
            return self
        values = {"outer_learning_rate": 1.0, "outer_momentum": 0.0}
        missing = {name: value for name, value in values.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)
