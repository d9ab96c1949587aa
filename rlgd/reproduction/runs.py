"""The runs that the rows of a suite need, and how far each of them is."""

import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

from rlgd.agents import preset, presets, registered_name
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env, make
from rlgd.errors import UsageError, unknown, whole_number
from rlgd.reproduction.suite import ScoreRow, ScoreSuite
from rlgd.run import automatic, changes, layout
from rlgd.run.checkpoints import folder
from rlgd.run.config import RunConfig
from rlgd.run.settings import RunSettings
from rlgd.run.summary import is_finished, read_summary
from rlgd.system import lock
from rlgd.system.files import check_own
from rlgd.system.reading import parse_json, read_text

SCORE = "score.json"
SEEDS_ON_DEVICE, SEEDS_ON_HOST = 20, 5
RUN_EPISODES = 10  # of a run's own evaluation; its score comes from other episodes


class _Score(TypedDict):
    """The types in ``score.json`` that are read."""

    steps: int
    mean_return: float
    sampled: NotRequired[bool]


class SeedRun(NamedTuple):
    """The run of one seed.

    Attributes:
        seed: of the run.
        directory: of the run.
        started: whether there is a checkpoint to resume from.
        score: mean return of the greedy policy; None until the run is finished and scored.
        training_seconds: of the run; 0 until it is scored.
    """

    seed: int
    directory: Path
    started: bool = False
    score: float | None = None
    training_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class RowRuns:
    """A row and its runs, one for each seed.

    Attributes:
        row: of the suite.
        directory: which holds the runs' directories.
        seeds: the number of runs; they have the seeds 0, 1, 2, ...
        config: of the run with seed 0; None if the row cannot be trained.
        why_not: the reason why it cannot.
    """

    row: ScoreRow
    directory: Path
    seeds: int
    config: RunConfig | None = None
    why_not: str = ""

    @property
    def total_timesteps(self) -> int:
        """Environment steps of each run; for a row that cannot be trained, the most that the row allows."""
        return self.row.total_timesteps if self.config is None else self.config.settings.total_timesteps

    def seed_runs(self) -> list[SeedRun]:
        """The run of each seed; none for a row that cannot be trained.

        Raises:
            UsageError: if a run was trained with other settings.
        """
        return [] if self.config is None else [self._seed_run(self.config, seed) for seed in range(self.seeds)]

    def _seed_run(self, config: RunConfig, seed: int) -> SeedRun:
        directory = self.directory / f"seed{seed}"
        for place in (self.directory, directory):
            if place.is_symlink():
                raise UsageError(f"{place} is a symbolic link; its runs would be written elsewhere. Remove it.")
        check_own(directory, layout.CONFIG, (SCORE,), "run")
        if not (directory / layout.CONFIG).exists():
            return SeedRun(seed, directory)
        others = changes.other_settings(directory, config.with_settings(seed=seed))
        if others:
            raise UsageError(
                f"{directory} was trained with other settings than the present ones "
                f"({'; '.join(map(str, others))}); remove it, or name another place by --run-dir."
            )
        return SeedRun(seed, directory, has_checkpoint(directory), *read_score(directory, self.row.sampled))


def has_checkpoint(directory: Path) -> bool:
    """Whether a run can be resumed."""
    return folder.latest_step(directory / layout.CHECKPOINTS) is not None


@contextlib.contextmanager
def writing(root: Path) -> Iterator[None]:
    """The right to train the runs of a suite, which one process has at a time.

    Raises:
        UsageError: if another process has it, or the directory cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{root} cannot be written: {error.strerror}.") from error
    with lock.held(root):
        yield


def run_config(agent: Agent, env: Env, total_timesteps: int, seed: int = 0) -> RunConfig:
    """The configuration of a seed's run."""
    return RunConfig(agent, env, RunSettings(total_timesteps, seed, eval_episodes=RUN_EPISODES))


def select_rows(suite: ScoreSuite, rows: Sequence[RowRuns], only: Sequence[str]) -> list[RowRuns]:
    """The rows named ``ENV`` or ``ENV:AGENT`` in ``only``; all rows if ``only`` is empty.

    Raises:
        UsageError: for a name that matches no row, or only rows that cannot be trained.
    """
    names: dict[str, list[RowRuns]] = {}
    for runs in rows:
        names.setdefault(runs.row.env, []).append(runs)
        names[runs.row.name] = [runs]
    for text in only:
        if text not in names:
            raise unknown(f"row of {suite.name}", text, names)
        if all(runs.why_not for runs in names[text]):
            raise UsageError(f"{text} cannot be trained: {names[text][0].why_not}")
    return [runs for runs in rows if not only or runs.row.env in only or runs.row.name in only]


def row_runs(suite: ScoreSuite, root: Path, seeds: int | None, auto: bool = False) -> list[RowRuns]:
    """The runs of each row of a suite, with the settings of the presets; with ``auto``, those by rule.

    Args:
        suite: the table.
        root: the directory of the suite's runs.
        seeds: of each row; None: ``SEEDS_ON_DEVICE`` or ``SEEDS_ON_HOST``, by where its environment runs.

    Raises:
        UsageError: if the suite's extra is not installed, or ``seeds`` is below 1.
    """
    if suite.module and importlib.util.find_spec(suite.module) is None:
        raise UsageError(f"{suite.name} needs environments that are not installed: pip install 'rlgd[{suite.extra}]'.")
    if seeds is not None:
        seeds = whole_number("seeds", seeds, 1)
    return [_runs_of_row(row, root, seeds, auto) for row in suite.rows]


def _runs_of_row(row: ScoreRow, root: Path, seeds: int | None, auto: bool) -> RowRuns:
    directory = root / f"{layout.folder_name(row.env)}-{row.agent}"
    env = make(row.env)
    number = seeds or (SEEDS_ON_DEVICE if isinstance(env, DeviceEnv) else SEEDS_ON_HOST)
    try:
        total = presets.find(registered_name(row.agent), row.env).total_timesteps
        agent = automatic(row.agent, env) if auto else preset(row.agent, row.env)
        config = run_config(agent, env, total)
        config.validate()
    except UsageError as error:
        return RowRuns(row, directory, number, why_not=str(error))
    if total > row.total_timesteps:
        too_long = f"its preset trains {total:,} steps; the table allows {row.total_timesteps:,}."
        return RowRuns(row, directory, number, why_not=too_long)
    return RowRuns(row, directory, number, config)


def read_score(directory: Path, sampled: bool) -> tuple[float | None, float]:
    """The score of a run (None if it has none yet), and its training seconds.

    A score of the greedy policy is none of a row that is scored with the policy as it explores (``sampled``).
    """
    try:
        score = parse_json(read_text(directory / SCORE), _Score)
        summary = read_summary(directory)
        if is_finished(directory, score["steps"]) and score.get("sampled", False) == sampled:
            return score["mean_return"], float(summary["training_seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return None, 0.0
