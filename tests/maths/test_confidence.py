"""Statistics over seeds, against definitions written out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlgd.errors import UsageError
from rlgd.maths import confidence

SCORES = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_the_interquartile_mean_is_that_of_the_middle_half(scores: list[float]) -> None:
    cut = len(scores) // 4
    middle = sorted(scores)[cut : len(scores) - cut]
    np.testing.assert_allclose(confidence.interquartile_mean(scores), np.mean(middle), atol=1e-9)


@given(SCORES)
def test_an_interval_lies_around_its_value_and_within_the_scores(scores: list[float]) -> None:
    value, low, high = confidence.interval(scores)
    assert min(scores) - 1e-9 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= max(scores) + 1e-9


def test_intervals_cover_as_often_as_they_say() -> None:
    """Of 20 normal scores; the percentile bootstrap is known to cover a little less than it says."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        _, low, high = confidence.interval(rng.normal(3, 1, 20))
        covered += low <= 3 <= high
    assert 0.89 <= covered / 300 <= 0.98


def test_strata_are_resampled_for_themselves() -> None:
    """Two environments with very different returns: the difference between them is not uncertainty."""
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 1, 12), rng.normal(100, 1, 12)
    pooled, stratified = confidence.interval(np.concatenate([near, far])), confidence.interval(near, far)
    assert pooled.value == stratified.value
    assert stratified.high - stratified.low < (pooled.high - pooled.low) / 2


def test_equal_scores_and_a_single_score() -> None:
    assert confidence.interval([2.0, 2.0, 2.0]) == (2, 2, 2)
    value, low, high = confidence.interval([5.0])
    assert value == 5
    assert math.isnan(low)
    assert math.isnan(high)


def test_the_same_scores_have_the_same_interval() -> None:
    scores = np.random.default_rng(0).normal(size=9)
    assert confidence.interval(scores) == confidence.interval(scores)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=10))
def test_the_probability_of_improvement_counts_all_pairs(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array(side, float) for side in zip(*pairs, strict=True))
    won = [1.0 if a > b else 0.5 if a == b else 0.0 for a in x for b in y]
    value, low, high = confidence.probability_of_improvement(x, y)
    np.testing.assert_allclose(value, np.mean(won), atol=1e-12)
    assert -1e-9 <= low <= high <= 1 + 1e-9
    np.testing.assert_allclose(confidence.probability_of_improvement(y, x).value, 1 - value, atol=1e-12)


def test_bands_are_intervals_at_each_place() -> None:
    curves = np.random.default_rng(0).normal(size=(10, 3)) + np.arange(3)
    value, low, high = confidence.bands(curves)
    for place in range(3):
        one = confidence.interval(curves[:, place])
        np.testing.assert_allclose(value[place], one.value)
        np.testing.assert_allclose([low[place], high[place]], one[1:], atol=0.15)


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [math.inf], [[1.0, 2.0]]])
def test_what_is_no_score_is_refused(scores: list[float]) -> None:
    with pytest.raises(UsageError, match="finite numbers, one for each seed"):
        confidence.interval(scores)


def test_unpaired_seeds_are_refused() -> None:
    with pytest.raises(UsageError, match="3 scores and 2 of the baseline"):
        confidence.probability_of_improvement([1.0, 2, 3], [1.0, 2])
