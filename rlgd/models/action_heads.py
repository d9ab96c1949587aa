"""From a policy network's outputs to a distribution of actions, one class for each kind of action."""

import dataclasses
import math
from typing import ClassVar, Protocol

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
from rlgd.models.gaussian_std import STDS, Std
from rlgd.spaces import BoxSpec, DiscreteSpec, LeafSpec, MultiBinarySpec, MultiDiscreteSpec, obs_shape_dtype

LARGEST_BETA_PARAMETER = 100.0


class ActionHead(Protocol):
    """How a policy's outputs become actions."""

    @property
    def num_outputs(self) -> int:
        """How many numbers the network must have as outputs."""

    @property
    def num_log_stds(self) -> int:
        """How many log standard deviations are parameters beside the network; under gSDE, for each hidden unit."""

    def distribution(
        self, outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
    ) -> Distribution:
        """The distribution of actions.

        Args:
            outputs: ``[..., num_outputs]``, the network's.
            log_std: ``[num_log_stds]``, under gSDE ``[width, num_log_stds]``; None if there are none.
            mask: ``[..., mask_size]`` bool, which actions are allowed; None: all.
            hidden: ``[..., width]``, the last hidden layer; only gSDE uses it.
        """

    def to_env(self, sample: Array) -> Array:
        """The sampled actions ``[N, ...]`` as the environment receives them, in its shape and dtype."""


@dataclasses.dataclass(frozen=True)
class CategoricalHead:
    """Discrete actions: one logit for each."""

    action: DiscreteSpec
    num_log_stds: ClassVar[int] = 0

    @property
    def num_outputs(self) -> int:
        return self.action.n

    def distribution(
        self, outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
    ) -> Categorical:
        return Categorical(_allowed(outputs, mask))

    def to_env(self, sample: Array) -> Array:
        return _integers(sample, (self.action.start,), self.action)


@dataclasses.dataclass(frozen=True)
class MultiCategoricalHead:
    """MultiDiscrete actions: one logit for each value of each number."""

    action: MultiDiscreteSpec
    num_log_stds: ClassVar[int] = 0

    @property
    def num_outputs(self) -> int:
        return sum(self.action.nvec)

    def distribution(
        self, outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
    ) -> MultiCategorical:
        return MultiCategorical(_allowed(outputs, mask), self.action.nvec)

    def to_env(self, sample: Array) -> Array:
        return _integers(sample, self.action.start, self.action)


@dataclasses.dataclass(frozen=True)
class BernoulliHead:
    """MultiBinary actions: the log-odds of each bit. They have no masks."""

    action: MultiBinarySpec
    num_log_stds: ClassVar[int] = 0

    @property
    def num_outputs(self) -> int:
        return math.prod(self.action.shape)

    def distribution(
        self, outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
    ) -> Bernoulli:
        return Bernoulli(outputs)

    def to_env(self, sample: Array) -> Array:
        return _integers(sample, (0,) * self.num_outputs, self.action)


@dataclasses.dataclass(frozen=True)
class GaussianHead:
    """Box actions with a diagonal Gaussian; what the environment receives is clipped to the bounds."""

    action: BoxSpec
    std: Std

    @property
    def num_outputs(self) -> int:
        return (1 + self.std.outputs) * self.num_log_stds

    @property
    def num_log_stds(self) -> int:
        return math.prod(self.action.shape)

    def distribution(
        self, outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
    ) -> DiagGaussian:
        assert log_std is not None
        mean = outputs[..., : self.num_log_stds]
        return DiagGaussian(mean, self.std.log_std(log_std, mean, outputs[..., self.num_log_stds :], hidden))

    def to_env(self, sample: Array) -> Array:
        low, high = (jnp.broadcast_to(bound, sample.shape) for bound in _bounds(self.action))
        return _numbers(jnp.clip(sample, low, high), self.action)


@dataclasses.dataclass(frozen=True)
class TanhGaussianHead:
    """Box actions with a diagonal Gaussian that tanh squashes into the bounds, which must be finite."""

    gaussian: GaussianHead

    @property
    def num_outputs(self) -> int:
        return self.gaussian.num_outputs

    @property
    def num_log_stds(self) -> int:
        return self.gaussian.num_log_stds

    def distribution(
        self, outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
    ) -> TanhGaussian:
        before = self.gaussian.distribution(outputs, log_std, mask, hidden)
        return TanhGaussian(before.mean, before.log_std, *_bounds(self.gaussian.action))

    def to_env(self, sample: Array) -> Array:
        action = self.gaussian.action
        squashed = TanhGaussian(sample, jnp.zeros_like(sample), *_bounds(action)).squash(sample)
        return _numbers(squashed, action)


@dataclasses.dataclass(frozen=True)
class BetaHead:
    """Box actions with Beta distributions between the bounds, which must be finite."""

    action: BoxSpec
    num_log_stds: ClassVar[int] = 0

    @property
    def num_outputs(self) -> int:
        return 2 * math.prod(self.action.shape)

    def distribution(
        self, outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
    ) -> Beta:
        # With both parameters above 1 the density has one peak, and none at the bounds. With large parameters the
        # logarithms of gamma functions cancel, and divergences would be noise.
        alpha, beta = jnp.split(jnp.minimum(1 + jax.nn.softplus(outputs), LARGEST_BETA_PARAMETER), 2, axis=-1)
        return Beta(alpha, beta, *_bounds(self.action))

    def to_env(self, sample: Array) -> Array:
        return _numbers(Beta(sample, sample, *_bounds(self.action)).squash(sample), self.action)


# How actions in a Box are distributed, and where the standard deviation of the Gaussian ones comes from.
BOX_DISTRIBUTIONS = ("gaussian", "tanh", "beta")
BOX_STDS = tuple(STDS)


def action_head(action: LeafSpec, box_distribution: str = "gaussian", box_std: str = "free") -> ActionHead:
    """The head for a kind of actions; for a Box also by choice.

    Args:
        action: the action space.
        box_distribution: "gaussian", "tanh" or "beta", for a Box.
        box_std: "free", "state" or "gsde", for the Gaussians.

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
        return CategoricalHead(action)
    return BernoulliHead(action) if isinstance(action, MultiBinarySpec) else MultiCategoricalHead(action)


def _box_head(action: BoxSpec, box_distribution: str, box_std: str) -> ActionHead:
    if box_distribution == "gaussian":
        return GaussianHead(action, STDS[box_std])
    if not np.all(np.isfinite([action.low, action.high])):
        raise UsageError(
            f"box_distribution {box_distribution!r} needs finite bounds, but the actions go from {action.low} to "
            f"{action.high}; allowed: 'gaussian'."
        )
    if box_distribution == "tanh":
        return TanhGaussianHead(GaussianHead(action, STDS[box_std]))
    if box_std != "free":
        raise UsageError(f"box_std is {box_std!r}, but a Beta distribution has no such parameter; leave it out.")
    return BetaHead(action)


def _allowed(logits: Array, mask: Array | None) -> Array:
    """The logits, with a very low one where an action is not allowed: probability 0, and finite gradients."""
    return logits if mask is None else jnp.where(mask, logits, jnp.finfo(logits.dtype).min)


def _integers(sample: Array, start: tuple[int, ...], action: LeafSpec) -> Array:
    """Integers ``[N, *]``, counted from 0, as those that begin with ``start``, in the space's shape and dtype."""
    shape, dtype = obs_shape_dtype(action)
    batch = sample.shape[0]
    if any(start):
        sample = sample.reshape(batch, len(start)) + jnp.asarray(start, sample.dtype)[None]
    return sample.reshape(batch, *shape).astype(dtype)


def _numbers(bounded: Array, action: BoxSpec) -> Array:
    """Numbers within the bounds, ``[..., d]``, in the space's shape and dtype."""
    dtype = jax.dtypes.canonicalize_dtype(action.dtype)
    if jnp.issubdtype(dtype, jnp.integer):
        bounded = jnp.round(bounded)
    return bounded.reshape(*bounded.shape[:-1], *action.shape).astype(dtype)


def _bounds(action: BoxSpec) -> tuple[Array, Array]:
    """The bounds ``[d]`` in JAX's float type, rounded inwards: an action never leaves a box of wider floats."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    low, high = np.asarray(action.low, dtype), np.asarray(action.high, dtype)
    low = np.where(low < np.asarray(action.low), np.nextafter(low, np.asarray(np.inf, dtype)), low)
    high = np.where(high > np.asarray(action.high), np.nextafter(high, np.asarray(-np.inf, dtype)), high)
    return jnp.asarray(low), jnp.asarray(high)
