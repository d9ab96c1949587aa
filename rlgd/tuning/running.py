"""A trial from its values to its end, and what happens where trials fail."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rlgd import errors
from rlgd.errors import Diverged, RlgdError, StorageFault
from rlgd.maths import confidence
from rlgd.studies.outcome import Outcome
from rlgd.tuning.journal import trial_record
from rlgd.tuning.sharing import SharedSearch
from rlgd.tuning.space import Dimension, suggest_value
from rlgd.tuning.trials import Misfit, Task

if TYPE_CHECKING:
    import optuna

MAX_FAILURES = 5  # trials that may fail in one call: then the reason is hardly their values
log = logging.getLogger("rlgd")

# Takes the number of a trial that has ended, its state, its score and its values, as in ``TuneResult.trials``.
OnTrial: TypeAlias = Callable[[int, str, float, dict[str, Any]], None]


class EndedTrial(NamedTuple):
    """A trial that has ended, as plain values.

    Attributes:
        record: as in ``TuneResult.trials``.
        failure: what ended it if it failed, and the name of the error's class; else None.
    """

    record: dict[str, Any]
    failure: tuple[str, str] | None


class Failures:
    """Counts the trials that failed.

    Args:
        directory: of the search, for the message.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._number = directory, 0

    def report(self, ended: EndedTrial, on_trial: OnTrial) -> None:
        """Hand a trial on, and count it if it failed.

        Raises:
            RlgdError: if ``MAX_FAILURES`` have failed.
        """
        record = ended.record
        on_trial(record["number"], record["state"], record["score"], record["values"])
        if ended.failure is None:
            return
        why, kind = ended.failure
        log.warning("trial %d failed: %s", record["number"], why)
        self._number += 1
        if self._number == MAX_FAILURES:
            error: type[RlgdError] = getattr(errors, kind, RlgdError)
            raise error(
                f"the search ended because {self._number} trials failed; the last one, trial {record['number']}: "
                f"{why.rstrip('.')}. The others are kept; the same search in {self._directory} continues."
            )


def take_trial(shared: SharedSearch, task: Task, space: Mapping[str, Dimension], trials: int) -> EndedTrial | None:
    """Run the next trial; None if ``trials`` have ended."""
    with shared.next_trial(trials) as trial:
        if trial is None:
            return None
        outcomes: list[Outcome] = []
        ending = _run_trial(trial, task, space, outcomes)
        shared.end(trial, ending.state, ending.score, ending.why)
    record = trial_record(space, shared.study.get_trials()[trial.number])
    if ending.state == "pruned":  # whose members were in the middle
        outcomes = [dataclasses.replace(outcome, reason=ending.state) for outcome in outcomes]
    task.send(record["values"], f"trial {trial.number}", outcomes)
    error = ending.error
    return EndedTrial(record, None if error is None else (ending.why, type(error).__name__))


class _Pruned(Exception):
    """The trial is worse than most at this point."""


class _Ending(NamedTuple):
    """How a trial ended: its state, its score, and the reason where it has none."""

    state: str
    score: float | None = None
    why: str = ""
    error: Exception | None = None


def _run_trial(trial: "optuna.Trial", task: Task, space: Mapping[str, Dimension], outcomes: list[Outcome]) -> _Ending:
    """Run a trial; ``outcomes`` gets those of its members as far as they came."""
    rungs = itertools.count()

    def on_outcomes(so_far: Sequence[Outcome]) -> None:
        outcomes[:] = so_far

    def on_returns(returns: Sequence[float]) -> None:
        trial.report(float(confidence.interquartile_mean(returns)), next(rungs))
        if trial.should_prune():
            raise _Pruned

    try:
        values = {name: suggest_value(trial, name, dimension) for name, dimension in space.items()}
        return _Ending("complete", task.score(values, on_returns, on_outcomes))
    except _Pruned:
        return _Ending("pruned")
    except (Misfit, Diverged) as reason:
        return _Ending("misfit" if isinstance(reason, Misfit) else "diverged", why=str(reason))
    except StorageFault:
        raise
    except Exception as error:
        text = str(error) if isinstance(error, RlgdError) else f"{type(error).__name__}: {error}"
        return _Ending("failed", why=text.partition("\n")[0], error=error)
