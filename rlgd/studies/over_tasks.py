"""One answer over several environments: returns and times are normalized, and runs of all of them are taken together.

After Agarwal et al. 2021, arXiv 2108.13264: interquartile means, the probability of improvement and performance
profiles, with bootstraps that draw the seeds of each environment separately.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rlgd.maths import confidence
from rlgd.maths.confidence import Interval
from rlgd.studies.plan import Plan
from rlgd.studies.seed_statistics import PointResult
from rlgd.studies.tasks import TASKS

TITLE = "all environments"


class OverallPoint(NamedTuple):
    """A point over all environments.

    Attributes:
        label: of the point.
        returns: for each environment the normalized returns by seed: 0 is random, 1 is solved.
        score: their interquartile mean.
        improvement: the probability that a seed does better than with the first point, the mean over environments; None
            at the first point.
        time: the seconds that a seed takes to the target return, as a share of the budget's; 1 if it does not reach it.
    """

    label: str
    returns: tuple[Mapping[int, float], ...]
    score: Interval
    improvement: Interval | None
    time: Interval


class Overall(NamedTuple):
    """The arms of one name over their environments.

    Attributes:
        name: of the arms.
        axis: the setting that they vary; "" where it is not one.
        env_ids: the environments.
        points: those that all arms have, with seeds that finished in each environment.
    """

    name: str
    axis: str
    env_ids: tuple[str, ...]
    points: tuple[OverallPoint, ...]

    @property
    def title(self) -> str:
        """What it is called in tables and sentences."""
        return " in ".join(part for part in (self.name, TITLE) if part)

    def value(self, point: OverallPoint) -> str:
        """The point's value on the axis."""
        return point.label.removeprefix(f"{self.axis}=")


def over_tasks(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> list[Overall]:
    """The arms of one name in at least two environments whose scale of returns is known (``TASKS``)."""
    families: dict[str, dict[str, Sequence[PointResult]]] = {}
    axes: dict[str, tuple[str, ...]] = {}
    for arm, points, rows in zip(plan.question.arms, plan.points, arms, strict=True):
        env_id = plan.env_of(points).env_id
        if env_id in TASKS:
            families.setdefault(arm.name, {})[env_id] = rows
            axes[arm.name] = arm.axes
    found = []
    for name, by_env in families.items():
        shared = _points(by_env) if len(by_env) > 1 else ()
        if shared:
            found.append(Overall(name, axes[name][0] if len(axes[name]) == 1 else "", tuple(by_env), shared))
    return found


def _points(by_env: dict[str, Sequence[PointResult]]) -> tuple[OverallPoint, ...]:
    first, *_ = by_env.values()
    found: list[OverallPoint] = []
    for row in first:
        rows = [next((r for r in rows if r.point.label == row.point.label), None) for rows in by_env.values()]
        complete = [r for r in rows if r is not None and r.reached and r.score is not None]
        if len(complete) == len(by_env) and all(r.budget.seconds > 0 for r in complete):
            found.append(_point(list(by_env), complete, found[0] if found else None))
    return tuple(found)


def _point(env_ids: Sequence[str], rows: Sequence[PointResult], baseline: OverallPoint | None) -> OverallPoint:
    returns = tuple(normalized(env_id, row) for env_id, row in zip(env_ids, rows, strict=True))
    scores = [np.array(list(by_seed.values())) for by_seed in returns]
    times = [np.minimum([one.seconds for one in row.reached], row.budget.seconds) / row.budget.seconds for row in rows]
    return OverallPoint(
        rows[0].point.label,
        returns,
        confidence.interval(*scores),
        None if baseline is None else _improvement(returns, baseline.returns),
        confidence.mean_interval(*times),
    )


def _improvement(returns: Sequence[Mapping[int, float]], baseline: Sequence[Mapping[int, float]]) -> Interval:
    """Seeds are paired: with ``until_separated`` one point may have more of them than another."""
    pairs = []
    for mine, theirs in zip(returns, baseline, strict=True):
        shared = sorted(mine.keys() & theirs.keys())
        pairs.append((np.array([mine[seed] for seed in shared]), np.array([theirs[seed] for seed in shared])))
    return confidence.mean_improvement(pairs)


def normalized(env_id: str, row: PointResult) -> dict[int, float]:
    """The returns by seed; one that is not finite counts as random."""
    random, solved, _ = TASKS[env_id]
    returns = {seed: outcome.episode_return for seed, outcome in row.outcomes.items()}
    return {seed: (x - random) / (solved - random) if math.isfinite(x) else 0.0 for seed, x in returns.items()}
