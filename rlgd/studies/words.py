"""The answer of a study in words, in Markdown; every number is of the tables."""

import math
from collections.abc import Mapping, Sequence

from rlgd.maths.confidence import Interval, in_words
from rlgd.studies import page
from rlgd.studies.arms import Arm
from rlgd.studies.over_tasks import Overall, over_tasks
from rlgd.studies.plan import Plan
from rlgd.studies.seed_statistics import PointResult, median_reached
from rlgd.studies.working import Working, working

NAMED = 4  # points that cannot be told from the best one, at most; more are counted


def answer(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> str:
    """What was asked, what was found in short, a paragraph for each arm, and what was trained."""
    single = [f"**{arm.title}**: {found}" for arm, found in _by_arm(plan, arms)] if len(arms) > 1 else []
    parts = (plan.question.question, in_short(plan, arms), *single, page.what_was_trained(plan, arms))
    return "\n\n".join(part for part in parts if part)


def in_short(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> str:
    """What was found, in a few sentences: over all environments, or over all arms; empty if nothing was."""
    grids = [grid for grid in working(plan, arms) if grid.share is not None]
    if len(plan.env_ids) > 1 and grids:
        return _working(grids)
    if overall := over_tasks(plan, arms):
        return "\n\n".join(map(_over_environments, overall))
    if len(plan.env_ids) > 1:
        return ""
    pairs = zip(plan.question.arms, arms, strict=True)
    rows = [(arm.title, row) for arm, rows in pairs for row in rows]
    named = {f"{row.point.label} ({title})" if len(arms) > 1 else row.point.label: row for title, row in rows}
    return " ".join(part for part in (_found(named), _working(grids) if grids else "") if part)


def _by_arm(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> list[tuple[Arm, str]]:
    pairs = zip(plan.question.arms, arms, strict=True)
    found = [(arm, _found({row.point.label: row for row in rows})) for arm, rows in pairs]
    return [(arm, text) for arm, text in found if text]


def _found(rows: Mapping[str, PointResult]) -> str:
    """Which named point has the highest return, which cannot be told from it, and which is first at the target."""
    scored = {name: row.score for name, row in rows.items() if row.score is not None}
    if not scored:
        return ""
    best = max(scored, key=lambda name: scored[name].value)
    # A single seed has no interval, which tells it from nothing: comparisons with NaN are false.
    alike = [
        name
        for name, score in scored.items()
        if name != best and not rows[name].separated and not score.high < scored[best].low
    ]
    reached = {name: median_reached(row) for name, row in rows.items() if row.reached}
    text = f"The return is highest with **{best}**: {in_words(scored[best])}.{_not_told_from(alike)}"
    if not reached:
        return text
    first = min(reached, key=lambda name: reached[name].steps)
    (steps, seconds), target = reached[first], rows[first].target
    if math.isinf(steps):
        return f"{text} No value reached {target:g} with half of its seeds."
    return f"{text} {target:g} is reached first with **{first}**, after {steps:,.0f} steps ({seconds:.2f} s)."


def _not_told_from(alike: Sequence[str]) -> str:
    if not alike:
        return ""
    names = ", ".join(alike) if len(alike) <= NAMED else f"{len(alike)} others"
    return f" Intervals do not tell it from {names}."


def _over_environments(overall: Overall) -> str:
    """Which point has the highest normalized return over all environments, and which needs least time."""
    best = max(overall.points, key=lambda point: point.score.value)
    alike = [point.label for point in overall.points if point is not best and not point.score.high < best.score.low]
    first = min(overall.points, key=lambda point: point.time.value)
    text = (
        f"**{overall.title}**: the normalized return is highest with **{best.label}**: {in_words(best.score, '.2f')}."
    )
    text += _not_told_from(alike)
    if first.time.value >= 1:
        return f"{text} No seed reached a target."
    share = in_words(first.time, ".2f")
    return f"{text} The target takes the least time with **{first.label}**: {share} of the time that there was."


def _working(grids: Sequence[Working]) -> str:
    """With which arm the largest share of values works, and with which the smallest."""
    shares = {grid.name: grid.share for grid in grids if grid.share is not None}
    most, least = (choose(shares, key=lambda name: shares[name].value) for choose in (max, min))
    text = f"The largest share of values of {grids[0].axis} works with **{most}**: {_in_percent(shares[most])}"
    return f"{text}; the smallest with **{least}**: {_in_percent(shares[least])}."


def _in_percent(share: Interval) -> str:
    return in_words(share, ".0%")
