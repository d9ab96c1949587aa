"""Environments of gymnax."""

from typing import Any

import numpy as np
from gymnasium import spaces
from jax import Array

from rlgd.envs.aliases import Space
from rlgd.envs.suites.suite_env import NO_LIMIT, Loaded, SuiteEnv, SuiteStep

# These observe how much of the time limit has passed: the limit is part of the problem, and stays.
TIMED = {"DiscountingChain-bsuite"}


def load_gymnax(suite: Any, name: str) -> Loaded:
    """An environment of the module ``gymnax``, and its time limit, which it then leaves to us."""
    env, params = suite.make(name)
    endless = params if name in TIMED else params.replace(max_steps_in_episode=NO_LIMIT)
    return like_gymnax(env, params, endless), int(params.max_steps_in_episode)


def like_gymnax(env: Any, params: Any, endless: Any) -> SuiteEnv:
    """An environment with gymnax's interface, and its parameters with the time limit and without."""

    def begin(key: Array) -> SuiteStep:
        obs, state = env.reset_env(key, params)
        return SuiteStep(state, obs)

    def step(state: Any, action: Array, key: Array) -> SuiteStep:
        obs, state, reward, terminated, *_ = env.step_env(key, state, action, endless)
        return SuiteStep(state, obs, reward, terminated)

    observation_space, action_space = map(_space, (env.observation_space(params), env.action_space(params)))
    return SuiteEnv(begin, step, observation_space, action_space)


def _space(space: Any) -> Space:
    if hasattr(space, "n"):
        return spaces.Discrete(int(space.n))
    low, high = (np.broadcast_to(np.asarray(bound, space.dtype), space.shape) for bound in (space.low, space.high))
    return spaces.Box(low, high, dtype=np.dtype(space.dtype).type)
