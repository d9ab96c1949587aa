"""The two compiled programs of ``DeviceVectorEnv``: reset and step of N environments, each with its own random keys."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.vector import AutoresetMode
from jax import Array

from rlgd.envs.aliases import Info
from rlgd.envs.device.device_env import DeviceEnv, EnvState, Spare, select_envs
from rlgd.envs.device.programs import JitPerEnv
from rlgd.pytrees import Obs
from rlgd.system.machine import one_thread_options

START, LOOK, MOVE = range(3)  # purposes of an episode's random keys; those of its steps are numbered from MOVE


class Generators(NamedTuple):
    """The randomness of each environment: ``seed [N, 2]`` uint32, and the number of its episode, ``[N]`` uint32."""

    seed: Any
    episode: Any

    def keys(self, purpose: Array) -> Array:
        """A key for each environment, of its current episode and ``purpose [N]``."""
        seeds = jax.random.wrap_key_data(self.seed, impl="threefry2x32")
        return jax.vmap(lambda *path: functools.reduce(jax.random.fold_in, path))(seeds, self.episode, purpose)

    def begin(self, env: DeviceEnv) -> tuple[EnvState, Obs]:
        """The first state and observation of each environment's episode."""
        return env.reset_each(*(self.keys(jnp.full_like(self.episode, purpose)) for purpose in (START, LOOK)))

    def next_where(self, over: Array) -> "Generators":
        """The generators with the next episode's number in the environments that are ``over [N]``."""
        return self._replace(episode=self.episode + over.astype(self.episode.dtype))


class VectorState(NamedTuple):
    """All N environments between two steps.

    Attributes:
        generators: of the current episodes.
        env_state: the environments' states.
        over: ``[N]`` bool, which episodes have ended.
        spare: the first states of the next episodes; None where the caller resets.
    """

    generators: Generators
    env_state: EnvState
    over: Array
    spare: Spare | None


class ObsInfo(NamedTuple):
    """The observations of N environments, and ``DeviceEnv.info``."""

    obs: Obs
    info: Info


class StepResult(NamedTuple):
    """The result of a step. ``final``: observations and info before the resets, with SAME_STEP autoreset, else None."""

    current: ObsInfo
    reward: Array
    terminated: Array
    truncated: Array
    final: ObsInfo | None


def reset(
    env: DeviceEnv, mode: AutoresetMode, generators: Generators, mask: Array, before: tuple[VectorState, Obs] | None
) -> tuple[VectorState, ObsInfo]:
    """Begin the generators' episodes in the environments of ``mask [N]``; the others stay as they were ``before``."""
    env_state, obs = begin = generators.begin(env)
    spare = None if mode is AutoresetMode.DISABLED else Spare(begin, jnp.ones_like(mask))
    state = VectorState(generators, env_state, jnp.zeros_like(mask), spare)
    if before is not None:
        state, obs = select_envs(mask, (state, obs), before)
    return state, ObsInfo(obs, env.info(state.env_state))


def step(env: DeviceEnv, mode: AutoresetMode, state: VectorState, action: Array) -> tuple[VectorState, StepResult]:
    """Step every environment; begin the next episode where the mode says so."""
    generators, before, over, spare = state
    keys = generators.keys(MOVE + before.elapsed.astype(jnp.uint32))
    env_state, (_, obs, reward, terminated, truncated, _) = env.step_each(keys, before, action)
    final, begins = None, over
    if mode is AutoresetMode.NEXT_STEP:  # the step after an end is a reset, not a transition
        reward, terminated, truncated = jnp.where(over, 0, reward), terminated & ~over, truncated & ~over
    over = terminated | truncated
    if mode is AutoresetMode.SAME_STEP:
        final, begins, over = ObsInfo(obs, env.info(env_state)), over, jnp.zeros_like(over)
    if spare is not None:
        following = generators.next_where(jnp.ones_like(begins))
        (env_state, obs), spare = spare.begin_where(begins, (env_state, obs), lambda: following.begin(env))
        generators = generators.next_where(begins)
    result = StepResult(ObsInfo(obs, env.info(env_state)), reward, terminated, truncated, final)
    return VectorState(generators, env_state, over, spare), result


@functools.cache
def programs() -> tuple[Any, Any]:
    """``reset`` and ``step``, compiled. On the CPU their operations run one after the other."""
    options = one_thread_options(jax.default_backend())
    compiled = (JitPerEnv(function, 0, static_argnums=(1,), compiler_options=options) for function in (reset, step))
    jitted_reset, jitted_step = compiled
    return jitted_reset, jitted_step
