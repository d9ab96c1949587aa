"""Running statistics against NumPy in float64 over everything that was seen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import Array
from numpy.typing import NDArray

from rlgd.maths import running_statistics
from rlgd.maths.running_statistics import RunningStatistics

ROWS, SIZE = 12, 3


def assert_statistics(statistics: RunningStatistics, seen: NDArray[Any], tolerance: float = 1e-5) -> None:
    assert statistics.count == len(seen)
    np.testing.assert_allclose(statistics.mean, np.mean(seen, axis=0, dtype=float), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(statistics.variance, np.var(seen, axis=0, dtype=float), rtol=10 * tolerance)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_of_batch_equals_numpy(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(3, 2, size=(ROWS, *shape)).astype(np.float32)
    statistics = running_statistics.of_batch(jnp.asarray(x))
    assert statistics.mean.shape == statistics.variance.shape == shape
    assert_statistics(statistics, x)


@jax.jit
def merged(x: Array, first: Array, second: Array) -> RunningStatistics:
    return running_statistics.merge(running_statistics.of_batch(x, first), running_statistics.of_batch(x, second))


FLAGS = st.lists(st.booleans(), min_size=ROWS, max_size=ROWS).filter(any)


@given(seed=st.integers(0, 1000), mask=FLAGS, split=st.integers(0, ROWS))
def test_merging_any_split_equals_the_whole(seed: int, mask: list[bool], split: int) -> None:
    x = np.random.default_rng(seed).normal(5, 2, size=(ROWS, SIZE)).astype(np.float32)
    keep, before = np.array(mask), np.arange(ROWS) < split
    result = merged(jnp.asarray(x), jnp.asarray(keep & before), jnp.asarray(keep & ~before))
    assert_statistics(result, x[keep])


@given(mask=FLAGS)
def test_masked_rows_count_for_nothing_whatever_they_hold(mask: list[bool]) -> None:
    x = np.random.default_rng(1).normal(size=(ROWS, SIZE)).astype(np.float32)
    keep = np.array(mask)
    hidden = np.where(keep[:, None], x, np.nan)
    assert_statistics(merged(jnp.asarray(hidden), jnp.asarray(keep), jnp.zeros(ROWS, bool)), x[keep])


def test_nothing_seen_changes_nothing() -> None:
    seen = running_statistics.of_batch(jnp.asarray(np.random.default_rng(2).normal(size=(ROWS, SIZE)), jnp.float32))
    nothing = running_statistics.of_batch(jnp.full((ROWS, SIZE), jnp.nan), jnp.zeros(ROWS, bool))
    for result in (
        running_statistics.merge(seen, running_statistics.empty((SIZE,))),
        running_statistics.merge(running_statistics.empty((SIZE,)), seen),
        running_statistics.merge(seen, nothing),
    ):
        jax.tree.map(np.testing.assert_array_equal, result, seen)


def test_merging_is_associative_over_many_batches() -> None:
    x = np.random.default_rng(3).normal(-4, 0.1, size=(200, 7, SIZE)).astype(np.float32)

    def take(statistics: RunningStatistics, batch: Array) -> tuple[RunningStatistics, None]:
        return running_statistics.merge(statistics, running_statistics.of_batch(batch)), None

    result, _ = jax.lax.scan(take, running_statistics.empty((SIZE,)), jnp.asarray(x))
    assert_statistics(result, x.reshape(-1, SIZE), tolerance=1e-4)


@pytest.mark.parametrize("batches", [1, 64])
def test_a_large_mean_does_not_swallow_the_variance(batches: int) -> None:
    """1e6 + N(0, 1): the mean of squares less the square of the mean would be off by thousands in float32."""
    x = jnp.asarray(1e6 + np.random.default_rng(4).normal(size=(batches, 4096 // batches, 1)), jnp.float32)
    result = running_statistics.empty((1,))
    for batch in x:
        result = running_statistics.merge(result, running_statistics.of_batch(batch))
    np.testing.assert_allclose(result.variance, 1, rtol=0.05)
    normalized = running_statistics.normalize(result, x.reshape(-1, 1))  # neighbouring float32 are 0.06 apart there
    np.testing.assert_allclose([jnp.mean(normalized), jnp.std(normalized)], [0, 1], atol=0.1)


@pytest.mark.parametrize("count", [2.0**24, 2.0**30])
@pytest.mark.parametrize("rows", [1, 1024])
def test_statistics_still_move_when_the_count_no_longer_grows(count: float, rows: int) -> None:
    """Then they are an exponential average: batches of constant 1 draw a mean of 0 towards 1."""
    before = RunningStatistics(jnp.array(count), jnp.zeros(1), jnp.ones(1))
    batch = RunningStatistics(jnp.array(float(rows)), jnp.ones(1), jnp.zeros(1))
    steps = 1000
    after, _ = jax.lax.scan(lambda total, _: (running_statistics.merge(total, batch), None), before, None, length=steps)
    moved = -np.expm1(-steps * rows / count) if rows == 1 else 1 - count / (count + steps * rows)
    np.testing.assert_allclose(after.mean, moved, rtol=0.01)


def test_normalize_shifts_scales_and_clips() -> None:
    x = np.random.default_rng(5).normal([1, -5, 100], [1, 0.01, 30], size=(400, SIZE)).astype(np.float32)
    statistics = running_statistics.of_batch(jnp.asarray(x))
    result = np.asarray(running_statistics.normalize(statistics, jnp.asarray(x.reshape(20, 20, SIZE))))
    np.testing.assert_allclose(result.mean((0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(result.std((0, 1)), 1, atol=1e-3)
    np.testing.assert_array_equal(
        running_statistics.normalize(statistics, jnp.full((SIZE,), 1e6)), running_statistics.CLIP
    )
    np.testing.assert_array_equal(
        running_statistics.normalize(statistics, jnp.full((SIZE,), -1e6)), -running_statistics.CLIP
    )


def test_a_constant_feature_becomes_0() -> None:
    x = jnp.full((ROWS, SIZE), 0.1)
    np.testing.assert_array_equal(running_statistics.normalize(running_statistics.of_batch(x), x), 0)


def test_without_statistics_nothing_changes() -> None:
    x = jnp.linspace(-9, 9, SIZE)
    np.testing.assert_array_equal(running_statistics.normalize(None, x), x)
    np.testing.assert_array_equal(running_statistics.normalize(running_statistics.empty((SIZE,)), x), x)
    np.testing.assert_array_equal(running_statistics.scale_reward(None, x), x)
    np.testing.assert_array_equal(running_statistics.scale_reward(running_statistics.empty_reward_scale(2), x), x)


T, N, GAMMA = 8, 4, 0.9


def rewards(seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rewards, ends, and a mask that hides the row after each end, with nonsense in it."""
    rng = np.random.default_rng(seed)
    reward, done = rng.normal(1, 2, size=(T, N)).astype(np.float32), rng.random((T, N)) < 0.3
    mask = np.ones((T, N), bool)
    for t in range(1, T):
        mask[t] = ~(done[t - 1] & mask[t - 1])
    return np.where(mask, reward, np.nan), done & mask, mask


@pytest.mark.parametrize("masked", [False, True])
def test_reward_scale_is_the_spread_of_the_discounted_return(masked: bool) -> None:
    scale = running_statistics.empty_reward_scale(N)
    running, seen = np.zeros(N), []
    for seed in range(3):
        reward, done, mask = rewards(seed)
        if not masked:
            reward, mask = np.nan_to_num(reward), np.ones_like(mask)
        arrays = jnp.asarray(reward), jnp.asarray(done), jnp.float32(GAMMA)
        scale = running_statistics.observe_reward(scale, *arrays, jnp.asarray(mask) if masked else None)
        for t, n in np.ndindex(T, N):
            if mask[t, n]:
                running[n] = GAMMA * running[n] + reward[t, n]
                seen.append(running[n])
                running[n] *= not done[t, n]
    assert_statistics(scale.statistics, np.array(seen))
    np.testing.assert_allclose(scale.running, running, rtol=1e-5, atol=1e-6)
    given_rewards = jnp.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(
        running_statistics.scale_reward(scale, given_rewards), given_rewards / np.std(seen), rtol=1e-5, atol=0
    )
