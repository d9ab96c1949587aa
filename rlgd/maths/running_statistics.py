"""Running mean and variance that can be merged, for observations and for the scale of rewards."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.maths.minibatches import as_rows
from rlgd.maths.shapes import check_same_shape, check_shape
from rlgd.pytrees import Scalar, pytree

EPSILON = 1e-8
CLIP = 10.0


@pytree
@dataclasses.dataclass(frozen=True)
class RunningStatistics:
    """Count, mean and variance of all rows so far.

    ``count`` is a scalar float32. Beyond 2^24 it rounds; once it no longer grows, the statistics continue as an
    exponential average. They never freeze. ``mean`` and ``variance`` have the shape of a row.
    """

    count: Array
    mean: Array
    variance: Array


def empty(shape: tuple[int, ...]) -> RunningStatistics:
    """Statistics of no rows. Normalizing with them only clips, to +-10."""
    return RunningStatistics(jnp.zeros(()), jnp.zeros(shape), jnp.ones(shape))


def of_batch(x: Array, mask: Array | None = None) -> RunningStatistics:
    """The statistics of one batch, ``x [rows, ...]``. Only rows with True in ``mask [rows]`` count.

    Deviations are taken from the first row that counts, then from the mean: so 1e6 + N(0, 1) keeps its variance in
    float32.

    Raises:
        ValueError: if ``x`` has no rows axis, or ``mask`` another length.
    """
    if x.ndim < 1:
        raise ValueError(f"x has shape {x.shape}; expected rows as its leading axis.")
    if mask is not None:
        check_shape("mask", mask, x.shape[:1])
    weight = jnp.ones(x.shape[0], x.dtype) if mask is None else mask.astype(x.dtype)
    count = jnp.sum(weight)
    per_row = weight.reshape(-1, *(1,) * (x.ndim - 1))
    share = per_row / jnp.maximum(count, 1)
    reference = x[0] if mask is None else x[jnp.argmax(weight)]  # to look for a row, devices would gather all
    shifted = jnp.where(per_row > 0, x - reference[None], 0)
    offset = jnp.sum(share * shifted, axis=0)
    variance = jnp.sum(share * jnp.square(shifted - offset[None]), axis=0)
    return RunningStatistics(count, reference + offset, variance)


def merge(a: RunningStatistics, b: RunningStatistics) -> RunningStatistics:
    """The statistics of both together (Chan, Golub & LeVeque 1979).

    Raises:
        ValueError: if their rows have different shapes.
    """
    check_shape("the second mean", b.mean, a.mean.shape)
    count = a.count + b.count
    share = b.count / jnp.maximum(count, 1)
    delta = b.mean - a.mean
    mean = jnp.where(a.count > 0, a.mean + delta * share, b.mean)
    variance = a.variance * (1 - share) + b.variance * share + jnp.square(delta) * share * (1 - share)
    return RunningStatistics(count, jnp.where(b.count > 0, mean, a.mean), jnp.where(b.count > 0, variance, a.variance))


def pooled(each: RunningStatistics) -> RunningStatistics:
    """One for several statistics ``[n, ...]`` of as many rows each; the count stays that of one of them."""
    mean = jnp.mean(each.mean, axis=0)
    variance = jnp.mean(each.variance + jnp.square(each.mean - mean[None]), axis=0)
    return RunningStatistics(jnp.mean(each.count, axis=0), mean, variance)


def normalize(statistics: RunningStatistics | None, x: Array) -> Array:
    """``x [..., *shape]`` at mean 0 and variance 1, clipped to +-10; unchanged without statistics.

    Raises:
        ValueError: if ``x`` does not end with the shape of a row.
    """
    if statistics is None:
        return x
    row = statistics.mean.shape
    check_shape("x", x, (*x.shape[: x.ndim - len(row)], *row))
    mean, variance = (jnp.broadcast_to(s, x.shape) for s in (statistics.mean, statistics.variance))
    return jnp.clip((x - mean) * jax.lax.rsqrt(variance + EPSILON), -CLIP, CLIP)


@pytree
@dataclasses.dataclass(frozen=True)
class RewardScale:
    """The spread of the discounted return, and each environment's return so far, ``[N]``."""

    statistics: RunningStatistics
    running: Array


def empty_reward_scale(num_envs: int) -> RewardScale:
    """The scale before the first reward: scaling with it changes nothing."""
    return RewardScale(empty(()), jnp.zeros(num_envs))


def scale_reward(scale: RewardScale | None, reward: Array) -> Array:
    """``reward`` over the standard deviation of the discounted return (Engstrom et al. 2020, arXiv 2005.12729).

    The mean is not subtracted: that would change which policy is best.
    """
    if scale is None:
        return reward
    return reward * jax.lax.rsqrt(scale.statistics.variance + EPSILON)


def observe_reward(
    scale: RewardScale, reward: Array, done: Array, gamma: Scalar, mask: Array | None = None
) -> RewardScale:
    """The scale with rewards ``[T, N]`` added (Engstrom et al. 2020, arXiv 2005.12729).

    The running return R_t = gamma * R_{t-1} + r_t restarts after ``done [T, N]``; rows with mask False are left out.

    Raises:
        ValueError: if the shapes differ.
    """
    check_same_shape(reward=reward, done=done, mask=mask)
    check_shape("the running return", scale.running, reward.shape[1:])
    if mask is not None:
        reward = jnp.where(mask, reward, 0)

    def step(running: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, done = row
        running = gamma * running + reward
        return jnp.where(done, 0, running), running

    running, returns = jax.lax.scan(step, scale.running, (reward, done))
    batch = of_batch(as_rows(returns), as_rows(mask))
    return RewardScale(merge(scale.statistics, batch), running)
