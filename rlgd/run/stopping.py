"""Reasons to stop a run before its last step. They are looked at between chunks, about once a second."""

import dataclasses
import math
from typing import Any, NamedTuple

from rlgd import hyperparameters as hp
from rlgd.hyperparameters import hyperparameters, static, traced

EVALUATIONS = 20  # in a run whose criteria need evaluations, where it is not said how many


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
        hp.validate(self)

    @property
    def evaluates(self) -> bool:
        """Whether evaluations are needed to know."""
        return self.target_return is not None or self.patience is not None


NEVER = Stopping()
CRITERIA = tuple(hp.flat_fields(NEVER))


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
