"""Statistics over seeds: for each point of each arm, what its members have learned."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlgd.envs import Env
from rlgd.exact import comparison
from rlgd.maths import confidence
from rlgd.maths.confidence import Interval, Scores
from rlgd.studies.arms import Point
from rlgd.studies.outcome import DIVERGED, Outcome
from rlgd.studies.plan import Plan
from rlgd.studies.rounds import Separation, separations
from rlgd.studies.tasks import TASKS

LATE_SHARE = 0.1  # the last part of training, over which the metrics of ``report`` are averaged
CURVE_POINTS = 50  # of a mean curve


class Reached(NamedTuple):
    """When the mean return of training's episodes was first at least the target; ``math.inf`` for never."""

    steps: float
    seconds: float


class Budget(NamedTuple):
    """The most steps that a point had, and the most seconds that a member takes for all that it had."""

    steps: float
    seconds: float


class PointResult(NamedTuple):
    """The result of one point of an arm.

    Attributes:
        point: the combination of values.
        outcomes: of its finished members, by seed.
        score: return of the greedy policy after training.
        improvement: probability that a seed does better here than at the arm's first point; None at the first point.
        area: mean return over training: the area under the training curve, divided by its steps.
        area_in_time: the same over the seconds of the budget; a member that has ended keeps the return that it had.
        target: the return that counts as reached, see ``target_return``.
        reached: when each seed reached the target; empty if there is none.
        steps_to_target, seconds_to_target: the mean over seeds, restricted to the budget: a seed that did not reach the
            target counts with all of it, so that it is not left out; None if there is no target.
        seconds: mean training time of a member.
        distance: the optimal J less the J of the learned policy; None if the environment cannot be solved exactly.
        metrics: the metrics of ``report``, averaged over the last part of training.
        diverged: share of seeds that diverged.
        budget: of all points in the same environment.
        separated: with ``until_separated``, how the point was found to be worse than the best of its arm; else None.
    """

    point: Point
    outcomes: dict[int, Outcome]
    score: Interval | None
    improvement: Interval | None
    area: Interval | None
    area_in_time: Interval | None
    target: float | None
    reached: tuple[Reached, ...]
    steps_to_target: Interval | None
    seconds_to_target: Interval | None
    seconds: float
    distance: Interval | None
    metrics: dict[str, Interval | None]
    diverged: float
    budget: Budget
    separated: Separation | None


def point_results(plan: Plan, outcomes: Mapping[int, Outcome]) -> list[list[PointResult]]:
    """For each arm the results of its points, from the members that are finished."""
    arms = []
    for points, separated in zip(plan.points, separations(plan, outcomes), strict=True):
        common = _Common.of(plan, plan.env_of(points), outcomes)
        of_arm: list[PointResult] = []
        for (point, members), how in zip(points, separated, strict=True):
            done = {plan.members[n].settings.seed: outcomes[n] for n in members if n in outcomes}
            result = _point_result(plan, point, done, of_arm[0] if of_arm else None, common)
            of_arm.append(result._replace(separated=how))
        arms.append(of_arm)
    return arms


def target_return(plan: Plan, env_id: str) -> float | None:
    """The question's target return, else that of the environment; None if there is neither."""
    if plan.question.target_return is not None:
        return plan.question.target_return
    if env_id in TASKS:
        return TASKS[env_id].target_return
    spec = gymnasium.registry.get(env_id)
    return None if spec is None else spec.reward_threshold


class _Common(NamedTuple):
    """What the points in one environment have in common: their budget, and what their results are compared with."""

    budget: Budget
    target: float | None
    optimum: float | None

    @classmethod
    def of(cls, plan: Plan, env: Env, outcomes: Mapping[int, Outcome]) -> "_Common":
        problem = comparison.problem_of(env)
        optimum = None if problem is None else problem.optimum().objective
        return cls(_budget(plan, env.env_id, outcomes), target_return(plan, env.env_id), optimum)


def _budget(plan: Plan, env_id: str, outcomes: Mapping[int, Outcome]) -> Budget:
    """The budget of all points in an environment, as far as members have finished."""
    steps, seconds = [0.0], [0.0]
    for points in plan.points:
        for _, members in points if plan.env_of(points).env_id == env_id else ():
            total = plan.members[members[0]].settings.total_timesteps
            done = [outcomes[n] for n in members if n in outcomes]
            pace = [outcome.training_seconds / outcome.steps for outcome in done if outcome.steps]
            steps += [total] if done else []
            seconds += [total * float(np.median(pace))] if pace else []
    return Budget(max(steps), max(seconds))


def _point_result(
    plan: Plan, point: Point, outcomes: dict[int, Outcome], baseline: PointResult | None, common: _Common
) -> PointResult:
    done, (budget, target, optimum) = list(outcomes.values()), common
    reached = () if target is None else tuple(first_reached(outcome, target) for outcome in done)
    return PointResult(
        point=point,
        outcomes=outcomes,
        score=_interval([outcome.episode_return for outcome in done]),
        improvement=None if baseline is None else _improvement(outcomes, baseline.outcomes),
        area=_interval([area(outcome) for outcome in done]),
        area_in_time=_interval([area_in_time(outcome, budget.seconds) for outcome in done]),
        target=target,
        reached=reached,
        steps_to_target=_restricted_mean([one.steps for one in reached], budget.steps),
        seconds_to_target=_restricted_mean([one.seconds for one in reached], budget.seconds),
        seconds=float(np.mean([outcome.training_seconds for outcome in done])) if done else math.nan,
        distance=None if optimum is None else _interval([optimum - outcome.objective for outcome in done]),
        metrics={name: _interval([late_mean(outcome, name) for outcome in done]) for name in plan.question.report},
        diverged=float(np.mean([outcome.reason == DIVERGED for outcome in done])) if done else math.nan,
        budget=budget,
        separated=None,
    )


def _improvement(outcomes: Mapping[int, Outcome], baseline: Mapping[int, Outcome]) -> Interval | None:
    """Seeds are paired: a seed counts if both have finished it, with finite returns."""
    shared = [(outcomes[seed].episode_return, baseline[seed].episode_return) for seed in outcomes if seed in baseline]
    finite = [pair for pair in shared if np.isfinite(pair).all()]
    return confidence.probability_of_improvement(*map(np.array, zip(*finite, strict=True))) if finite else None


def _interval(scores: Sequence[float]) -> Interval | None:
    """The interval of the scores; seeds without a finite score are left out."""
    finite = [score for score in scores if math.isfinite(score)]
    return confidence.interval(finite) if finite else None


def _restricted_mean(times: Sequence[float], limit: float) -> Interval | None:
    """The mean of the times, none of them above ``limit``: the area below their survival curve up to there."""
    return confidence.mean_interval(np.minimum(times, limit)) if times else None


def curve(outcome: Outcome, metric: str = "rollout/episode_return") -> NDArray[np.float64]:
    """``[rows, 3]``: steps, training seconds and a metric, of the rows that have the metric."""
    measured = [(row.step, row.seconds, row.values[metric]) for row in outcome.rows if metric in row.values]
    return np.array(measured, np.float64).reshape(-1, 3)


def area(outcome: Outcome) -> float:
    """The mean of the training return over all steps; NaN if no episode has ended."""
    steps, _, returns = curve(outcome).T
    if len(steps) < 2:
        return float(returns[0]) if len(steps) else math.nan
    return float(np.trapezoid(returns, steps) / (steps[-1] - steps[0]))


def area_in_time(outcome: Outcome, seconds: float) -> float:
    """The mean of the training return over the first ``seconds`` of training; NaN if no episode has ended.

    A member that stopped before keeps the return that it had, as its policy does.
    """
    _, times, returns = curve(outcome).T
    if not len(times):
        return math.nan
    x = np.union1d(times[times < seconds], [min(times[0], seconds), seconds])
    y = np.interp(x, times, returns)
    return float(np.trapezoid(y, x) / (x[-1] - x[0])) if len(x) > 1 else float(y[0])


def first_reached(outcome: Outcome, target: float) -> Reached:
    """The first row of the training curve whose mean return is at least ``target``."""
    for step, seconds, mean in curve(outcome):
        if mean >= target:
            return Reached(step, seconds)
    return Reached(math.inf, math.inf)


def median_reached(result: PointResult) -> Reached:
    """The lower medians over seeds: at least half of them are not above; infinity where fewer reached the target."""
    steps, seconds = (sorted(values) for values in zip(*result.reached, strict=True))
    middle = (len(steps) - 1) // 2
    return Reached(steps[middle], seconds[middle])


def late_mean(outcome: Outcome, metric: str) -> float:
    """The mean of a metric over the last part of training; NaN if it was never measured."""
    measured = curve(outcome, metric)
    late = measured[measured[:, 0] > (1 - LATE_SHARE) * outcome.steps, 2] if len(measured) else np.zeros(0)
    late = late if len(late) else measured[-1:, 2]
    return float(late.mean()) if len(late) else math.nan


class MeanCurve(NamedTuple):
    """Interquartile mean over seeds and its interval: ``x``, ``mean``, ``low`` and ``high``, all ``[CURVE_POINTS]``."""

    x: Scores
    mean: Scores
    low: Scores
    high: Scores


def mean_curve(result: PointResult, against: str, metric: str = "rollout/episode_return") -> MeanCurve | None:
    """The mean curve of a metric.

    Args:
        result: of the point.
        against: ``"steps"`` or ``"seconds"``, the horizontal axis.
        metric: the vertical axis. Each seed's curve is interpolated at the same places.

    Returns:
        None if no seed has a curve of two rows.
    """
    column = {"steps": 0, "seconds": 1}[against]
    curves = [c for outcome in result.outcomes.values() if len(c := curve(outcome, metric)) > 1]
    if not curves:
        return None
    x = np.linspace(min(c[0, column] for c in curves), float(np.median([c[-1, column] for c in curves])), CURVE_POINTS)
    values = np.stack([np.interp(x, c[:, column], c[:, 2]) for c in curves])
    return MeanCurve(x, *confidence.bands(values))
