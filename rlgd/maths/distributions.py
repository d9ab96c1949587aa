"""Action distributions. Batch axes lead; ``log_prob``, ``entropy`` and ``kl`` sum over the event axis.

``log_prob`` takes one ``x`` for each distribution, ``kl`` a batch of the same shape; other shapes raise ValueError.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import betaln, digamma

from rlgd.maths.shapes import check_shape
from rlgd.pytrees import pytree

FEW_VALUES = 16  # of a categorical distribution, one after another
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(24)


@pytree
@dataclasses.dataclass(frozen=True)
class Categorical:
    """Integers 0 to n - 1 with unnormalized log-probabilities ``logits [..., n]``; minus infinity: never."""

    logits: Array

    @property
    def log_probs(self) -> Array:
        """``[..., n]`` normalized log-probabilities."""
        return jax.nn.log_softmax(self.logits)

    def sample(self, key: Array) -> Array:
        """``[...]`` int32, by the inverse of the distribution function: one uniform number a sample."""
        uniform = jax.random.uniform(key, self.logits.shape[:-1], self.logits.dtype)
        # The last cumulative sum is the scale of the uniform number; the others are the thresholds.
        if self.logits.shape[-1] > FEW_VALUES:
            weights = jnp.exp(self.logits - jnp.max(self.logits, axis=-1, keepdims=True))
            sums = jnp.cumsum(weights, axis=-1)
            return jnp.sum((uniform * sums[..., -1])[..., None] >= sums[..., :-1], axis=-1, dtype=jnp.int32)
        # Value by value: without a reduction, sampling is part of what comes before or after it, no kernel of its own.
        values = [self.logits[..., value] for value in range(self.logits.shape[-1])]
        largest = functools.reduce(jnp.maximum, values)
        *thresholds, total = itertools.accumulate(jnp.exp(value - largest) for value in values)
        passed = [(uniform * total >= threshold).astype(jnp.int32) for threshold in thresholds]
        return functools.reduce(jnp.add, passed, jnp.zeros(uniform.shape, jnp.int32))

    def log_prob(self, x: Array) -> Array:
        """``[...]`` log-probability of ``x [...]`` int."""
        check_shape("x", x, self.logits.shape[:-1])
        # A sum in which one value counts: the gradient of an indexed array would be a scatter, which is slow.
        chosen = jax.nn.one_hot(x, self.logits.shape[-1], dtype=bool)
        # An x that is no value has no probability: NaN ends a run, which a 0 would hide.
        return jnp.where(jnp.any(chosen, axis=-1), jnp.sum(jnp.where(chosen, self.log_probs, 0), axis=-1), jnp.nan)

    def entropy(self) -> Array:
        """``[...]`` in nats."""
        return -jnp.sum(_weighted(jax.nn.softmax(self.logits), self.log_probs), axis=-1)

    def mode(self) -> Array:
        """``[...]`` int32, the most probable value."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def kl(self, other: "Categorical") -> Array:
        """``[...]`` KL(self || other) in nats."""
        check_shape("logits of the other distribution", other.logits, self.logits.shape)
        return jnp.sum(_weighted(jax.nn.softmax(self.logits), self.log_probs - other.log_probs), axis=-1)


def _weighted(probs: Array, values: Array) -> Array:
    """``probs * values``, and 0 where the probability is 0, even if the value is infinite; gradients likewise."""
    return probs * jnp.where(probs > 0, values, 0)


@pytree
@dataclasses.dataclass(frozen=True)
class DiagGaussian:
    """Independent normal numbers: ``mean [..., d]`` and ``log_std``, broadcast to it."""

    mean: Array
    log_std: Array

    @property
    def _log_std(self) -> Array:
        return jnp.broadcast_to(self.log_std, self.mean.shape)

    def sample(self, key: Array) -> Array:
        """``[..., d]`` float."""
        return self.mean + jnp.exp(self._log_std) * jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def log_prob(self, x: Array) -> Array:
        """``[...]`` log-density of ``x [..., d]``."""
        check_shape("x", x, self.mean.shape)
        z = (x - self.mean) * jnp.exp(-self._log_std)
        return jnp.sum(-0.5 * jnp.square(z) - self._log_std - LOG_SQRT_2PI, axis=-1)

    def entropy(self) -> Array:
        """``[...]`` differential entropy in nats."""
        return jnp.sum(self._log_std + 0.5 + LOG_SQRT_2PI, axis=-1)

    def mode(self) -> Array:
        """``[..., d]``, the mean."""
        return self.mean

    def kl(self, other: "DiagGaussian") -> Array:
        """``[...]`` KL(self || other) in nats."""
        check_shape("mean of the other distribution", other.mean, self.mean.shape)
        ratio = jnp.exp(2 * (self._log_std - other._log_std))
        distance = jnp.square((self.mean - other.mean) * jnp.exp(-other._log_std))
        return 0.5 * jnp.sum(ratio + distance - 1 - jnp.log(ratio), axis=-1)


@pytree
@dataclasses.dataclass(frozen=True)
class TanhGaussian:
    """A diagonal Gaussian squashed into the box from ``low`` to ``high`` (each ``[d]``), by tanh.

    ``sample``, ``log_prob`` and ``mode`` use the value *before* tanh. Rollouts store this value, so that no atanh is
    needed. ``log_prob`` is the log-density of ``squash(x)``: it includes the correction for the change of variable
    (Haarnoja et al. 2018, arXiv 1801.01290, appendix C), log(1 - tanh(x)^2) = 2 (log 2 - x - softplus(-2x)), a form
    that does not overflow.
    """

    mean: Array
    log_std: Array
    low: Array
    high: Array

    @property
    def _gaussian(self) -> DiagGaussian:
        return DiagGaussian(self.mean, self.log_std)

    def _log_slope(self, x: Array) -> Array:
        half_width = jnp.broadcast_to(0.5 * (self.high - self.low), x.shape)
        return jnp.log(half_width) + 2 * (math.log(2) - x - jax.nn.softplus(-2 * x))

    def squash(self, x: Array) -> Array:
        """``[..., d]``, the action in the box for the sample ``x``; rounding never leaves the box."""
        low, high = (jnp.broadcast_to(bound, x.shape) for bound in (self.low, self.high))
        return jnp.clip(low + 0.5 * (high - low) * (jnp.tanh(x) + 1), low, high)

    def sample(self, key: Array) -> Array:
        """``[..., d]`` float, before tanh."""
        return self._gaussian.sample(key)

    def log_prob(self, x: Array) -> Array:
        """``[...]`` log-density of ``squash(x)``."""
        check_shape("x", x, self.mean.shape)
        return self._gaussian.log_prob(x) - jnp.sum(self._log_slope(x), axis=-1)

    def entropy(self) -> Array:
        """``[...]`` differential entropy of the squashed value, by Gauss-Hermite quadrature with 24 nodes.

        The integrand is almost linear far out, so the rule is accurate to 1e-3 nats for standard deviations up to 2.
        """
        nodes = jnp.asarray(_NODES, self.mean.dtype).reshape(-1, *(1,) * self.mean.ndim)
        weights = jnp.asarray(_WEIGHTS / _WEIGHTS.sum(), self.mean.dtype)
        std = jnp.exp(jnp.broadcast_to(self.log_std, self.mean.shape))
        correction = jnp.tensordot(weights, self._log_slope(self.mean[None] + std[None] * nodes), axes=1)
        return self._gaussian.entropy() + jnp.sum(correction, axis=-1)

    def mode(self) -> Array:
        """``[..., d]``, the Gaussian's mean, before tanh."""
        return self.mean

    def kl(self, other: "TanhGaussian") -> Array:
        """``[...]`` KL(self || other) in nats; squashing both alike does not change it."""
        check_shape("mean of the other distribution", other.mean, self.mean.shape)
        return self._gaussian.kl(other._gaussian)


@pytree
@dataclasses.dataclass(frozen=True)
class Beta:
    """Independent Beta-distributed numbers in the box from ``low`` to ``high`` (each ``[d]``), with the positive
    parameters ``alpha`` and ``beta`` (each ``[..., d]``): bounded without clipping (Chou, Maturana & Scherer 2017).

    ``sample``, ``log_prob`` and ``mode`` use the number in (0, 1), which is stored; ``log_prob`` is that of ``squash``.
    """

    alpha: Array
    beta: Array
    low: Array
    high: Array

    @property
    def _log_width(self) -> Array:
        return jnp.broadcast_to(jnp.log(self.high - self.low), self.alpha.shape)

    def squash(self, x: Array) -> Array:
        """``[..., d]``, the action in the box for the sample ``x``; rounding never leaves the box."""
        low, high = (jnp.broadcast_to(bound, x.shape) for bound in (self.low, self.high))
        return jnp.clip(low + (high - low) * x, low, high)

    def sample(self, key: Array) -> Array:
        """``[..., d]`` float, far enough from 0 and 1 that the logarithms are finite."""
        return _inside(jax.random.beta(key, self.alpha, self.beta))

    def log_prob(self, x: Array) -> Array:
        """``[...]`` log-density of ``squash(x)``."""
        check_shape("x", x, self.alpha.shape)
        x = _inside(x)
        unit = (self.alpha - 1) * jnp.log(x) + (self.beta - 1) * jnp.log1p(-x) - betaln(self.alpha, self.beta)
        return jnp.sum(unit - self._log_width, axis=-1)

    def entropy(self) -> Array:
        """``[...]`` differential entropy in nats."""
        alpha, beta, total = self.alpha, self.beta, self.alpha + self.beta
        unit = betaln(alpha, beta) - (alpha - 1) * digamma(alpha) - (beta - 1) * digamma(beta)
        return jnp.sum(unit + (total - 2) * digamma(total) + self._log_width, axis=-1)

    def mode(self) -> Array:
        """``[..., d]``, the most probable number; the mean where the density has no peak inside."""
        peaked = (self.alpha > 1) & (self.beta > 1)
        peak = (self.alpha - 1) / jnp.where(peaked, self.alpha + self.beta - 2, 1)
        return jnp.where(peaked, peak, self.alpha / (self.alpha + self.beta))

    def kl(self, other: "Beta") -> Array:
        """``[...]`` KL(self || other) in nats."""
        check_shape("alpha of the other distribution", other.alpha, self.alpha.shape)
        alpha, beta = self.alpha, self.beta
        apart = betaln(other.alpha, other.beta) - betaln(alpha, beta)
        apart += (alpha - other.alpha) * digamma(alpha) + (beta - other.beta) * digamma(beta)
        return jnp.sum(apart + (other.alpha - alpha + other.beta - beta) * digamma(alpha + beta), axis=-1)


def _inside(x: Array) -> Array:
    return jnp.clip(x, jnp.finfo(x.dtype).eps, 1 - jnp.finfo(x.dtype).eps)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["logits"], meta_fields=["nvec"])
@dataclasses.dataclass(frozen=True)
class MultiCategorical:
    """Independent integers, the i-th from 0 to ``nvec[i] - 1``; ``logits [..., sum(nvec)]`` are theirs side by side."""

    logits: Array
    nvec: tuple[int, ...]

    @property
    def numbers(self) -> Categorical:
        """``[..., len(nvec)]`` distributions of equal width: values that a number cannot have get probability 0."""
        place = np.arange(max(self.nvec))
        starts = np.cumsum((0, *self.nvec[:-1]))[:, None]
        valid = place[None] < np.array(self.nvec)[:, None]
        logits = self.logits[..., np.where(valid, starts + place[None], 0)]
        lowest = jnp.finfo(logits.dtype).min
        return Categorical(jnp.where(jnp.broadcast_to(jnp.asarray(valid), logits.shape), logits, lowest))

    def sample(self, key: Array) -> Array:
        """``[..., len(nvec)]`` int32."""
        return self.numbers.sample(key)

    def log_prob(self, x: Array) -> Array:
        """``[...]`` log-probability of ``x [..., len(nvec)]`` int."""
        check_shape("x", x, (*self.logits.shape[:-1], len(self.nvec)))
        return jnp.sum(self.numbers.log_prob(x), axis=-1)

    def entropy(self) -> Array:
        """``[...]`` in nats."""
        return jnp.sum(self.numbers.entropy(), axis=-1)

    def mode(self) -> Array:
        """``[..., len(nvec)]`` int32, the most probable values."""
        return self.numbers.mode()

    def kl(self, other: "MultiCategorical") -> Array:
        """``[...]`` KL(self || other) in nats."""
        check_shape("logits of the other distribution", other.logits, self.logits.shape)
        return jnp.sum(self.numbers.kl(other.numbers), axis=-1)


@pytree
@dataclasses.dataclass(frozen=True)
class Bernoulli:
    """Independent bits; ``logits [..., d]`` are the log-odds of 1, which may be infinite."""

    logits: Array

    @property
    def log_probs(self) -> Array:
        """``[..., d, 2]`` log-probabilities of 0 and 1."""
        return jnp.stack([jax.nn.log_sigmoid(-self.logits), jax.nn.log_sigmoid(self.logits)], axis=-1)

    def sample(self, key: Array) -> Array:
        """``[..., d]`` int32, 0 or 1."""
        uniform = jax.random.uniform(key, self.logits.shape, self.logits.dtype)
        return (uniform < jax.nn.sigmoid(self.logits)).astype(jnp.int32)

    def log_prob(self, x: Array) -> Array:
        """``[...]`` log-probability of ``x [..., d]``, 0 or 1."""
        check_shape("x", x, self.logits.shape)
        return jnp.sum(jnp.where(x == 1, self.log_probs[..., 1], self.log_probs[..., 0]), axis=-1)

    def entropy(self) -> Array:
        """``[...]`` in nats."""
        return -jnp.sum(_weighted(jnp.exp(self.log_probs), self.log_probs), axis=(-2, -1))

    def mode(self) -> Array:
        """``[..., d]`` int32, 1 where it is the more probable."""
        return (self.logits > 0).astype(jnp.int32)

    def kl(self, other: "Bernoulli") -> Array:
        """``[...]`` KL(self || other) in nats."""
        check_shape("logits of the other distribution", other.logits, self.logits.shape)
        return jnp.sum(_weighted(jnp.exp(self.log_probs), self.log_probs - other.log_probs), axis=(-2, -1))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["parts"], meta_fields=["sizes"])
@dataclasses.dataclass(frozen=True)
class Joint:
    """Independent parts of an action, such as a Categorical and a Gaussian.

    Samples are the parts' side by side, ``[..., sum(sizes)]`` float; an integer is one number, exact up to 2^24.

    Attributes:
        parts: their distributions, with the same batch axes.
        sizes: how many numbers each has; 0 for one number without an axis of its own.
    """

    parts: tuple["Single", ...]
    sizes: tuple[int, ...]

    def sample(self, key: Array) -> Array:
        """``[..., d]`` float."""
        keys = jax.random.split(key, len(self.parts))
        return self._joined([part.sample(key) for part, key in zip(self.parts, keys, strict=True)])

    def log_prob(self, x: Array) -> Array:
        """``[...]`` log-density of ``x [..., d]``."""
        return _sum(part.log_prob(own) for part, own in zip(self.parts, self.split(x), strict=True))

    def entropy(self) -> Array:
        """``[...]`` in nats."""
        return _sum(part.entropy() for part in self.parts)

    def mode(self) -> Array:
        """``[..., d]`` float, the most probable value of each part."""
        return self._joined([part.mode() for part in self.parts])

    def kl(self, other: "Joint") -> Array:
        """``[...]`` KL(self || other) in nats."""
        return _sum(part.kl(own) for part, own in zip(self.parts, other.parts, strict=True))  # type: ignore[arg-type]

    def split(self, x: Array) -> list[Array]:
        """The samples of the parts in ``x [..., d]``, each as the part gives it."""
        found, start = [], 0
        for part, size in zip(self.parts, self.sizes, strict=True):
            own = x[..., start : start + max(size, 1)]
            whole = isinstance(part, Categorical | MultiCategorical | Bernoulli)
            own = own.astype(jnp.int32) if whole else own
            found.append(own if size else own[..., 0])
            start += max(size, 1)
        return found

    def _joined(self, samples: list[Array]) -> Array:
        dtype = jax.dtypes.canonicalize_dtype(float)
        columns = [x if size else x[..., None] for x, size in zip(samples, self.sizes, strict=True)]
        return jnp.concatenate([column.astype(dtype) for column in columns], axis=-1)


def _sum(terms: Iterable[Array]) -> Array:
    """The sum of arrays of one shape, of which there is at least one."""
    return functools.reduce(jnp.add, terms)


Single = Categorical | MultiCategorical | Bernoulli | DiagGaussian | TanhGaussian | Beta
Distribution = Single | Joint
