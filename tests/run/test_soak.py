"""Millions of steps, hundreds of thousands in worker processes, a hundred trainings: nothing adds up.

``pytest -m slow -s tests/run/test_soak.py`` shows the figures that docs/runs.md has.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest

import rlgd
from rlgd.agents import A2C
from rlgd.run.sinks.rows import Row

AGENT = A2C(num_envs=8, rollout_length=64, hidden_sizes=(8,), measure_every=0)
MIB = 2**20
MAX_GROWTH = 8 * MIB
MORE_THREADS = 2  # the pools of libraries grow with the load up to a size of their own


class Load(NamedTuple):
    """What a process and its children hold."""

    ram: int
    descriptors: int
    threads: int
    processes: int


def load() -> Load:
    main = psutil.Process()
    family = [main, *main.children(recursive=True)]
    ram = sum(process.memory_info().rss for process in family)
    return Load(ram, main.num_fds(), main.num_threads(), len(family))


class Scale:
    """Takes the load at every row of the curves."""

    def __init__(self) -> None:
        self.loads: list[Load] = []

    def write(self, row: Row) -> None:
        self.loads.append(load())

    def close(self) -> None:
        pass


def assert_flat(loads: list[Load], what: str) -> None:
    """The last third is as heavy as the middle one, with the same descriptors and processes."""
    third = len(loads) // 3
    middle, last = np.median(loads[third : 2 * third], axis=0), np.median(loads[2 * third :], axis=0)
    grown = (last[0] - middle[0]) / MIB
    print(f"\n{what}: {last[0] / MIB:.0f} MiB, {grown:+.1f} MiB in a third of it; {last[1:].astype(int)} ", end="")
    print("descriptors, threads, processes")
    assert last[0] - middle[0] < MAX_GROWTH
    assert (last[1], last[3]) == (middle[1], middle[3])
    assert last[2] - middle[2] <= MORE_THREADS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "options"),
    [(30_000_000, {}), (500_000, {"backend": "host", "vectorization": "async"})],
    ids=["device", "workers"],
)
def test_a_long_run_is_as_light_at_its_end(steps: int, options: dict[str, Any], tmp_path: Path) -> None:
    scale = Scale()
    rlgd.train(
        AGENT, "CartPole-v1", total_timesteps=steps, eval_episodes=2, sinks=[scale], run_dir=tmp_path,
        checkpoint_every="5s", **options,
    )  # fmt: skip
    assert_flat(scale.loads, f"{steps:,} steps")


@pytest.mark.slow
def test_a_hundred_trainings_take_no_more_than_ten() -> None:
    loads = []
    for number in range(100):
        rlgd.train(AGENT, "CartPole-v1", total_timesteps=5_120, seed=number, backend=("device", "host")[number % 2])
        loads.append(load())
    assert_flat(loads, "100 trainings")
