"""Published scores, reproduced: a table of environments and agents is trained from the presets, with many seeds.

Each seed is a run of its own, so that what is finished is kept, and what was interrupted goes on.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from rlgd.agents.base.agent import Agent
from rlgd.envs import make
from rlgd.errors import Interrupted, RlgdError, StorageFault
from rlgd.evaluation.evaluator import evaluate
from rlgd.reproduction.plan import SCORE, Plan, preset_settings
from rlgd.run.api import execute, resume
from rlgd.run.config import RunConfig
from rlgd.run.loading import load
from rlgd.run.summary import read_summary
from rlgd.system.files import replace, why
from rlgd.system.signals import PollSignal

EPISODES = 100
# Each seed is scored in episodes of its own: if all had the same ones, the luck of these would be in no interval.
FIRST_EPISODES, BETWEEN_EPISODES = 2_000_000, 1_000
GO_ON = "interrupted; what was trained is saved, and the same command goes on"


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
        return preset_settings(self.agent, make(self.env), self.total_timesteps, self.seed)


# Takes a job that has ended, and what went wrong with it, if anything did.
OnProgress: TypeAlias = Callable[[Job, str | None], None]


def jobs(plan: Plan) -> list[Job]:
    """The runs of a row that are not finished."""
    settings = plan.settings
    if settings is None:
        return []
    return [
        Job(plan.row.name, settings.agent, plan.row.env, settings.settings.total_timesteps, number, directory, begun)
        for number, directory, begun, score, _ in plan.states()
        if score is None
    ]


def trained_job(job: Job, poll_signal: PollSignal) -> str | None:
    """Train a run to its end, and score it; what went wrong, if anything did."""

    def end_if_asked() -> None:
        if (number := poll_signal()) is not None:
            raise Interrupted(GO_ON, number)

    try:
        end_if_asked()
        if job.begun:
            resume(job.directory, poll_signal=poll_signal, metrics=False)
        else:
            # What a kill left before the first checkpoint is replaced.
            execute(job.settings(), job.directory, overwrite=True, poll_signal=poll_signal, metrics=False)
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
    steps = read_summary(job.directory)["steps"]
    path, score = job.directory / SCORE, {"steps": steps, "episodes": EPISODES, "seed": seed, "mean_return": mean}
    try:
        replace(path, json.dumps(score, indent=2) + "\n")
    except OSError as error:
        raise StorageFault(f"{path} cannot be written: {why(error, job.directory)}") from error
