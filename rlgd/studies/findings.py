"""What a study found: a row for each point of each arm, with statistics over its seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlgd.exact import comparison
from rlgd.maths import confidence
from rlgd.maths.confidence import Interval, Scores
from rlgd.studies.arms import Point
from rlgd.studies.outcome import DIVERGED, Outcome
from rlgd.studies.plan import Plan

LAST = 0.1  # of a curve, over which the metrics of ``report`` are averaged
GRID = 50  # points of a mean curve


class Reached(NamedTuple):
    """When training's episodes first had a mean return of at least the target: ``math.inf`` where never."""

    steps: float
    seconds: float


class Finding(NamedTuple):
    """A point of an arm.

    Attributes:
        point: which.
        outcomes: of the finished members, by seed.
        score: mean return of the greedy policies.
        improvement: probability that a seed is better than the arm's first point; None there.
        area: mean return over training, the area under the curve.
        reached: of each seed.
        seconds: training time of a member.
        distance: the best policy's J less that of the members, where the environment can be solved exactly.
        metrics: means over the last part of training.
        diverged: share.
    """

    point: Point
    outcomes: dict[int, Outcome]
    score: Interval | None
    improvement: Interval | None
    area: Interval | None
    reached: tuple[Reached, ...]
    seconds: float
    distance: Interval | None
    metrics: dict[str, Interval | None]
    diverged: float


def findings(plan: Plan, outcomes: Mapping[int, Outcome]) -> list[list[Finding]]:
    """For each arm its points, of what is finished."""
    target, problem = target_return(plan), comparison.problem_of(plan.env)
    best = None if problem is None else problem.optimum().objective
    arms = []
    for points in plan.points:
        of_arm: list[Finding] = []
        for point, members in points:
            done = {plan.members[n].settings.seed: outcomes[n] for n in members if n in outcomes}
            of_arm.append(_finding(plan, point, done, of_arm[0] if of_arm else None, target, best))
        arms.append(of_arm)
    return arms


def target_return(plan: Plan) -> float | None:
    """To which returns are counted: the question's, or the environment's."""
    if plan.question.target_return is not None:
        return plan.question.target_return
    spec = gymnasium.registry.get(plan.env.env_id)
    return None if spec is None else spec.reward_threshold


def _finding(
    plan: Plan,
    point: Point,
    outcomes: dict[int, Outcome],
    baseline: Finding | None,
    target: float | None,
    best: float | None,
) -> Finding:
    done = list(outcomes.values())
    improvement = None
    if baseline is not None:
        # Seeds are paired: those that either lacks tell nothing.
        pairs = [(o.episode_return, baseline.outcomes[seed].episode_return) for seed, o in outcomes.items()
                 if seed in baseline.outcomes]  # fmt: skip
        finite = [pair for pair in pairs if np.isfinite(pair).all()]
        if finite:
            improvement = confidence.probability_of_improvement(*map(np.array, zip(*finite, strict=True)))
    return Finding(
        point=point,
        outcomes=outcomes,
        score=_interval([outcome.episode_return for outcome in done]),
        improvement=improvement,
        area=_interval([area(outcome) for outcome in done]),
        reached=() if target is None else tuple(reached(outcome, target) for outcome in done),
        seconds=float(np.mean([outcome.training_seconds for outcome in done])) if done else math.nan,
        distance=None if best is None else _interval([best - outcome.objective for outcome in done]),
        metrics={name: _interval([last(outcome, name) for outcome in done]) for name in plan.question.report},
        diverged=float(np.mean([outcome.reason == DIVERGED for outcome in done])) if done else math.nan,
    )


def _interval(scores: Sequence[float]) -> Interval | None:
    """Of the seeds that have such a number; one that has none never makes the others none."""
    finite = [score for score in scores if math.isfinite(score)]
    return confidence.interval(finite) if finite else None


def curve(outcome: Outcome, metric: str = "rollout/episode_return") -> NDArray[np.float64]:
    """``[rows, 3]``: steps, training seconds and a metric, where it was measured."""
    seen = [(row.step, row.seconds, row.values[metric]) for row in outcome.rows if metric in row.values]
    return np.array(seen, np.float64).reshape(-1, 3)


def area(outcome: Outcome) -> float:
    """The mean of the training return over all steps; NaN where no episode ended."""
    steps, _, returns = curve(outcome).T
    if len(steps) < 2:
        return float(returns[0]) if len(steps) else math.nan
    return float(np.trapezoid(returns, steps) / (steps[-1] - steps[0]))


def reached(outcome: Outcome, target: float) -> Reached:
    """When a row of the training curve first had a mean return of at least ``target``."""
    for step, seconds, mean in curve(outcome):
        if mean >= target:
            return Reached(step, seconds)
    return Reached(math.inf, math.inf)


def last(outcome: Outcome, metric: str) -> float:
    """A metric's mean over the last part of training; NaN where it was not measured."""
    seen = curve(outcome, metric)
    late = seen[seen[:, 0] > (1 - LAST) * outcome.steps, 2] if len(seen) else np.zeros(0)
    late = late if len(late) else seen[-1:, 2]
    return float(late.mean()) if len(late) else math.nan


class MeanCurve(NamedTuple):
    """Interquartile mean over seeds with its interval: ``x``, ``mean``, ``low`` and ``high``, all ``[GRID]``."""

    x: Scores
    mean: Scores
    low: Scores
    high: Scores


def mean_curve(finding: Finding, against: str, metric: str = "rollout/episode_return") -> MeanCurve | None:
    """A metric against ``"steps"`` or ``"seconds"``, each seed's curve read at the same places; None without curves."""
    column = {"steps": 0, "seconds": 1}[against]
    curves = [c for outcome in finding.outcomes.values() if len(c := curve(outcome, metric)) > 1]
    if not curves:
        return None
    x = np.linspace(min(c[0, column] for c in curves), float(np.median([c[-1, column] for c in curves])), GRID)
    values = np.stack([np.interp(x, c[:, column], c[:, 2]) for c in curves])
    return MeanCurve(x, *confidence.bands(values))
