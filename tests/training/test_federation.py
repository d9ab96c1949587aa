"""Federated ascent: groups climb alone, meet at their mean, and any agent can do it."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rlgd
from rlgd import training
from rlgd.agents import A2C, PPO, REINFORCE, TRPO
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, make
from rlgd.errors import UsageError
from rlgd.hyperparameters import with_values
from rlgd.pytrees import LoopState
from rlgd.run.config import RunConfig
from rlgd.run.settings import RunSettings
from rlgd.training import federation

SMALL: dict[str, Any] = {"num_envs": 8, "hidden_sizes": (4,), "measure_every": 0}
ROLLOUTS: dict[str, Any] = {**SMALL, "rollout_length": 8}


def cartpole() -> DeviceEnv:
    env = make("CartPole-v1", max_episode_steps=12)
    assert isinstance(env, DeviceEnv)
    return env


ENV = cartpole()


def a2c(**values: Any) -> A2C:
    return A2C(**ROLLOUTS | values)


def begun(agent: Agent) -> LoopState:
    return training.initialize(agent, ENV, jax.random.key(3), 10_000)


def after(agent: Agent, loop: LoopState, iterations: int) -> LoopState:
    return training.DeviceRunner(agent, ENV, 8)(loop, iterations, 2**31 - 1)[0]


def assert_close(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def spread(loop: LoopState) -> float:
    """How far the climbers' parameters are from each other."""
    return max(float(jnp.ptp(leaf, axis=0).max()) for leaf in jax.tree.leaves(loop.agent_state.params))


@pytest.mark.parametrize("outer", [{}, {"outer_learning_rate": 0.5, "outer_momentum": 0.8}])
def test_a_meeting_is_the_outer_step_towards_the_mean(outer: dict[str, float]) -> None:
    agent = a2c(climbers=4, sync_every=1, **outer).prepared()
    loop = begun(agent)
    alone, _ = jax.jit(lambda loop: federation.each(agent, loop, lambda one, own: training.iterate(one, ENV, own)))(
        loop
    )
    assert spread(alone) > 1e-6
    mean = jax.tree.map(lambda x: x.mean(axis=0), alone.agent_state.params)
    start = jax.tree.map(lambda x: x[0], loop.agent_state.params)
    # Nesterov's first step with momentum m is (1 + m) times the displacement.
    factor = outer.get("outer_learning_rate", 1.0) * (1 + outer.get("outer_momentum", 0.0))
    expected = jax.tree.map(lambda w, m: w + factor * (m - w), start, mean)
    met = after(agent, loop, 1)
    assert spread(met) == 0.0
    assert_close(jax.tree.map(lambda x: x[0], met.agent_state.params), expected)
    assert_close(met.agent_state.actor.policy, expected.policy)


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent",
    [
        PPO(**ROLLOUTS, num_minibatches=2, num_epochs=1, normalize_obs=True, scale_reward=True, network="gru"),
        TRPO(**ROLLOUTS, num_minibatches=2, num_epochs=1),
        REINFORCE(**SMALL),
    ],
    ids=lambda agent: type(agent).__name__,
)
def test_climbers_climb_alone_and_meet_when_it_is_time(agent: Agent) -> None:
    agent = with_values(agent, {"sync_every": 3.0, "climbers": 2, "measure_every": 2}).prepared()
    loop, seen = begun(agent), []
    for _ in range(6):
        policy = jax.device_get(loop.agent_state.actor.policy)
        loop = after(agent, loop, 1)
        pairs = zip(*map(jax.tree.leaves, (policy, loop.agent_state.actor.policy)), strict=True)
        seen.append((spread(loop) > 0, any((a != b).any() for a, b in pairs)))
    assert seen == [(True, False), (True, False), (False, True)] * 2
    assert loop.obs.shape == (8, 4)
    assert int(loop.iteration) == 6


def test_a_run_is_resumed_with_the_same_bits_and_its_policy_is_that_of_the_last_meeting(tmp_path: Path) -> None:
    agent = a2c(climbers=2, sync_every=5, schedule="constant")
    settings: dict[str, Any] = {"seed": 1, "eval_episodes": 2}
    whole = rlgd.train(agent, "CartPole-v1", total_timesteps=640, **settings)
    rlgd.train(agent, "CartPole-v1", total_timesteps=320, run_dir=tmp_path / "run", **settings)
    rest = rlgd.resume(tmp_path / "run", total_timesteps=640)
    loaded = rlgd.load(tmp_path / "run")
    for a, b in zip(jax.tree.leaves(rest.state.agent_state), jax.tree.leaves(whole.state.agent_state), strict=True):
        np.testing.assert_array_equal(a, b)
    met = rest.state.agent_state.met
    assert met is not None
    assert_close(loaded.actor.policy, met.params.policy)


@pytest.mark.slow
def test_a_study_varies_how_often_they_meet_in_one_program() -> None:
    result = rlgd.study(
        a2c(climbers=2, sync_every=1), "CartPole-v1", {"sync_every": [1, 4]},
        total_timesteps=256, seeds=2, eval_episodes=1,
    )  # fmt: skip
    assert len(result.plan.groups) == 1
    assert len(result.outcomes) == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sync_every": 2.5}, "sync_every is 2.5; allowed: a whole number"),
        ({"sync_every": 0}, "sync_every is 0"),
        ({"climbers": 2}, "climbers is set, but sync_every is not"),
        ({"climbers": 3, "sync_every": 2}, "num_envs is 8, which 3 climbers do not divide"),
        (
            {"climbers": 4, "sync_every": 2, "num_minibatches": 64},
            "each of 4 climbers has rows of its own: num",
        ),
    ],
)
def test_bad_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PPO(**{**ROLLOUTS, **values}).validate()


def test_without_a_number_each_device_has_a_climber() -> None:
    config = RunConfig(a2c(sync_every=2), ENV, RunSettings(devices=2))
    config.validate()
    assert config.for_devices(2).agent.climbers == 2
    with pytest.raises(UsageError, match="climbers is 4, which 8 devices do not divide"):
        RunConfig(a2c(sync_every=2, climbers=4), ENV, RunSettings(devices=8)).validate()


def test_on_the_host_all_climb_together() -> None:
    with pytest.raises(UsageError, match="sync_every is set, but CartPole-v1 runs on the host"):
        rlgd.train(a2c(sync_every=2), "CartPole-v1", total_timesteps=64, backend="host")
