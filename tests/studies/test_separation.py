"""The sequential test of studies: how often it is wrong, in simulated studies, and how many seeds it saves."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from rlgd.studies.separation import EXACT, after_round, begin, fewest_seeds, rank_tail, schedule, welch
from tests.support.simulated_studies import (
    EQUALLY_GOOD,
    ERROR,
    SIZES,
    Array,
    alone,
    always_half_or_all_or_nothing,
    ceiling,
    half_vary,
    heavy_tails,
    naive,
    normal,
    rounds_of,
    run,
    solved_or_stuck,
)


@pytest.mark.parametrize(("points", "seeds"), SIZES)
@pytest.mark.parametrize("draw", EQUALLY_GOOD)
def test_at_most_one_study_in_twenty_calls_one_of_equals_worse(
    draw: Callable[[np.random.Generator, int, int], Array], points: int, seeds: int
) -> None:
    returns, rounds = draw(np.random.default_rng(0), points, seeds), rounds_of(points, seeds)
    false = (~run(returns, rounds)[0].remaining).any(1).mean()
    assert false <= ERROR
    if draw is normal:  # the same data, the same rounds, no correction: here the check above would fail
        assert naive(returns, rounds).mean() > 2 * ERROR


def test_neither_test_would_do_alone() -> None:
    rounds = rounds_of(5, 20)
    assert alone(half_vary(np.random.default_rng(0), 5, 20), rounds)[0].mean() > ERROR
    coins = solved_or_stuck(
        np.random.default_rng(0), 5, 3
    )  # Welch's test has no smallest p-value, so it could begin here
    assert (welch(coins) <= ERROR / 20).any((1, 2)).mean() > ERROR


@pytest.mark.parametrize("draw", [normal, heavy_tails, ceiling, solved_or_stuck, half_vary])
def test_those_that_are_worse_do_not_hurt_the_best(
    draw: Callable[[np.random.Generator, int, int], Array],
) -> None:
    """Two of six are best; two are a little, two much worse. A call is false if the better is not better."""
    lower = np.array([0.0, 0.0, 0.5, 0.5, 100.0, 1000.0])
    returns = draw(np.random.default_rng(1), 6, 20) - lower[:, None]
    standing, _ = run(returns, rounds_of(6, 20))
    false = ~standing.remaining & (lower <= lower[standing.beaten_by])
    assert false.any(1).mean() <= ERROR
    assert (~standing.remaining[:, 5]).mean() > 0.9


def test_what_is_not_promised_is_known() -> None:
    """Where neither condition holds more studies may be wrong; the document has these figures."""
    returns = always_half_or_all_or_nothing(np.random.default_rng(0), 5, 20)
    false = (~run(returns, rounds_of(5, 20))[0].remaining).any(1).mean()
    assert ERROR < false < 0.2


@pytest.mark.parametrize(
    ("means", "spreads"),
    [
        ([20, 120, 300, 480, 495], [5, 60, 120, 30, 10]),
        ([9.5, 150, 400, 470, 480, 490], [0.3, 60, 90, 60, 40, 20]),
        ([15, 30, 90, 250, 420, 480, 495, 490, 350, 120, 12], [3, 15, 50, 100, 80, 40, 15, 20, 140, 90, 2]),
        ([498] * 6, [10] * 6),
    ],
)
def test_about_half_the_seeds_are_saved(means: list[float], spreads: list[float]) -> None:
    """Returns in CartPole-v1 as learning rates, depths and the like have them."""
    shape = np.random.default_rng(0).standard_normal((500, len(means), 20))
    returns = np.clip(np.array(means)[:, None] + np.array(spreads)[:, None] * shape, 8, 500)
    standing, used = run(returns, rounds_of(len(means), 20))
    assert used.mean() / 20 < 0.6
    if means[0] < 50:
        assert not standing.remaining[:, 0].any()
    assert standing.remaining.any(1).all()


def test_a_round_is_the_smallest_that_can_tell_anything() -> None:
    rounds = rounds_of(5, 20)
    assert rounds.seeds == (6, 8, 11, 15, 20)
    assert sum(rounds.levels) == pytest.approx(ERROR / 5)  # of a point, which four others share at first
    assert 1 / math.comb(12, 6) <= rounds.levels[0] / 4 < 1 / math.comb(10, 5)
    assert rounds_of(5, 12).seeds == (6, 8, 12)  # no last round of one seed
    assert rounds_of(2, 10).seeds == (4, 5, 7, 10)
    assert schedule(5, 5, 5, ERROR) == ((), ())
    assert fewest_seeds(5, 5, ERROR) == 6
    assert schedule(6, 5, 5, ERROR).seeds == (6,)
    assert schedule(5, 2, 2, 0.9).seeds[0] == 3
    assert schedule(20, 40, 15, ERROR).seeds[0] == 9  # six arms, of which the largest decides


def test_fewer_points_have_larger_shares() -> None:
    """A pair that one of two is not enough for when six are compared is separated when two remain."""
    lower = np.linspace(0, 1, 12)
    six, rounds = np.stack([lower, lower + 0.55, *[lower] * 4]), rounds_of(6, 20)
    assert rounds.seeds[2] == 12
    assert after_round(begin(6), six, rounds, 2).remaining.all()
    two = begin(6)._replace(beaten_after=np.array([0, 0, 7, 7, 7, 7]))
    assert after_round(two, six, rounds, 2).remaining.tolist() == [False, True] + [False] * 4


def test_the_tests_are_the_ones_of_the_literature() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 7, 20):
        one, other = rng.standard_normal(n), 3 * rng.standard_normal(n) - 0.5
        u = int((one[:, None] > other).sum())
        rank = stats.mannwhitneyu(one, other, alternative="greater", method="exact").pvalue
        assert rank_tail(n)[u] == pytest.approx(rank, rel=1e-9)
        t = stats.ttest_ind(one, other, equal_var=False, alternative="greater").pvalue
        assert welch(np.stack([one, other]))[0, 1] == pytest.approx(t, rel=1e-9)
    tail = rank_tail(EXACT)
    assert tail[0] == pytest.approx(1, rel=1e-12)
    assert tail[-1] == pytest.approx(1 / math.comb(2 * EXACT, EXACT), rel=1e-9)
    assert (np.diff(tail) <= 1e-12).all()


def test_beyond_the_exact_distribution_the_normal_one_errs_on_the_safe_side() -> None:
    n, tail = EXACT, rank_tail(EXACT)
    counts = np.arange(n * n + 1)
    z = (counts - 0.5 - n * n / 2) / (n * math.sqrt((2 * n + 1) / 12))
    small = tail < 0.01
    assert (stats.norm.sf(z)[small] >= 0.95 * tail[small]).all()


def test_points_that_do_not_vary() -> None:
    constant = np.array([[[1.0] * 6, [2.0] * 6, [2.0] * 6]])
    np.testing.assert_array_equal(welch(constant)[0] == 0, [[False] * 3, [True, False, False], [True, False, False]])
    standing = after_round(begin(3, 1), constant, rounds_of(3, 20), 0)
    assert standing.beaten_after.tolist() == [[6, 0, 0]]
    assert standing.beaten_by.tolist() == [[1, -1, -1]]
    assert standing.over.all()  # the other two are equal: nothing will tell them apart


def test_returns_that_are_not_finite_are_the_lowest() -> None:
    returns = np.array([[np.nan, -np.inf, np.nan, np.nan, np.nan, np.inf], [10, 11, 12, 13, 14, 15.0]])
    standing = after_round(begin(2), returns, rounds_of(2, 20), 0)
    assert standing.remaining.tolist() == [True, True]  # as the lowest that is known, 10, they are hardly worse
    third = np.array([*returns, [1, 1, 1, 2, 2, 2.0]])
    assert after_round(begin(3), third, rounds_of(3, 20), 0).beaten_after.tolist() == [6, 0, 6]
    assert after_round(begin(2), np.full((2, 6), np.nan), rounds_of(2, 20), 0).remaining.all()


def test_one_point_is_over_after_a_round() -> None:
    standing = after_round(begin(1), np.ones((1, 6)), rounds_of(2, 20), 0)
    assert standing.over
    assert standing.remaining.tolist() == [True]
