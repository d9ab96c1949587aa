"""Public ``study``: the members of a plan trained in few programs, and what became of them written down."""

import concurrent.futures
import dataclasses
import itertools
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax

from rlgd import grid, memory, report, run, stack, studydir, tensorboard
from rlgd.agents import make_agent
from rlgd.agents.common import Agent
from rlgd.config import to_dict
from rlgd.envs.maker import num_cores
from rlgd.errors import Diverged, StorageFault, UsageError
from rlgd.evaluation import evaluate
from rlgd.grid import Arm, Question
from rlgd.plan import Group, Plan, plan
from rlgd.records import Row
from rlgd.rundir import RunConfig, agent_name
from rlgd.stack import Outcome

SLICE_ROWS = 128  # members side by side on a CPU step about so many environments together: what is fastest
MEMORY_SHARE = 0.5  # of what is available, for all slices that run at once
COMPILE_SECONDS = 15.0  # of a group's programs, roughly
TENSORBOARD = "tensorboard"
CURVES = (
    "rollout/episode_return",
    "rollout/episode_length",
    "train/objective",
    "train/entropy",
    "ascent/gradient_norm",
)

# Told how many members are finished, of how many, and the seconds of compilation so far.
Watch: TypeAlias = Callable[[int, int, float], None]


@dataclasses.dataclass(frozen=True)
class Execution:
    """How the members of a plan are trained.

    Attributes:
        exact: one after another, each with the bits of the run alone; else side by side, equal to rounding at first.
        slice_size: members side by side; None: as many as are fastest, and fit into memory.
        workers: slices that run at once; None: one for each core of a CPU, one on a GPU.
    """

    exact: bool = False
    slice_size: int | None = None
    workers: int | None = None

    def validate(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: what was given, what is allowed.
        """
        for name in ("slice_size", "workers"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise UsageError(f"{name} is {value!r}; allowed: a whole number from 1.")

    @property
    def num_workers(self) -> int:
        """Slices that run at once."""
        if self.workers is not None:
            return self.workers
        return num_cores() if jax.default_backend() == "cpu" else 1

    def size_of(self, plan: Plan, group: Group) -> int:
        """Members in a slice of a group."""
        members = len(group.members)
        if self.slice_size is not None:
            return min(self.slice_size, members)
        if jax.default_backend() != "cpu":
            return members
        fastest = max(1, SLICE_ROWS // plan.members[group.members[0]].agent.num_envs)
        shares = -(-members // self.num_workers)  # every core gets work
        slices = -(-shares // fastest)
        return -(-shares // slices)


def forecast(plan: Plan, execution: Execution) -> str:
    """The plan in words: members, programs, slices, and roughly what memory and time they take."""
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
            most = max(most, size * stack.bytes_of(plan.members[group.members[0]]))
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


def _seconds(settings: RunConfig) -> float:
    """About what a member's training takes: ``chunk_length`` iterations take about a second on one core."""
    return settings.total_timesteps / settings.rows_an_iteration / settings.chunk_length


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} seconds"


def train_members(
    plan: Plan, wanted: Sequence[int], execution: Execution, finished: Callable[[dict[int, Outcome], float], None]
) -> None:
    """Train members, slice by slice, and hand over what became of them as soon as it is known.

    Args:
        plan: whose members they are.
        wanted: which of them.
        execution: how.
        finished: takes the outcomes of a slice, and the seconds of compilation so far.
    """
    if not plan.on_device:
        for number in wanted:
            finished({number: alone(plan.members[number])}, 0.0)
        return
    workers = execution.num_workers
    budget = MEMORY_SHARE * memory.available() / workers
    missing = set(wanted)
    groups = []
    for group in plan.groups:
        numbers = [n for n in group.members if n in missing]
        if numbers:
            settings = plan.members[numbers[0]]
            size = min(execution.size_of(plan, group), len(numbers))
            fitting = stack.Fitting(settings, size, execution.exact, budget)
            groups.append([(fitting, numbers[start : start + size]) for start in range(0, len(numbers), size)])
    # By turns: while one group is compiled, another one can be, or trains.
    tasks = [task for turn in itertools.zip_longest(*groups) for task in turn if task is not None]

    def work(fitting: stack.Fitting, numbers: list[int]) -> dict[int, Outcome]:
        programs = fitting.programs()
        outcomes: dict[int, Outcome] = {}
        for start in range(0, len(numbers), programs.size):
            part = numbers[start : start + programs.size]
            trained = stack.train(programs, [plan.members[n] for n in part])
            outcomes |= dict(zip(part, trained, strict=True))
        return outcomes

    # Threads: a compiled program runs without the interpreter's lock, and all of them share what is compiled.
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, *task) for task in tasks]
        try:
            for future in concurrent.futures.as_completed(futures):
                finished(future.result(), sum(group[0][0].compile_seconds for group in groups))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Collected:
    """Takes rows of a run alone."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def write(self, row: Row) -> None:
        self.rows.append(row)

    def close(self) -> None:
        pass


def alone(settings: RunConfig) -> Outcome:
    """Train a member on the host, by itself."""
    collected = _Collected()
    rows, diverged = collected.rows, None
    try:
        result = run.execute(settings, sinks=[collected])
        policy, evaluation = result.policy, result.evaluation
    except Diverged as error:
        policy, evaluation, diverged = error.policy, None, str(error)
    played = evaluation or evaluate(
        policy, settings.evaluation_env, episodes=settings.eval_episodes, seed=run.EVAL_SEED
    )
    mean, length = played.mean, float(played.lengths.mean())
    if diverged is not None:
        step, seconds = (rows[-1].step, rows[-1].seconds) if rows else (0, 0.0)
        return Outcome(mean, length, step, seconds, stack.DIVERGED, diverged, math.nan, tuple(rows))
    return Outcome(
        mean, length, result.steps, result.training_seconds, result.reason, result.why, math.nan, tuple(rows)
    )


@dataclasses.dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        plan: what was trained.
        outcomes: of each member, by its number in ``plan.members``.
        study_dir: where it was written, or None.
    """

    plan: Plan
    outcomes: dict[int, Outcome]
    study_dir: Path | None

    @property
    def findings(self) -> list[list[report.Finding]]:
        """For each arm its points, with statistics over seeds."""
        return report.findings(self.plan, self.outcomes)

    def table(self) -> str:
        """The findings in Markdown."""
        return report.tables(self.plan, self.findings)

    def records(self) -> list[dict[str, Any]]:
        """What stands in ``results.csv``: a row for each member."""
        return report.records(self.plan, self.outcomes)


def study(
    agent: Agent | str,
    env: Any,
    vary: Mapping[str, Any] | None = None,
    *,
    cases: Mapping[str, Mapping[str, Any]] | None = None,
    arms: Sequence[Arm] = (),
    total_timesteps: int = 100_000,
    seeds: int = 10,
    eval_episodes: int = 100,
    target_return: float | None = None,
    metrics: Sequence[str] = (),
    name: str = "study",
    study_dir: str | Path | None = None,
    exact: bool = False,
    slice_size: int | None = None,
    workers: int | None = None,
) -> StudyResult:
    """Train an agent with every combination of some values, and many seeds, in few compiled programs.

    Args:
        agent: what the values change, an agent or its name.
        env: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returned.
        vary: values by name: of hyper-parameters, and of ``total_timesteps``, ``eval_every`` and the criteria to stop;
            a list, or ``{"log": [low, high], "points": n}``.
        cases: instead, combinations of values by their names.
        arms: instead, several of these, see ``rlgd.grid.Arm``.
        total_timesteps, eval_episodes: of each member.
        seeds: how many members each combination has; the same seeds, 0, 1, 2, ..., for all.
        target_return: to which steps and seconds are counted; None: the environment's ``reward_threshold``.
        metrics: that the table shows beside the return, such as "train/entropy".
        name: what it is called.
        study_dir: where to write; None writes nothing.
        exact: each member has the bits of ``rlgd.train`` with its values and seed, at some cost in speed.
        slice_size: members that are trained side by side; None: as many as are fastest and fit into memory.
        workers: slices that run at once, in threads; None: one for each core of a CPU, one on a GPU.

    Raises:
        UsageError: before anything is compiled or written, for arguments that do not fit.
        EnvironmentFault: if an environment on the host breaks; members that were finished are kept in ``study_dir``.
    """
    chosen = tuple(arms) or (Arm(vary=vary or {}, cases=cases or {}),)
    base = make_agent(agent) if isinstance(agent, str) else agent
    default = to_dict(type(base)())
    question = Question(
        arms=chosen,
        name=name,
        agent=agent if isinstance(agent, str) else agent_name(agent),
        env=env if isinstance(env, str) else "",
        settings={name: value for name, value in to_dict(base).items() if value != default[name]},
        total_timesteps=total_timesteps,
        seeds=seeds,
        eval_episodes=eval_episodes,
        report=tuple(metrics),
        target_return=target_return,
    )
    worked_out = plan(question, type(base)(), env)
    return execute(worked_out, None if study_dir is None else Path(study_dir), Execution(exact, slice_size, workers))


def resume_study(
    study_dir: str | Path,
    agent: Agent | None = None,
    env: Any = None,
    watch: Watch = lambda done, of, seconds: None,
    **how: Any,
) -> StudyResult:
    """Train the members of a study that are not finished, and write down again what was found.

    Args:
        study_dir: a directory that ``study`` wrote.
        agent, env: where the study's names do not say them.
        watch: told of members that are finished.
        how: ``slice_size`` and ``workers``, as for ``study``.

    Raises:
        UsageError: if there is no study, or its names do not say agent and environment.
        StorageFault: if it is damaged.
    """
    directory = Path(study_dir)
    question, content = studydir.read(directory)
    if not question.env and env is None:
        raise UsageError(f"{directory} does not say its environment, which was no id; give env.")
    return execute(plan(question, agent, env), directory, Execution(content["exact"], **how), watch, anew=False)


def execute(
    plan: Plan,
    directory: Path | None,
    execution: Execution,
    watch: Watch = lambda done, of, seconds: None,
    anew: bool = True,
) -> StudyResult:
    """Train what is not finished yet, and write down what was found.

    Args:
        plan: of the study.
        directory: where to write, or None.
        execution: how.
        watch: told how many members are finished, of how many, and the seconds of compilation so far.
        anew: make the directory; else it holds the study already.
    """
    execution.validate()
    for group in plan.groups:
        memory.check(plan.members[group.members[0]].agent, plan.env)
    outcomes: dict[int, Outcome] = {}
    members = None
    if directory is not None:
        if anew:
            studydir.create(directory, plan.question, execution.exact)
        members = studydir.Members(directory)
        outcomes = members.read(len(plan.members))

    def finished(new: dict[int, Outcome], compile_seconds: float) -> None:
        if members is not None:
            members.add(new)
        outcomes.update(new)
        watch(len(outcomes), len(plan.members), compile_seconds)

    train_members(plan, [n for n in range(len(plan.members)) if n not in outcomes], execution, finished)
    result = StudyResult(plan, shared_time(plan, outcomes), directory)
    if directory is not None:
        publish(result, directory)
    return result


def shared_time(plan: Plan, outcomes: Mapping[int, Outcome]) -> dict[int, Outcome]:
    """The outcomes in order, each with the share of its group's training time that its steps are of the group's steps.

    Members of a group run the same program: that one slice took longer than another was chance, such as a compilation
    beside it, and tells nothing of their values. On the host each member has its own time.
    """
    shared = dict(sorted(outcomes.items()))
    for group in plan.groups if plan.on_device else ():
        done = [n for n in group.members if n in shared and shared[n].steps]
        steps = sum(shared[n].steps for n in done)
        seconds = sum(shared[n].training_seconds for n in done)
        for n in done:
            mine = seconds * shared[n].steps / steps
            factor = mine / max(shared[n].training_seconds, 1e-12)
            rows = tuple(dataclasses.replace(row, seconds=row.seconds * factor) for row in shared[n].rows)
            shared[n] = dataclasses.replace(shared[n], training_seconds=mine, rows=rows)
    return shared


def publish(result: StudyResult, directory: Path) -> None:
    """Write the table, the rows, the figures and TensorBoard's files.

    Raises:
        StorageFault: if they cannot be written; the members that are finished are kept.
    """
    from rlgd import figures  # and matplotlib, which takes a second

    plan, found = result.plan, result.findings
    pictures = figures.draw(plan, found)
    try:
        (directory / "results.csv").write_text(report.results_csv(plan, result.outcomes), encoding="utf-8")
        (directory / "summary.md").write_text(report.summary(plan, found, tuple(pictures)), encoding="utf-8")
        for name, png in pictures.items():
            (directory / f"{name}.png").write_bytes(png)
        _write_tensorboard(result, directory / TENSORBOARD, pictures)
    except OSError as error:
        raise StorageFault(f"what was found could not be written to {directory}: {error.strerror}.") from error


def _write_tensorboard(result: StudyResult, directory: Path, pictures: Mapping[str, bytes]) -> None:
    """A run for each member, grouped by its values, and the figures."""
    if directory.exists():
        shutil.rmtree(directory)  # all of it was written here, by an earlier part of the study
    start = time.time()
    written: set[int] = set()
    for arm, points in zip(result.plan.question.arms, result.plan.points, strict=True):
        for point, members in points:
            group = f"{arm.name} {point.label}".strip()
            shown = {name: grid.written(v) if isinstance(v, tuple) else v for name, v in point.settings.items()}
            values = ({"arm": arm.name} if arm.name else {}) | ({} if arm.axes else {"case": point.label}) | shown
            for member in sorted(set(members) & result.outcomes.keys() - written):
                written.add(member)
                outcome, seed = result.outcomes[member], result.plan.members[member].seed
                folder = directory / re.sub(r"[^\w.=+-]+", "-", group) / f"seed{seed}"
                end = {"time/training_seconds": outcome.training_seconds, "eval/episode_return": outcome.episode_return,
                       "eval/episode_length": outcome.episode_length}  # fmt: skip
                rows = [*outcome.rows, Row(outcome.steps, outcome.training_seconds, end)]
                tags = [*CURVES, *end, *result.plan.question.report]
                tensorboard.write_run(folder, start, values, group, rows, tags)
    tensorboard.add_pictures(directory, {f"figures/{name}": png for name, png in pictures.items()})
