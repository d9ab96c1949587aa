"""Which runs a suite needs, and which of them exist."""

import dataclasses
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rlgd.agents import preset, presets, registered_name
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env, make
from rlgd.errors import UsageError, unknown
from rlgd.reproduction.suite import Row, Suite
from rlgd.run import changes, layout
from rlgd.run.checkpoints import folder
from rlgd.run.config import RunConfig
from rlgd.run.settings import RunSettings
from rlgd.run.summary import is_finished, read_summary

SCORE = "score.json"
SEEDS_ON_DEVICE, SEEDS_ON_HOST = 20, 5
OWN_EPISODES = 10  # of the evaluation that belongs to a run, the same ones in each


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
        return self.row.total_timesteps if self.settings is None else self.settings.settings.total_timesteps

    def states(self) -> list[Seed]:
        """Where each seed stands.

        Raises:
            UsageError: if one was trained with other settings.
        """
        return [] if self.settings is None else [self._state(self.settings, number) for number in range(self.seeds)]

    def _state(self, settings: RunConfig, number: int) -> Seed:
        directory = self.directory / f"seed{number}"
        if not (directory / layout.CONFIG).exists():
            return Seed(number, directory)
        others = changes.other_settings(directory, settings.with_settings(seed=number))
        if others:
            raise UsageError(
                f"{directory} was trained with other settings than the present preset's "
                f"({'; '.join(map(str, others))}); remove it, or name another place by --run-dir."
            )
        begun = folder.latest_step(directory / layout.CHECKPOINTS) is not None
        return Seed(number, directory, begun, *read_score(directory))


def preset_settings(agent: Agent, env: Env, total_timesteps: int, seed: int = 0) -> RunConfig:
    return RunConfig(agent, env, RunSettings(total_timesteps, seed, eval_episodes=OWN_EPISODES))


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
    directory = root / f"{layout.folder_name(row.env)}-{row.agent}"
    env = make(row.env)
    number = seeds or (SEEDS_ON_DEVICE if isinstance(env, DeviceEnv) else SEEDS_ON_HOST)
    try:
        total = presets.find(registered_name(row.agent), row.env).total_timesteps
        settings = preset_settings(preset(row.agent, row.env), env, total)
        settings.validate()
    except UsageError as error:
        return Plan(row, directory, number, why_not=str(error))
    if total > row.total_timesteps:
        too_long = f"its preset trains {total:,} steps; the table allows {row.total_timesteps:,}."
        return Plan(row, directory, number, why_not=too_long)
    return Plan(row, directory, number, settings)


def read_score(directory: Path) -> tuple[float | None, float]:
    """The score of a run, None as long as it has none, and the seconds of its training."""
    try:
        score = json.loads((directory / SCORE).read_text("utf-8"))
        summary = read_summary(directory)
        if is_finished(directory, score["steps"]):
            return float(score["mean_return"]), float(summary["training_seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return None, 0.0
