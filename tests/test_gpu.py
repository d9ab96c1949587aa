"""What a GPU must do: the CPU's results to a tolerance, and the same bits twice when that is asked for."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from rlgd import training
from rlgd.agents import A2C, PPO, REINFORCE, TRPO
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, HostEnv, make
from rlgd.training.host_rollout import begin_episodes, collect_on_host

pytestmark = pytest.mark.gpu
TOLERANCE = 1e-4  # of parameters after one iteration, at the highest matmul precision


@pytest.mark.parametrize(
    "agent",
    [REINFORCE(num_envs=8), A2C(), PPO(), TRPO(), A2C(network="lstm")],
    ids=["reinforce", "a2c", "ppo", "trpo", "a2c-lstm"],
)
def test_equals_the_cpu(agent: Agent) -> None:
    agent, env = agent.prepared(), make("CartPole-v1")
    assert isinstance(env, DeviceEnv)
    after = []
    for platform in ("cpu", "gpu"):
        with jax.default_device(jax.devices(platform)[0]):
            loop = training.initialize(agent, env, jax.random.key(0), 10_000)
            after.append(jax.jit(training.iterate, static_argnums=1)(agent, env, loop)[0].agent_state.params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=TOLERANCE), *map(jax.device_get, after))


def test_the_policy_acts_on_the_gpu_as_on_the_cpu() -> None:
    """Views go there as one array, and actions come back as one."""
    agent, env = PPO(rollout_length=16).prepared(), make("CartPole-v1", backend="host")
    assert isinstance(env, HostEnv)
    rollouts = []
    with contextlib.closing(env.open(agent.num_envs)) as vector, jax.default_matmul_precision("highest"):
        for platform in ("cpu", "gpu"):
            loop = begin_episodes(agent, vector, training.initialize(agent, env, jax.random.key(0)), (0, 0))
            rollouts.append(collect_on_host(agent, vector, loop, jax.random.key(1), jax.devices(platform)[0])[0])
    np.testing.assert_array_equal(rollouts[0].action, rollouts[1].action)
    np.testing.assert_array_equal(rollouts[0].obs, rollouts[1].obs)


def test_deterministic_ops_give_the_same_bits_twice(tmp_path: Path) -> None:
    argv = ["train", "ppo", "--env", "CartPole-v1", "--total-timesteps", "20000", "--eval-episodes", "1", "--json"]
    metrics = []
    for run in ("a", "b"):
        command = [sys.executable, "-m", "rlgd", *argv, "--device", "gpu", "--deterministic-ops", "--run-dir", run]
        subprocess.run(command, cwd=tmp_path, env=os.environ, check=True, capture_output=True)
        rows = [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        metrics.append([{k: v for k, v in row.items() if k != "seconds" and not k.startswith("time/")} for row in rows])
    assert metrics[0] == metrics[1]


def test_the_console_names_the_device(tmp_path: Path) -> None:
    argv = ["train", "ppo", "--env", "CartPole-v1", "--total-timesteps", "1024", "--eval-episodes", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "rlgd", *argv], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert f"PPO on gpu ({jax.devices('gpu')[0].device_kind})" in done.stderr


@pytest.mark.parametrize(("first", "then"), [("cpu", "gpu"), ("gpu", "cpu")])
def test_a_checkpoint_loads_on_the_other_device(first: str, then: str, tmp_path: Path) -> None:
    # A small program: compiling for a GPU takes long.
    flags = ["--env", "CartPole-v1", "--no-preset", "--measure-every", "0", "--hidden-sizes", "8", "--quiet"]
    flags += ["--total-timesteps", "2000", "--eval-episodes", "5"]
    commands = [
        ["train", "a2c", *flags, "--device", first, "--run-dir", "run"],
        ["eval", "run", "--device", then, "--quiet"],
        ["resume", "run", "--device", then, "--total-timesteps", "4000", "--quiet"],
        ["eval", "run", "--device", first, "--quiet"],
    ]
    for command in commands:
        argv = [sys.executable, "-m", "rlgd", *command]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["device"].startswith(then)
    assert config["history"][0]["changes"]["device"]["now"].startswith(then)
