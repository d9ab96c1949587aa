"""How many values of a setting work: the share of a grid whose return is nearly that of its best value."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlgd.maths import confidence
from rlgd.maths.confidence import Interval
from rlgd.studies.arms import Arm
from rlgd.studies.over_tasks import normalized
from rlgd.studies.plan import Plan
from rlgd.studies.seed_statistics import PointResult
from rlgd.studies.tasks import TASKS

NEARLY = 0.95  # of the best normalized return
FEWEST = 4  # values of a grid


class Working(NamedTuple):
    """A grid of values in one or several environments.

    Attributes:
        name: of its arms.
        axis: the setting that varies.
        best: the normalized return of the best value in each environment, interquartile mean over the seeds of all.
        share: of the values, those with at least ``NEARLY`` of the best one's normalized return, the mean over
            environments; None for a setting that has one value, and no grid.
        decades: powers of ten in the grid.
    """

    name: str
    axis: str
    best: Interval
    share: Interval | None
    decades: float


def working(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> list[Working]:
    """Grids of one setting by factors that several names have; empty where there are no two of them to compare.

    Environments whose scale of returns is not known (``TASKS``), and arms that are not finished, are left out.
    """
    families: dict[str, list[tuple[Arm, list[np.ndarray]]]] = {}
    for arm, points, rows in zip(plan.question.arms, plan.points, arms, strict=True):
        env_id = plan.env_of(points).env_id
        if env_id in TASKS and _is_grid(arm) and all(row.score is not None for row in rows):
            returns = [np.array(list(normalized(env_id, row).values())) for row in rows]
            if len({len(of_point) for of_point in returns}) == 1:
                families.setdefault(arm.name, []).append((arm, returns))
    axes = {arm.axes[0] for family in families.values() for arm, _ in family if len(arm) > 1}
    grids = sum(any(len(arm) > 1 for arm, _ in family) for family in families.values())
    return [_found(name, family) for name, family in families.items()] if grids > 1 and len(axes) == 1 else []


def _is_grid(arm: Arm) -> bool:
    """Whether one setting varies by factors, or is fixed as the only value of such a grid."""
    if len(arm.axes) != 1:
        return False
    values = arm.vary[arm.axes[0]]
    numbers = [x for x in values if isinstance(x, int | float) and not isinstance(x, bool) and x > 0]
    return len(numbers) == len(values) and (len(values) == 1 or len(values) >= FEWEST)


def _found(name: str, family: Sequence[tuple[Arm, list[np.ndarray]]]) -> Working:
    arm, _ = family[0]
    values = arm.vary[arm.axes[0]]
    best = [max(returns, key=confidence.interquartile_mean) for _, returns in family]
    share = confidence.share_near_the_best([np.stack(returns) for _, returns in family], NEARLY)
    decades = math.log10(max(values) / min(values))
    return Working(name, arm.axes[0], confidence.interval(*best), share if len(values) > 1 else None, decades)
