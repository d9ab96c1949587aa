"""A suite of three rows that trains in seconds, and its presets."""

from collections.abc import Callable
from pathlib import Path

from rlgd.reproduction import workers
from rlgd.reproduction.jobs import unfinished_jobs
from rlgd.reproduction.runs import RowRuns, row_runs
from rlgd.reproduction.suite import read_suite
from rlgd.run import RunConfig

SUITE = """
title = "Tiny"
caption = "Nobody has published this."

[sources]
nobody = "made up"

[[rows]]
env = "CartPole-v1"
agent = "a2c"
total_timesteps = 512
least = 5
published = [{ source = "nobody", score = 500.25, spread = 0, total_timesteps = 1_500, note = "v0" }]

[[rows]]
env = "rlgd/CartPoleNoVelocity-v1"
agent = "a2c"
total_timesteps = 512
least = 501
published = []

[[rows]]
env = "CartPole-v1"
agent = "ppo"
total_timesteps = 512
least = 5
published = []
"""
PRESETS = """
["CartPole-v1"]
total_timesteps = 512
num_envs = 2
rollout_length = 16
hidden_sizes = [4]
tuned = { trials = 0, seeds = 1, total_timesteps = 512, note = "by hand" }

["rlgd/CartPoleNoVelocity-v1"]
total_timesteps = 256
num_envs = 2
rollout_length = 16
hidden_sizes = [4]
tuned = { trials = 0, seeds = 1, total_timesteps = 256, note = "by hand" }
"""


def runs_of(number: int = 0, root: str = "runs", seeds: int | None = 2) -> RowRuns:
    """The runs of one row."""
    return row_runs(read_suite("tiny"), Path(root), seeds)[number]


def scores(runs: RowRuns) -> list[float | None]:
    return [run.score for run in runs.seed_runs()]


def set_nothing_up(config: RunConfig) -> None:
    """In place of the command line's set-up; worker processes import it."""


def train(runs: RowRuns, processes: int = 1, poll_signal: Callable[[], int | None] = lambda: None) -> list[str | None]:
    """Train what is not finished; the problem of each run, None for success."""
    problems: list[str | None] = []
    jobs = unfinished_jobs([runs])
    workers.train_jobs(jobs, processes, set_nothing_up, poll_signal, lambda job, problem: problems.append(problem))
    return problems
