"""From observations to features, the inputs of networks."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.errors import UsageError
from rlgd.pytrees import Obs
from rlgd.spaces import BoxSpec, DictSpec, DiscreteSpec, LeafSpec, MultiDiscreteSpec, ObsSpec, leaf_specs, leaves

LEAST_SIDE = 5  # pixels; smaller arrays are plain numbers
PRIVILEGED = "privileged"  # how the names of what a critic alone may see begin, as MuJoCo Playground has them


def image_shape(part: LeafSpec) -> tuple[int, int, int] | None:
    """Height, width and channels if an array is an image, else None.

    An image is a Box with three axes, or a Box of bytes with two, at least ``LEAST_SIDE`` pixels high and wide. Of
    three axes, the channels are the first if it is shorter than the last, else the last.
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


def privileged(obs: ObsSpec) -> tuple[str, ...]:
    """The names of the parts of a Dict observation that a critic alone may see: they begin with ``PRIVILEGED``."""
    names = [name for name, _ in obs.parts] if isinstance(obs, DictSpec) else []
    found = tuple(name for name in names if isinstance(name, str) and name.startswith(PRIVILEGED))
    return found if len(found) < len(names) else ()


def places(obs: ObsSpec, without: tuple[str, ...] = ()) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which numbers of the encoded vector, and which images, belong to the other parts of a Dict observation.

    Args:
        obs: the observation.
        without: names of its parts.

    Raises:
        UsageError: if it has no such part, or no other one.
    """
    if not without:
        return tuple(range(num_features(obs))), tuple(range(len(image_shapes(obs))))
    parts = obs.parts if isinstance(obs, DictSpec) else ()
    if unknown := set(without) - {name for name, _ in parts}:
        raise UsageError(
            f"critic_obs names {', '.join(map(repr, sorted(unknown)))}, but the parts of the observations are "
            f"{', '.join(repr(name) for name, _ in parts) or 'not named: they are no Dict'}."
        )
    columns: list[int] = []
    pictures: list[int] = []
    first_column = first_picture = 0
    for name, part in parts:
        next_column, next_picture = first_column + num_features(part), first_picture + len(image_shapes(part))
        if name not in without:
            columns += range(first_column, next_column)
            pictures += range(first_picture, next_picture)
        first_column, first_picture = next_column, next_picture
    if not columns and not pictures:
        raise UsageError("critic_obs names every part of the observations: nothing is left that the policy reads.")
    return tuple(columns), tuple(pictures)


def num_features(obs: ObsSpec) -> int:
    """The number of features that ``encode`` gives for one observation."""
    return sum(_width(part) for part in leaf_specs(obs))


def encode(obs_spec: ObsSpec, obs: Obs) -> Array:
    """``[..., *shape]`` to float ``[..., num_features]``: all parts of an observation except images, side by side.

    Box and MultiBinary are flattened; Discrete and each number of MultiDiscrete become one-hot.
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
