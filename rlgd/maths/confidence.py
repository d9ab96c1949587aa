"""Statistics of scores of several seeds: interquartile means, bootstrap intervals, probability of improvement.

After Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice", arXiv 2108.13264.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from rlgd.errors import UsageError

Scores = NDArray[np.floating[Any]]
CONFIDENCE = 0.95
RESAMPLES = 5000
BAND_RESAMPLES = 500
TRIM = 0.25  # of the scores on each side


class Interval(NamedTuple):
    """A statistic and its confidence interval; ``low`` and ``high`` are NaN for a single score, which gives none."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: Any, axis: int = -1) -> Any:
    """The mean of the middle half of ``scores`` along ``axis``."""
    return scipy.stats.trim_mean(scores, TRIM, axis=axis)


def interval(*strata: Sequence[float] | Scores) -> Interval:
    """The interquartile mean of all scores with its stratified percentile-bootstrap interval.

    Args:
        strata: scores ``[S]`` of the seeds, one array for each environment; each array is resampled separately.

    Raises:
        UsageError: if there are no scores, or one is not finite.
    """
    samples = [_checked(scores) for scores in strata]

    def statistic(*parts: Scores, axis: int = -1) -> Any:
        return interquartile_mean(np.concatenate(parts, axis=axis), axis)

    return _bootstrap(samples, statistic)


def mean_interval(*strata: Sequence[float] | Scores) -> Interval:
    """The mean of all scores with its stratified percentile-bootstrap interval; arguments as for ``interval``.

    Raises:
        UsageError: if there are no scores, or one is not finite.
    """

    def statistic(*parts: Scores, axis: int = -1) -> Any:
        return np.concatenate(parts, axis=axis).mean(axis=axis)

    return _bootstrap([_checked(scores) for scores in strata], statistic)


def mean_improvement(pairs: Sequence[tuple[Scores, Scores]]) -> Interval:
    """The mean of ``probability_of_improvement`` over environments, which are resampled separately.

    Args:
        pairs: for each environment the scores ``[S]`` and those of the baseline, with the same seeds.

    Raises:
        UsageError: as ``probability_of_improvement`` does.
    """
    value = float(np.mean([_improvement(_checked(x)[None], _checked(y)[None]) for x, y in pairs]))
    if max(len(x) for x, _ in pairs) < 2:
        return Interval(value, np.nan, np.nan)
    random = np.random.default_rng(0)
    drawn = [(x, y, random.integers(len(x), size=(RESAMPLES, len(x)))) for x, y in pairs]
    means = np.mean([_improvement(x[places], y[places]) for x, y, places in drawn], axis=0)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high))


def _improvement(x: Scores, y: Scores) -> Scores:
    """P(X > Y) + P(X = Y) / 2 in each row of ``x`` and ``y``, both ``[R, S]``."""
    number = x.shape[1]
    if x.shape != y.shape:
        raise UsageError(
            f"{number} scores and {y.shape[1]} of the baseline: seeds are paired, so there must be as many."
        )
    ranks = scipy.stats.rankdata(np.concatenate([x, y], axis=1), axis=1)[:, :number]
    return (ranks.sum(axis=1) - number * (number + 1) / 2) / number**2  # Mann and Whitney's U, over the number of pairs


def profile(strata: Sequence[Scores], thresholds: Scores) -> tuple[Scores, Scores, Scores]:
    """The performance profile: the share of scores above each of ``thresholds [T]``, and its interval.

    Args:
        strata: scores ``[S]`` of the seeds, one array for each environment.
        thresholds: on the scale of the scores.

    Returns:
        The shares, and the lower and upper ends of their intervals, each ``[T]``.
    """
    random, shares = np.random.default_rng(0), []
    for scores in strata:
        drawn = scores[random.integers(len(scores), size=(BAND_RESAMPLES, len(scores)))]
        shares.append((drawn[:, :, None] > thresholds).sum(axis=1))
    means = np.sum(shares, axis=0) / sum(map(len, strata))
    value = (np.concatenate(strata)[:, None] > thresholds).mean(axis=0)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return value, low, high


def probability_of_improvement(scores: Sequence[float] | Scores, baseline: Sequence[float] | Scores) -> Interval:
    """P(X > Y) + P(X = Y) / 2 for a score X of ``scores [S]`` and Y of ``baseline [S]``, with the same seeds.

    The value is Mann and Whitney's U over the number of pairs; the bootstrap resamples seeds, in both at once.

    Raises:
        UsageError: if there are no scores, the numbers of scores differ, or one is not finite.
    """
    return mean_improvement([(_checked(scores), _checked(baseline))])


def share_near_the_best(strata: Sequence[Scores], nearly: float) -> Interval:
    """The share of values that do nearly as well as the best of them, the mean over environments.

    A value counts if the interquartile mean of its scores is at least ``nearly`` times the highest one, which has to be
    above 0. The bootstrap draws seeds, the same for all values, and chooses the best value anew each time.

    Args:
        strata: for each environment the scores ``[values, S]``, with the same seeds for all values.
        nearly: in (0, 1].
    """

    def statistic(*seeds: Scores, axis: int = -1) -> Any:
        shares = []
        for scores, drawn in zip(strata, seeds, strict=True):
            means = interquartile_mean(scores[:, drawn.astype(int)], axis)
            best = means.max(axis=0)
            shares.append(np.mean((means >= nearly * best) & (best > 0), axis=0))
        return np.mean(shares, axis=0)

    return _bootstrap([np.arange(scores.shape[1], dtype=float) for scores in strata], statistic)


def _checked(scores: Sequence[float] | Scores) -> Scores:
    array = np.asarray(scores, np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise UsageError(f"scores are {scores!r}; expected finite numbers, one for each seed.")
    return array


def _bootstrap(samples: list[Scores], statistic: Any) -> Interval:
    value = float(statistic(*samples))
    if len(samples[0]) < 2:
        return Interval(value, np.nan, np.nan)
    bounds = scipy.stats.bootstrap(
        samples,
        statistic,
        vectorized=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),  # the same scores have the same interval
    ).confidence_interval
    return Interval(value, float(bounds.low), float(bounds.high))


def bands(scores: Scores) -> tuple[Scores, Scores, Scores]:
    """The interquartile mean over seeds and its interval at each place: ``scores [S, X]`` -> three of ``[X]``.

    Raises:
        ValueError: if ``scores`` does not have two axes.
    """
    if np.ndim(scores) != 2:
        raise ValueError(f"scores have shape {np.shape(scores)}; expected two axes, seeds and places.")
    value = interquartile_mean(scores, axis=0)
    if len(scores) < 2:
        return value, value, value
    drawn = np.random.default_rng(0).integers(len(scores), size=(BAND_RESAMPLES, len(scores)))
    # The same draw of seeds for all places: a bootstrap of whole curves.
    means = interquartile_mean(scores[drawn], axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return value, low, high


def in_words(value: Interval | None, form: str = ".1f") -> str:
    """A statistic with its interval as text for tables; "-" for None."""
    if value is None:
        return "-"
    if math.isnan(value.low):
        return format(value.value, form)
    return f"{value.value:{form}} [{value.low:{form}}, {value.high:{form}}]"
