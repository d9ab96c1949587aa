"""Functional environments of other authors: states with one dtype, and Gymnasium's own."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from jax import Array

import rlgd.envs
from rlgd.envs import DeviceEnv
from rlgd.envs.device.stable_state import settled
from rlgd.errors import UsageError
from tests.support.probe_envs import Place, ScriptedOnDevice

STEPS, LIMIT, N = (1, 2, 3, 5), 3, 16


class Restless(ScriptedOnDevice):
    """Its first state has another dtype than the later ones."""

    def initial(self, rng: Array, params: Any = None) -> Place:
        number, _ = super().initial(rng)
        return Place(number, jnp.zeros((), bool))


def test_all_states_have_the_dtypes_of_the_later_ones() -> None:
    env = rlgd.envs.make(Restless(STEPS, Discrete(8)), max_episode_steps=LIMIT)
    assert isinstance(env, DeviceEnv)
    state, obs = env.reset(jax.random.key(0), N)
    assert state.inner.t.dtype == jnp.int32
    _, timestep = env.step_without_reset(jax.random.key(1), state, jnp.zeros(N, jnp.int32))
    np.testing.assert_array_equal(timestep.next_obs, obs + jnp.asarray([[0.0, 1.0]]))


class Opaque(ScriptedOnDevice):
    """Written for numbers, not for arrays."""

    def transition(self, state: Place, action: Array, rng: Array, params: Any = None) -> Place:
        return state if action > 0 else super().transition(state, action, rng)


def test_an_environment_that_jax_cannot_compile_is_refused() -> None:
    with pytest.raises(UsageError, match="Opaque cannot be compiled by JAX"):
        rlgd.envs.make(Opaque(STEPS, Discrete(8)))


def test_an_environment_with_stable_states_is_not_wrapped() -> None:
    env = ScriptedOnDevice(STEPS, Discrete(8))
    assert settled(env) is env
    assert settled(Restless(STEPS, Discrete(8))) is not env


@pytest.mark.parametrize(
    "env_id", ["phys2d/CartPole-v1", "phys2d/Pendulum-v0", "tabular/Blackjack-v0", "tabular/CliffWalking-v0"]
)
def test_gymnasiums_functional_environments_run_on_the_device(env_id: str) -> None:
    """They run like their shells in Gymnasium, from the same states."""
    env = rlgd.envs.make(env_id)
    assert isinstance(env, DeviceEnv)
    assert env is rlgd.envs.make(env_id)
    shell: Any = gymnasium.make(env_id, disable_env_checker=True).unwrapped
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        state, obs = env.reset(jax.random.key(0), 3)
        action = jnp.asarray(np.stack([shell.action_space.sample() for _ in range(3)]))
        moved, timestep = env.step_without_reset(jax.random.key(1), state, action)
    assert all(
        shell.observation_space.contains(np.asarray(x, shell.observation_space.dtype))
        for x in (*obs, *timestep.next_obs)
    )
    assert np.isfinite(timestep.reward).all()
    assert jax.tree.map(jnp.shape, moved) == jax.tree.map(jnp.shape, state)
