"""The twin on the device against Gymnasium's own CartPole."""

from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax import Array
from numpy.typing import NDArray

import rlgd.envs
from rlgd.envs.cartpole import CartPole
from rlgd.envs.device import DeviceEnv, EnvState, Timestep

LIMIT = 500
FAST_AND_FAR = np.array([2.6, 4.0, 0.25, 4.0])  # beyond both bounds


def device() -> DeviceEnv:
    env = rlgd.envs.make("CartPole-v1", backend="device")
    assert isinstance(env, DeviceEnv)
    return env


@jax.jit
def step_device(state: Array, elapsed: Array, action: Array) -> tuple[EnvState, Timestep]:
    return device().step_without_reset(jax.random.key(0), EnvState(state, elapsed), action)


def gymnasium_cartpole() -> tuple[Any, Callable[[NDArray[Any]], None]]:
    """Gymnasium's environment, and what puts it into a state."""
    env = gymnasium.make("CartPole-v1", disable_env_checker=True)
    env.reset(seed=0)
    inner: Any = env.unwrapped

    def place(state: NDArray[Any]) -> None:
        inner.state, inner.steps_beyond_terminated = state.astype(np.float64), None

    return env, place


def upright(obs: Array) -> Array:
    """The action that balances the pole for good."""
    x, velocity, angle, spin = obs.T
    return (angle + 0.3 * spin + 0.03 * x + 0.06 * velocity > 0).astype(jnp.int32)


def test_spaces_and_limit_are_those_of_gymnasium() -> None:
    env = gymnasium.make("CartPole-v1")
    assert CartPole().observation_space == env.observation_space
    assert CartPole().action_space == env.action_space
    assert env.spec is not None
    assert device().max_episode_steps == env.spec.max_episode_steps == LIMIT


def test_one_step_from_anywhere_equals_gymnasium() -> None:
    states = np.random.default_rng(0).uniform(-FAST_AND_FAR, FAST_AND_FAR, (2000, 4)).astype(np.float32)
    env, place = gymnasium_cartpole()
    for action in range(2):
        _, here = step_device(jnp.asarray(states), jnp.zeros(2000, jnp.int32), jnp.full(2000, action))
        obs, reward, terminated = [], [], []
        for state in states:
            place(state)
            after = env.unwrapped.step(action)
            obs.append(after[0])
            reward.append(after[1])
            terminated.append(after[2])
        np.testing.assert_allclose(here.next_obs, obs, rtol=0, atol=5e-6)
        np.testing.assert_allclose(here.reward, reward, rtol=0, atol=2e-5)
        np.testing.assert_array_equal(here.terminated, terminated)
        assert 0.2 < np.mean(terminated) < 0.8


def test_whole_episodes_with_the_same_actions_equal_gymnasium() -> None:
    rng = np.random.default_rng(1)
    env, place = gymnasium_cartpole()
    for _ in range(20):
        start, actions = rng.uniform(-0.05, 0.05, 4).astype(np.float32), rng.integers(0, 2, 200)
        env.reset()
        place(start)
        state, ended = EnvState(jnp.asarray(start)[None], jnp.zeros(1, jnp.int32)), False
        for t, action in enumerate(actions):
            obs, reward, ended, truncated, _ = env.step(action)
            state, here = step_device(state.inner, state.elapsed, jnp.full(1, int(action)))
            np.testing.assert_allclose(here.next_obs[0], obs, rtol=0, atol=1e-4)
            assert (here.reward[0], here.terminated[0], here.truncated[0]) == (reward, ended, truncated)
            assert state.elapsed[0] == t + 1
            if ended:
                break
        assert ended


def test_initial_states_are_distributed_as_in_gymnasium() -> None:
    _, obs = device().reset(jax.random.key(3), 2000)
    theirs, _ = gymnasium.make_vec("CartPole-v1", 2000, "vector_entry_point").reset(seed=4)
    for ours, other in zip(np.asarray(obs).T, theirs.T, strict=True):
        assert scipy.stats.ks_2samp(ours, other).pvalue > 0.01
        assert 0.0499 < np.abs(ours).max() <= 0.05
    correlation = np.corrcoef(np.asarray(obs).T) - np.eye(4)
    assert np.abs(correlation).max() < 0.1


def test_the_limit_truncates_at_exactly_500_steps() -> None:
    env = device()

    @jax.jit
    def play(key: Array) -> tuple[Array, Array]:
        def step(carry: tuple[EnvState, Array], key: Array) -> tuple[tuple[EnvState, Array], tuple[Array, Array]]:
            state, obs = carry
            state, timestep = env.step(key, state, upright(obs), fresh)
            return (state, timestep.obs), (timestep.terminated, timestep.truncated)

        fresh = env.reset(key, 4)
        return jax.lax.scan(step, fresh, jax.random.split(jax.random.fold_in(key, 1), 2 * LIMIT))[1]

    terminated, truncated = play(jax.random.key(5))
    assert not terminated.any()
    np.testing.assert_array_equal(np.flatnonzero(truncated.all(axis=1)), [LIMIT - 1, 2 * LIMIT - 1])
    assert truncated.sum() == 2 * 4


@pytest.mark.parametrize("falls", [True, False])
@pytest.mark.parametrize("elapsed", [LIMIT - 2, LIMIT - 1])
def test_an_end_in_the_last_step_keeps_both_flags(falls: bool, elapsed: int) -> None:
    state = np.array([0, 0, 0.2, 3.0] if falls else [0, 0, 0, 0], np.float32)
    env, place = gymnasium_cartpole()
    place(state)
    env._elapsed_steps = elapsed
    expected = env.step(1)[2:4]
    _, here = step_device(jnp.asarray(state)[None], jnp.full(1, elapsed), jnp.ones(1, jnp.int32))
    assert (bool(here.terminated[0]), bool(here.truncated[0])) == expected == (falls, elapsed == LIMIT - 1)
