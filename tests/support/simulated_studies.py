"""Simulated studies: returns of points that are equally good, in shapes that training has, and how studies of them end.

``python -m tests.support.simulated_studies`` prints how many studies make a false call.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlgd.studies.separation import Schedule, Standing, after_round, begin, rank_tail, schedule, welch

ERROR, STUDIES = 0.05, 2000
Array = NDArray[Any]


def scale(points: int, wide: int) -> Array:
    """``[K, 1]``: a hundred times more variation for ``wide`` points."""
    return np.where(np.arange(points) < points - wide, 0.01, 1.0)[:, None]


def normal(rng: np.random.Generator, points: int, seeds: int) -> Array:
    return rng.standard_normal((STUDIES, points, seeds))


def heavy_tails(rng: np.random.Generator, points: int, seeds: int) -> Array:
    return rng.standard_t(2, (STUDIES, points, seeds))


def lognormal(rng: np.random.Generator, points: int, seeds: int) -> Array:
    return np.exp(1.5 * normal(rng, points, seeds))


def ceiling(rng: np.random.Generator, points: int, seeds: int) -> Array:
    """Six of ten seeds solve it, as in CartPole-v1."""
    lower = np.clip(300 + 100 * normal(rng, points, seeds), 0, 500)
    return np.where(rng.random(lower.shape) < 0.6, 500.0, lower)


def solved_or_stuck(rng: np.random.Generator, points: int, seeds: int) -> Array:
    stuck = 9.4 + 0.2 * normal(rng, points, seeds)
    return np.where(rng.random(stuck.shape) < 0.5, 500.0, stuck)


def success(rng: np.random.Generator, points: int, seeds: int) -> Array:
    return (rng.random((STUDIES, points, seeds)) < 0.5).astype(np.float64)


def one_varies(rng: np.random.Generator, points: int, seeds: int) -> Array:
    return normal(rng, points, seeds) * scale(points, 1)


def one_is_steady(rng: np.random.Generator, points: int, seeds: int) -> Array:
    return normal(rng, points, seeds) * scale(points, points - 1)


def half_vary(rng: np.random.Generator, points: int, seeds: int) -> Array:
    return normal(rng, points, seeds) * scale(points, points // 2)


def skewed_by_different_amounts(rng: np.random.Generator, points: int, seeds: int) -> Array:
    """Equal medians; not promised."""
    return np.exp(normal(rng, points, seeds) * np.linspace(0.1, 1.5, points)[:, None])


def always_half_or_all_or_nothing(rng: np.random.Generator, points: int, seeds: int) -> Array:
    """Not promised: some points always get half, the others all or nothing."""
    noise = normal(rng, points, seeds)
    coin = np.where(rng.random(noise.shape) < 0.5, 500.0, 10.0)
    return np.where(np.arange(points)[:, None] < 1, 255.0, coin) + noise


EQUALLY_GOOD = [
    normal, heavy_tails, lognormal, ceiling, solved_or_stuck, success, one_varies, one_is_steady, half_vary,
    skewed_by_different_amounts,
]  # fmt: skip
SIZES = [(2, 8), (2, 20), (5, 8), (5, 20), (8, 20)]  # points, seeds


def run(returns: Array, rounds: Schedule) -> tuple[Standing, Array]:
    """Whole studies, ``returns [R, K, seeds]``: how they end, and the seeds of each point, ``[R, K]``."""
    standing = begin(returns.shape[1], len(returns))
    used = np.zeros(returns.shape[:2])
    for number, seeds in enumerate(rounds.seeds):
        active = standing.remaining & ~standing.over[:, None]
        used[active] = seeds
        seen = np.where(active[..., None], returns[..., :seeds], np.nan)  # what nobody has trained
        standing = after_round(standing, seen, rounds, number)
    return standing, used


def rounds_of(points: int, seeds: int) -> Schedule:
    return schedule(seeds, points, points, ERROR)


def alone(returns: Array, rounds: Schedule) -> tuple[Array, Array]:
    """Whether the rank test alone, or Welch's test alone, would call any point worse: two of ``[R]``."""
    by_rank, by_welch = np.zeros(len(returns), bool), np.zeros(len(returns), bool)
    for n, share in zip(*rounds, strict=True):
        x, level = returns[..., :n], share / (returns.shape[1] - 1)
        larger = (x[:, :, None, :, None] > x[:, None, :, None, :]).sum((-2, -1))
        by_rank |= (rank_tail(n)[larger] <= level).any((1, 2))
        by_welch |= (welch(x) <= level).any((1, 2))
    return by_rank, by_welch


def naive(returns: Array, rounds: Schedule) -> Array:
    """A t-test at the full level of each pair after each round: whether it calls any point worse, ``[R]``."""
    return np.any([(welch(returns[..., :n]) <= ERROR).any((1, 2)) for n in rounds.seeds], axis=0)


def main() -> None:
    """Print a table: the share of studies with a false call."""
    print("| returns | points | seeds | both | rank test alone | Welch's alone | t-tests at 0.05 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for draw in [*EQUALLY_GOOD, always_half_or_all_or_nothing]:
        for points, seeds in SIZES:
            returns, rounds = draw(np.random.default_rng(0), points, seeds), rounds_of(points, seeds)
            both = (~run(returns, rounds)[0].remaining).any(1)
            shares = [f"{100 * x.mean():.1f}%" for x in (both, *alone(returns, rounds), naive(returns, rounds))]
            print(f"| {draw.__name__.replace('_', ' ')} | {points} | {seeds} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
