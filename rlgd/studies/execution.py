"""Train the members of a study: on the device in slices that fit into memory, on the host one after another."""

import concurrent.futures
import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import jax

from rlgd.errors import Diverged, whole_number
from rlgd.evaluation import evaluator
from rlgd.evaluation.evaluator import evaluate
from rlgd.run import api
from rlgd.run.cadence import cadence
from rlgd.run.config import RunConfig
from rlgd.run.sinks.rows import Row
from rlgd.studies.outcome import DIVERGED, Outcome
from rlgd.studies.plan import Group, Plan
from rlgd.studies.programs import ProgramCache, bytes_of
from rlgd.studies.slices import train_slice
from rlgd.system import ram
from rlgd.system.machine import num_cores

SLICE_ROWS = 128  # environments that the members of a slice step together on a CPU: about the fastest number
MEMORY_SHARE = 0.5  # share of the available memory for all slices that run at once
COMPILE_SECONDS = 15.0  # to compile the programs of a group, roughly


@dataclasses.dataclass(frozen=True)
class Execution:
    """How the members of a plan are trained.

    Attributes:
        exact: the members of a slice train one after another, with the bits of a run alone. Otherwise they train side
            by side, and equal a run alone to rounding at first.
        slice_size: members trained side by side; None: as many as are fastest and fit into memory.
        workers: slices trained at once; None: one for each core of a CPU, one on a GPU.
    """

    exact: bool = False
    slice_size: int | None = None
    workers: int | None = None

    def validate(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: naming what was given and what is allowed.
        """
        for name in ("slice_size", "workers"):
            if (value := getattr(self, name)) is not None:
                whole_number(name, value, 1)

    @property
    def num_workers(self) -> int:
        """The number of slices trained at once."""
        if self.workers is not None:
            return self.workers
        return num_cores() if jax.default_backend() == "cpu" else 1

    def size_of(self, plan: Plan, group: Group) -> int:
        """The number of members in a slice of a group."""
        members = len(group.members)
        if self.slice_size is not None:
            return min(self.slice_size, members)
        if jax.default_backend() != "cpu":
            return members
        fastest = max(1, SLICE_ROWS // plan.members[group.members[0]].agent.num_envs)
        shares = -(-members // self.num_workers)  # so that every core has work
        slices = -(-shares // fastest)
        return -(-shares // slices)


def forecast(plan: Plan, execution: Execution) -> str:
    """What will be trained, as text: members, programs and slices, with rough estimates of memory and time."""
    question, workers = plan.question, execution.num_workers
    points = sum(map(len, plan.points))
    lines = [
        f"{question.name}: {question.question}" if question.question else question.name,
        f"  {points:,} combinations in {len(plan.points)} {'arm' if len(plan.points) == 1 else 'arms'}, "
        f"{question.seeds:,} seeds each: {len(plan.members):,} members "
        f"of {type(plan.members[0].agent).__name__} in {plan.env.env_id}",
    ]
    seconds, most = 0.0, 0.0
    for group in plan.groups:
        seconds += sum(_seconds(plan.members[n]) for n in group.members)
        line = f"  program {group.label}: {len(group.members):,} members"
        if plan.on_device:
            size = execution.size_of(plan, group)
            seconds += COMPILE_SECONDS
            most = max(most, size * bytes_of(plan.members[group.members[0]]))
            line += f", {'one after another' if execution.exact else f'{size} side by side'}"
        lines.append(line)
    if plan.on_device:
        programs = f"{len(plan.groups)} program{'' if len(plan.groups) == 1 else 's'}"
        memory = f"{most * workers / 2**20:,.0f} MiB"
        lines.append(
            f"  {programs} to compile, {workers} slices at a time, about {memory}, about {_duration(seconds / workers)}"
        )
    else:
        lines.append(f"  one after another on the host, about {_duration(seconds)}")
    return "\n".join(lines)


def _seconds(config: RunConfig) -> float:
    """A rough estimate of a member's training time: ``chunk_length`` iterations take about a second on one core."""
    pace = cadence(config)
    return pace.total_timesteps / pace.iteration_steps / pace.chunk_length


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} seconds"


def train_members(
    plan: Plan, wanted: Sequence[int], execution: Execution, on_finished: Callable[[dict[int, Outcome], float], None]
) -> None:
    """Train members slice by slice.

    Args:
        plan: of the study.
        wanted: the numbers of the members to train.
        execution: how they are trained.
        on_finished: called after each slice with its outcomes by number, and the seconds of compilation so far.
    """
    if not plan.on_device:
        for number in wanted:
            on_finished({number: train_alone(plan.members[number])}, 0.0)
        return
    groups = _slices_of_groups(plan, set(wanted), execution)
    # Groups take turns: while one group is compiled, another one is compiled too, or trains.
    tasks = [task for turn in itertools.zip_longest(*groups) for task in turn if task is not None]
    # Threads suffice: a compiled program runs without the interpreter's lock, and all threads share the programs.
    with concurrent.futures.ThreadPoolExecutor(execution.num_workers) as pool:
        futures = [pool.submit(_train_in_parts, plan, *task) for task in tasks]
        try:
            for future in concurrent.futures.as_completed(futures):
                on_finished(future.result(), sum(group[0][0].compile_seconds for group in groups))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _slices_of_groups(plan: Plan, wanted: set[int], execution: Execution) -> list[list[tuple[ProgramCache, list[int]]]]:
    """For each group its slices: the programs of the group, and the numbers of a slice's members."""
    budget = MEMORY_SHARE * ram.free_bytes() / execution.num_workers
    groups = []
    for group in plan.groups:
        numbers = [n for n in group.members if n in wanted]
        if numbers:
            config = plan.members[numbers[0]]
            size = min(execution.size_of(plan, group), len(numbers))
            cache = ProgramCache(config, size, execution.exact, budget)
            groups.append([(cache, numbers[start : start + size]) for start in range(0, len(numbers), size)])
    return groups


def _train_in_parts(plan: Plan, cache: ProgramCache, numbers: Sequence[int]) -> dict[int, Outcome]:
    """Train the members of a slice; in several parts if the programs had to be made smaller to fit into memory."""
    programs = cache.programs()
    outcomes: dict[int, Outcome] = {}
    for start in range(0, len(numbers), programs.size):
        part = numbers[start : start + programs.size]
        trained = train_slice(programs, [plan.members[n] for n in part])
        outcomes |= dict(zip(part, trained, strict=True))
    return outcomes


class _RowCollector:
    """A sink that keeps the rows of a run in memory."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def write(self, row: Row) -> None:
        self.rows.append(row)

    def close(self) -> None:
        pass


def train_alone(config: RunConfig) -> Outcome:
    """Train and evaluate one member as a run of its own, on the host."""
    collector = _RowCollector()
    rows, diverged = collector.rows, None
    try:
        result = api.execute(config, sinks=[collector])
        policy, evaluation = result.policy, result.evaluation
    except Diverged as error:
        policy, evaluation, diverged = error.policy, None, str(error)
    evaluation = evaluation or evaluate(
        policy,
        config.evaluation_env,
        episodes=config.settings.eval_episodes,
        seed=evaluator.EVAL_SEED,
        max_steps=cadence(config).eval_max_steps,
    )
    mean, length = evaluation.mean, float(evaluation.lengths.mean())
    if diverged is not None:
        step, seconds = (rows[-1].step, rows[-1].seconds) if rows else (0, 0.0)
        return Outcome(mean, length, step, seconds, DIVERGED, diverged, math.nan, tuple(rows))
    return Outcome(
        mean, length, result.steps, result.training_seconds, result.reason, result.why, math.nan, tuple(rows)
    )
