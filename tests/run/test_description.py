"""How TensorBoard and tables describe a run."""

import dataclasses
from typing import Any

import pytest

from rlgd import hyperparameters as hp
from rlgd.agents import A2C, NPG, PPO, REINFORCE, TRPO
from rlgd.ascent import Ascent
from rlgd.envs import HostEnv
from rlgd.run.config import RunConfig
from rlgd.run.description import group, hyperparameters, short, unused
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


def test_an_optimizer_without_momentum_has_none_of_it() -> None:
    assert hyperparameters(config(PPO(ascent=Ascent("rmsprop"))))["momentum"] == 0.0


def test_a_name_says_what_differs_and_the_ascent_first() -> None:
    agent = PPO(gamma=0.9, hidden_sizes=(8, 8), measure_every=0, ascent=Ascent("nesterov", 0.02, 0.5))
    told = short(config(agent))
    assert told[:3] == ["lr0.02", "momentum0.5", "nesterov"]
    assert sorted(told[3:]) == ["gamma0.9", "hidden_sizes-8-8", "schedule-constant"]
    assert "lr0.02" not in short(config(agent), {"learning_rate": 0.02})
    assert short(config(PPO())) == []


@pytest.mark.parametrize(
    ("agent", "names"),
    [
        (PPO(), {"ascent/momentum", "ascent/effective_step", "train/ent_coef", "train/clip_eps", "train/updates"}),
        (
            PPO(target_kl=0.1, clip_eps_schedule="linear"),
            {"ascent/momentum", "ascent/effective_step", "train/ent_coef"},
        ),
        (
            A2C(ascent=Ascent("momentum", momentum_schedule="linear")),
            {"ascent/learning_rate", "ascent/clipped", "train/ent_coef"},
        ),
        (REINFORCE(baseline="mean"), {"ascent/value_gradient_norm", "ascent/clipped"}),
        (NPG(), {"ascent/cg_damping", "ascent/momentum"}),
        (TRPO(), {"ascent/cg_damping", "ascent/effective_step"}),
    ],
)
def test_what_never_changes_is_no_curve(agent: Any, names: set[str]) -> None:
    idle = unused(config(agent))
    assert names <= idle
    assert not idle & {"ascent/gradient_norm", "ascent/accepted", "train/objective"}


def test_what_changes_is_a_curve() -> None:
    ascent = Ascent("momentum", schedule="linear", momentum_schedule="linear", max_grad_norm=1.0)
    agent = A2C(ent_coef=0.1, ent_coef_schedule="linear", ascent=ascent)
    curves = {"ascent/learning_rate", "ascent/momentum", "ascent/effective_step", "ascent/clipped", "train/ent_coef"}
    assert not curves & unused(config(agent))


def test_runs_of_one_group_differ_by_their_seed() -> None:
    agent = A2C(num_envs=2, gamma=0.9)
    assert group(config(agent)) == "a2c CartPole-v1 1024 num_envs=2 gamma=0.9"
    assert group(config(agent, seed=7)) == group(config(agent))
    assert group(config(dataclasses.replace(agent, measure_every=7))) == group(config(agent))
    assert group(config(agent, total_timesteps=2048)) != group(config(agent))
    assert group(config(A2C())) == "a2c CartPole-v1 1024"
