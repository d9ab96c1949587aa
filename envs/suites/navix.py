"""Environments of Navix: MiniGrid in JAX."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax import Array

from rlgd.envs.suites.suite_env import Loaded, SuiteEnv, SuiteStep

TERMINATION = 2  # of Navix's kinds of steps


def load_navix(suite: Any, name: str) -> Loaded:
    """An environment of the module ``navix``, and its time limit, which it then leaves to us.

    The observations are whole numbers that name things, colours and states, not bytes of an image.
    """
    env = suite.make(name, penality_coeff=0.0)  # its default; a reward would depend on the time limit otherwise

    def suite_step(timestep: Any) -> SuiteStep:
        obs = timestep.observation.astype(jnp.int32)
        # Its time limit, which observations and rewards do not depend on, is the other kind of end.
        return SuiteStep(timestep, obs, timestep.reward, timestep.step_type == TERMINATION)

    def step(timestep: Any, action: Array, key: Array) -> SuiteStep:
        return suite_step(env._step(timestep, action))  # ``step`` would reset in every step, under vmap

    observed, actions = env.observation_space, env.action_space
    low, high = (np.broadcast_to(np.asarray(bound, np.int32), observed.shape) for bound in (0, 255))
    return SuiteEnv(
        begin=lambda key: suite_step(env.reset(key)),
        step=step,
        observation_space=spaces.Box(low, high, dtype=np.int32),
        action_space=spaces.Discrete(int(actions.maximum) + 1),
    ), int(env.max_steps)
