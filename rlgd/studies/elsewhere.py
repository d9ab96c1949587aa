"""What a study computes in other processes or on other machines: each slice is a job that carries plain data.

A worker makes the plan again from the question, so nothing that is compiled or made has to travel. What it has made it
keeps: the next slices of a group find its programs.
"""

import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple, Protocol

import cloudpickle
import jax

from rlgd.engines.jobs import RESTARTS, run_jobs
from rlgd.errors import EnvironmentFault, UsageError
from rlgd.plugins import remember, remembered
from rlgd.run.config import RunConfig
from rlgd.studies.alone import train_alone
from rlgd.studies.compiling import Compiling, Interval
from rlgd.studies.outcome import OnFinished, Outcome
from rlgd.studies.plan import Plan, make_plan
from rlgd.studies.programs import Programs, Shelf
from rlgd.studies.question import Question
from rlgd.studies.slices import Slice
from rlgd.studies.speed import Speed, measure
from rlgd.system import ram

MEMORY_SHARE = 0.5  # of the free memory of a worker's machine, for one slice
# Settings of JAX that decide bits; they hold for a process, so a worker has to hear of them.
NUMBERS = (
    "jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable",
)  # fmt: skip


class SetUp(Protocol):
    """Prepares JAX in a process, given a member, and whether members train alone there, one after another."""

    def __call__(self, config: RunConfig, *, alone: bool) -> None: ...


def numbers_here() -> tuple[Any, ...]:
    """The values of ``NUMBERS`` in this process."""
    return tuple(jax.config.values[name] for name in NUMBERS)


def set_numbers(values: tuple[Any, ...]) -> None:
    """Take the values of ``NUMBERS`` that another process has."""
    for name, value in zip(NUMBERS, values, strict=True):
        if jax.config.values[name] != value:
            jax.config.update(name, value)


@dataclasses.dataclass(frozen=True)
class Study:
    """What all jobs of a study have in common, as it travels.

    Attributes:
        question: as JSON.
        objects: the agent and the environment that the question does not name, and the parts of users that it names, as
            cloudpickle writes them.
        exact: see ``Execution``.
        set_up: see ``Execution``.
        numbers: the values of ``NUMBERS``.
        alone: whether members train alone in the process, one after another.
    """

    question: str
    objects: bytes
    exact: bool
    set_up: SetUp | None
    numbers: tuple[Any, ...]
    alone: bool

    @classmethod
    def of(cls, plan: Plan, exact: bool, set_up: SetUp | None, alone: bool) -> "Study":
        """What describes a plan.

        Raises:
            UsageError: if its agent or environment cannot be sent to another process.
        """
        try:
            parts = remembered(json.dumps(plan.question.to_json()))
            objects = cloudpickle.dumps((*plan.given, parts))
        except Exception as error:  # the objects' own code runs
            raise UsageError(
                f"the agent or the environment cannot be sent to another process ({error}); give the environment as an "
                "id or a class."
            ) from error
        return cls(json.dumps(plan.question.to_json()), objects, exact, set_up, numbers_here(), alone)


class _Job(NamedTuple):
    """A slice of a study."""

    study: Study
    part: Slice


class _Trained(NamedTuple):
    """What a worker returns: outcomes by number, and when it compiled while it trained them."""

    outcomes: dict[int, Outcome]
    compiled: list[Interval]


def train_slices(
    plan: Plan,
    slices: Sequence[Slice],
    exact: bool,
    executor: Executor,
    at_once: int | None,
    set_up: SetUp | None,
    on_finished: OnFinished,
    compiling: Compiling,
) -> None:
    """Train slices on an executor.

    Args:
        plan: of the study.
        slices: of the members to train.
        exact, set_up: see ``Execution``.
        executor: trains the slices.
        at_once: slices that are handed to it at a time; None: all.
        on_finished: called after each slice.
        compiling: hears when workers have compiled.

    Raises:
        EnvironmentFault: if the worker of a slice died more than ``RESTARTS`` times.
    """
    study = Study.of(plan, exact, set_up, not plan.device_groups)
    for ended in run_jobs(executor, _train, [_Job(study, part) for part in slices], at_once):
        if ended.lost:
            raise EnvironmentFault(
                f"a slice of the study was given up after {RESTARTS} restarts: {ended.lost}. The finished members are "
                "kept; `rlgd study resume` trains the others."
            )
        compiling.intervals += ended.result.compiled
        on_finished(ended.result.outcomes)


class _Made:
    """What a worker has made of a study.

    Attributes:
        plan: of the study.
        compiling: is told when something is compiled.
    """

    def __init__(self, study: Study) -> None:
        set_numbers(study.numbers)
        agent, env, parts = cloudpickle.loads(study.objects)
        for name, part in parts.items():
            remember(part, name)
        self.plan = make_plan(Question.from_json(json.loads(study.question), "study"), agent, env)
        if study.set_up is not None:
            study.set_up(self.plan.largest, alone=study.alone)
        self.compiling = Compiling()
        self._exact, self._shelf = study.exact, Shelf()

    def programs(self, part: Slice) -> Programs:
        """The programs of a slice, which all slices of its group share."""
        make = functools.partial(part.programs, self.plan, self._exact, self.compiling)
        return self._shelf.get((part.group, part.size), make)


_making = threading.Lock()


@functools.lru_cache(maxsize=2)
def _made(study: Study) -> _Made:
    return _Made(study)


def _train(job: _Job) -> _Trained:
    """Train a slice, in a worker."""
    with _making:  # workers may have several threads
        made = _made(job.study)
    if not made.plan.groups[job.part.group].on_device:
        return _Trained({number: train_alone(made.plan.members[number]) for number in job.part.members}, [])
    programs = made.programs(job.part)
    before = len(made.compiling.intervals)
    outcomes = job.part.train(made.plan, programs, MEMORY_SHARE * ram.free_bytes())
    return _Trained(outcomes, made.compiling.intervals[before:])


class _Timing(NamedTuple):
    """The measurement of a study's speeds."""

    study: Study
    outcomes: Mapping[int, Outcome]


def measure_elsewhere(
    plan: Plan, outcomes: Mapping[int, Outcome], executor: Executor | None, set_up: SetUp | None
) -> tuple[Speed, ...]:
    """The speed of each group, measured in another process, which ``set_up`` prepares for a member that trains alone.

    A worker of an executor that has trained slices keeps the threads that it has.

    Args:
        plan: of the study.
        outcomes: of all its members.
        executor: whose worker measures; None: a process that is started for it.
        set_up: see ``Execution``.

    Raises:
        EnvironmentFault: if that process died more than ``RESTARTS`` times.
    """
    if executor is None:
        context = multiprocessing.get_context("spawn")  # JAX has threads, which a fork does not copy
        quiet = (signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches it too, and its parent says what that means
        own = concurrent.futures.ProcessPoolExecutor(1, context, signal.signal, quiet)
        try:
            return measure_elsewhere(plan, outcomes, own, set_up)
        finally:
            own.shutdown(wait=False, cancel_futures=True)
    short = {number: dataclasses.replace(outcome, rows=()) for number, outcome in outcomes.items()}
    (ended,) = run_jobs(executor, _measure, [_Timing(Study.of(plan, False, set_up, alone=True), short)])
    if ended.lost:
        raise EnvironmentFault(f"the process that measures training times died {RESTARTS + 1} times: {ended.lost}.")
    speeds: tuple[Speed, ...] = ended.result
    return speeds


def _measure(timing: _Timing) -> tuple[Speed, ...]:
    """Measure, in a worker."""
    with _making:
        made = _made(timing.study)
    return measure(made.plan, timing.outcomes)
