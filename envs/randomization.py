"""Domain randomization: a functional environment whose parameters are drawn again for every episode."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from gymnasium.experimental.functional import FuncEnv
from jax import Array

from rlgd.envs.aliases import Functional
from rlgd.envs.device.device_env import DeviceEnv
from rlgd.envs.device.stable_state import Settled, settled
from rlgd.envs.registry import make
from rlgd.errors import UsageError, shown, unknown

# (key, the environment's default parameters) -> the parameters of an episode
Sampler: TypeAlias = Callable[[Array, Any], Any]


def randomized(env: Any, sampler: Sampler | Mapping[str, Any], *, max_episode_steps: int | None = None) -> DeviceEnv:
    """An environment on the device whose parameters are drawn again for every episode, in each environment of a batch.

    Gymnasium's own environment of that id has other dynamics, so the policy is evaluated in this one. A file does not
    describe it: a run in it is resumed with ``env=`` the same again. Where it has a name in a module of yours,
    ``module:NAME`` is an id as any other.

    Args:
        env: a ``FuncEnv`` that uses the ``params`` which its methods are given, an id of ``rlgd.envs.device_ids()``, or
            what ``rlgd.envs.make`` made of them.
        sampler: ranges of parameters, such as ``{"half_length": (0.25, 1.0)}``, from which they are drawn uniformly; a
            number in place of a range is always taken. Or a function of JAX from a random key and the environment's
            default parameters to the parameters of an episode, in the same structure.
        max_episode_steps: the time limit; None: the environment's own.

    Raises:
        UsageError: if the environment does not run on the device, has no such parameter, or the sampler does not fit.
    """
    made = make(env) if isinstance(env, DeviceEnv) else make(env, backend="device", max_episode_steps=max_episode_steps)
    assert isinstance(made, DeviceEnv)
    limit = made.max_episode_steps if max_episode_steps is None else max_episode_steps
    inner = made.func_env.env if isinstance(made.func_env, Settled) else made.func_env
    drawn = sampler if callable(sampler) else Ranges.of(made.env_id, inner.default_params, sampler)
    return DeviceEnv(settled(Randomized(inner, drawn)), f"randomized {made.env_id}", limit)


@dataclasses.dataclass(frozen=True)
class Ranges:
    """A sampler that draws some parameters uniformly from ``(name, low, high)``, both included.

    Where both ends are equal, the parameter is fixed. It is a whole number if they are.
    """

    ranges: tuple[tuple[str, float, float], ...]

    @classmethod
    def of(cls, name: str, params: Any, ranges: Mapping[str, Any]) -> "Ranges":
        """The ranges that a user wrote for the parameters of an environment with this name.

        Raises:
            UsageError: for an unknown parameter, or what is neither a number nor a range.
        """
        known = as_dict(params)
        if not ranges or not any(isinstance(value, numbers.Real) for value in known.values()):
            which = ", ".join(known) or "none: give a function (key, params) -> params"
            raise UsageError(f"no parameter of {name} is chosen; those with names are: {which}.")
        found = []
        for parameter, given in ranges.items():
            ends = given if isinstance(given, tuple | list) else (given, given)
            low, high = (_checked(name, known, parameter, end) for end in ends) if len(ends) == 2 else (1, 0)
            if low > high:
                raise UsageError(f"{parameter} is {shown(given)}; allowed: a number, or a range (low, high).")
            found.append((parameter, low, high))
        return cls(tuple(found))

    def __call__(self, key: Array, params: Any) -> Any:
        """The parameters of an episode."""
        keys = jax.random.split(key, len(self.ranges))
        return replaced(params, {r[0]: _draw(k, r[1], r[2]) for k, r in zip(keys, self.ranges, strict=True)})


def _draw(key: Array, low: float, high: float) -> Array:
    if isinstance(low, int):
        return jax.random.randint(key, (), low, int(high) + 1)
    return jax.random.uniform(key, minval=low, maxval=high)


@dataclasses.dataclass(frozen=True)
class Overridden:
    """A sampler that gives some parameters these values, whatever ``sampler`` draws; None: nothing is drawn."""

    sampler: Sampler | None
    values: tuple[tuple[str, Any], ...]

    def __call__(self, key: Array, params: Any) -> Any:
        """The parameters of an episode."""
        drawn = params if self.sampler is None else self.sampler(key, params)
        return replaced(drawn, {name: as_parameter(value) for name, value in self.values})


def as_parameter(value: Any) -> Array:
    """A number as an array, which may be traced: a whole one as int32, else of JAX's default float type."""
    whole = jnp.issubdtype(jnp.result_type(value), jnp.integer)
    return jnp.asarray(value, jnp.int32 if whole else jax.dtypes.canonicalize_dtype(float))


def overridden(env: DeviceEnv, values: Mapping[str, Any]) -> DeviceEnv:
    """The environment with other values of some parameters, which may be traced; itself if there are none.

    Raises:
        UsageError: for an unknown parameter, or what is no number.
    """
    if not values:
        return env
    inner, sampler, before = _parts(env)
    known = as_dict(inner.default_params)
    checked = {name: _checked(env.env_id, known, name, value) for name, value in values.items()}
    drawn = Overridden(sampler, tuple({**before, **checked}.items()))
    return dataclasses.replace(env, func_env=settled(Randomized(inner, drawn)))


def overrides(env: Any) -> dict[str, Any]:
    """The values that ``overridden`` gave to an environment."""
    return _parts(env)[2] if isinstance(env, DeviceEnv) else {}


def _parts(env: DeviceEnv) -> tuple[Functional, Sampler | None, dict[str, Any]]:
    """The functional environment without what randomizes it, what draws its parameters, and those overridden."""
    inner = env.func_env.env if isinstance(env.func_env, Settled) else env.func_env
    if not isinstance(inner, Randomized):
        return inner, None, {}
    sampler = inner.sampler
    if isinstance(sampler, Overridden):
        return inner.env, sampler.sampler, dict(sampler.values)
    return inner.env, sampler, {}


def _checked(name: str, known: Mapping[str, Any], parameter: str, value: Any) -> Any:
    """A number for a parameter, of the kind of its default; one that is traced is as it was checked before.

    Raises:
        UsageError: if the parameter is unknown, or the value is no such number.
    """
    if parameter not in known:
        raise unknown(f"parameter of {name}", parameter, known)
    if isinstance(value, jax.core.Tracer):
        return value
    whole = isinstance(known[parameter], numbers.Integral)
    is_number = isinstance(value, numbers.Integral if whole else numbers.Real) and math.isfinite(value)
    if not is_number or not isinstance(known[parameter], numbers.Real):
        what = "a whole number" if whole else "a number"
        raise UsageError(f"{parameter} is {shown(value)}; allowed: {what}, in place of {shown(known[parameter])}.")
    return int(value) if whole else float(value)


def as_dict(params: Any) -> dict[str, Any]:
    """The parameters of an environment by their names; empty if they have none."""
    if isinstance(params, Mapping):
        return dict(params)
    if hasattr(params, "_asdict"):
        return dict(params._asdict())
    if dataclasses.is_dataclass(params):
        return {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return {}


def replaced(params: Any, values: Mapping[str, Any]) -> Any:
    """Parameters with other values for some names of ``as_dict``."""
    if isinstance(params, Mapping):
        return {**params, **values}
    return params._replace(**values) if hasattr(params, "_replace") else dataclasses.replace(params, **values)


class EpisodeState(NamedTuple):
    """The environment's own state, and those of its parameters that are drawn: arrays that stay for an episode."""

    inner: Any
    drawn: tuple[Array, ...]


class Randomized(FuncEnv[EpisodeState, Any, Any, Any, Any, Any, Any]):
    """``env`` with the parameters of ``sampler``; equal for the same environment and an equal sampler.

    Parameters that the sampler leaves as they are stay constants of the program.

    Raises:
        UsageError: if JAX cannot trace the sampler, or it gives parameters of another structure.
    """

    def __init__(self, env: Functional, sampler: Sampler) -> None:
        super().__init__()
        self.env, self.sampler = env, sampler
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self._fixed = self._constants()

    @property
    def metadata(self) -> dict[str, Any]:
        """Of the environment: how many pictures a second."""
        return getattr(self.env, "metadata", {})

    def _constants(self) -> list[Any]:
        """The leaves of the parameters, None where they are drawn."""
        found: list[Any] = []
        structures: list[Any] = []

        def look(key: Array) -> None:
            leaves, structure = jax.tree.flatten(self.sampler(key, self.env.default_params))
            structures.append(structure)
            found.extend(None if isinstance(leaf, Array) else leaf for leaf in leaves)

        try:
            jax.eval_shape(lambda: look(jax.random.key(0)))
        except Exception as error:
            raise UsageError(f"the sampler of {type(self.env).__name__} cannot be compiled by JAX: {error}") from error
        if structures != [expected := jax.tree.structure(self.env.default_params)]:
            raise UsageError(f"the sampler gives parameters of the structure {structures[0]}; expected {expected}.")
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Randomized) and (self.env, self.sampler) == (other.env, other.sampler)

    def __hash__(self) -> int:
        return hash((self.env, self.sampler))

    def __repr__(self) -> str:
        return f"Randomized({type(self.env).__name__}, {self.sampler})"

    def params_of(self, state: EpisodeState) -> Any:
        """The parameters of an episode."""
        drawn = iter(state.drawn)
        leaves = [next(drawn) if leaf is None else leaf for leaf in self._fixed]
        return jax.tree.unflatten(jax.tree.structure(self.env.default_params), leaves)

    def initial(self, rng: Array, params: Any = None) -> EpisodeState:
        own, rest = jax.random.split(rng)
        sampled = self.sampler(own, self.env.default_params)
        leaves = [leaf for leaf in jax.tree.leaves(sampled) if isinstance(leaf, Array)]
        return EpisodeState(self.env.initial(rest, sampled), tuple(jnp.asarray(leaf, leaf.dtype) for leaf in leaves))

    def transition(self, state: EpisodeState, action: Any, rng: Array, params: Any = None) -> EpisodeState:
        return state._replace(inner=self.env.transition(state.inner, action, rng, self.params_of(state)))

    def observation(self, state: EpisodeState, rng: Array, params: Any = None) -> Any:
        return self.env.observation(state.inner, rng, self.params_of(state))

    def reward(self, state: EpisodeState, action: Any, next_state: EpisodeState, rng: Array, params: Any = None) -> Any:
        return self.env.reward(state.inner, action, next_state.inner, rng, self.params_of(state))

    def terminal(self, state: EpisodeState, rng: Array, params: Any = None) -> Any:
        return self.env.terminal(state.inner, rng, self.params_of(state))

    def state_info(self, state: EpisodeState, params: Any = None) -> dict[str, Any]:
        return self.env.state_info(state.inner, self.params_of(state))

    def render_init(self, params: Any = None, **kwargs: Any) -> Any:
        return self.env.render_init(**kwargs)

    def render_image(self, state: EpisodeState, render_state: Any, params: Any = None) -> Any:
        return self.env.render_image(state.inner, render_state, self.params_of(state))

    def render_close(self, render_state: Any, params: Any = None) -> None:
        self.env.render_close(render_state)
