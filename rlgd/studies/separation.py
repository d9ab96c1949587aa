"""When points of a study differ: a group-sequential test out of a rank test and Welch's test, as pure functions.

**What is tested.** For each ordered pair (i, j) of the points that are compared, the hypothesis is that j is at least
as good as i. If it is rejected, j is beaten: it is worse than i, and so worse than the best. A false call beats a point
that is as good as the best. At most ``error`` of all studies make a false call, if for each pair whose j is one of the
best either

- returns of j have the distribution of i's, or are stochastically larger: P(j > x) >= P(i > x) for all x. The shape
  may be any, with ties too; or
- returns of both are normal, with any variances, and the mean of j is not below that of i.

No test of so few seeds can promise it for the means of any returns: a failure in one seed of ten would have to be
ruled out by seeds that did not fail. What happens elsewhere is simulated in ``tests/support/simulated_studies.py``.

**How.** Seeds come in rounds. After a round of n seeds a pair is rejected if *both* p-values are at most the level of
the round. So either test alone keeps the promise in its own case, and each covers what the other is blind to:

- Mann and Whitney 1947, "On a test of whether one of two random variables is stochastically larger than the other": U
  counts the pairs of seeds in which i's return is strictly larger than j's. The exact distribution of U for equal
  continuous distributions is used. Ties count against i, so with ties the test errs on the safe side. It is blind to
  different variances: where i hardly varies, all seeds of j are below i with probability 2^-n.
- Welch 1947, "The generalization of Student's problem when several different population variances are involved":
  t = (mean_i - mean_j) / sqrt(v_i + v_j) with v = variance / n, and (v_i + v_j)^2 (n - 1) / (v_i^2 + v_j^2) degrees of
  freedom. It is blind to other shapes, such as three seeds that are all at a ceiling by chance.

**Levels.** Each of the P points of a study has error / P, which is divided among those that it is still compared with:
(remaining - 1) points. A point's share is divided among the rounds by a spending function (Lan and DeMets 1983,
"Discrete sequential boundaries for clinical trials"), of the power family of Kim and DeMets 1987: when a share t of the
seeds is trained, sqrt(t) may be spent. What a round may spend is its level.

This bounds the probability of a false call, however pairs and rounds depend on one another. Let m of K points be best.
Until the first false call they all remain, so two of them meet at levels of at most error / (P (m - 1)) in all rounds
together, and one of them and a worse point, which makes m + 1 remaining ones, at error / (P m). The sum over the pairs
is m (m - 1) error / (P (m - 1)) + m (K - m) error / (P m) = error K / P, and over all comparisons of a study error.

**A comparison that is hopeless** ends, too: if no pair would be rejected after a later round, should the share of U
stay as it is (Lan, Simon and Halperin 1982, "Stochastically curtailed tests in long-term clinical trials"). This calls
nobody worse, so it adds no false call.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array: TypeAlias = NDArray[Any]
FEWEST = 3  # seeds of a round: fewer say nothing about a variance
GROWTH = 1.35  # of the seeds from round to round
EXACT = 60  # up to this number of seeds the distribution of U is exact; then it is nearly normal, with thinner tails


class Schedule(NamedTuple):
    """The rounds of a comparison.

    Attributes:
        seeds: of each point after each round, in increasing order; empty if no round can tell anything.
        levels: the share of a point in each round, which is divided among the points it is compared with; the result is
            the largest p-value that rejects.
    """

    seeds: tuple[int, ...]
    levels: tuple[float, ...]


class Standing(NamedTuple):
    """What is known after some rounds of a comparison of K points, in any number of studies ``...``.

    Attributes:
        beaten_after: ``[..., K]``, seeds after which the point was found to be worse; 0 if it was not.
        beaten_by: ``[..., K]``, the point with the highest mean of those that beat it; -1 if there is none.
        over: ``[...]``, whether the comparison has ended.
    """

    beaten_after: NDArray[np.int64]
    beaten_by: NDArray[np.int64]
    over: NDArray[np.bool_]

    @property
    def remaining(self) -> NDArray[np.bool_]:
        """``[..., K]``: the points that are not beaten."""
        return self.beaten_after == 0


def spent(share: float) -> float:
    """The part of the error that may be spent after a share of the seeds: Kim and DeMets' power family, rho = 1/2."""
    return math.sqrt(share)


def schedule(most: int, points: int, largest: int, error: float) -> Schedule:
    """The rounds of a study.

    The first round is the smallest in which the rank test can reject in all comparisons: if each of n returns is larger
    than each of n others, its p-value is 1 / C(2n, n).

    Args:
        most: seeds of a point.
        points: of all comparisons.
        largest: the number of points of the largest comparison, at least 2.
        error: the probability of a false call in the study.
    """
    share, others = error / points, largest - 1
    first = next((n for n in range(FEWEST, most + 1) if _smallest(n) <= share * spent(n / most) / others), None)
    if first is None:
        return Schedule((), ())
    seeds = [first]
    while seeds[-1] < most:
        larger = max(seeds[-1] + 1, round(GROWTH * seeds[-1]))
        step = larger - seeds[-1]
        seeds.append(larger if most - larger > step / 2 else most)  # no last round of one or two seeds
    total = [share * spent(n / most) for n in seeds]
    return Schedule(tuple(seeds), tuple(b - a for a, b in zip([0.0, *total], total, strict=False)))


def fewest_seeds(points: int, largest: int, error: float) -> int:
    """The smallest number of seeds with which a study has rounds; for the arguments see ``schedule``."""
    return next(n for n in itertools.count(FEWEST) if _smallest(n) <= error / points / (largest - 1))


def _smallest(n: int) -> float:
    """The smallest p-value of the rank test."""
    return 1 / math.comb(2 * n, n)


def begin(points: int, *studies: int) -> Standing:
    """The standing before the first round; a comparison of one point is over after it."""
    shape = (*studies, points)
    return Standing(np.zeros(shape, np.int64), np.full(shape, -1), np.zeros(studies, bool))


def after_round(standing: Standing, returns: Array, rounds: Schedule, number: int) -> Standing:
    """The standing after one more round.

    Args:
        standing: before the round.
        returns: ``[..., K, n]`` of all seeds so far. One that is not finite counts as the lowest of its comparison.
            The returns of points that are beaten, and of comparisons that have ended, do not matter.
        rounds: of the study.
        number: of the round, from 0.
    """
    n = returns.shape[-1]
    active = standing.remaining & ~standing.over[..., None]
    x = _finite(returns, active)
    larger = _count_larger(x)
    level = _level(rounds.levels[number], active)[..., None, None]
    rejected = (rank_p_values(larger, n) <= level) & (welch(x) <= level) & _pairs(active)
    beaten = rejected.any(-2)
    means = np.where(rejected, x.mean(-1)[..., :, None], -np.inf)
    beaten_after = np.where(beaten, n, standing.beaten_after)
    beaten_by = np.where(beaten, means.argmax(-2), standing.beaten_by)
    left = active & ~beaten
    hopes = np.zeros_like(rejected)
    for seeds, share in zip(rounds.seeds[number + 1 :], rounds.levels[number + 1 :], strict=True):
        hopes |= _is_hopeful(larger, n, seeds, _level(share, left)[..., None, None])
    return Standing(beaten_after, beaten_by, standing.over | ~(hopes & _pairs(left)).any((-2, -1)))


def _level(share: float, active: Array) -> Array:
    """The level of a pair: the share of a point, divided among the others that it is compared with."""
    return share / np.maximum(active.sum(-1) - 1, 1)


def _pairs(active: Array) -> Array:
    return active[..., :, None] & active[..., None, :]


def _finite(returns: Array, active: Array) -> Array:
    """Returns of active points, with the lowest finite one in place of those that are not finite; 0 elsewhere."""
    counts = active[..., None] & np.isfinite(returns)
    lowest = np.where(counts, returns, np.inf).min((-2, -1), keepdims=True)
    lowest = np.where(np.isfinite(lowest), lowest, 0.0)
    return np.where(counts, returns, np.where(active[..., None], lowest, 0.0))


def _count_larger(x: Array) -> NDArray[np.int64]:
    """Mann and Whitney's U for all pairs: ``x [..., K, n]`` -> ``[..., K, K]``; ties count for neither."""
    points = x.shape[-2]
    counts = [(x[..., i, None, :, None] > x[..., None, :]).sum((-2, -1)) for i in range(points)]
    return np.stack(counts, axis=-2)


def welch(x: Array) -> Array:
    """Welch's one-sided p-values that point i has a larger mean than j: ``x [..., K, n]`` -> ``[..., K, K]``.

    Where neither point varies, the p-value is 0 or 1.
    """
    n = x.shape[-1]
    mean, v = x.mean(-1), x.var(-1, ddof=1) / n
    difference, total = mean[..., :, None] - mean[..., None, :], v[..., :, None] + v[..., None, :]
    varies = total > 0
    safe = np.where(varies, total, 1.0)
    # The ratio first: the square of a tiny variance is 0.
    weight = np.where(varies, v[..., :, None] / safe, 1.0)
    freedom = (n - 1) / (weight**2 + (1 - weight) ** 2)
    return np.where(varies, special.stdtr(freedom, -difference / np.sqrt(safe)), (difference <= 0).astype(np.float64))


@functools.lru_cache(maxsize=256)
def rank_tail(n: int) -> Array:
    """P(U >= u) for u = 0 ... n^2 with n seeds each, from equal continuous distributions.

    The number of orders with U = u is the coefficient of q^u in the Gaussian binomial coefficient of 2n over n.
    """
    size = n * n + 1
    orders = np.zeros(size)
    orders[0] = 1.0
    for k in range(1, n + 1):  # times (1 - q^(n + k)) / (1 - q^k)
        orders[n + k :] -= orders[: max(size - n - k, 0)].copy()
        for start in range(k):
            orders[start::k] = np.cumsum(orders[start::k])
    # The distribution is symmetric; summed from its small end, for the sake of the small probabilities.
    return np.cumsum(orders)[::-1] / math.comb(2 * n, n)


def rank_p_values(larger: Array, n: int) -> Array:
    """One-sided p-values for U = ``larger`` with n seeds each."""
    if n > EXACT:
        z = (larger - 0.5 - n * n / 2) / _deviation(n)
        return np.asarray(special.ndtr(-z))
    return np.asarray(rank_tail(n)[larger])


def _deviation(n: int) -> float:
    """The standard deviation of U for equal distributions."""
    return n * math.sqrt((2 * n + 1) / 12)


def _is_hopeful(larger: Array, n: int, seeds: int, level: Array) -> Array:
    """Whether the rank test would reject pairs after a round of more seeds, if the shares of U stay as they are."""
    smaller = np.swapaxes(larger, -2, -1)
    excess = (larger - smaller) / (2 * n * n)  # the share less 1/2; here ties count half
    return np.asarray(excess * seeds**2 >= -special.ndtri(level) * _deviation(seeds))
