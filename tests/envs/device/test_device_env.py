"""A functional environment with a batch, a time limit and autoreset."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from jax import Array

import rlgd.envs
from rlgd.agents import A2C
from rlgd.envs.device.device_env import DeviceEnv, EnvState, Timestep
from rlgd.errors import UsageError
from tests.support.probe_envs import Place, ScriptedOnDevice, collect, initialize

STEPS, LIMIT, N = (1, 2, 3, 5), 3, 16
ENV = DeviceEnv(ScriptedOnDevice(STEPS, Discrete(8)), "scripted", LIMIT)


@jax.jit
def play(key: Array) -> tuple[tuple[EnvState, Timestep], tuple[EnvState, Array]]:
    """Every step's state and result, and the first states that it could begin with, ``[12, N]``."""

    def step(state: EnvState, key: Array) -> Any:
        offered = ENV.reset(jax.random.fold_in(key, 0), N)
        state, timestep = ENV.step(jax.random.fold_in(key, 1), state, jnp.arange(N) % 8, offered)
        return state, ((state, timestep), offered)

    state, _ = ENV.reset(jax.random.fold_in(key, 0), N)
    return jax.lax.scan(step, state, jax.random.split(jax.random.fold_in(key, 1), 12))[1]


def test_after_an_end_the_next_episode_begins_and_the_true_observation_is_kept() -> None:
    (state, timestep), (fresh_state, fresh_obs) = jax.device_get(play(jax.random.key(0)))
    done = timestep.terminated | timestep.truncated
    number, t = timestep.next_obs[..., 0].astype(int), timestep.next_obs[..., 1]
    np.testing.assert_array_equal(timestep.terminated, t == np.array(STEPS)[number])
    np.testing.assert_array_equal(timestep.truncated, t == LIMIT)
    assert {(a, b) for a, b in zip(timestep.terminated.flat, timestep.truncated.flat, strict=True)} == {
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    }
    np.testing.assert_array_equal(timestep.obs, np.where(done[..., None], fresh_obs, timestep.next_obs))
    np.testing.assert_array_equal(state.elapsed, np.where(done, 0, t))
    for kept, fresh, moved in zip(state.inner, fresh_state.inner, (number, t), strict=True):
        np.testing.assert_array_equal(kept, np.where(done, fresh, moved))
    # Unless an episode begins, it continues from the observation before.
    goes_on = ~done[:-1]
    np.testing.assert_array_equal(timestep.next_obs[1:][goes_on], timestep.obs[:-1][goes_on] + [0, 1])
    np.testing.assert_array_equal(timestep.reward, 100 * number + 10 * (t - 1) + np.arange(N) % 8)


def test_without_reset_an_environment_stays_where_it_ended() -> None:
    step = jax.jit(ENV.step_without_reset)
    state, obs = ENV.reset(jax.random.key(1), N)
    for t in range(LIMIT + 1):
        state, timestep = step(jax.random.key(2), state, jnp.zeros(N, jnp.int32))
        np.testing.assert_array_equal(timestep.next_obs, obs + jnp.asarray([[0.0, t + 1]]))
        np.testing.assert_array_equal(timestep.truncated, t + 1 >= LIMIT)
    np.testing.assert_array_equal(state.elapsed, LIMIT + 1)


def test_no_two_episodes_begin_alike() -> None:
    env = rlgd.envs.make("CartPole-v1", max_episode_steps=1)
    assert isinstance(env, DeviceEnv)
    agent = A2C(num_envs=8, rollout_length=5, hidden_sizes=()).prepared()
    loop = initialize(agent, env, jax.random.key(0))
    starts = [np.asarray(loop.obs)]
    for key in jax.random.split(jax.random.key(1), 2):
        rows, loop = collect(agent, env, loop, key)
        assert rows.truncated.all()
        starts += [*np.asarray(rows.obs[1:]), np.asarray(loop.obs)]
    assert len(np.unique(np.concatenate(starts), axis=0)) == 8 * (1 + 2 * 5)


class Awkward(ScriptedOnDevice):
    """Rewards and ends in other shapes and dtypes, as some authors write them."""

    def reward(self, state: Place, action: Array, next_state: Place, rng: Array, params: Any = None) -> Array:
        return jnp.full(1, 7, jnp.int32)

    def terminal(self, state: Place, rng: Array, params: Any = None) -> Array:
        return super().terminal(state, rng)[None].astype(jnp.float32)


def test_rewards_and_ends_have_one_shape_and_type() -> None:
    env = DeviceEnv(Awkward(STEPS, Discrete(8)), "awkward", None)
    state, obs = env.reset(jax.random.key(0), N)
    _, timestep = env.step_without_reset(jax.random.key(1), state, jnp.zeros(N, jnp.int32))
    np.testing.assert_array_equal(timestep.reward, np.full(N, 7, np.float32))
    np.testing.assert_array_equal(timestep.terminated, np.asarray(STEPS)[np.asarray(obs[:, 0], int)] == 1)
    for value, dtype in zip(timestep[2:5], map(np.dtype, ("float32", "bool", "bool")), strict=True):
        assert (value.shape, value.dtype) == ((N,), dtype)


def test_fractions_for_a_space_of_whole_numbers_are_refused() -> None:
    func_env: Any = ScriptedOnDevice(STEPS, Discrete(8))
    func_env.observation_space = Box(0, 9, (2,), np.int32)
    with pytest.raises(UsageError, match="whole gives an observation as float32; its space is int32"):
        DeviceEnv(func_env, "whole", LIMIT).reset(jax.random.key(0), 2)
