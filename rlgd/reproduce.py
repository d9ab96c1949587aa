"""Published scores, reproduced: a table of environments and agents is trained from the presets, with many seeds.

Each seed is a run of its own, so that what is finished is kept, and what was interrupted goes on.
"""

import concurrent.futures
import dataclasses
import functools
import importlib.util
import json
import multiprocessing
import os
import signal
import threading
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from rlgd import checkpoint, durable, rundir
from rlgd.agents import preset, registered_name, tuned
from rlgd.agents.common import Agent
from rlgd.envs import DeviceEnv, Env, make
from rlgd.envs.workers import apart_from_main
from rlgd.errors import Interrupted, RlgdError, StorageFault, UsageError, unknown
from rlgd.evaluation import evaluate
from rlgd.run import execute, load, resume
from rlgd.rundir import RunConfig
from rlgd.signals import SIGNALS, Asked

FILES = files("rlgd") / "reproductions"
SCORE = "score.json"
SEEDS_ON_DEVICE, SEEDS_ON_HOST = 20, 5
EPISODES = 100
# Each seed is scored in episodes of its own: if all had the same ones, the luck of these would be in no interval.
FIRST_EPISODES, BETWEEN_EPISODES = 2_000_000, 1_000
OWN_EPISODES = 10  # of the evaluation that belongs to a run, the same ones in each
GO_ON = "interrupted; what was trained is saved, and the same command goes on"
LOOK = 0.2  # seconds between two looks at signals, while others work


class Published(NamedTuple):
    """A score that others have published; ``note`` says in what it differs, such as the environment's version."""

    source: str
    score: float
    spread: float | None = None
    total_timesteps: int | None = None
    note: str = ""


class Row(NamedTuple):
    """What is trained, in at most how many steps, the least score that is asked of it, and what others have."""

    env: str
    agent: str
    total_timesteps: int
    least: float
    published: tuple[Published, ...]

    @property
    def name(self) -> str:
        """How it is called, in messages and behind ``--only``."""
        return f"{self.env}:{self.agent}"


class Suite(NamedTuple):
    """A table. ``extra`` is the one that its environments need, which is there if ``module`` can be imported."""

    name: str
    title: str
    caption: str
    sources: dict[str, str]
    rows: tuple[Row, ...]
    extra: str = ""
    module: str = ""


class Seed(NamedTuple):
    """Where a run stands: ``score`` is None until it is trained and scored, ``begun`` says whether it can go on."""

    number: int
    directory: Path
    begun: bool = False
    score: float | None = None
    training_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """A row and its runs; ``settings`` are those of seed 0, None if the row cannot be trained: ``why_not`` says why."""

    row: Row
    directory: Path
    seeds: int
    settings: RunConfig | None = None
    why_not: str = ""

    @property
    def total_timesteps(self) -> int:
        """Steps of each run; of a row that cannot be trained, those that it may take."""
        return self.row.total_timesteps if self.settings is None else self.settings.total_timesteps

    def states(self) -> list[Seed]:
        """Where each seed stands.

        Raises:
            UsageError: if one was trained with other settings.
        """
        return [] if self.settings is None else [self._state(self.settings, number) for number in range(self.seeds)]

    def _state(self, settings: RunConfig, number: int) -> Seed:
        directory = self.directory / f"seed{number}"
        if not (directory / rundir.CONFIG).exists():
            return Seed(number, directory)
        others = rundir.other_settings(directory, dataclasses.replace(settings, seed=number))
        if others:
            raise UsageError(
                f"{directory} was trained with other settings than the present preset's "
                f"({'; '.join(map(str, others))}); remove it, or name another place by --run-dir."
            )
        begun = checkpoint.latest_step(directory / rundir.CHECKPOINTS) is not None
        return Seed(number, directory, begun, *read_score(directory))


class Job(NamedTuple):
    """A run that is to be trained, or gone on with, in whatever process."""

    row: str
    agent: Agent
    env: str
    total_timesteps: int
    seed: int
    directory: Path
    begun: bool

    def settings(self) -> RunConfig:
        """Of the run. The environment is made here: one that was sent would be compiled for anew."""
        return _settings(self.agent, make(self.env), self.total_timesteps, self.seed)


def _settings(agent: Agent, env: Env, total_timesteps: int, seed: int = 0) -> RunConfig:
    return RunConfig(agent, env, total_timesteps, seed, eval_episodes=OWN_EPISODES)


# Takes a job that has ended, and what went wrong with it, if anything did.
Tell: TypeAlias = Callable[[Job, str | None], None]


def shipped() -> list[str]:
    """The names of the suites."""
    return sorted(path.name.removesuffix(".toml") for path in FILES.iterdir() if path.name.endswith(".toml"))


def read(name: str) -> Suite:
    """A suite by its name.

    Raises:
        UsageError: if there is no such suite.
    """
    if name not in shipped():
        raise unknown("suite", name, shipped())
    content = tomllib.loads((FILES / f"{name}.toml").read_text("utf-8"))
    rows = [row | {"published": tuple(Published(**score) for score in row["published"])} for row in content.pop("rows")]
    return Suite(name, rows=tuple(Row(**row) for row in rows), **content)


def chosen(suite: Suite, plans: Sequence[Plan], only: Sequence[str]) -> list[Plan]:
    """The rows that are ``ENV`` or ``ENV:AGENT`` of ``only``; all of them if there is none.

    Raises:
        UsageError: for what is in no row, or in none that can be trained.
    """
    names: dict[str, list[Plan]] = {}
    for plan in plans:
        names.setdefault(plan.row.env, []).append(plan)
        names[plan.row.name] = [plan]
    for text in only:
        if text not in names:
            raise unknown(f"row of {suite.name}", text, names)
        if all(plan.why_not for plan in names[text]):
            raise UsageError(f"{text} cannot be trained: {names[text][0].why_not}")
    return [plan for plan in plans if not only or plan.row.env in only or plan.row.name in only]


def check_workers(workers: int) -> None:
    """Check a number of processes.

    Raises:
        UsageError: if it is none.
    """
    if workers < 1:
        raise UsageError(f"workers is {workers}; allowed: a whole number from 1.")


def plans(suite: Suite, root: Path, seeds: int | None) -> list[Plan]:
    """Each row with its settings.

    Args:
        suite: the table.
        root: where the rows' runs are.
        seeds: of each row; None: ``SEEDS_ON_DEVICE``, or ``SEEDS_ON_HOST``, by where its environment runs.

    Raises:
        UsageError: if the suite's extra is missing, or the number is none.
    """
    if suite.module and importlib.util.find_spec(suite.module) is None:
        raise UsageError(f"{suite.name} needs environments that are not installed: pip install 'rlgd[{suite.extra}]'.")
    if seeds is not None and seeds < 1:
        raise UsageError(f"seeds is {seeds}; allowed: a whole number from 1.")
    return [_plan(row, root, seeds) for row in suite.rows]


def _plan(row: Row, root: Path, seeds: int | None) -> Plan:
    directory = root / f"{rundir.folder_name(row.env)}-{row.agent}"
    env = make(row.env)
    number = seeds or (SEEDS_ON_DEVICE if isinstance(env, DeviceEnv) else SEEDS_ON_HOST)
    try:
        total = tuned.find(registered_name(row.agent), row.env).total_timesteps
        settings = _settings(preset(row.agent, row.env), env, total)
        settings.validate()
    except UsageError as error:
        return Plan(row, directory, number, why_not=str(error))
    if total > row.total_timesteps:
        too_long = f"its preset trains {total:,} steps; the table allows {row.total_timesteps:,}."
        return Plan(row, directory, number, why_not=too_long)
    return Plan(row, directory, number, settings)


def jobs(plan: Plan) -> list[Job]:
    """The runs of a row that are not finished."""
    settings = plan.settings
    if settings is None:
        return []
    return [
        Job(plan.row.name, settings.agent, plan.row.env, settings.total_timesteps, number, directory, begun)
        for number, directory, begun, score, _ in plan.states()
        if score is None
    ]


def train(jobs: Sequence[Job], workers: int, set_up: Callable[[RunConfig], None], asked: Asked, tell: Tell) -> None:
    """Train runs, one after the other or in several processes; one that fails is told of, and the others go on.

    Args:
        jobs: the runs.
        workers: processes; 1: this one.
        set_up: called in each of several processes before its first run.
        asked: see ``rlgd.run.execute``.
        tell: called for each run that has ended.

    Raises:
        Interrupted: if a signal asked for it; the runs are saved.
    """
    try:
        if min(workers, len(jobs)) <= 1:
            for job in jobs:
                tell(job, _trained(job, asked))
        else:
            _train_in_processes(jobs, min(workers, len(jobs)), set_up, asked, tell)
    except Interrupted as interrupted:
        raise Interrupted(GO_ON, interrupted.exit_code - 128) from interrupted


def _trained(job: Job, asked: Asked) -> str | None:
    """Train a run to its end, and score it; what went wrong, if anything did."""

    def end_if_asked() -> None:
        if (number := asked()) is not None:
            raise Interrupted(GO_ON, number)

    try:
        end_if_asked()
        if job.begun:
            resume(job.directory, asked=asked, metrics=False)
        else:
            # What a kill left before the first checkpoint is replaced.
            execute(job.settings(), job.directory, overwrite=True, asked=asked, metrics=False)
        _score(job, end_if_asked)
    except Interrupted:
        raise
    except RlgdError as error:
        return str(error)
    return None


def _score(job: Job, between: Callable[[], None]) -> None:
    """Play whole episodes in Gymnasium with the greedy policy, and write down the mean return."""
    seed = FIRST_EPISODES + BETWEEN_EPISODES * job.seed
    env = job.settings().evaluation_env
    mean = evaluate(load(job.directory), env, episodes=EPISODES, seed=seed, between=between).mean
    steps = rundir.read_summary(job.directory)["steps"]
    path, score = job.directory / SCORE, {"steps": steps, "episodes": EPISODES, "seed": seed, "mean_return": mean}
    try:
        durable.replace(path, json.dumps(score, indent=2) + "\n")
    except OSError as error:
        raise StorageFault(f"{path} cannot be written: {durable.why(error, job.directory)}") from error


def read_score(directory: Path) -> tuple[float | None, float]:
    """The score of a run, None as long as it has none, and the seconds of its training."""
    try:
        score = json.loads((directory / SCORE).read_text("utf-8"))
        summary = rundir.read_summary(directory)
        if rundir.is_finished(directory, score["steps"]):
            return float(score["mean_return"]), float(summary["training_seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return None, 0.0


def _train_in_processes(
    jobs: Sequence[Job], workers: int, set_up: Callable[[RunConfig], None], asked: Asked, tell: Tell
) -> None:
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.RawValue("i", 0)
    with concurrent.futures.ProcessPoolExecutor(workers, spawn, _begin, (stop, set_up, jobs[0])) as pool:
        try:
            with apart_from_main():
                waiting = {pool.submit(_work, job): job for job in jobs}
            while waiting:
                ended, _ = concurrent.futures.wait(waiting, LOOK, concurrent.futures.FIRST_COMPLETED)
                if (number := asked()) is not None:
                    raise Interrupted(GO_ON, number)
                for future in ended:
                    tell(waiting.pop(future), _result(future))
        except BaseException:
            stop.value = signal.SIGTERM  # those that train save what they have
            pool.shutdown(cancel_futures=True)
            raise


def _result(future: "concurrent.futures.Future[str | None]") -> str | None:
    try:
        return future.result()
    except BrokenProcessPool:
        return "a worker process died"


# Of a worker process:
_asked: Asked
_busy = threading.Lock()


def _begin(stop: Any, set_up: Callable[[RunConfig], None], first: Job) -> None:
    """Make a worker process ready: signals are for the main one, which tells of them by ``stop``."""
    global _asked
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    main = multiprocessing.parent_process()
    assert main is not None
    _asked = functools.partial(_told, stop, main)
    threading.Thread(target=_end_with, args=(main,), daemon=True).start()
    set_up(first.settings())


def _told(stop: Any, main: Any) -> int | None:
    """Whether the main process has everything end, or has died itself: the run is saved then."""
    return signal.SIGTERM if stop.value or not main.is_alive() else None


def _end_with(main: Any) -> None:
    """Wait no longer for jobs of a main process that has died."""
    main.join()
    with _busy:  # until what is trained is saved
        os._exit(1)


def _work(job: Job) -> str | None:
    try:
        with _busy:
            return _trained(job, _asked)
    except Interrupted:
        return None  # the main process knows
