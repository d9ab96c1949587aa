"""Train and score one run of a suite.

Each seed is a run of its own: finished runs are kept, and interrupted ones are resumed.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from rlgd.agents.base.agent import Agent
from rlgd.envs import make
from rlgd.errors import Interrupted, RlgdError, StorageFault
from rlgd.evaluation.evaluator import evaluate
from rlgd.reproduction.runs import SCORE, RowRuns, has_checkpoint, run_config
from rlgd.run.api import execute, resume
from rlgd.run.config import RunConfig
from rlgd.run.loading import load
from rlgd.run.summary import read_summary
from rlgd.system.files import replace, why
from rlgd.system.lock import LOCK, is_claimed
from rlgd.system.signals import PollSignal

POLL_SECONDS = 0.2  # between two checks for other processes and for signals
EPISODES = 100
# Each seed is scored in episodes of its own. With the same episodes for all seeds, their luck would be in every score
# and in no interval.
FIRST_EPISODES, BETWEEN_EPISODES = 2_000_000, 1_000
INTERRUPTED_MESSAGE = "interrupted; the finished part is saved, and the same command resumes it"


log = logging.getLogger("rlgd")


class Job(NamedTuple):
    """A run to train, or to resume if it has ``started``; it can be sent to another process."""

    row: str
    agent: Agent
    env: str
    total_timesteps: int
    seed: int
    directory: Path
    started: bool
    sampled: bool

    def config(self) -> RunConfig:
        """The configuration. It makes the environment here: the programs of one from another process compile again."""
        return run_config(self.agent, make(self.env), self.total_timesteps, self.seed)


# Takes a job that has ended, and the message of the error that ended it; None for success.
OnJob: TypeAlias = Callable[[Job, str | None], None]


def unfinished_jobs(rows: Iterable[RowRuns]) -> list[Job]:
    """The runs of some rows that are not finished and scored."""
    return [
        Job(
            runs.row.name,
            runs.config.agent,
            runs.row.env,
            runs.total_timesteps,
            run.seed,
            run.directory,
            run.started,
            runs.row.sampled,
        )
        for runs in rows
        if runs.config is not None
        for run in runs.seed_runs()
        if run.score is None
    ]


def train_job(job: Job, poll_signal: PollSignal, sinks: Sequence[Any] = ()) -> str | None:
    """Train a run to its end and score it; ``sinks`` see it.

    Returns:
        None for success, or the message of the error that ended it.

    Raises:
        Interrupted: if a signal has arrived; the run is saved.
    """

    def raise_on_signal() -> None:
        if (number := poll_signal()) is not None:
            raise Interrupted(INTERRUPTED_MESSAGE, number)

    try:
        _wait_for_others(job, raise_on_signal)
        if has_checkpoint(job.directory):
            resume(job.directory, sinks=sinks, poll_signal=poll_signal, metrics=False)
        else:
            # Replaces what a kill before the first checkpoint left.
            execute(job.config(), job.directory, overwrite=True, sinks=sinks, poll_signal=poll_signal, metrics=False)
        _score(job, raise_on_signal)
    except Interrupted:
        raise
    except RlgdError as error:
        return str(error)
    return None


def _wait_for_others(job: Job, between: Callable[[], None]) -> None:
    """Wait while another process writes the run: a worker whose main process was killed saves what it has."""
    waiting = False
    between()
    while is_claimed(job.directory / LOCK):
        if not waiting:
            log.info("waiting for another process that writes in %s", job.directory)
            waiting = True
        time.sleep(POLL_SECONDS)
        between()


def _score(job: Job, between: Callable[[], None]) -> None:
    """Play whole episodes, in Gymnasium where it has the environment, and write the mean return to ``score.json``."""
    seed = FIRST_EPISODES + BETWEEN_EPISODES * job.seed
    env = job.config().evaluation_env
    policy = load(job.directory)
    mean = evaluate(policy, env, episodes=EPISODES, seed=seed, deterministic=not job.sampled, between=between).mean
    steps = read_summary(job.directory)["steps"]
    path = job.directory / SCORE
    score = {"steps": steps, "episodes": EPISODES, "seed": seed, "sampled": job.sampled, "mean_return": mean}
    try:
        replace(path, json.dumps(score, indent=2) + "\n")
    except OSError as error:
        raise StorageFault(f"{path} cannot be written: {why(error, job.directory)}") from error
