"""What an iteration surely takes, and what is free."""

import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

import rlgd
from rlgd import training
from rlgd.agents import A2C, PPO, REINFORCE
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, make
from rlgd.errors import UsageError
from rlgd.system import memory
from rlgd.training import footprint
from rlgd.training.device_rollout import collect


@pytest.mark.parametrize(
    "agent",
    [
        PPO(),
        A2C(num_envs=64, hidden_sizes=()),
        A2C(network="lstm", memory_width=512),
        REINFORCE(hidden_sizes=(512, 512)),
    ],
)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Taxi-v4"])
def test_an_iteration_takes_no_less(agent: Agent, env_id: str) -> None:
    env = make(env_id)
    assert isinstance(env, DeviceEnv)

    def rollout_and_gradient(key: jax.Array) -> object:
        loop = training.initialize(agent, env, key)
        return collect(agent, env, loop, key)[0], loop.agent_state.params, loop.agent_state.params

    leaves = jax.tree.leaves(jax.eval_shape(rollout_and_gradient, jax.random.key(0)))
    most = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    assert most / 5 < footprint.least(agent, env) <= most


def test_what_cannot_fit_is_refused_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, env = PPO(), make("CartPole-v1")
    need = footprint.least(agent, env)
    monkeypatch.setattr(memory, "available", lambda: float(need))
    footprint.check(agent, env)
    with pytest.raises(UsageError, match=r"takes at least 0\.0 GiB, but 0\.0 GiB are free; fewer num_envs"):
        footprint.check(dataclasses.replace(agent, num_envs=9), env)


def test_every_way_to_train_looks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    agent = PPO(hidden_sizes=(8,))
    rlgd.train(agent, "CartPole-v1", total_timesteps=1, run_dir=run)
    written = (run / "config.json").read_bytes()
    monkeypatch.setattr(memory, "available", lambda: 1.0)
    ways: list[Callable[[], object]] = [
        lambda: rlgd.train(agent, "CartPole-v1", total_timesteps=1, run_dir=tmp_path / "new"),
        lambda: rlgd.resume(run, total_timesteps=10_000),
        lambda: rlgd.study(agent, "CartPole-v1", {"momentum": [0.5]}, study_dir=tmp_path / "new"),
        lambda: rlgd.tune(agent, "CartPole-v1", {"momentum": [0.5]}, tune_dir=tmp_path / "new"),
    ]
    for way in ways:
        with pytest.raises(UsageError, match="one iteration takes at least"):
            way()
    assert not (tmp_path / "new").exists()
    assert (run / "config.json").read_bytes() == written


def test_a_limit_of_the_process_counts() -> None:
    code = (
        "import resource; from rlgd import memory; memory.available();"  # JAX has started
        "resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33)); print(memory.available() <= 2**33)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "True\n"


def test_limits_of_control_groups_count(tmp_path: Path) -> None:
    # The kernel's files; setting real limits takes an administrator.
    def limit(group: str, maximum: str, current: int, cached: int) -> None:
        folder = tmp_path / "groups" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{maximum}\n")
        (folder / "memory.current").write_text(f"{current}\n")
        stat = f"anon {current - cached}\nfile {cached}\ninactive_file {cached - 1}\nactive_file 1\n"
        (folder / "memory.stat").write_text(stat)

    def left() -> float:
        return memory._left_in_groups(tmp_path / "membership", tmp_path / "groups")

    assert left() == math.inf  # not on Linux
    (tmp_path / "membership").write_text("4:memory:/old\n0::/pod/box\n")
    assert left() == math.inf  # as in the root group, which has no such files
    limit("pod/box", "max", 2_000, 500)
    assert left() == math.inf
    limit("pod", "8000", 3_000, 500)
    assert left() == 5_500  # its cache gives way
    limit("pod/box", "4000", 3_900, 100)
    assert left() == 200
