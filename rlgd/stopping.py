"""Reasons to stop a run before its last step. They are looked at between chunks, about once a second."""

import dataclasses
import math
import numbers
from typing import Any, NamedTuple

import numpy as np

from rlgd.config import contains
from rlgd.errors import UsageError

EVALUATIONS = 20  # in a run whose criteria need evaluations, where it is not said how many


@dataclasses.dataclass(frozen=True)
class Stopping:
    """Criteria; None: not looked at.

    Attributes:
        target_return: an evaluation's mean return reaches this, and so does a second one's on other episodes: the first
            crossing alone may be a lucky maximum.
        patience: so many evaluations in a row were no better than the best one. The best parameters are the result.
        min_gradient_norm: the mean norm of the policy's gradient over a row of the curves falls below this.
        min_objective_change: the mean episodic return, which is what is ascended, changes by less than this from one
            row of the curves to the next.
        max_seconds: wall-clock time, with compilation and evaluations.
    """

    target_return: float | None = None
    patience: int | None = None
    min_gradient_norm: float | None = None
    min_objective_change: float | None = None
    max_seconds: float | None = None

    @property
    def evaluates(self) -> bool:
        """Whether evaluations are needed to know."""
        return self.target_return is not None or self.patience is not None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        values = dataclasses.asdict(self)
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}

    def validate(self) -> None:
        """Check ranges.

        Raises:
            UsageError: naming the criterion, what was given and what is allowed.
        """
        for name, within in RANGES.items():
            value = getattr(self, name)
            kind, what = (numbers.Integral, "a whole number") if name == "patience" else (numbers.Real, "a number")
            if value is None:
                continue
            if not isinstance(value, kind) or isinstance(value, bool) or not contains(within, value):
                raise UsageError(f"{name} is {value!r}; allowed: {what} within {within}.")


RANGES = {
    "target_return": "(-inf, inf)",
    "patience": "[1, inf)",
    "min_gradient_norm": "(0, inf)",
    "min_objective_change": "(0, inf)",
    "max_seconds": "(0, inf)",
}
CRITERIA = tuple(RANGES)
NEVER = Stopping()


class Stop(NamedTuple):
    """A criterion that fired: its name, and what was seen."""

    criterion: str
    why: str


@dataclasses.dataclass
class Watch:
    """What the criteria have seen so far; plain numbers, which are kept in checkpoints.

    Attributes:
        best_return: of the evaluations.
        best_step: where it was.
        waited: evaluations since then.
        last_return: mean episodic return of the last row of the curves in which an episode ended.
    """

    best_return: float = -math.inf
    best_step: int = 0
    waited: int = 0
    last_return: float | None = None

    def row(self, criteria: Stopping, step: int, values: dict[str, float]) -> Stop | None:
        """Look at a row of the curves."""
        norm, mean = values.get("ascent/gradient_norm"), values.get("rollout/episode_return")
        last, self.last_return = self.last_return, self.last_return if mean is None else mean
        least, change = criteria.min_gradient_norm, criteria.min_objective_change
        if least is not None and norm is not None and norm < least:
            return Stop("min_gradient_norm", f"the gradient's norm is {norm:.3g} at step {step:,}")
        if change is not None and mean is not None and last is not None and abs(mean - last) < change:
            return Stop("min_objective_change", f"the return changed by {mean - last:.3g} up to step {step:,}")
        return None

    def evaluation(self, criteria: Stopping, step: int, mean: float) -> Stop | None:
        """Look at an evaluation; ``best_step == step`` says whether it is the best one so far."""
        if mean > self.best_return:
            self.best_return, self.best_step, self.waited = mean, step, 0
        else:
            self.waited += 1
        if criteria.patience is not None and self.waited >= criteria.patience:
            best = f"{self.best_return:.1f} at step {self.best_step:,}"
            return Stop("patience", f"no evaluation was better than {best} for {self.waited} evaluations")
        return None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        return dataclasses.asdict(self) | {"best_return": self.best_return if self.best_return > -math.inf else None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Watch":
        """What ``to_dict`` made."""
        best = values["best_return"]
        return cls(**(values | {"best_return": -math.inf if best is None else best}))
