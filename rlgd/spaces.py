"""Static, hashable descriptions of Gymnasium spaces, and the arrays of observations that they describe."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from rlgd.errors import UsageError
from rlgd.pytrees import Obs


@dataclasses.dataclass(frozen=True)
class BoxSpec:
    """Arrays of numbers. ``low`` and ``high`` are the flattened bounds of actions; empty for observations."""

    shape: tuple[int, ...]
    dtype: str
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class DiscreteSpec:
    """The integers ``start`` to ``start + n - 1``."""

    n: int
    start: int = 0
    dtype: str = "int64"


@dataclasses.dataclass(frozen=True)
class MultiDiscreteSpec:
    """Several integers, ``start`` to ``start + n - 1`` for each n of ``nvec``, both flattened."""

    nvec: tuple[int, ...]
    start: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str = "int64"


@dataclasses.dataclass(frozen=True)
class MultiBinarySpec:
    """Arrays of 0 and 1."""

    shape: tuple[int, ...]
    dtype: str = "int8"


@dataclasses.dataclass(frozen=True)
class DictSpec:
    """Observations by name, in Gymnasium's order. The names are all text, or all whole numbers."""

    parts: tuple[tuple[str | int, "ObsSpec"], ...]


@dataclasses.dataclass(frozen=True)
class TupleSpec:
    """Observations by place."""

    parts: tuple["ObsSpec", ...]


LeafSpec: TypeAlias = BoxSpec | DiscreteSpec | MultiDiscreteSpec | MultiBinarySpec
ObsSpec: TypeAlias = LeafSpec | DictSpec | TupleSpec


@dataclasses.dataclass(frozen=True)
class Spec:
    """All that an agent knows about an environment: static and hashable, made by ``rlgd.spaces.spec``."""

    obs: ObsSpec
    action: ObsSpec
    max_episode_steps: int | None = None


def spec(
    observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], max_episode_steps: int | None = None
) -> Spec:
    """The static description of an environment.

    Raises:
        UsageError: if a space is not supported; it names the space, the supported ones and a wrapper that helps.
    """
    return Spec(describe("observation", observation_space), describe("action", action_space), max_episode_steps)


def describe(role: str, space: gymnasium.Space[Any]) -> ObsSpec:
    """The static description of one space; ``role`` is "observation" or "action".

    Raises:
        UsageError: if it is not supported.
    """
    known = gymnasium.spaces
    if isinstance(space, known.Discrete):
        _check_range(role, space, int(space.start), int(space.start) + int(space.n) - 1)
        return DiscreteSpec(int(space.n), int(space.start), str(space.dtype))
    if isinstance(space, known.Box) and math.prod(space.shape) > 0:
        if role == "action" and space.dtype.kind in "iu":
            _check_range(role, space, int(space.low.min()), int(space.high.max()))
        bounds = (space.low, space.high) if role == "action" else ((), ())
        low, high = (tuple(float(x) for x in np.ravel(bound)) for bound in bounds)
        return BoxSpec(space.shape, str(space.dtype), low, high)
    if isinstance(space, known.MultiDiscrete):
        nvec, start = (tuple(int(x) for x in np.ravel(values)) for values in (space.nvec, space.start))
        _check_range(role, space, min(start), max(first + n - 1 for first, n in zip(start, nvec, strict=True)))
        return MultiDiscreteSpec(nvec, start, space.shape, str(space.dtype))
    if isinstance(space, known.MultiBinary):
        return MultiBinarySpec(space.shape, str(space.dtype))
    if isinstance(space, known.Dict) and space.spaces:
        parts = [describe(role, part) for part in space.spaces.values()]
        return DictSpec(tuple(zip(_keys(role, space), parts, strict=True)))
    if isinstance(space, known.Tuple) and space.spaces:
        return TupleSpec(tuple(describe(role, part) for part in space.spaces))
    raise _unsupported(role, space)


def _keys(role: str, space: gymnasium.spaces.Dict) -> list[str] | list[int]:
    """The keys of a dictionary, as they are written to files."""
    keys: list[Any] = list(space.spaces)
    if all(isinstance(key, str) for key in keys):
        return [str.__str__(key) for key in keys]
    if all(isinstance(key, int | np.integer) for key in keys):
        return [int(key) for key in keys]
    raise UsageError(
        f"the {role} space {space} has the keys {keys}, which must be all text or all whole numbers: JAX sorts them, "
        "and files keep them. gymnasium.wrappers.TransformObservation can rename them."
    )


def _check_range(role: str, space: gymnasium.Space[Any], lowest: int, highest: int) -> None:
    dtype = jax.dtypes.canonicalize_dtype(space.dtype)
    limits = np.iinfo(dtype)
    if lowest < limits.min or highest > limits.max:
        raise UsageError(
            f"the {role} space {space} has whole numbers from {lowest} to {highest}, but JAX has {dtype}, from "
            f"{limits.min} to {limits.max}; gymnasium.wrappers.Transform{role.capitalize()} can shift or scale them."
        )


def _unsupported(role: str, space: gymnasium.Space[Any]) -> UsageError:
    if role == "action":
        return UsageError(
            f"the action space {space} is not supported; supported: Discrete, MultiDiscrete, MultiBinary, Box with at "
            "least one number, and Dict and Tuple of these. gymnasium.wrappers.TransformAction can make one of these "
            "of it."
        )
    return UsageError(
        f"the observation space {space} is not supported; supported: Box with at least one number, Discrete, "
        "MultiDiscrete, MultiBinary, and Dict and Tuple of these. gymnasium.wrappers.TransformObservation can make one "
        "of these of it, gymnasium.wrappers.FlattenObservation a Box where its parts have a fixed size."
    )


# Every kind of description, by its name in files.
KINDS = {
    kind.__name__.removesuffix("Spec"): kind
    for kind in (BoxSpec, DiscreteSpec, MultiDiscreteSpec, MultiBinarySpec, DictSpec, TupleSpec)
}


def to_json(spec: Spec) -> dict[str, Any]:
    """The description as values for JSON."""
    return {"obs": _write(spec.obs), "action": _write(spec.action), "max_episode_steps": spec.max_episode_steps}


def from_json(content: dict[str, Any]) -> Spec:
    """The reverse of ``to_json``.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: if the values are not a description.
    """
    return Spec(_read(content["obs"]), _read(content["action"]), content["max_episode_steps"])


def _write(part: ObsSpec) -> dict[str, Any]:
    kind = {"kind": type(part).__name__.removesuffix("Spec")}
    if isinstance(part, DictSpec):
        return kind | {"parts": [[name, _write(inner)] for name, inner in part.parts]}
    if isinstance(part, TupleSpec):
        return kind | {"parts": [_write(inner) for inner in part.parts]}
    return kind | dataclasses.asdict(part)


def _read(content: dict[str, Any]) -> Any:
    kind = KINDS[content["kind"]]
    if kind is DictSpec:
        return DictSpec(tuple((_read_key(name), _read(inner)) for name, inner in content["parts"]))
    if kind is TupleSpec:
        return TupleSpec(tuple(_read(inner) for inner in content["parts"]))
    fields: Any = {name: tuple(v) if isinstance(v, list) else v for name, v in content.items() if name != "kind"}
    if kind is BoxSpec:  # infinity is text in files that other programs read
        fields |= {name: tuple(map(float, fields[name])) for name in ("low", "high")}
    return kind(**fields)


def _read_key(key: Any) -> str | int:
    if not isinstance(key, str | int):
        raise TypeError(f"{key!r} is no name of an observation")
    return key


def map_parts(function: Callable[..., Any], obs: ObsSpec, *trees: Any) -> Any:
    """``function(leaf spec, *leaves)`` for every array of an observation, in a structure like the observation's."""
    if isinstance(obs, DictSpec):
        return {name: map_parts(function, part, *(tree[name] for tree in trees)) for name, part in obs.parts}
    if isinstance(obs, TupleSpec):
        return tuple(map_parts(function, part, *(tree[i] for tree in trees)) for i, part in enumerate(obs.parts))
    return function(obs, *trees)


def names(obs: ObsSpec, name: str) -> Any:
    """The name of every array of an observation, such as "obs['camera'][0]", in its structure."""
    if isinstance(obs, DictSpec):
        return {key: names(part, f"{name}[{key!r}]") for key, part in obs.parts}
    if isinstance(obs, TupleSpec):
        return tuple(names(part, f"{name}[{i}]") for i, part in enumerate(obs.parts))
    return name


def leaf_specs(obs: ObsSpec) -> list[LeafSpec]:
    """The descriptions of an observation's arrays, in the order of the space."""
    if isinstance(obs, DictSpec):
        return [leaf for _, part in obs.parts for leaf in leaf_specs(part)]
    if isinstance(obs, TupleSpec):
        return [leaf for part in obs.parts for leaf in leaf_specs(part)]
    return [obs]


def leaves(obs_spec: ObsSpec, obs: Obs) -> list[tuple[LeafSpec, Any]]:
    """Each array of an observation with its description, in the order of the space."""
    found: list[tuple[LeafSpec, Any]] = []
    map_parts(lambda part, leaf: found.append((part, leaf)), obs_spec, obs)
    return found


def obs_shape_dtype(part: LeafSpec) -> tuple[tuple[int, ...], jnp.dtype]:
    """Shape and dtype of one array of an observation as stored; 64-bit types are stored in 32 bits."""
    shape = () if isinstance(part, DiscreteSpec) else part.shape
    return shape, jax.dtypes.canonicalize_dtype(part.dtype)


def converted_action(spec: ObsSpec, action: Any) -> Any:
    """Actions as the environment has them, in NumPy, with its own dtypes: the device computes in 32 bits."""
    return map_parts(lambda part, leaf: np.asarray(leaf).astype(part.dtype), spec, action)


def converted(given: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Numbers in another dtype, in which floats may be rounded and nothing else may change, whole numbers neither.

    Raises:
        ChangedError: if a whole number changes, or a finite number becomes infinite.
    """
    if given.dtype == dtype:
        return given
    with np.errstate(over="ignore", invalid="ignore"):
        values = given.astype(dtype)
        if values.dtype.kind != "f":
            changed = values != given
        elif given.dtype.kind in "iu":
            changed = values.astype(given.dtype) != given
        else:
            changed = np.isinf(values) & np.isfinite(given)
    if changed.any():
        raise ChangedError(tuple(int(i) for i in np.argwhere(changed)[0]), given, dtype)
    return values


def as_stored(name: str, given: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Numbers that a user gave as training stores them; ``name`` is theirs in messages.

    Raises:
        UsageError: if they are no numbers, or one of them would change.
    """
    try:
        array = np.asarray(given)
        if array.dtype.kind in "biuf":
            return converted(array, dtype)
    except ChangedError as changed:
        raise UsageError(f"{name} has the number {changed.what}.") from None
    except ValueError as error:
        raise UsageError(f"{name} is no array: {error}.") from error
    raise UsageError(f"{name} is {array.dtype}; expected {dtype}.")


class ChangedError(ValueError):
    """A number that another dtype cannot hold.

    Attributes:
        index: its place in the array.
        what: the number and the dtype, as a part of a sentence.
    """

    def __init__(self, index: tuple[int, ...], given: NDArray[Any], dtype: np.dtype[Any]) -> None:
        self.index, self.what = index, f"{given[index]}, which {dtype} cannot hold"
        super().__init__(self.what)


def blank(obs_spec: ObsSpec, *batch: int) -> Obs:
    """Observations of zeros in the stored shapes and dtypes, ``[*batch, ...]``."""

    def zeros(part: LeafSpec) -> Array:
        shape, dtype = obs_shape_dtype(part)
        return jnp.zeros((*batch, *shape), dtype)

    return map_parts(zeros, obs_spec)


def mask_size(action: ObsSpec) -> int | None:
    """The length of an action mask; None for actions without masks.

    For Discrete one entry for each action, for MultiDiscrete one for each value of each number, side by side.
    """
    if isinstance(action, DiscreteSpec):
        return action.n
    return sum(action.nvec) if isinstance(action, MultiDiscreteSpec) else None
