"""From a policy network's outputs to a distribution of actions, one class for each kind of action."""

import dataclasses
import math
from typing import Any, ClassVar, Protocol

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
    Joint,
    MultiCategorical,
    TanhGaussian,
)
from rlgd.models.gaussian_std import STDS, Std
from rlgd.spaces import (
    BoxSpec,
    DictSpec,
    DiscreteSpec,
    LeafSpec,
    MultiBinarySpec,
    MultiDiscreteSpec,
    ObsSpec,
    TupleSpec,
    leaf_specs,
    map_parts,
    obs_shape_dtype,
)

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

    def to_env(self, sample: Array) -> Any:
        """The sampled actions ``[N, ...]`` as the environment receives them, in its shape and dtype, and structure."""


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


@dataclasses.dataclass(frozen=True)
class JointHead:
    """Actions of several parts, in a Dict or a Tuple: independent given the observation, each with a head of its own.

    A sample is that of all parts side by side, see ``Joint``. They have no masks, and no gSDE.
    """

    action: DictSpec | TupleSpec
    heads: tuple[Any, ...]

    @property
    def num_outputs(self) -> int:
        return sum(head.num_outputs for head in self.heads)

    @property
    def num_log_stds(self) -> int:
        return sum(head.num_log_stds for head in self.heads)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers the sample of each part has; 0 for one without an axis of its own."""
        return tuple(0 if isinstance(part, DiscreteSpec) else math.prod(part.shape) for part in leaf_specs(self.action))

    def distribution(
        self, outputs: Array, log_std: Array | None = None, mask: Array | None = None, hidden: Array | None = None
    ) -> Joint:
        parts, place, log_stds = [], 0, 0
        for head in self.heads:
            own = None if log_std is None else log_std[..., log_stds : log_stds + head.num_log_stds]
            parts.append(head.distribution(outputs[..., place : place + head.num_outputs], own, None, hidden))
            place, log_stds = place + head.num_outputs, log_stds + head.num_log_stds
        return Joint(tuple(parts), self.sizes)

    def to_env(self, sample: Array) -> Any:
        blank = self.distribution(
            jnp.zeros((*sample.shape[:-1], self.num_outputs), sample.dtype), jnp.zeros(self.num_log_stds, sample.dtype)
        )
        received = (head.to_env(own) for head, own in zip(self.heads, blank.split(sample), strict=True))
        return map_parts(lambda part: next(received), self.action)


# How actions in a Box are distributed, and where the standard deviation of the Gaussian ones comes from.
BOX_DISTRIBUTIONS = ("gaussian", "tanh", "beta")
BOX_STDS = tuple(STDS)


def action_head(action: ObsSpec, box_distribution: str = "gaussian", box_std: str = "free") -> ActionHead:
    """The head for a kind of actions; for a Box also by choice.

    Args:
        action: the action space.
        box_distribution: "gaussian", "tanh" or "beta", for a Box.
        box_std: "free", "state" or "gsde", for the Gaussians.

    Raises:
        UsageError: for a choice that does not fit the space.
    """
    if isinstance(action, DictSpec | TupleSpec):
        return _joint_head(action, box_distribution, box_std)
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


def _joint_head(action: DictSpec | TupleSpec, box_distribution: str, box_std: str) -> JointHead:
    parts = leaf_specs(action)
    if box_std == "gsde":
        raise UsageError("box_std is 'gsde', which explores with one Box, but the actions have parts; choose another.")
    if not any(isinstance(part, BoxSpec) for part in parts):  # then the choices must be the defaults
        return JointHead(action, tuple(action_head(part, box_distribution, box_std) for part in parts))
    heads = [
        _box_head(part, box_distribution, box_std) if isinstance(part, BoxSpec) else action_head(part) for part in parts
    ]
    return JointHead(action, tuple(heads))


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
