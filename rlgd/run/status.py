"""What happens after a chunk of iterations, for a run and for a member of a study alike. Pure."""

import dataclasses
from collections.abc import Iterable

from rlgd.run.cadence import Cadence, crosses
from rlgd.run.sinks.rows import Row
from rlgd.run.stopping import CriteriaState, Fired, Stopping


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """Where a run stands, and whether it is over. Each method returns the status after something happened.

    Attributes:
        stopping: the criteria.
        cadence: how often the run is evaluated, and its length.
        steps: environment steps so far.
        evaluated_at: the step of the newest evaluation.
        criteria: what the criteria have seen.
        stop: the first criterion that fired; a later one changes nothing.
    """

    stopping: Stopping
    cadence: Cadence
    steps: int = 0
    evaluated_at: int = 0
    criteria: CriteriaState = dataclasses.field(default_factory=CriteriaState)
    stop: Fired | None = None

    @property
    def is_over(self) -> bool:
        """Whether training is over: by a criterion, or at the last step."""
        return self.stop is not None or self.steps >= self.cadence.total_timesteps

    @property
    def evaluation_is_due(self) -> bool:
        """Whether the steps since the newest evaluation have reached the next one."""
        return crosses(self.cadence.eval_steps, self.evaluated_at, self.steps)

    @property
    def is_best(self) -> bool:
        """Whether the newest evaluation, which was just made, is the best one so far."""
        return self.criteria.best_step == self.steps

    @property
    def best_is_result(self) -> bool:
        """Whether the policy that was evaluated best is the result, not the last one."""
        return self.stopping.patience is not None and self.criteria.has_best

    @property
    def outcome(self) -> Fired:
        """What ended a run that is over: the criterion that fired, or its last step."""
        return self.stop or Fired("total_timesteps", "")

    def reached(self, steps: int) -> "RunStatus":
        """After a chunk that ended at ``steps``."""
        return dataclasses.replace(self, steps=steps)

    def stopped(self, stop: Fired | None) -> "RunStatus":
        """After a criterion fired, if one did; the first one counts."""
        return dataclasses.replace(self, stop=self.stop or stop)

    def after_rows(self, rows: Iterable[Row], judge: bool = True) -> "RunStatus":
        """After rows of the curves. With ``judge=False`` the rows are recorded but cannot stop the run."""
        status = self
        for row in rows:
            criteria, stop = status.criteria.after_row(self.stopping, row.step, row.values)
            status = dataclasses.replace(status, criteria=criteria).stopped(stop if judge else None)
        return status

    def needs_second_evaluation(self, mean: float) -> bool:
        """Whether an evaluation reached the target: a second one, on other episodes, has to reach it too."""
        target = self.stopping.target_return
        return self.stop is None and target is not None and mean >= target

    def after_evaluation(self, mean: float, second: float | None = None) -> "RunStatus":
        """After an evaluation with this mean return, and the mean return of the second one, if it was needed."""
        status = dataclasses.replace(self, evaluated_at=self.steps)
        if self.cadence.eval_steps is None:
            return status
        target = self.stopping.target_return
        if target is not None and second is not None and second >= target:
            seen = f"the evaluations at step {self.steps:,} gave {mean:.1f} and {second:.1f}"
            status = status.stopped(Fired("target_return", seen))
        criteria, stop = self.criteria.after_evaluation(self.stopping, self.steps, mean)
        return dataclasses.replace(status, criteria=criteria).stopped(stop)

    def out_of_time(self) -> "RunStatus":
        """After ``max_seconds`` have passed."""
        seen = f"{self.stopping.max_seconds:g} seconds were over at step {self.steps:,}"
        return self.stopped(Fired("max_seconds", seen))
