"""How TensorBoard and tables describe a run."""

import dataclasses
from typing import Any

from rlgd import hyperparameters as hp
from rlgd.agents import A2C, PPO
from rlgd.envs import HostEnv
from rlgd.run.config import RunConfig
from rlgd.run.description import group, hyperparameters
from rlgd.run.settings import RunSettings


def config(agent: Any, **settings: Any) -> RunConfig:
    return RunConfig(agent, HostEnv("CartPole-v1", 500), RunSettings.of({"total_timesteps": 1024} | settings))


def test_hyperparameters_are_numbers_and_text() -> None:
    described = hyperparameters(config(PPO(hidden_sizes=(64, 32), gamma=0.9)))
    chosen = {"agent": "ppo", "env": "CartPole-v1", "total_timesteps": 1024, "hidden_sizes": "64-32", "gamma": 0.9}
    assert chosen.items() <= described.items()
    assert {type(value) for value in described.values()} <= {bool, int, float, str}
    assert "seed" not in described


def test_the_optimizer_has_its_own_defaults() -> None:
    assert hp.to_dict(PPO())["momentum"] is None
    assert hyperparameters(config(PPO()))["momentum"] == 0.9


def test_runs_of_one_group_differ_by_their_seed() -> None:
    agent = A2C(num_envs=2, gamma=0.9)
    assert group(config(agent)) == "a2c CartPole-v1 1024 num_envs=2 gamma=0.9"
    assert group(config(agent, seed=7)) == group(config(agent))
    assert group(config(dataclasses.replace(agent, measure_every=7))) == group(config(agent))
    assert group(config(agent, total_timesteps=2048)) != group(config(agent))
    assert group(config(A2C())) == "a2c CartPole-v1 1024"
