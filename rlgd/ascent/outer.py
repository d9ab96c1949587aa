"""The outer step: an ascent over whole iterations (outer-PPO: Tan et al. 2024, arXiv 2411.00666)."""

import dataclasses

from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, static, traced


@hyperparameters
class Outer:
    """A step over a whole iteration, after the updates of the iteration have moved the parameters from w to w_end.

        d = w_end - w;    v = outer_momentum v + d;    w = w + outer_learning_rate (d + outer_momentum v)

    With both of these fields at None there is no such step, and w_end stays.

    In a federated ascent ``climbers`` groups of environments climb alone for ``sync_every`` iterations; the step then
    ascends the mean of their displacements (``rlgd.training.federation``).
    """

    outer_learning_rate: float | None = traced(
        None, "share of a whole iteration's displacement that is taken; None: all of it", "(0, inf)"
    )
    outer_momentum: float | None = traced(
        None, "Nesterov momentum over whole iterations, in addition to the optimizer's; None: none", "[0, 1)"
    )

    sync_every: float | None = traced(
        None,
        "iterations that each climber learns alone before all take their mean; None: all learn together",
        "[1, inf)",
    )
    climbers: int | None = static(
        None, "groups of environments that climb alone; None: one for each device", "[1, inf)"
    )

    def validate(self) -> None:
        """Check what belongs together.

        Raises:
            UsageError: what was given, what is allowed.
        """
        if self.sync_every is not None and self.sync_every % 1:
            raise UsageError(f"sync_every is {self.sync_every}; allowed: a whole number of iterations.")
        if self.climbers is not None and self.sync_every is None:
            raise UsageError("climbers is set, but sync_every is not: after how many iterations do they meet?")

    @property
    def is_set(self) -> bool:
        """Whether there is an outer step."""
        return self.outer_learning_rate is not None or self.outer_momentum is not None

    def resolved(self) -> "Outer":
        """A copy with learning rate and momentum if one is set: the other is then 1 or 0, which changes nothing."""
        if not self.is_set:
            return self
        rate, momentum = self.outer_learning_rate, self.outer_momentum
        return dataclasses.replace(
            self,
            outer_learning_rate=1.0 if rate is None else rate,
            outer_momentum=0.0 if momentum is None else momentum,
        )
