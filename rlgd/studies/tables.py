"""A study's answer as tables."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlgd.maths import confidence
from rlgd.maths.confidence import in_words
from rlgd.studies.arms import written
from rlgd.studies.findings import Finding, area, last, reached, target_return
from rlgd.studies.outcome import ROWS, Outcome
from rlgd.studies.plan import Plan
from rlgd.tables import markdown

DISTANCE = "distance to the optimum"


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
            "seed": plan.members[member].settings.seed,
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
        f"mean over seeds with its {confidence.CONFIDENCE:.0%} bootstrap interval.",
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
