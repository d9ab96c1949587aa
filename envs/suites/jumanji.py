"""Environments of Jumanji."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax import Array

from rlgd.envs.aliases import Space
from rlgd.envs.suites.suite_env import NO_LIMIT, Loaded, SuiteEnv, SuiteStep
from rlgd.errors import UsageError

MASK = "action_mask"


def load_jumanji(suite: Any, name: str) -> Loaded:
    """An environment of the module ``jumanji``, and its time limit, which it then leaves to us; None if it has none.

    Raises:
        UsageError: if it pays several agents.
    """
    env = suite.make(name)
    if env.reward_spec.shape:
        raise UsageError(f"jumanji:{name} pays {env.reward_spec.shape[0]} agents; allowed: one reward a step.")
    observation_space = _space(suite.specs.jumanji_specs_to_gym_spaces(env.observation_spec))
    action_space, to_suite = _actions(env)
    limit = getattr(env, "time_limit", None)
    if limit is not None:
        env.time_limit = NO_LIMIT

    def suite_step(state: Any, timestep: Any) -> SuiteStep:
        obs, mask = timestep.observation, getattr(timestep.observation, MASK, None)
        return SuiteStep(
            state,
            _obs(observation_space, obs),
            timestep.reward,
            timestep.last(),
            None if mask is None else mask.reshape(-1),
        )

    return SuiteEnv(
        begin=lambda key: suite_step(*env.reset(key)),
        step=lambda state, action, key: suite_step(*env.step(state, to_suite(action))),
        observation_space=observation_space,
        action_space=action_space,
    ), limit


def _space(space: Space) -> Space:
    """Jumanji's own space, without the action mask, and with the step count as a number up to the time limit."""
    if not isinstance(space, spaces.Dict):
        return space
    parts = {name: _space(part) for name, part in space.items() if name != MASK}
    if isinstance(count := parts.get("step_count"), spaces.Discrete):
        parts["step_count"] = spaces.Box(0, count.n, (), np.int32)
    return spaces.Dict(parts)


def _obs(space: Space, obs: Any) -> Any:
    if not isinstance(space, spaces.Dict):
        return obs
    return {name: _obs(part, getattr(obs, name)) for name, part in space.items()}


def _actions(env: Any) -> tuple[Space, Callable[[Array], Array]]:
    """The action space, and a function from its actions to Jumanji's.

    Several integers are MultiDiscrete. If the mask has an entry for every combination of them, the space is Discrete,
    and numbers the combinations.
    """
    spec, mask = env.action_spec, getattr(env.observation_spec, MASK, None)
    low, high = (np.broadcast_to(bound, spec.shape) for bound in (spec.minimum, spec.maximum))
    if not np.issubdtype(spec.dtype, np.integer):
        return spaces.Box(low, high, dtype=spec.dtype), lambda action: action
    nvec = high - low + 1
    if not spec.shape:
        return spaces.Discrete(int(nvec), start=int(low)), lambda action: action
    if mask is not None and mask.shape == tuple(nvec.flat):
        return spaces.Discrete(math.prod(mask.shape)), lambda action: jnp.stack(jnp.unravel_index(action, mask.shape))
    # The bounds of MultiCVRP allow a vertex that does not exist; its mask does not.
    nvec = nvec if mask is None else np.full(spec.shape, mask.shape[-1])
    return spaces.MultiDiscrete(nvec, start=low), lambda action: action
