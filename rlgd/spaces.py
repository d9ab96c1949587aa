"""Gymnasium spaces: what the network reads, what it samples from, and what the environment receives."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.data import (
    BoxSpec,
    DictSpec,
    DiscreteSpec,
    LeafSpec,
    MultiBinarySpec,
    MultiDiscreteSpec,
    Obs,
    ObsSpec,
    Spec,
    TupleSpec,
)
from rlgd.distributions import Bernoulli, Beta, Categorical, DiagGaussian, Distribution, MultiCategorical, TanhGaussian
from rlgd.errors import UsageError

LOG_STD_RANGE = (-10.0, 2.0)
MOST_BETA = 100.0
LEAST_VARIANCE = 1e-6  # of gSDE's actions, where all hidden units are near 0
LEAST_SIDE = 5  # pixels; what is smaller is read as plain numbers


def spec(
    observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], max_episode_steps: int | None = None
) -> Spec:
    """The static description of an environment.

    Raises:
        UsageError: if a space is not supported; names the space, the supported ones and the wrapper that helps.
    """
    action = describe("action", action_space)
    if isinstance(action, DictSpec | TupleSpec):
        raise _unsupported("action", action_space)
    return Spec(describe("observation", observation_space), action, max_episode_steps)


def describe(role: str, space: gymnasium.Space[Any]) -> ObsSpec:
    """The static description of one space; ``role`` is "observation" or "action".

    Raises:
        UsageError: if it is not supported.
    """
    known = gymnasium.spaces
    if isinstance(space, known.Discrete):
        return DiscreteSpec(int(space.n), int(space.start), str(space.dtype))
    if isinstance(space, known.Box) and math.prod(space.shape) > 0:
        bounds = (space.low, space.high) if role == "action" else ((), ())
        low, high = (tuple(float(x) for x in np.ravel(bound)) for bound in bounds)
        return BoxSpec(space.shape, str(space.dtype), low, high)
    if isinstance(space, known.MultiDiscrete):
        nvec, start = (tuple(int(x) for x in np.ravel(values)) for values in (space.nvec, space.start))
        return MultiDiscreteSpec(nvec, start, space.shape, str(space.dtype))
    if isinstance(space, known.MultiBinary):
        return MultiBinarySpec(space.shape, str(space.dtype))
    if isinstance(space, known.Dict) and space.spaces:
        return DictSpec(tuple((name, describe(role, part)) for name, part in space.spaces.items()))
    if isinstance(space, known.Tuple) and space.spaces:
        return TupleSpec(tuple(describe(role, part) for part in space.spaces))
    raise _unsupported(role, space)


def _unsupported(role: str, space: gymnasium.Space[Any]) -> UsageError:
    if role == "action":
        return UsageError(
            f"the action space {space} is not supported; supported: Discrete, MultiDiscrete, MultiBinary, and Box with "
            "at least one number. gymnasium.wrappers.TransformAction can make one of these of it."
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
        KeyError, TypeError, AttributeError, ValueError: if the values are no description.
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
        return DictSpec(tuple((str(name), _read(inner)) for name, inner in content["parts"]))
    if kind is TupleSpec:
        return TupleSpec(tuple(_read(inner) for inner in content["parts"]))
    fields: Any = {name: tuple(v) if isinstance(v, list) else v for name, v in content.items() if name != "kind"}
    return kind(**fields)


def map_parts(function: Callable[..., Any], obs: ObsSpec, *trees: Any) -> Any:
    """``function(leaf spec, *leaves)`` for every array of an observation, in a structure like the observation's."""
    if isinstance(obs, DictSpec):
        return {name: map_parts(function, part, *(tree[name] for tree in trees)) for name, part in obs.parts}
    if isinstance(obs, TupleSpec):
        return tuple(map_parts(function, part, *(tree[i] for tree in trees)) for i, part in enumerate(obs.parts))
    return function(obs, *trees)


def leaf_specs(obs: ObsSpec) -> list[LeafSpec]:
    """The arrays of an observation, in the order of the space."""
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
    """Shape and dtype in which one array of an observation is stored; 64-bit types are stored in 32 bits."""
    shape = () if isinstance(part, DiscreteSpec) else part.shape
    return shape, jax.dtypes.canonicalize_dtype(part.dtype)


def blank(obs_spec: ObsSpec, *batch: int) -> Obs:
    """Observations of zeros, as they are stored: ``[*batch, ...]``."""

    def zeros(part: LeafSpec) -> Array:
        shape, dtype = obs_shape_dtype(part)
        return jnp.zeros((*batch, *shape), dtype)

    return map_parts(zeros, obs_spec)


def image_shape(part: LeafSpec) -> tuple[int, int, int] | None:
    """Height, width and channels of an array that is an image, else None.

    An image is a Box with three axes, of which the shorter of first and last has the channels, or of bytes with two,
    from ``LEAST_SIDE`` pixels a side.
    """
    if not isinstance(part, BoxSpec) or len(part.shape) not in (2, 3):
        return None
    if len(part.shape) == 2:
        height, width, channels = *part.shape, 1
        if part.dtype != "uint8":
            return None
    elif _channels_first(part):
        channels, height, width = part.shape
    else:
        height, width, channels = part.shape
    return (height, width, channels) if min(height, width) >= LEAST_SIDE else None


def _channels_first(part: BoxSpec) -> bool:
    return len(part.shape) == 3 and part.shape[0] < part.shape[2]


def image_shapes(obs: ObsSpec) -> tuple[tuple[int, int, int], ...]:
    """Height, width and channels of every image in an observation."""
    return tuple(shape for part in leaf_specs(obs) if (shape := image_shape(part)) is not None)


def images(obs_spec: ObsSpec, obs: Obs) -> tuple[Array, ...]:
    """The images in ``obs [..., *shape]``, each ``[..., height, width, channels]`` in its own dtype."""

    def channels_last(part: BoxSpec, leaf: Array) -> Array:
        if len(part.shape) == 2:
            return leaf[..., None]
        return jnp.moveaxis(leaf, -3, -1) if _channels_first(part) else leaf

    found = [(part, leaf) for part, leaf in leaves(obs_spec, obs) if image_shape(part) is not None]
    return tuple(channels_last(part, leaf) for part, leaf in found if isinstance(part, BoxSpec))


def _width(part: LeafSpec) -> int:
    if image_shape(part) is not None:
        return 0
    if isinstance(part, DiscreteSpec):
        return part.n
    return sum(part.nvec) if isinstance(part, MultiDiscreteSpec) else math.prod(part.shape)


def num_features(obs: ObsSpec) -> int:
    """How many numbers ``encode`` makes of one observation."""
    return sum(_width(part) for part in leaf_specs(obs))


def encode(obs_spec: ObsSpec, obs: Obs) -> Array:
    """``[..., *shape]`` to float ``[..., num_features]``: an observation's parts but its images, one after the other.

    Box and MultiBinary are flattened; Discrete becomes one-hot, and each number of MultiDiscrete.
    """
    encoded = [_encode(part, leaf) for part, leaf in leaves(obs_spec, obs)]
    return encoded[0] if len(encoded) == 1 else jnp.concatenate(encoded, axis=-1)


def _encode(part: LeafSpec, leaf: Array) -> Array:
    dtype = jax.dtypes.canonicalize_dtype(float)
    if isinstance(part, DiscreteSpec):
        return jax.nn.one_hot(leaf - part.start, part.n, dtype=dtype)
    batch = leaf.shape[: leaf.ndim - len(part.shape)]
    if image_shape(part) is not None:
        return jnp.zeros((*batch, 0), dtype)
    flat = leaf.reshape(*batch, math.prod(part.shape))
    if not isinstance(part, MultiDiscreteSpec):
        return flat.astype(dtype)
    numbers = zip(range(len(part.nvec)), part.nvec, part.start, strict=True)
    return jnp.concatenate([jax.nn.one_hot(flat[..., i] - start, n, dtype=dtype) for i, n, start in numbers], axis=-1)


def mask_size(action: LeafSpec) -> int | None:
    """How many actions an action mask speaks of; None where there are no masks.

    Discrete has one for each action; MultiDiscrete one for each value of each number, one number after the other.
    """
    if isinstance(action, DiscreteSpec):
        return action.n
    return sum(action.nvec) if isinstance(action, MultiDiscreteSpec) else None


def _inner_bounds(action: BoxSpec) -> tuple[np.ndarray, np.ndarray]:
    """The bounds in the device's float type, rounded inwards: an action never leaves a box of wider floats."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    low, high = np.asarray(action.low, dtype), np.asarray(action.high, dtype)
    low = np.where(low < np.asarray(action.low), np.nextafter(low, np.asarray(np.inf, dtype)), low)
    high = np.where(high > np.asarray(action.high), np.nextafter(high, np.asarray(-np.inf, dtype)), high)
    return low, high


# How actions in a Box are distributed, and where the standard deviation of the Gaussian ones comes from.
BOX_DISTRIBUTIONS = ("gaussian", "tanh", "beta")
BOX_STDS = ("free", "state", "gsde")


class MakesDistribution(Protocol):
    """See ``ActionHead.distribution``."""

    def __call__(
        self, outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
    ) -> Distribution: ...


class ActionHead(NamedTuple):
    """How a policy's outputs become actions.

    Attributes:
        num_outputs: how many numbers the network puts out.
        num_log_stds: how many log standard deviations the policy has beside the network, for each action or, under
            gSDE, for each of them and each hidden unit.
        distribution: of ``outputs [..., num_outputs]``; of ``log_std [num_log_stds]`` where there are any, under gSDE
            ``[width, num_log_stds]`` with the last hidden layer's ``hidden [..., width]``; among the actions that
            ``mask [..., mask_size]`` bool allows, None: all.
        to_env: the sampled action ``[N, ...]`` to what the environment receives, in its shape and dtype.
    """

    num_outputs: int
    num_log_stds: int
    distribution: "MakesDistribution"
    to_env: Callable[[Array], Array]


def action_head(action: LeafSpec, box_distribution: str = "gaussian", box_std: str = "free") -> ActionHead:
    """Categorical for Discrete, one for each number of MultiDiscrete, Bernoulli for MultiBinary; for a Box by choice.

    A Box has a diagonal Gaussian that is clipped to the bounds ("gaussian") or squashed into them by tanh ("tanh"), or
    a Beta distribution between them ("beta"). The Gaussians' standard deviations are parameters of their own ("free"),
    the network's outputs ("state"), or those of generalized state-dependent exploration ("gsde": Raffin, Kober & Stulp
    2021, arXiv 2005.05719), whose noise is a linear function of the last hidden layer.

    Raises:
        UsageError: for a choice that does not fit the space.
    """
    if isinstance(action, BoxSpec):
        return _box_head(action, box_distribution, box_std)
    for name, choice, default in (
        ("box_distribution", box_distribution, "gaussian"),
        ("box_std", box_std, "free"),
    ):
        if choice != default:
            kind = type(action).__name__.removesuffix("Spec")
            raise UsageError(f"{name} is {choice!r}, but the actions are {kind}; it is for Box actions.")
    if isinstance(action, DiscreteSpec):
        return ActionHead(action.n, 0, _categorical, _receiver(action, (action.start,)))
    if isinstance(action, MultiBinarySpec):
        size = math.prod(action.shape)
        return ActionHead(size, 0, _bits, _receiver(action, (0,) * size))

    def distribution(
        outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
    ) -> MultiCategorical:
        return MultiCategorical(_allowed(outputs, mask), action.nvec)

    return ActionHead(sum(action.nvec), 0, distribution, _receiver(action, action.start))


def _receiver(action: LeafSpec, start: tuple[int, ...]) -> Callable[[Array], Array]:
    """Integers ``[N, *]``, counted from 0, to those that begin with ``start``, in the space's shape and dtype."""
    shape, dtype = obs_shape_dtype(action)

    def to_env(sample: Array) -> Array:
        batch = sample.shape[0]
        if any(start):
            sample = sample.reshape(batch, len(start)) + jnp.asarray(start, sample.dtype)[None]
        return sample.reshape(batch, *shape).astype(dtype)

    return to_env


def _categorical(
    outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
) -> Categorical:
    return Categorical(_allowed(outputs, mask))


def _bits(
    outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
) -> Bernoulli:
    return Bernoulli(outputs)


def _allowed(logits: Array, mask: Array | None) -> Array:
    """The logits, of what is not allowed so low that its probability is 0; finite, so that gradients are too."""
    return logits if mask is None else jnp.where(mask, logits, jnp.finfo(logits.dtype).min)


def _box_head(action: BoxSpec, box_distribution: str, box_std: str) -> ActionHead:
    dtype = jax.dtypes.canonicalize_dtype(action.dtype)
    size = math.prod(action.shape)
    if box_distribution != "gaussian" and not np.all(np.isfinite([action.low, action.high])):
        raise UsageError(
            f"box_distribution {box_distribution!r} needs finite bounds, but the actions go from {action.low} to "
            f"{action.high}; allowed: 'gaussian'."
        )
    if box_distribution == "beta" and box_std != "free":
        raise UsageError(f"box_std is {box_std!r}, but a Beta distribution has no such parameter; leave it out.")
    low, high = (jnp.asarray(bound) for bound in _inner_bounds(action))

    def distribution(
        outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
    ) -> DiagGaussian | TanhGaussian | Beta:
        if box_distribution == "beta":
            # Both above 1: the density has one peak, and none at the bounds. Beyond some size the logarithms of gamma
            # functions cancel, and divergences are noise.
            alpha, beta = jnp.split(jnp.minimum(1 + jax.nn.softplus(outputs), MOST_BETA), 2, axis=-1)
            return Beta(alpha, beta, low, high)
        assert log_std is not None
        mean = outputs[..., :size]
        if box_std == "gsde":
            assert hidden is not None
            log_std = explored_log_std(log_std, hidden)
        else:
            log_std = jnp.broadcast_to(log_std, mean.shape)
            log_std = jnp.clip(log_std + outputs[..., size:] if box_std == "state" else log_std, *LOG_STD_RANGE)
        return TanhGaussian(mean, log_std, low, high) if box_distribution == "tanh" else DiagGaussian(mean, log_std)

    def to_env(sample: Array) -> Array:
        if box_distribution == "tanh":
            bounded = TanhGaussian(sample, jnp.zeros_like(sample), low, high).squash(sample)
        elif box_distribution == "beta":
            bounded = Beta(sample, sample, low, high).squash(sample)
        else:
            bounded = jnp.clip(sample, *(jnp.broadcast_to(bound, sample.shape) for bound in (low, high)))
        if jnp.issubdtype(dtype, jnp.integer):
            bounded = jnp.round(bounded)
        return bounded.reshape(*sample.shape[:-1], *action.shape).astype(dtype)

    with_means = 2 * size if box_distribution == "beta" or box_std == "state" else size
    return ActionHead(with_means, 0 if box_distribution == "beta" else size, distribution, to_env)


def explored_log_std(log_std: Array, hidden: Array) -> Array:
    """The log standard deviation ``[..., d]``, of what ``exploration`` gives.

    No gradient flows into ``hidden [..., width]``: what is read of the observation is learned by the mean alone.
    """
    variance = jnp.square(jax.lax.stop_gradient(hidden)) @ jnp.square(_explored_std(log_std))
    return 0.5 * jnp.log(variance + LEAST_VARIANCE)


def exploration(log_std: Array, hidden: Array, noise: Array) -> Array:
    """The deviation from the mean, ``[N, d]``: ``hidden [N, width]`` times ``noise [N, width, d]``, unit normal
    numbers, times their standard deviations exp(``log_std [width, d]``).
    """
    return jnp.sum(hidden[..., None] * noise * _explored_std(log_std)[None], axis=-2)


def _explored_std(log_std: Array) -> Array:
    return jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE))
