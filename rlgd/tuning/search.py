"""Public ``tune``: search for hyper-parameters that learn well, and score the best ones honestly.

Optuna decides which values are tried next.
"""

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgd import hyperparameters
from rlgd.agents import make_agent
from rlgd.agents.base.agent import Agent
from rlgd.engines.jobs import check_executor
from rlgd.envs import make
from rlgd.errors import Diverged, UsageError, unknown, whole_number
from rlgd.run import layout
from rlgd.run.config import RunConfig
from rlgd.studies.member_sinks import MemberSinks
from rlgd.system.progress import Best, OnProgress, Progress
from rlgd.tuning import elsewhere
from rlgd.tuning.journal import counted_trials, ended_trials, trial_record
from rlgd.tuning.result import TuneResult, publish
from rlgd.tuning.running import Failures, OnTrial, take_trial
from rlgd.tuning.sharing import Home, InDirectory, SharedSearch
from rlgd.tuning.space import Dimension, dimension, values_in_words
from rlgd.tuning.storage import InStorage
from rlgd.tuning.trials import Task

if TYPE_CHECKING:
    import optuna


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
    storage: str | None = None,
    study_name: str | None = None,
    on_trial: OnTrial = lambda number, state, score, values: None,
    on_progress: OnProgress = lambda progress: None,
    executor: Executor | None = None,
    workers: int | None = None,
    set_up: Callable[[RunConfig], None] | None = None,
    sinks: Sequence[Any] = (),
    typed: bool = True,
) -> TuneResult:
    """Search for the values with the highest return of the greedy policy, and train the best with fresh seeds.

    A trial trains ``seeds`` members; its score is the interquartile mean of their returns. It is pruned if it is worse
    than the median of earlier trials: on the device after each of ``RUNGS`` evaluations, on the host after each seed.
    Trials with the same programs share them.

    A trial in which a member diverges has no score and cannot win. A trial that an exception ends, such as one of the
    environment, has failed: it is recorded, and the search continues; after ``MAX_FAILURES`` of them it ends.

    Args:
        agent: the agent whose settings vary, or its name.
        env: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returns.
        search: hyper-parameters by name: a list of values, or a range ``{"log": [low, high]}`` or
            ``{"linear": [low, high]}``, of whole numbers if both ends are.
        trials: the number of trials in all processes that share the search, over all calls. Failed ones and those of a
            killed process do not count.
        seeds: of each trial: 0, 1, 2, ...
        fresh_seeds: of the best values: the seeds after those; 0: they are not trained again.
        total_timesteps: environment steps of each member.
        eval_episodes: episodes of each evaluation.
        seed: of the search.
        tune_dir: the directory of the search; a search in it is resumed.
        storage: a URL of a database that Optuna's ``RDBStorage`` takes, such as "sqlite:///search.db"; the trials are
            there, and machines without a common ``tune_dir`` may share them. None: they are in ``tune_dir``.
        study_name: of the search in the storage; None: the name of ``tune_dir``.
        on_trial: called for each trial that has ended, see ``OnTrial``.
        on_progress: called at the beginning, after each trial and each fresh seed, and when compiling begins or ends in
            this process; see ``rlgd.system.progress.Progress``.
        executor: runs the trials in other processes, which see ``tune_dir`` under the same path, or the ``storage``;
            None: this process does, one after another.
        workers: trials that are handed to the executor at a time; None: all.
        set_up: prepares JAX in such a process, given a member; it must be importable there.
        sinks, typed: as for ``rlgd.train``, in the process that runs a trial: each member of a trial that has ended is
            a run of them, in a group; see ``MemberSinks``.

    Raises:
        UsageError: before anything is trained, if arguments are not valid, or differ from those of the search in
            ``tune_dir`` or ``storage``; if Optuna is not installed; if the storage cannot be reached; if no values of
            the search fit together.
        Diverged: if no trial has a score because they diverged.
        EnvironmentFault: if the environment breaks in ``MAX_FAILURES`` trials, or with the best values.
        StorageFault: if the directory or the storage cannot be written; the trials that were recorded before are kept.
    """
    trials = whole_number("trials", trials, 1)
    base = make_agent(agent) if isinstance(agent, str) else agent
    hyperparameters.remember_parts(base)
    space = _space(base, search)
    task = Task(
        base, make(env), whole_number("total_timesteps", total_timesteps, 1),
        whole_number("eval_episodes", eval_episodes, 1), whole_number("seeds", seeds, 1),
        whole_number("fresh_seeds", fresh_seeds, 0), MemberSinks(sinks, f"tune {Path(tune_dir).name}", typed),
    )  # fmt: skip
    seed = whole_number("seed", seed, 0)
    check_executor(executor)
    if workers is not None:
        workers = whole_number("workers", workers, 1)
    task.plan({})  # finds mistakes that all trials would share
    shared = SharedSearch.open(Path(tune_dir), task.identity(space), seed, _home(tune_dir, storage, study_name))

    from rlgd.tuning import figures  # imports matplotlib, which takes a second

    def report() -> None:
        done, winner, compiling = (
            len(counted_trials(shared.study)),
            _winner(_records(shared.study, space)),
            task.compiling,
        )
        best = Best(values_in_words(winner["values"]), winner["score"]) if winner else None
        on_progress(Progress("trials", min(done, trials), trials, best, compiling.is_running, compiling.seconds))

    def on_ended(number: int, state: str, score: float, values: dict[str, Any]) -> None:
        on_trial(number, state, score, values)
        report()

    task.compiling.on_change = report
    with shared.home.faults_named():
        report()
        if executor is None:
            _run_trials(shared, task, space, trials, on_ended)
        else:
            elsewhere.run_trials(shared, task, space, seed, trials, executor, workers, set_up, on_ended)
        found = _best(shared.study, space, shared.directory)
        pictures = figures.draw(shared.study, found.trials)
    return _published(found, pictures, shared, task, on_progress)


def _home(tune_dir: str | Path, storage: str | None, study_name: str | None) -> Home:
    if storage is not None:
        return InStorage(storage, Path(tune_dir).resolve().name if study_name is None else study_name)
    if study_name is not None:
        raise UsageError(f"study_name is {study_name!r}, but there is no storage; give one, or no name.")
    return InDirectory()


def _published(
    result: TuneResult, pictures: Mapping[str, bytes], shared: SharedSearch, task: Task, on_progress: OnProgress
) -> TuneResult:
    """The result with the best values trained again on fresh seeds, after it was written."""
    best, done, one_at_a_time = Best(values_in_words(result.best), result.search_score), 0, threading.Lock()

    def report() -> None:
        with one_at_a_time:
            number, compiling = task.fresh_seeds, task.compiling
            on_progress(Progress("fresh seeds", done, number, best, compiling.is_running, compiling.seconds))

    def on_done(number: int) -> None:
        nonlocal done
        done = number
        report()

    with shared.alone():
        publish(result, task, pictures)  # so that an environment that breaks with fresh seeds does not hide it
    if task.fresh_seeds:
        task.compiling.on_change = report
        score, diverged = task.fresh_score(result.best, on_done)
        result = dataclasses.replace(result, fresh=score, fresh_diverged=diverged)
        with shared.alone():
            publish(result, task, pictures)
    return result


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
    shared: SharedSearch, task: Task, space: Mapping[str, Dimension], trials: int, on_trial: OnTrial
) -> None:
    """Run trials in this process until enough have ended.

    Raises:
        RlgdError: if ``MAX_FAILURES`` of them failed.
    """
    failures = Failures(shared.directory)
    while (ended := take_trial(shared, task, space, trials)) is not None:
        failures.report(ended, on_trial)


def _best(study: "optuna.Study", space: Mapping[str, Dimension], directory: Path) -> TuneResult:
    """The result of the trials that have ended, before the best values are trained again.

    Raises:
        UsageError, Diverged: if no trial has a score.
    """
    records = _records(study, space)
    winner = _winner(records)
    if winner is None:
        states = Counter(record["state"] for record in records)
        numbers = ", ".join(f"{number} {state}" for state, number in states.items())
        kind = Diverged if states["diverged"] else UsageError
        last = records[-1]
        raise kind(f"no trial has a score ({numbers}); the last one, trial {last['number']}: {last['why']}")
    return TuneResult(winner["values"], winner["score"], None, 0, records, directory)


def _records(study: "optuna.Study", space: Mapping[str, Dimension]) -> tuple[dict[str, Any], ...]:
    return tuple(trial_record(space, trial) for trial in ended_trials(study))


def _winner(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    complete = [record for record in records if record["state"] == "complete"]
    return max(complete, key=lambda record: record["score"], default=None)


def automatic(root: Path, env_id: str, name: str) -> Path:
    """``root/tune/<env>/<agent>/<time>``, with a suffix if this folder exists; it is not made yet."""
    parent = root / "tune" / layout.folder_name(env_id) / name
    return next(path for path in layout.names(parent) if not path.exists())
