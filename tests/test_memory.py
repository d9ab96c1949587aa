"""What an iteration surely takes, and what is free."""

import dataclasses
import subprocess
import sys

import jax
import pytest

from rlgd import memory, training
from rlgd.agents import A2C, PPO, REINFORCE
from rlgd.agents.common import Agent
from rlgd.envs import DeviceEnv, make
from rlgd.errors import UsageError
from rlgd.rollout import collect


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
    assert most / 5 < memory.least(agent, env) <= most


def test_what_cannot_fit_is_refused_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, env = PPO(), make("CartPole-v1")
    need = memory.least(agent, env)
    monkeypatch.setattr(memory, "available", lambda: float(need))
    memory.check(agent, env)
    with pytest.raises(UsageError, match=r"takes at least 0\.0 GiB, but 0\.0 GiB are free; fewer num_envs"):
        memory.check(dataclasses.replace(agent, num_envs=9), env)


def test_a_limit_of_the_process_counts() -> None:
    code = (
        "import resource; from rlgd import memory; memory.available();"  # JAX has started
        "resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33)); print(memory.available() <= 2**33)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "True\n"
