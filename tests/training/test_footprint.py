"""The memory that an iteration takes at least."""

import dataclasses
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
from rlgd.system import ram
from rlgd.training import footprint
from rlgd.training.device_rollout import collect


@pytest.mark.parametrize(
    "agent",
    [
        PPO(),
        A2C(num_envs=64, hidden_sizes=()),
        A2C(network="lstm", memory_width=512),
        A2C(value_network="lstm", memory_width=512),
        A2C(value_network="policy", hidden_sizes=(512, 512)),
        REINFORCE(hidden_sizes=(512, 512)),
    ],
)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Taxi-v4"])
def test_an_iteration_takes_no_less(agent: Agent, env_id: str) -> None:
    env = make(env_id)
    assert isinstance(env, DeviceEnv)

    def rollout_and_gradient(key: jax.Array) -> object:
        loop = training.initialize(agent, env, key)
        state = loop.agent_state
        return collect(agent, env, loop, key)[0], state.value_memory, state.params, state.params

    leaves = jax.tree.leaves(jax.eval_shape(rollout_and_gradient, jax.random.key(0)))
    most = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    assert most / 5 < footprint.least(agent, env) <= most


def test_what_cannot_fit_is_refused_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, env = PPO(), make("CartPole-v1")
    need = footprint.least(agent, env)
    monkeypatch.setattr(ram, "free_bytes", lambda: float(need))
    footprint.check(agent, env)
    with pytest.raises(UsageError, match=r"takes at least 0\.0 GiB, but 0\.0 GiB are free; fewer num_envs"):
        footprint.check(dataclasses.replace(agent, num_envs=9), env)


def test_every_way_to_train_looks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    agent = PPO(hidden_sizes=(8,))
    rlgd.train(agent, "CartPole-v1", total_timesteps=1, run_dir=run)
    written = (run / "config.json").read_bytes()
    monkeypatch.setattr(ram, "free_bytes", lambda: 1.0)
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
