"""On-device environments of other suites, by prefix: Brax, MuJoCo Playground, gymnax and Jumanji, each an extra.

A suite is imported when one of its environments is asked for. What its wrappers would add, time limit and reset, is
left out: ``DeviceEnv`` has both, and keeps the true final observation.
"""

import contextlib
import functools
import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv
from jax import Array

from rlgd.errors import UsageError, unknown

Functional: TypeAlias = FuncEnv[Any, Any, Any, Any, Any, Any, Any]
Space: TypeAlias = spaces.Space[Any]

NEVER = 2**31 - 1  # the time limit that no episode reaches


class Outcome(NamedTuple):
    """What a suite's ``step`` gives at once and a ``FuncEnv`` is asked for piece by piece; ``state`` is the suite's."""

    state: Any
    obs: Any
    reward: Any = 0.0
    terminated: Any = False
    action_mask: Array | None = None


class SuiteEnv(FuncEnv[Outcome, Any, Array, Array, Array, Any, Any]):
    """An environment of another suite. Its state is the outcome of the step that led there.

    Args:
        begin: ``key -> Outcome``, the start of an episode.
        step: ``(the suite's state, action, key) -> Outcome``, without time limit and without reset.
        observation_space, action_space: as Gymnasium writes them.
    """

    def __init__(
        self,
        begin: Callable[[Array], Outcome],
        step: Callable[[Any, Array, Array], Outcome],
        observation_space: Space,
        action_space: Space,
    ) -> None:
        super().__init__()
        self.begin, self.step = begin, step
        self.observation_space, self.action_space = observation_space, action_space

    def initial(self, rng: Array, params: Any = None) -> Outcome:
        with _usual_promotion():
            return _typed(self.begin(rng))

    def transition(self, state: Outcome, action: Array, rng: Array, params: Any = None) -> Outcome:
        # A copy, because some suites write into the dictionaries of the state that they are given.
        inner = jax.tree.map(lambda leaf: leaf, state.state)
        with _usual_promotion():
            return _typed(self.step(inner, action, rng))

    def observation(self, state: Outcome, rng: Array, params: Any = None) -> Any:
        return state.obs

    def reward(self, state: Outcome, action: Array, next_state: Outcome, rng: Array, params: Any = None) -> Array:
        return next_state.reward

    def terminal(self, state: Outcome, rng: Array, params: Any = None) -> Array:
        return state.terminated

    def state_info(self, state: Outcome, params: Any = None) -> dict[str, Any]:
        return {} if state.action_mask is None else {"action_mask": state.action_mask}


def _typed(outcome: Outcome) -> Outcome:
    """The outcome with one number as reward and one flag as end, of the same types at an episode's start as later."""
    reward, terminated = jnp.reshape(outcome.reward, ()), jnp.reshape(outcome.terminated, ())
    return outcome._replace(reward=reward.astype(jnp.float32), terminated=terminated.astype(bool))


@contextlib.contextmanager
def _usual_promotion() -> Iterator[None]:
    """The suites mix types and ranks, which the strict modes of JAX refuse."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


Loaded: TypeAlias = tuple[Functional, int | None]  # an environment and its time limit


def _brax(suite: Any, name: str) -> Loaded:
    # 1,000 steps are what Brax's own training takes; an environment has no limit of its own.
    return _physics(suite.get_environment(name)), 1000


def _playground_names(suite: Any) -> list[str]:
    return [name for part in (suite.dm_control_suite, suite.locomotion, suite.manipulation) for name in part.ALL_ENVS]


def _playground(suite: Any, name: str) -> Loaded:
    config = suite.registry.get_default_config(name)
    if "impl" in config:
        # The other implementation, Warp, has buffers for a fixed number of environments and adds in no fixed order.
        config.impl = "jax"
    return _physics(suite.registry.load(name, config=config)), int(config.episode_length)


def _physics(env: Any) -> SuiteEnv:
    """Brax's interface, which is also Playground's: one state with observation, reward and ``done``, a termination."""

    def outcome(state: Any) -> Outcome:
        # Beside "state" a dictionary has what only a critic may see, such as "privileged_state".
        obs = state.obs["state"] if isinstance(state.obs, Mapping) else state.obs
        return Outcome(state, obs, state.reward, state.done)

    shape = jax.eval_shape(lambda key: outcome(env.reset(key)).obs, jax.random.key(0)).shape
    return SuiteEnv(
        begin=lambda key: outcome(env.reset(key)),
        step=lambda state, action, key: outcome(env.step(state, action)),
        observation_space=spaces.Box(-np.inf, np.inf, shape),
        action_space=spaces.Box(-1.0, 1.0, (env.action_size,)),
    )


# The share of the time limit that has passed is observed here: the limit is part of the problem, and stays.
GYMNAX_TIMED = {"DiscountingChain-bsuite"}


def _gymnax(suite: Any, name: str) -> Loaded:
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


def _jumanji(suite: Any, name: str) -> Loaded:
    env = suite.make(name)
    if env.reward_spec.shape:
        raise UsageError(f"jumanji:{name} pays {env.reward_spec.shape[0]} agents; allowed: one reward a step.")
    observation_space = _jumanji_space(suite.specs.jumanji_specs_to_gym_spaces(env.observation_spec))
    action_space, to_suite = _jumanji_actions(env)
    limit = getattr(env, "time_limit", None)
    if limit is not None:
        env.time_limit = NEVER

    def outcome(state: Any, timestep: Any) -> Outcome:
        obs, mask = timestep.observation, getattr(timestep.observation, MASK, None)
        return Outcome(
            state,
            _jumanji_obs(observation_space, obs),
            timestep.reward,
            timestep.last(),
            None if mask is None else mask.reshape(-1),
        )

    return SuiteEnv(
        begin=lambda key: outcome(*env.reset(key)),
        step=lambda state, action, key: outcome(*env.step(state, to_suite(action))),
        observation_space=observation_space,
        action_space=action_space,
    ), limit


MASK = "action_mask"


def _jumanji_space(space: Space) -> Space:
    """Jumanji's own translation without the action mask, and with the step count as a number up to the limit."""
    if not isinstance(space, spaces.Dict):
        return space
    parts = {name: _jumanji_space(part) for name, part in space.items() if name != MASK}
    if isinstance(count := parts.get("step_count"), spaces.Discrete):
        parts["step_count"] = spaces.Box(0, count.n, (), np.int32)
    return spaces.Dict(parts)


def _jumanji_obs(space: Space, obs: Any) -> Any:
    if not isinstance(space, spaces.Dict):
        return obs
    return {name: _jumanji_obs(part, getattr(obs, name)) for name, part in space.items()}


def _jumanji_actions(env: Any) -> tuple[Space, Callable[[Array], Array]]:
    """The space, and its actions as Jumanji takes them.

    Several integers are MultiDiscrete; but where the mask speaks of all their combinations, these are numbered.
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
    # The bounds of MultiCVRP allow one vertex more than there is; the mask does not.
    nvec = nvec if mask is None else np.full(spec.shape, mask.shape[-1])
    return spaces.MultiDiscrete(nvec, start=low), lambda action: action


class Suite(NamedTuple):
    """Where a suite is found: its name, what is imported of it, and functions of the imported module."""

    title: str
    module: str
    names: Callable[[Any], Iterable[str]]
    load: Callable[[Any, str], Loaded]


SUITES = {
    "brax": Suite("Brax", "brax.envs", lambda suite: suite._envs, _brax),
    "gymnax": Suite("gymnax", "gymnax", lambda suite: suite.registered_envs, _gymnax),
    "jumanji": Suite("Jumanji", "jumanji", lambda suite: suite.registered_environments(), _jumanji),
    "playground": Suite("MuJoCo Playground", "mujoco_playground", _playground_names, _playground),
}


def names(prefix: str) -> list[str]:
    """The environments of a suite, sorted; none if it is not installed. Imports it.

    Raises:
        UsageError: if there is no suite with that prefix.
    """
    suite = _suite(prefix)
    try:
        return sorted(suite.names(importlib.import_module(suite.module)))
    except ImportError:
        return []


def _suite(prefix: str) -> Suite:
    if prefix not in SUITES:
        raise unknown("suite", prefix, SUITES)
    return SUITES[prefix]


@functools.cache
def load(prefix: str, name: str) -> Loaded:
    """An environment of a suite and its time limit, which is the caller's to keep; None: it ends by itself.

    Equal names give the same object, so that nothing compiles twice.

    Raises:
        UsageError: for a prefix or a name that is not known, a suite that is not installed, and an environment that
            cannot be made.
    """
    suite = _suite(prefix)
    try:
        module = importlib.import_module(suite.module)
    except ImportError as error:
        raise UsageError(f"{prefix}:{name} needs {suite.title}; pip install 'rlgd[{prefix}]' ({error}).") from error
    known = set(suite.names(module))
    if name not in known:
        raise unknown(f"{suite.title} environment", name, known)
    try:
        with _usual_promotion():
            return suite.load(module, name)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{prefix}:{name} cannot be made: {error}") from error
