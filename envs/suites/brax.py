"""Environments of Brax and MuJoCo Playground, which have the same interface."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax import Array

from rlgd.envs.suites.suite_env import Loaded, SuiteEnv, SuiteStep
from rlgd.errors import UsageError


def load_brax(suite: Any, name: str) -> Loaded:
    """An environment of the module ``brax.envs``, and its time limit."""
    # Brax's environments have no time limit; its own training uses 1,000 steps.
    return _physics(suite.get_environment(name)), 1000


def playground_names(suite: Any) -> list[str]:
    """The names of the environments of the module ``mujoco_playground``."""
    return [name for part in (suite.dm_control_suite, suite.locomotion, suite.manipulation) for name in part.ALL_ENVS]


def load_playground(suite: Any, name: str, physics: str = "jax") -> Loaded:
    """An environment of the module ``mujoco_playground``, and its time limit.

    ``physics`` is MuJoCo's implementation: "jax", or "warp", which sums in no fixed order on a GPU.

    Raises:
        UsageError: if the environment has no choice of physics, and "warp" is asked for.
    """
    config = suite.registry.get_default_config(name)
    if "impl" in config:
        config.impl = physics
    elif physics != "jax":
        raise UsageError(f"{name} has no physics in {physics}; take playground:{name}.")
    return _physics(suite.registry.load(name, config=config)), int(config.episode_length)


def _physics(env: Any) -> SuiteEnv:
    """Brax's interface: one state with observation, reward and ``done``, which is a termination."""

    def suite_step(state: Any) -> SuiteStep:
        return SuiteStep(state, _seen(state.obs), state.reward, state.done)

    seen = jax.eval_shape(lambda key: suite_step(env.reset(key)).obs, jax.random.key(0))
    own = _OwnState(env.reset)
    return SuiteEnv(
        begin=lambda key: own.kept(suite_step(env.reset(key))),
        step=lambda state, action, key: own.kept(suite_step(env.step(own.whole(state), action))),
        observation_space=spaces.Dict(jax.tree.map(_space, seen)) if isinstance(seen, dict) else _space(seen),
        action_space=spaces.Box(-1.0, 1.0, (env.action_size,)),
    )


def _seen(obs: Any) -> Any:
    """What policy and critic observe: an array, or ``state`` with the critic's ``privileged_state``."""
    if not isinstance(obs, Mapping):
        return obs
    return {name: obs[name] for name in ("state", "privileged_state")} if "privileged_state" in obs else obs["state"]


def _space(seen: Any) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, seen.shape)


class _OwnState:
    """The part of a suite's state that each environment has for itself.

    Under ``vmap`` Warp's buffers of contacts stay single arrays for all environments together. A step computes them
    anew before it reads them, so they are left out of the state, and blank when it begins.

    Args:
        reset: from a key to the state of one environment.
    """

    def __init__(self, reset: Callable[[Array], Any]) -> None:
        one = jax.eval_shape(reset, jax.random.key(0))
        two = jax.eval_shape(jax.vmap(reset), jax.random.split(jax.random.key(0)))
        self._shapes = jax.tree.leaves(one)
        self._structure: Any = jax.tree.structure(one)
        self._is_shared = [a.shape == b.shape for a, b in zip(self._shapes, jax.tree.leaves(two), strict=True)]

    def kept(self, step: SuiteStep) -> SuiteStep:
        """The result of a reset or step, without what environments share."""
        if not any(self._is_shared):
            return step
        leaves = self._structure.flatten_up_to(step.state)
        return step._replace(state=[x for x, shared in zip(leaves, self._is_shared, strict=True) if not shared])

    def whole(self, state: Any) -> Any:
        """The suite's state."""
        if not any(self._is_shared):
            return state
        own, pairs = iter(state), zip(self._shapes, self._is_shared, strict=True)
        return self._structure.unflatten(jnp.zeros(x.shape, x.dtype) if shared else next(own) for x, shared in pairs)
