"""Every agent learns the probe environments, which have exactly known answers."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import rlgd.envs
from rlgd import TrainResult
from rlgd.agents import make_agent
from rlgd.pytrees import Features
from tests.support.probe_envs import BOX_PROBES, GAMMA, MEDLEYS, PROBE_LIMIT, PROBES

VALUE_TOLERANCE, ACTION_TOLERANCE = 0.05, 0.1
SMALL_AND_FAST = {"gamma": GAMMA, "hidden_sizes": (16,), "learning_rate": 0.02, "num_envs": 128}
AGENTS = {
    "reinforce": {},
    "a2c": {"rollout_length": 4, "vf_coef": 1.0},
    "ppo": {"rollout_length": 8, "num_epochs": 4, "num_minibatches": 4, "learning_rate": 0.01},
    "trpo": {"rollout_length": 8, "num_minibatches": 4, "learning_rate": 1.0, "value_learning_rate": 0.01},
}


@functools.cache
def learned(agent: str, kind: str) -> TrainResult:
    env = rlgd.envs.make(MEDLEYS[kind], max_episode_steps=PROBE_LIMIT)
    return rlgd.train(make_agent(agent, **SMALL_AND_FAST | AGENTS[agent]), env, total_timesteps=150_000)


@pytest.mark.parametrize(
    ("kind", "name"), [("discrete", name) for name in PROBES] + [("box", name) for name in BOX_PROBES]
)
@pytest.mark.parametrize("agent", AGENTS)
def test_the_answers_are_learned(agent: str, kind: str, name: str) -> None:
    result = learned(agent, kind)
    for shown, (value, action) in (PROBES | BOX_PROBES)[name].answers.items():
        if name == "no_end" and agent == "reinforce":
            value = 1 + GAMMA / 2  # both steps look the same, and REINFORCE does not bootstrap at the limit
        policy, obs = result.policy, MEDLEYS[kind].see(name, shown)
        predicted = policy.agent.value(policy.spec, result.state.agent_state.params.value, Features(jnp.asarray(obs)))
        np.testing.assert_allclose(predicted, value, rtol=0, atol=VALUE_TOLERANCE)
        if action is not None:
            np.testing.assert_allclose(policy(obs), action, rtol=0, atol=ACTION_TOLERANCE)
