"""Gymnasium spaces: what the network reads, what it samples from, and what the environment receives."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.data import BoxSpec, DiscreteSpec, Spec
from rlgd.distributions import Categorical, DiagGaussian, Distribution, TanhGaussian
from rlgd.errors import UsageError

LOG_STD_RANGE = (-10.0, 2.0)


def spec(
    observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], max_episode_steps: int | None = None
) -> Spec:
    """The static description of an environment.

    Raises:
        UsageError: if a space is neither Box nor Discrete; names the space and the supported ones.
    """
    return Spec(
        obs=_describe("observation", observation_space),
        action=_describe("action", action_space),
        max_episode_steps=max_episode_steps,
    )


def _describe(role: str, space: gymnasium.Space[Any]) -> BoxSpec | DiscreteSpec:
    if isinstance(space, gymnasium.spaces.Discrete):
        return DiscreteSpec(int(space.n), int(space.start), str(space.dtype))
    if isinstance(space, gymnasium.spaces.Box) and math.prod(space.shape) > 0:
        bounds = (space.low, space.high) if role == "action" else ((), ())
        low, high = (tuple(float(x) for x in np.ravel(bound)) for bound in bounds)
        return BoxSpec(space.shape, str(space.dtype), low, high)
    raise UsageError(
        f"the {role} space {space} is not supported; supported: Box with at least one number, and Discrete. "
        "gymnasium.wrappers.FlattenObservation makes a Box of Dict, Tuple, MultiDiscrete and MultiBinary observations."
    )


def obs_shape_dtype(obs: BoxSpec | DiscreteSpec) -> tuple[tuple[int, ...], jnp.dtype]:
    """Shape and dtype in which one observation is stored; 64-bit types are stored in 32 bits."""
    shape = obs.shape if isinstance(obs, BoxSpec) else ()
    return shape, jax.dtypes.canonicalize_dtype(obs.dtype)


def num_features(obs: BoxSpec | DiscreteSpec) -> int:
    """How many numbers ``encode`` makes of one observation."""
    return obs.n if isinstance(obs, DiscreteSpec) else math.prod(obs.shape)


def encode(obs_spec: BoxSpec | DiscreteSpec, obs: Array) -> Array:
    """``[..., *shape]`` to float ``[..., num_features]``: a Box is flattened, a Discrete value becomes one-hot."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    if isinstance(obs_spec, DiscreteSpec):
        return jax.nn.one_hot(obs - obs_spec.start, obs_spec.n, dtype=dtype)
    batch = obs.shape[: obs.ndim - len(obs_spec.shape)]
    return obs.reshape(*batch, num_features(obs_spec)).astype(dtype)


def _inner_bounds(action: BoxSpec) -> tuple[np.ndarray, np.ndarray]:
    """The bounds in the device's float type, rounded inwards: an action never leaves a box of wider floats."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    low, high = np.asarray(action.low, dtype), np.asarray(action.high, dtype)
    low = np.where(low < np.asarray(action.low), np.nextafter(low, np.asarray(np.inf, dtype)), low)
    high = np.where(high > np.asarray(action.high), np.nextafter(high, np.asarray(-np.inf, dtype)), high)
    return low, high


class ActionHead(NamedTuple):
    """How a policy's outputs become actions.

    Attributes:
        num_outputs: how many numbers the network puts out.
        num_log_stds: how many free log standard deviations the policy has beside the network.
        distribution: ``(outputs [..., num_outputs], log_std [num_log_stds] or None) -> Distribution``.
        to_env: the sampled action ``[N, ...]`` to what the environment receives, in its shape and dtype.
    """

    num_outputs: int
    num_log_stds: int
    distribution: Callable[[Array, Array | None], Distribution]
    to_env: Callable[[Array], Array]


def action_head(action: BoxSpec | DiscreteSpec, squash: bool) -> ActionHead:
    """Categorical for Discrete; for a Box a diagonal Gaussian, clipped to the bounds, or squashed into them by tanh.

    Raises:
        UsageError: if ``squash`` is asked for on a space without finite bounds.
    """
    dtype = jax.dtypes.canonicalize_dtype(action.dtype)
    if isinstance(action, DiscreteSpec):
        if squash:
            raise UsageError("squash is on, but the actions are Discrete; it is for bounded Box actions.")
        return ActionHead(
            action.n, 0, lambda outputs, _: Categorical(outputs), lambda a: (a + action.start).astype(dtype)
        )

    size = math.prod(action.shape)
    low, high = (jnp.asarray(bound) for bound in _inner_bounds(action))
    if squash and not np.all(np.isfinite([action.low, action.high])):
        raise UsageError(
            f"squash needs finite bounds, but the actions go from {action.low} to {action.high}; leave squash off."
        )

    def distribution(outputs: Array, log_std: Array | None) -> DiagGaussian | TanhGaussian:
        assert log_std is not None
        log_std = jnp.broadcast_to(jnp.clip(log_std, *LOG_STD_RANGE), outputs.shape)
        return TanhGaussian(outputs, log_std, low, high) if squash else DiagGaussian(outputs, log_std)

    def to_env(sample: Array) -> Array:
        if squash:
            bounded = TanhGaussian(sample, jnp.zeros_like(sample), low, high).squash(sample)
        else:
            bounded = jnp.clip(sample, *(jnp.broadcast_to(bound, sample.shape) for bound in (low, high)))
        return bounded.reshape(*sample.shape[:-1], *action.shape).astype(dtype)

    return ActionHead(size, size, distribution, to_env)
