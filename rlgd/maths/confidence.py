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

    return _bootstrap(samples, statistic, paired=False)


def mean_interval(scores: Sequence[float] | Scores) -> Interval:
    """The mean of ``scores [S]`` with its percentile-bootstrap interval.

    Raises:
        UsageError: if there are no scores, or one is not finite.
    """
    return _bootstrap([_checked(scores)], np.mean, paired=False)


def probability_of_improvement(scores: Sequence[float] | Scores, baseline: Sequence[float] | Scores) -> Interval:
    """P(X > Y) + P(X = Y) / 2 for a score X of ``scores [S]`` and Y of ``baseline [S]``, with the same seeds.

    The value is Mann and Whitney's U over the number of pairs; the bootstrap resamples seeds, in both at once.

    Raises:
        UsageError: if there are no scores, the numbers of scores differ, or one is not finite.
    """
    x, y = _checked(scores), _checked(baseline)
    if len(x) != len(y):
        raise UsageError(f"{len(x)} scores and {len(y)} of the baseline: seeds are paired, so there must be as many.")

    def statistic(x: Scores, y: Scores, axis: int = -1) -> Any:
        return scipy.stats.mannwhitneyu(x, y, axis=axis).statistic / y.shape[axis] ** 2

    return _bootstrap([x, y], statistic, paired=True)


def _checked(scores: Sequence[float] | Scores) -> Scores:
    array = np.asarray(scores, np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise UsageError(f"scores are {scores!r}; expected finite numbers, one for each seed.")
    return array


def _bootstrap(samples: list[Scores], statistic: Any, paired: bool) -> Interval:
    value = float(statistic(*samples))
    if len(samples[0]) < 2:
        return Interval(value, np.nan, np.nan)
    bounds = scipy.stats.bootstrap(
        samples,
        statistic,
        paired=paired,
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
