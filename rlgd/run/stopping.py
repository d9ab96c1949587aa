"""Criteria that stop a run before its last step. They are checked between chunks, about once a second."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from rlgd import hyperparameters as hp
from rlgd import ranges
from rlgd.hyperparameters import hyperparameters, static, traced


@hyperparameters
class Stopping:
    """Criteria that end a run early; a criterion that is None is off.

    With ``patience`` the result of the run is the policy that was evaluated best, not the last one.
    """

    # A single evaluation may be a lucky maximum, so the target has to be reached twice.
    target_return: float | None = traced(
        None, "stop when an evaluation, and a second one on other episodes, reach this mean return"
    )
    patience: int | None = static(
        None,
        "stop after this many evaluations without a new best one; the best policy is the result",
        "[1, inf)",
        resumable=True,
    )
    min_gradient_norm: float | None = traced(
        None, "stop when the policy gradient's mean norm over a row of the curves falls below this", "(0, inf)"
    )
    min_objective_change: float | None = traced(
        None, "stop when the mean episodic return changes by less than this between rows of the curves", "(0, inf)"
    )
    max_seconds: float | None = traced(
        None, "stop after this many seconds, compilation and evaluations included", "(0, inf)"
    )

    def validate(self) -> None:
        """Check ranges.

        Raises:
            UsageError: naming the criterion, what was given and what is allowed.
        """
        ranges.validate(self)

    @property
    def evaluates(self) -> bool:
        """Whether evaluations are needed to know."""
        return self.target_return is not None or self.patience is not None


NEVER = Stopping()
CRITERIA = tuple(hp.flat_fields(NEVER))
SINK = "sink"  # in place of a criterion's name, where a sink asked for the end


class Fired(NamedTuple):
    """A criterion that fired: its name, and what it saw."""

    criterion: str
    why: str


@dataclasses.dataclass(frozen=True)
class CriteriaState:
    """What the criteria have seen so far: plain numbers, which checkpoints keep.

    Attributes:
        best_return: the best mean return of an evaluation.
        best_step: the step of that evaluation.
        waited: evaluations since then.
        last_return: mean episodic return of the last row of the curves in which an episode ended.
    """

    best_return: float = -math.inf
    best_step: int = 0
    waited: int = 0
    last_return: float | None = None

    @property
    def has_best(self) -> bool:
        """Whether there was an evaluation with a return that can be compared."""
        return self.best_return > -math.inf

    def after_row(
        self, criteria: Stopping, step: int, values: Mapping[str, float]
    ) -> tuple["CriteriaState", Fired | None]:
        """The state after a row of the curves, and the criterion that fires."""
        norm, mean = values.get("ascent/gradient_norm"), values.get("rollout/episode_return")
        last, state = self.last_return, self if mean is None else dataclasses.replace(self, last_return=mean)
        least, change = criteria.min_gradient_norm, criteria.min_objective_change
        stop = None
        if least is not None and norm is not None and norm < least:
            stop = Fired("min_gradient_norm", f"the gradient's norm is {norm:.3g} at step {step:,}")
        elif change is not None and mean is not None and last is not None and abs(mean - last) < change:
            stop = Fired("min_objective_change", f"the return changed by {mean - last:.3g} up to step {step:,}")
        return state, stop

    def after_evaluation(self, criteria: Stopping, step: int, mean: float) -> tuple["CriteriaState", Fired | None]:
        """The state after an evaluation, and the criterion that fires; ``best_step`` is ``step`` for a new best one."""
        if mean > self.best_return:
            state = dataclasses.replace(self, best_return=mean, best_step=step, waited=0)
        else:
            state = dataclasses.replace(self, waited=self.waited + 1)
        if criteria.patience is None or state.waited < criteria.patience:
            return state, None
        best = f"{state.best_return:.1f} at step {state.best_step:,}"
        return state, Fired("patience", f"no evaluation was better than {best} for {state.waited} evaluations")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self) | {"best_return": self.best_return if self.best_return > -math.inf else None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CriteriaState":
        """What ``to_dict`` made."""
        best = values["best_return"]
        return cls(**{**values, "best_return": -math.inf if best is None else best})
