"""Small runs on CartPole, written in little time: what the tests of storage look at, and break."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import rlgd
from rlgd.agents import A2C
from rlgd.run.sinks.rows import Row

AGENT = A2C(num_envs=4, rollout_length=16, hidden_sizes=(8,), measure_every=0)
TOTAL = 1024
FLAGS = [
    *("a2c", "--env", "CartPole-v1", "--num-envs", "4", "--rollout-length", "16", "--hidden-sizes", "8"),
    *("--measure-every", "0", "--eval-episodes", "2", "--quiet"),
]


def train(run_dir: Path, **options: Any) -> rlgd.TrainResult:
    given = {"total_timesteps": TOTAL, "eval_episodes": 2, "checkpoint_every": 256, "keep": 100} | options
    return rlgd.train(AGENT, "CartPole-v1", run_dir=run_dir, **given)


def parameters(result: rlgd.TrainResult) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(result.state.agent_state)]


def copy(written: tuple[Path, rlgd.TrainResult], to: Path) -> Path:
    return Path(shutil.copytree(written[0], to / "run"))


class At:
    """A sink that does something once, after a step, and returns what that gives."""

    def __init__(self, step: int, what: Callable[[], Any]) -> None:
        self.step, self.what = step, what

    def write(self, row: Row) -> Any:
        if row.step < self.step:
            return None
        self.step = sys.maxsize
        return self.what()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rlgd", *arguments]
