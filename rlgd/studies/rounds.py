"""A study in rounds: which members are trained next, and which points are found to be worse than the best.

Everything follows from the outcomes that are known, so a study that is resumed decides as one that was never killed. A
round is judged when all its members have finished, by the seeds up to this round, whatever else is known by then.

Points are compared within their arm: an arm is one curve, and its best point is its answer. Over all arms, an arm that
is poor throughout would be dropped as a whole, and nobody would know what is best in it. The probability of a false
call is divided among the comparisons of all arms.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rlgd.studies import separation
from rlgd.studies.outcome import Outcome
from rlgd.studies.plan import Plan
from rlgd.studies.separation import Standing


class Separation(NamedTuple):
    """How a point was found to be worse than the best of its arm.

    Attributes:
        seeds: of each point, after which it was found.
        better: the label of the best point that beat it.
    """

    seeds: int
    better: str


class Rounds(NamedTuple):
    """What the outcomes so far decide.

    Attributes:
        missing: numbers of the members that are trained next; empty if the study has ended.
        standings: of each arm.
    """

    missing: tuple[int, ...]
    standings: tuple[Standing, ...]


def judge(plan: Plan, outcomes: Mapping[int, Outcome]) -> Rounds:
    """Go through the rounds as far as their members have finished."""
    schedule = plan.question.rounds
    standings = [separation.begin(len(points)) for points in plan.points]
    for number, seeds in enumerate(schedule.seeds):
        needed = {
            member
            for points, standing in zip(plan.points, standings, strict=True)
            for (_, members), remains in zip(points, standing.remaining & ~standing.over, strict=True)
            for member in (members[:seeds] if remains else ())
        }
        missing = sorted(needed - outcomes.keys())
        if missing:
            return Rounds(tuple(missing), tuple(standings))
        if plan.question.until_separated is not None:
            standings = [
                separation.after_round(standing, _returns(points, outcomes, seeds), schedule, number)
                for points, standing in zip(plan.points, standings, strict=True)
            ]
    return Rounds((), tuple(standings))


def _returns(points: Sequence[tuple[object, Sequence[int]]], outcomes: Mapping[int, Outcome], seeds: int) -> np.ndarray:
    """``[K, seeds]``, NaN for members that have not been trained."""
    return np.array(
        [[outcomes[n].episode_return if n in outcomes else np.nan for n in members[:seeds]] for _, members in points]
    )


def separations(plan: Plan, outcomes: Mapping[int, Outcome]) -> list[list[Separation | None]]:
    """For each arm and each of its points, how it was found to be worse than the best; None if it was not."""
    return [
        [
            Separation(int(seeds), points[better][0].label) if seeds else None
            for seeds, better in zip(standing.beaten_after, standing.beaten_by, strict=True)
        ]
        for points, standing in zip(plan.points, judge(plan, outcomes).standings, strict=True)
    ]


def forecast(plan: Plan) -> str:
    """The rounds, as a line for ``--dry-run``; empty for a study without."""
    if plan.question.until_separated is None:
        return ""
    *first, last = [str(seeds) for seeds in plan.question.rounds.seeds]
    seeds = f"{', '.join(first)} and {last}" if first else last
    return (
        f"\n  in rounds, until each combination has {seeds} seeds; those that are worse than the best of their arm get "
        f"no more (P = {plan.question.until_separated:g})"
    )
