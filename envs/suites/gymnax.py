"""Gymnax."""

from typing import Any

import numpy as np
from gymnasium import spaces
from jax import Array

from rlgd.envs.suites.suite_env import Loaded, Outcome, Space, SuiteEnv

NEVER = 2**31 - 1  # the time limit that no episode reaches


# The share of the time limit that has passed is observed here: the limit is part of the problem, and stays.
GYMNAX_TIMED = {"DiscountingChain-bsuite"}


def load_gymnax(suite: Any, name: str) -> Loaded:
    env, params = suite.make(name)
    endless = params if name in GYMNAX_TIMED else params.replace(max_steps_in_episode=NEVER)

    def begin(key: Array) -> Outcome:
        obs, state = env.reset_env(key, params)
        return Outcome(state, obs)

    def step(state: Any, action: Array, key: Array) -> Outcome:
        obs, state, reward, terminated, *_ = env.step_env(key, state, action, endless)
        return Outcome(state, obs, reward, terminated)

    observation_space, action_space = map(_gymnax_space, (env.observation_space(params), env.action_space(params)))
    return SuiteEnv(begin, step, observation_space, action_space), int(params.max_steps_in_episode)


def _gymnax_space(space: Any) -> Space:
    if hasattr(space, "n"):
        return spaces.Discrete(int(space.n))
    low, high = (np.broadcast_to(np.asarray(bound, space.dtype), space.shape) for bound in (space.low, space.high))
    return spaces.Box(low, high, dtype=np.dtype(space.dtype).type)
