"""Public ``tune``: search for hyper-parameters that learn well, and score the best ones honestly.

Optuna decides which values are tried next.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rlgd import hyperparameters
from rlgd.agents import make_agent
from rlgd.agents.base.agent import Agent
from rlgd.envs import make
from rlgd.errors import UsageError, unknown
from rlgd.maths import confidence
from rlgd.run import layout
from rlgd.tuning.journal import WHY, ended_trials, import_optuna, open_journal, trial_record
from rlgd.tuning.result import TuneResult, publish
from rlgd.tuning.space import Dimension, dimension, suggest_value, values_of
from rlgd.tuning.trials import Misfit, Task

if TYPE_CHECKING:
    import optuna

# Takes the number of a trial that has ended, its state ("complete", "pruned", "misfit"), its score and its values.
OnTrial: TypeAlias = Callable[[int, str, float, dict[str, Any]], None]


def tune(
    agent: Agent | str,
    env: Any,
    search: Mapping[str, Any],
    *,
    trials: int = 30,
    seeds: int = 3,
    fresh_seeds: int = 10,
    total_timesteps: int = 100_000,
    eval_episodes: int = 20,
    seed: int = 0,
    tune_dir: str | Path,
    on_trial: OnTrial = lambda number, state, score, values: None,
) -> TuneResult:
    """Search for the values with the highest return of the greedy policy, and train the best with fresh seeds.

    A trial trains ``seeds`` members; its score is the interquartile mean of their returns. It is pruned if it is worse
    than the median of earlier trials: on the device after each of ``RUNGS`` evaluations, on the host after each seed.
    Trials with the same programs share them.

    Args:
        agent: the agent whose settings vary, or its name.
        env: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returns.
        search: hyper-parameters by name: a list of values, or a range ``{"log": [low, high]}`` or
            ``{"linear": [low, high]}``, of whole numbers if both ends are.
        trials: complete and pruned ones together, in all processes that share ``tune_dir`` and over all calls.
        seeds: of each trial: 0, 1, 2, ...
        fresh_seeds: of the best values: the seeds after those; 0: they are not trained again.
        total_timesteps: environment steps of each member.
        eval_episodes: episodes of each evaluation.
        seed: of the search.
        tune_dir: the directory of the search; a search in it is resumed.
        on_trial: called for each trial that has ended, see ``OnTrial``.

    Raises:
        UsageError: before anything is trained, if arguments are not valid, or differ from those of the search in
            ``tune_dir``; if Optuna is not installed; if no values of the search fit together.
        StorageFault: if the results cannot be written.
    """
    _check_numbers(trials=(trials, 1), seeds=(seeds, 1), fresh_seeds=(fresh_seeds, 0),
                   total_timesteps=(total_timesteps, 1))  # fmt: skip
    base = make_agent(agent) if isinstance(agent, str) else agent
    space = _space(base, search)
    task = Task(base, make(env), total_timesteps, eval_episodes, seeds, fresh_seeds)
    task.plan({})  # finds mistakes that all trials would share
    study = open_journal(Path(tune_dir), task.identity(space), seed)
    _run_trials(study, task, space, trials, on_trial)
    result = _result(study, task, space, Path(tune_dir))
    publish(result, task)
    return result


def _check_numbers(**numbers: tuple[int, int]) -> None:
    for name, (value, low) in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise UsageError(f"{name} is {value!r}; allowed: a whole number from {low}.")


def _space(agent: Agent, search: Mapping[str, Any]) -> dict[str, Dimension]:
    space = {name: dimension(name, values) for name, values in search.items()}
    if not space:
        raise UsageError("nothing is searched over; give at least one hyper-parameter.")
    known = hyperparameters.flat_fields(agent)
    for name in space:
        if name not in known:
            raise unknown("hyper-parameter", name, known)
    return space


def _run_trials(
    study: "optuna.Study", task: Task, space: Mapping[str, Dimension], trials: int, on_trial: OnTrial
) -> None:
    """Run trials until ``trials`` have ended."""
    library = import_optuna()

    def objective(trial: "optuna.Trial") -> float:
        values = {name: suggest_value(trial, name, dimension) for name, dimension in space.items()}
        rungs = itertools.count()

        def on_returns(finished: Sequence[float], running: Sequence[float]) -> None:
            returns = [*finished, *running]
            if all(map(math.isfinite, returns)):
                trial.report(float(confidence.interquartile_mean(returns)), next(rungs))
                if trial.should_prune():
                    raise library.TrialPruned

        try:
            return float(confidence.interquartile_mean(task.scores(values, on_returns)))
        except Misfit as misfit:
            trial.set_user_attr(WHY, str(misfit))
            raise library.TrialPruned from misfit

    def on_end(_: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
        record = trial_record(space, trial)
        on_trial(record["number"], record["state"], record["score"], record["values"])

    if len(ended_trials(study)) < trials:
        ending = (library.trial.TrialState.COMPLETE, library.trial.TrialState.PRUNED)
        study.optimize(objective, callbacks=[on_end, library.study.MaxTrialsCallback(trials, ending)])


def _result(study: "optuna.Study", task: Task, space: Mapping[str, Dimension], directory: Path) -> TuneResult:
    """The result of the trials that have ended, with the best values trained on fresh seeds."""
    ended = ended_trials(study)
    complete = [trial for trial in ended if trial.state.name == "COMPLETE"]
    if not complete:
        raise UsageError(f"none of {len(ended)} trials fitted; the last one: {ended[-1].user_attrs.get(WHY)}")
    scores = [(trial.value, trial) for trial in complete if trial.value is not None]
    score, winner = max(scores, key=lambda pair: pair[0])
    best = values_of(space, winner.params)
    fresh = task.fresh_score(best) if task.fresh_seeds else None
    return TuneResult(best, score, fresh, tuple(trial_record(space, trial) for trial in ended), directory)


def automatic(root: Path, env_id: str, name: str) -> Path:
    """``root/tune/<env>/<agent>/<time>``, with a suffix if this folder exists; it is not made yet."""
    parent = root / "tune" / layout.folder_name(env_id) / name
    return next(path for path in layout.names(parent) if not path.exists())
