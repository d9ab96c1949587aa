"""Environments of Brax and MuJoCo Playground, which have the same interface."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from gymnasium import spaces

from rlgd.envs.suites.suite_env import Loaded, SuiteEnv, SuiteStep


def load_brax(suite: Any, name: str) -> Loaded:
    """An environment of the module ``brax.envs``, and its time limit."""
    # Brax's environments have no time limit; its own training uses 1,000 steps.
    return _physics(suite.get_environment(name)), 1000


def playground_names(suite: Any) -> list[str]:
    """The names of the environments of the module ``mujoco_playground``."""
    return [name for part in (suite.dm_control_suite, suite.locomotion, suite.manipulation) for name in part.ALL_ENVS]


def load_playground(suite: Any, name: str) -> Loaded:
    """An environment of the module ``mujoco_playground``, and its time limit."""
    config = suite.registry.get_default_config(name)
    if "impl" in config:
        # The other implementation, Warp, has buffers for a fixed number of environments, and sums in no fixed order.
        config.impl = "jax"
    return _physics(suite.registry.load(name, config=config)), int(config.episode_length)


def _physics(env: Any) -> SuiteEnv:
    """Brax's interface: one state with observation, reward and ``done``, which is a termination."""

    def suite_step(state: Any) -> SuiteStep:
        # A dictionary may also have parts for a critic alone, such as "privileged_state".
        obs = state.obs["state"] if isinstance(state.obs, Mapping) else state.obs
        return SuiteStep(state, obs, state.reward, state.done)

    shape = jax.eval_shape(lambda key: suite_step(env.reset(key)).obs, jax.random.key(0)).shape
    return SuiteEnv(
        begin=lambda key: suite_step(env.reset(key)),
        step=lambda state, action, key: suite_step(env.step(state, action)),
        observation_space=spaces.Box(-np.inf, np.inf, shape),
        action_space=spaces.Box(-1.0, 1.0, (env.action_size,)),
    )
