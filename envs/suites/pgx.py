"""Games of Pgx for one player."""

from typing import Any

import jax
import numpy as np
from gymnasium import spaces

from rlgd.envs.suites.suite_env import Loaded, SuiteEnv, SuiteStep

MINATAR = "minatar-"  # all actions are allowed in these


def pgx_names(suite: Any) -> list[str]:
    """The games of the module ``pgx`` that one player plays."""
    return [name for name in suite.available_envs() if name == "2048" or name.startswith(MINATAR)]


def load_pgx(suite: Any, name: str) -> Loaded:
    """A game of the module ``pgx``; none has a time limit."""
    env = suite.make(name)

    def suite_step(state: Any) -> SuiteStep:
        mask = None if name.startswith(MINATAR) else state.legal_action_mask
        return SuiteStep(state, state.observation, state.rewards[0], state.terminated, mask)

    first = jax.eval_shape(env.init, jax.random.key(0))
    return SuiteEnv(
        begin=lambda key: suite_step(env.init(key)),
        step=lambda state, action, key: suite_step(env.step(state, action, key)),
        observation_space=spaces.Box(0, 1, first.observation.shape, np.bool_),
        action_space=spaces.Discrete(first.legal_action_mask.shape[0]),
    ), None
