"""Run the trials of a search in other processes or on other machines: each trial is a job that carries plain data.

Workers share the search as processes of one machine do: by its directory, which they see under the same path, or by its
storage. So a trial whose worker dies does not count, and a worker that stays keeps its programs.
"""

import functools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle

from rlgd.engines.jobs import RESTARTS, run_jobs
from rlgd.errors import EnvironmentFault, UsageError
from rlgd.plugins import remember, remembered
from rlgd.run.config import RunConfig
from rlgd.studies.elsewhere import numbers_here, set_numbers
from rlgd.tuning.journal import counted_trials
from rlgd.tuning.running import EndedTrial, Failures, OnTrial, take_trial
from rlgd.tuning.sharing import Home, SharedSearch
from rlgd.tuning.space import Dimension
from rlgd.tuning.trials import Task


class Sent(NamedTuple):
    """A search as it travels.

    Attributes:
        objects: what it is, as cloudpickle writes it: the arguments of ``Task``, the space, the home, parts of users.
        directory: of the search.
        seed, trials: of the search.
        numbers: see ``rlgd.studies.elsewhere.numbers_here``.
        set_up: prepares JAX in a worker, given a member; it must be importable there.
    """

    objects: bytes
    directory: Path
    seed: int
    trials: int
    numbers: tuple[Any, ...]
    set_up: Callable[[RunConfig], None] | None


def run_trials(
    shared: SharedSearch,
    task: Task,
    space: Mapping[str, Dimension],
    seed: int,
    trials: int,
    executor: Executor,
    at_once: int | None,
    set_up: Callable[[RunConfig], None] | None,
    on_trial: OnTrial,
) -> None:
    """Run trials on an executor until enough have ended.

    Args:
        shared, task, space, seed, trials: of the search.
        executor: runs the trials.
        at_once: trials that are handed to it at a time; None: all.
        set_up: see ``Sent``.
        on_trial: called for each trial that has ended.

    Raises:
        UsageError: if the agent or the environment cannot be sent to another process.
        EnvironmentFault: if the worker of a trial died more than ``RESTARTS`` times.
        RlgdError: if too many trials failed.
    """
    about = task.agent, task.env, task.total_timesteps, task.eval_episodes, task.seeds, task.fresh_seeds, task.sinks
    try:
        objects = cloudpickle.dumps((about, dict(space), shared.home, remembered(repr((task.agent, space)))))
    except Exception as error:  # the objects' own code runs
        raise UsageError(
            f"the agent, the environment or a sink cannot be sent to another process ({error})."
        ) from error
    sent = Sent(objects, shared.directory.absolute(), seed, trials, numbers_here(), set_up)
    failures = Failures(shared.directory)
    while (missing := trials - len(counted_trials(shared.study))) > 0:  # trials that failed are replaced
        for ended in run_jobs(executor, _run_trial, [sent] * missing, at_once):
            if ended.lost:
                raise EnvironmentFault(
                    f"a trial was given up after {RESTARTS} restarts: {ended.lost}. The others are kept; the same "
                    f"search in {shared.directory} continues."
                )
            if ended.result is not None:
                failures.report(ended.result, on_trial)


_here = threading.local()  # a worker may have several threads, and a search is one thread's


def _run_trial(sent: Sent) -> EndedTrial | None:
    """Run a trial, in a worker; None if there are enough."""
    if not hasattr(_here, "joined"):
        _here.joined = functools.lru_cache(maxsize=2)(_joined)
    shared, task, space = _here.joined(sent)
    with shared.home.faults_named():
        return take_trial(shared, task, space, sent.trials)


def _joined(sent: Sent) -> tuple[SharedSearch, Task, Mapping[str, Dimension]]:
    set_numbers(sent.numbers)
    about, space, home, parts = cloudpickle.loads(sent.objects)
    for name, part in parts.items():
        remember(part, name)
    task = Task(*about)
    if sent.set_up is not None:
        sent.set_up(task.plan({}).members[0])
    shared_home: Home = home
    return SharedSearch.open(sent.directory, task.identity(space), sent.seed, shared_home), task, space
