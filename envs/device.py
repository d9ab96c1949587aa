"""What a functional environment lacks: a batch, the time limit, autoreset with the true final observation."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.experimental.functional import FuncEnv
from jax import Array

from rlgd import spaces
from rlgd.data import Spec


class EnvState(NamedTuple):
    """``inner``: the functional environment's states, N in front; ``elapsed [N]`` int32: steps of each episode."""

    inner: Any
    elapsed: Array


class Timestep(NamedTuple):
    """One step of N environments.

    ``obs`` is what the policy sees next (of a new episode, behind an end); ``next_obs`` is the true observation after
    the transition; ``reward [N]`` float32; ``terminated``, ``truncated [N]`` bool.
    """

    obs: Array
    next_obs: Array
    reward: Array
    terminated: Array
    truncated: Array


@dataclasses.dataclass(frozen=True)
class DeviceEnv:
    """A Gymnasium ``FuncEnv`` in a batch, with a time limit and autoreset. Hashable: it is a static argument."""

    func_env: FuncEnv[Any, Any, Any, Any, Any, Any, Any]
    env_id: str
    max_episode_steps: int | None

    @functools.cached_property
    def spec(self) -> Spec:
        """The static description for agents."""
        return spaces.spec(self.func_env.observation_space, self.func_env.action_space, self.max_episode_steps)

    def reset(self, key: Array, num_envs: int) -> tuple[EnvState, Array]:
        """Begin an episode in each environment: ``(state, obs [N, ...])``."""
        state_key, obs_key = jax.random.split(key)
        inner = jax.vmap(lambda key: self.func_env.initial(key))(jax.random.split(state_key, num_envs))
        obs = self._observe(inner, jax.random.split(obs_key, num_envs))
        return EnvState(inner, jnp.zeros(num_envs, jnp.int32)), obs

    def step(
        self, key: Array, state: EnvState, action: Array, fresh: tuple[EnvState, Array]
    ) -> tuple[EnvState, Timestep]:
        """Step every environment, and begin the next episode in those that ended.

        Args:
            key: one key for the whole batch.
            state: as ``reset`` or ``step`` returned it.
            action: ``[N, ...]``, as the environment receives it.
            fresh: what ``reset`` returned for this step: where the next episodes begin. Drawn by the caller, who can
                draw those of many steps at once.
        """
        moved, timestep = self.step_without_reset(key, state, action)
        done = timestep.terminated | timestep.truncated
        state, obs = select_envs(done, fresh, (moved, timestep.next_obs))
        return state, timestep._replace(obs=obs)

    def step_without_reset(self, key: Array, state: EnvState, action: Array) -> tuple[EnvState, Timestep]:
        """Step every environment; those that ended stay where they ended."""
        num_envs = action.shape[0]
        env = self.func_env

        def one(key: Array, inner: Any, action: Array) -> tuple[Any, Array, Array, Array]:
            keys = jax.random.split(key, 4)
            following = env.transition(inner, action, keys[0])
            reward = env.reward(inner, action, following, keys[1])
            obs = env.observation(following, keys[2])
            return following, obs, reward, env.terminal(following, keys[3])

        inner, obs, reward, terminated = jax.vmap(one)(jax.random.split(key, num_envs), state.inner, action)
        elapsed = state.elapsed + 1
        limit = self.max_episode_steps
        truncated = jnp.zeros(num_envs, bool) if limit is None else elapsed >= limit
        obs = self._store(obs)
        timestep = Timestep(
            obs, obs, reward.reshape(num_envs).astype(jnp.float32), terminated.reshape(num_envs).astype(bool), truncated
        )
        return EnvState(inner, elapsed), timestep

    def _observe(self, inner: Any, keys: Array) -> Array:
        return self._store(jax.vmap(lambda state, key: self.func_env.observation(state, key))(inner, keys))

    def _store(self, obs: Array) -> Array:
        shape, dtype = spaces.obs_shape_dtype(self.spec.obs)
        return obs.reshape(obs.shape[0], *shape).astype(dtype)


def select_envs(condition: Array, if_true: Any, if_false: Any) -> Any:
    """Choose between two trees, whose leaves have the environments in front, by ``condition [N]``."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, if_true, if_false)
