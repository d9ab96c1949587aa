"""What a study found: a row for each point of each arm, with statistics over its seeds."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlgd import estimator, intervals
from rlgd.grid import Point, written
from rlgd.intervals import Interval, Scores
from rlgd.plan import Plan
from rlgd.stack import DIVERGED, ROWS, Outcome

LAST = 0.1  # of a curve, over which the metrics of ``report`` are averaged
DISTANCE = "distance to the optimum"
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
    target, problem = target_return(plan), estimator.problem_of(plan.env)
    best = None if problem is None else problem.optimum().objective
    arms = []
    for points in plan.points:
        of_arm: list[Finding] = []
        for point, members in points:
            done = {plan.members[n].seed: outcomes[n] for n in members if n in outcomes}
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
            improvement = intervals.probability_of_improvement(*map(np.array, zip(*finite, strict=True)))
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
    return intervals.interval(finite) if finite else None


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
    return MeanCurve(x, *intervals.bands(values))


def columns(plan: Plan, arms: Sequence[Sequence[Finding]]) -> list[str]:
    """The headings of the table, without what no row has."""
    rows = [finding for arm in arms for finding in arm]
    heads = ["setting", "seeds", "return", "P(better)", "mean over training"]
    target = target_return(plan)
    if target is not None:
        heads += [f"steps to {target:g}", "seconds to it"]
    heads += [DISTANCE] if any(row.distance is not None for row in rows) else []
    heads += ["training seconds", *plan.question.report]
    return heads + (["diverged"] if any(row.diverged > 0 for row in rows) else [])


def cells(plan: Plan, finding: Finding) -> dict[str, str]:
    """A row of the table, by heading."""
    row = {
        "setting": finding.point.label,
        "seeds": str(len(finding.outcomes)),
        "return": in_words(finding.score),
        "P(better)": "" if finding.improvement is None else in_words(finding.improvement, ".2f"),
        "mean over training": in_words(finding.area),
        DISTANCE: in_words(finding.distance, ".3g"),
        "training seconds": f"{finding.seconds:.2f}",
        "diverged": f"{finding.diverged:.0%}",
    }
    target = target_return(plan)
    if target is not None and finding.reached:
        steps, seconds = (sorted(values) for values in zip(*finding.reached, strict=True))
        share = sum(math.isfinite(step) for step in steps)
        row[f"steps to {target:g}"] = f"{_median(steps, ',.0f')} ({share} of {len(steps)})"
        row["seconds to it"] = _median(seconds, ".2f")
    return row | {name: in_words(value, ".3g") for name, value in finding.metrics.items()}


def _median(values: Sequence[float], form: str) -> str:
    """The lower median: that of half the seeds at least; those that never reached it count as later than all others."""
    middle = values[(len(values) - 1) // 2]
    return format(middle, form) if math.isfinite(middle) else "-"


def in_words(value: Interval | None, form: str = ".1f") -> str:
    """A statistic with its interval, as tables show it."""
    if value is None:
        return "-"
    if math.isnan(value.low):
        return format(value.value, form)
    return f"{value.value:{form}} [{value.low:{form}}, {value.high:{form}}]"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def tables(plan: Plan, arms: Sequence[Sequence[Finding]]) -> str:
    """The tables of all arms, in Markdown."""
    heads = columns(plan, arms)
    parts = []
    for arm, rows in zip(plan.question.arms, arms, strict=True):
        listed = [[cells(plan, row).get(head, "") for head in heads] for row in rows]
        text = markdown(heads, listed)
        parts.append(f"**{arm.name}**\n\n{text}" if arm.name else text)
    return "\n\n".join(parts)


def records(plan: Plan, outcomes: Mapping[int, Outcome]) -> list[dict[str, Any]]:
    """A row for each finished member, all with the same columns; None where there is no such number."""
    arms: dict[int, list[str]] = {}
    settings: dict[int, dict[str, Any]] = {}
    for arm, points in zip(plan.question.arms, plan.points, strict=True):
        for point, members in points:
            for member in members:
                arms.setdefault(member, []).append(arm.name)
                settings.setdefault(member, point.settings)
    names = dict.fromkeys(name for values in settings.values() for name in values)
    target = target_return(plan)
    rows = []
    for member, outcome in sorted(outcomes.items()):
        steps, seconds = (None, None) if target is None else reached(outcome, target)
        row: dict[str, Any] = {
            "member": member,
            "arms": "; ".join(arms[member]),
            **{name: settings[member].get(name) for name in names},
            "seed": plan.members[member].seed,
            "episode_return": outcome.episode_return,
            "episode_length": outcome.episode_length,
            "mean_over_training": area(outcome),
            "steps": outcome.steps,
            "training_seconds": outcome.training_seconds,
            "steps_to_target": steps,
            "seconds_to_target": seconds,
            **{name: last(outcome, name) for name in plan.question.report},
            "reason": outcome.reason,
            "why": outcome.why,
        }
        rows.append({name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in row.items()})
    return rows


def results_csv(plan: Plan, outcomes: Mapping[int, Outcome]) -> str:
    """``results.csv``: a row for each finished member."""
    rows = records(plan, outcomes)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: written(x) if isinstance(x, tuple) else x for name, x in row.items()})
    return file.getvalue()


def summary(plan: Plan, arms: Sequence[Sequence[Finding]], figures: Sequence[str]) -> str:
    """``summary.md``: what was asked, what was found, and how it was measured."""
    question, members = plan.question, plan.members
    done = sum(len(row.outcomes) for arm in arms for row in arm)
    total = sum(len(numbers) for points in plan.points for _, numbers in points)
    first = members[0]
    notes = [
        f"Return: of the greedy policy behind training, mean over {question.eval_episodes} episodes; interquartile "
        f"mean over seeds with its {intervals.CONFIDENCE:.0%} bootstrap interval.",
        "P(better): the probability that a seed does better than the first row of its table does with a seed.",
        "Mean over training: the area under the curve of the return of training's episodes, over its steps.",
    ]
    if any(row.distance is not None for arm in arms for row in arm):
        notes.append(
            "Distance to the optimum: the best policy's discounted return from the start less the policy's, both exact."
        )
    target = target_return(plan)
    if target is not None:
        notes.append(
            f"Steps and seconds to {target:g}: when training's episodes, averaged over one of {ROWS} parts of the run, "
            "first had that mean return; the median over seeds, behind it how many got there."
        )
    notes.append(
        "Training seconds: of one member, without compilation and evaluation. All members that share a program share "
        "its time by their steps; on a CPU as many slices of members run at once as there are cores."
        if plan.on_device
        else "Training seconds: of one member, without compilation and evaluation; one ran after the other."
    )
    if any(row.diverged > 0 for arm in arms for row in arm):
        notes.append(
            "Diverged: the share of seeds that left the finite numbers; they count with their last finite policy."
        )
    parts = [
        f"# {question.name}",
        question.question,
        f"{question.agent} in {first.env.env_id}, {question.total_timesteps:,} steps, {question.seeds} seeds"
        + (f"; {done} of {total} finished." if done < total else "."),
        tables(plan, arms),
        *(f"![{name}]({name}.png)" for name in figures),
        "\n".join(f"- {note}" for note in notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
