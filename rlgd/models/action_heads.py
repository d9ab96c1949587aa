"""From a policy network's outputs to a distribution of actions."""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.errors import UsageError
from rlgd.maths.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    DiagGaussian,
    Distribution,
    MultiCategorical,
    TanhGaussian,
)
from rlgd.spaces import BoxSpec, DiscreteSpec, LeafSpec, MultiBinarySpec, obs_shape_dtype

LOG_STD_RANGE = (-10.0, 2.0)
MOST_BETA = 100.0
LEAST_VARIANCE = 1e-6  # of gSDE's actions, where all hidden units are near 0


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
