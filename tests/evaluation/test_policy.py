"""The policy as a function of observations."""

from typing import Any

import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

import rlgd.envs
import rlgd.spaces
from rlgd.agents import PPO
from rlgd.envs import HostEnv
from rlgd.errors import UsageError
from rlgd.evaluation import Policy
from tests.support.probe_envs import linear_policy

CARTPOLE = rlgd.envs.make("CartPole-v1")
ANGLE = np.array([[0.0, 0, -50, 0], [0, 0, 50, 0]])  # pushes to the side that the pole leans to


def cartpole_policy(weights: Any = ANGLE) -> Policy:
    return linear_policy(CARTPOLE.spec, weights, np.zeros(2))


def test_one_observation_or_a_batch() -> None:
    policy = cartpole_policy()
    obs = np.random.default_rng(0).normal(size=(50, 4))
    actions = policy(obs)
    np.testing.assert_array_equal(actions, obs[:, 2] > 0)
    assert (actions.shape, actions.dtype) == ((50,), np.dtype(np.int64))
    for row, action in zip(obs, actions, strict=True):
        alone = policy(row)
        assert (alone.shape, alone.dtype, alone) == ((), np.dtype(np.int64), action)
    assert policy(list(obs[0])) == actions[0]
    assert policy(obs[:0]).shape == (0,)


def test_the_same_key_gives_the_same_sample() -> None:
    policy = cartpole_policy(0 * ANGLE)
    obs = np.zeros((100, 4))
    sampled = policy(obs, deterministic=False, key=3)
    np.testing.assert_array_equal(policy(obs, deterministic=False, key=jax.random.key(3)), sampled)
    assert (policy(obs, deterministic=False, key=4) != sampled).any()
    assert 20 < sampled.sum() < 80
    np.testing.assert_array_equal(policy(obs), 0)


@pytest.mark.parametrize("shape", [(), (3,), (5,), (2, 5), (1, 2, 4), (4, 1)])
def test_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as refusal:
        cartpole_policy()(np.zeros(shape))
    assert str(refusal.value) == f"obs has shape {shape}; expected (4,), or ('N', 4) for a batch."


def test_a_sampled_action_needs_a_key() -> None:
    with pytest.raises(UsageError, match="a sampled action needs a key"):
        cartpole_policy()(np.zeros(4), deterministic=False)


def test_the_repr_names_agent_and_actions() -> None:
    assert repr(cartpole_policy()) == "Policy(PPO, Discrete actions)"
    env = HostEnv("probes/BoxActions-v0")
    assert repr(linear_policy(env.spec, np.zeros((2, 2)), np.zeros(2))) == "Policy(PPO, Box actions)"


def test_an_action_mask_rules_actions_out() -> None:
    policy = cartpole_policy()
    obs = np.array([[0.0, 0, 0.1, 0], [0.0, 0, -0.1, 0]])
    np.testing.assert_array_equal(policy(obs), [1, 0])
    np.testing.assert_array_equal(policy(obs, action_mask=[[True, False], [False, True]]), [0, 1])
    assert policy(obs[0], action_mask=[1, 0]) == 0
    with pytest.raises(UsageError, match=r"action_mask has shape \(2,\); expected \(2, 2\)"):
        policy(obs, action_mask=[True, False])
    env = HostEnv("probes/BoxActions-v0")
    with pytest.raises(UsageError, match="these actions have no masks"):
        linear_policy(env.spec, np.zeros((2, 2)), np.zeros(2))(np.zeros(2), action_mask=[True])


def test_a_copy_plays_alike() -> None:
    policy = cartpole_policy()
    obs = np.random.default_rng(1).normal(size=(20, 4))
    copied = policy.copy()
    assert copied is not policy
    np.testing.assert_array_equal(copied(obs), policy(obs))


def test_a_number_that_would_change_is_refused_by_name() -> None:
    spec = rlgd.spaces.spec(
        Dict(clock=Box(0, 2**62, (), np.int64), image=Box(0, 255, (), np.uint8), speed=Box(-1, 1, ())), Discrete(2)
    )
    agent = PPO(hidden_sizes=())
    policy = Policy(agent, spec, agent.prepared().init(spec, jax.random.key(0)).actor)
    fine: dict[str, Any] = {"clock": 2**31 - 1, "image": 255.0, "speed": 0.1}
    assert policy(fine) in (0, 1)
    for changes, message in (
        ({"clock": 2**32 + 7}, r"obs\['clock'\] has the number 4294967303, which int32 cannot hold\."),
        ({"clock": 0.5}, r"obs\['clock'\] has the number 0.5, which int32 cannot hold\."),
        ({"clock": float("nan")}, r"obs\['clock'\] has the number nan, which int32"),
        ({"image": -1}, r"obs\['image'\] has the number -1, which uint8"),
        ({"image": 256}, r"obs\['image'\] has the number 256, which uint8"),
        ({"speed": 1e39}, r"obs\['speed'\] has the number 1e\+39, which float32"),
        ({"speed": "fast"}, r"obs\['speed'\] is <U4; expected float32\."),
        ({"speed": 2**70}, r"obs\['speed'\] is object; expected float32\."),
        ({"speed": [[1.0], [1.0, 2.0]]}, r"obs\['speed'\] is no array: "),
    ):
        with pytest.raises(UsageError, match=message):
            policy(fine | changes)
    with pytest.raises(UsageError, match=r"obs\['image'\] has the number 300"):
        policy({name: np.array([value, value]) for name, value in fine.items()} | {"image": np.array([1, 300])})
