"""The results of a study as tables: Markdown for people, CSV for programs."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlgd.maths.confidence import Interval, in_words
from rlgd.studies.arms import as_label
from rlgd.studies.directory import SUMMARY
from rlgd.studies.outcome import Outcome
from rlgd.studies.over_tasks import over_tasks
from rlgd.studies.plan import Plan
from rlgd.studies.rounds import Separation, separations
from rlgd.studies.seed_statistics import PointResult, area, first_reached, late_mean, median_reached, target_return
from rlgd.studies.working import Working, working
from rlgd.tables import as_html, markdown_within

DISTANCE, SEPARATED = "distance to the optimum", "worse than"
OVER_STEPS, OVER_SECONDS = "mean over training", "mean over equal seconds"
MEAN_STEPS, MEAN_SECONDS = "mean steps to it", "mean seconds to it"
KEPT = ("setting", "return", MEAN_SECONDS)  # columns, also on narrow terminals
TIME = "time/"  # metrics with this prefix differ from one execution to the next


def columns(plan: Plan, rows: Sequence[PointResult]) -> list[str]:
    """The headings of an arm's table: the columns that at least one row fills."""
    heads = ["setting", "seeds", "return", "P(better)"]
    heads += [] if plan.question.until_separated is None else [SEPARATED]
    heads += [OVER_STEPS, OVER_SECONDS]
    target = rows[0].target
    if target is not None:
        heads += [f"steps to {target:g}", MEAN_STEPS, "seconds to it", MEAN_SECONDS]
    heads += [DISTANCE] if any(row.distance is not None for row in rows) else []
    heads += ["training seconds", *plan.question.report]
    return heads + (["diverged"] if any(row.diverged > 0 for row in rows) else [])


def cells(plan: Plan, result: PointResult) -> dict[str, str]:
    """The row of one point, by heading."""
    row = {
        "setting": result.point.label,
        "seeds": str(len(result.outcomes)),
        "return": in_words(result.score),
        "P(better)": "" if result.improvement is None else in_words(result.improvement, ".2f"),
        SEPARATED: "" if result.separated is None else "{1}, after {0} seeds".format(*result.separated),
        OVER_STEPS: in_words(result.area),
        OVER_SECONDS: in_words(result.area_in_time),
        DISTANCE: in_words(result.distance, ".3g"),
        "training seconds": f"{result.seconds:.2f}",
        "diverged": f"{result.diverged:.0%}",
    }
    if result.target is not None and result.reached:
        target, middle = result.target, median_reached(result)
        number = sum(math.isfinite(reached.steps) for reached in result.reached)
        row[f"steps to {target:g}"] = f"{_or_never(middle.steps, ',.0f')} ({number} of {len(result.reached)})"
        row["seconds to it"] = _or_never(middle.seconds, ".2f")
        row |= {
            MEAN_STEPS: in_words(result.steps_to_target, ",.0f"),
            MEAN_SECONDS: in_words(result.seconds_to_target, ".2f"),
        }
    return row | {name: in_words(value, ".3g") for name, value in result.metrics.items()}


def _or_never(value: float, form: str) -> str:
    """A number, or "-" for infinity, which is never."""
    return format(value, form) if math.isfinite(value) else "-"


def arm_tables(plan: Plan, arms: Sequence[Sequence[PointResult]], width: int | None = None) -> str:
    """A table for each arm, in Markdown; for a terminal of this ``width`` with fewer columns."""
    texts = [(name, markdown_within(width, heads, rows, KEPT, SUMMARY)) for name, heads, rows in _contents(plan, arms)]
    return "\n\n".join(f"**{name}**\n\n{text}" if name else text for name, text in texts)


def overall_tables(plan: Plan, arms: Sequence[Sequence[PointResult]], width: int | None = None) -> str:
    """As ``arm_tables``, for the arms of each name that several environments have; empty if there is none."""
    texts = []
    for overall in over_tasks(plan, arms):
        heads = ["setting", "normalized return", "P(better)", "share of the time to the target"]
        rows = [
            [
                point.label,
                in_words(point.score, ".2f"),
                "" if point.improvement is None else in_words(point.improvement, ".2f"),
                in_words(point.time, ".2f"),
            ]
            for point in overall.points
        ]
        text = markdown_within(width, heads, rows, {*heads} - {"P(better)"}, SUMMARY)
        texts.append(f"**{overall.title}** ({', '.join(overall.env_ids)})\n\n{text}")
    texts += [text for text in [working_table(plan, arms, width)] if text]
    return "\n\n".join(texts)


def working_table(plan: Plan, arms: Sequence[Sequence[PointResult]], width: int | None = None) -> str:
    """How many values of a grid work, for each arm; empty if there are no grids to compare."""
    grids = working(plan, arms)
    if not grids:
        return ""
    axis = next(grid.axis for grid in grids if grid.share is not None)
    heads = ["arm", "best normalized return", "share of values that work", f"decades of {axis} that work"]

    def row(grid: Working) -> list[str]:
        if grid.share is None:
            return [grid.name, in_words(grid.best, ".2f"), "", ""]
        decades = Interval(*(x * grid.decades for x in grid.share))
        return [grid.name, in_words(grid.best, ".2f"), in_words(grid.share, ".2f"), in_words(decades, ".1f")]

    return f"**values that work**\n\n{markdown_within(width, heads, list(map(row, grids)), heads[:1], SUMMARY)}"


def html_tables(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> str:
    """A table for each arm, in HTML."""
    return "".join(as_html(heads, rows, name) for name, heads, rows in _contents(plan, arms))


def _contents(
    plan: Plan, arms: Sequence[Sequence[PointResult]]
) -> Iterator[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    """The name, the headings and the rows of each arm's table."""
    for arm, results in zip(plan.question.arms, arms, strict=True):
        heads = columns(plan, results)
        rows = [cells(plan, result) for result in results]
        yield arm.title, heads, [[row.get(head, "") for head in heads] for row in rows]


def records(plan: Plan, outcomes: Mapping[int, Outcome]) -> list[dict[str, Any]]:
    """A row for each finished member, all with the same columns; None for a number that is missing or not finite.

    Nothing in it depends on how fast or in which order the members were trained; seconds are in ``times``.
    """
    arms: dict[int, list[str]] = {}
    settings: dict[int, dict[str, Any]] = {}
    separated: dict[int, list[Separation | None]] = {}
    for arm, points, of_arm in zip(plan.question.arms, plan.points, separations(plan, outcomes), strict=True):
        for (point, members), how in zip(points, of_arm, strict=True):
            for member in members:
                arms.setdefault(member, []).append(arm.title)
                settings.setdefault(member, point.settings)
                separated.setdefault(member, []).append(how)
    names = dict.fromkeys(name for values in settings.values() for name in values)
    rows = []
    for member, outcome in sorted(outcomes.items()):
        target = target_return(plan, plan.members[member].env.env_id)
        row: dict[str, Any] = {
            "member": member,
            "arms": "; ".join(arms[member]),
            **{name: settings[member].get(name) for name in names},
            **({} if plan.question.until_separated is None else _separated(separated[member])),
            "seed": plan.members[member].settings.seed,
            "episode_return": outcome.episode_return,
            "episode_length": outcome.episode_length,
            "mean_over_training": area(outcome),
            "steps": outcome.steps,
            "steps_to_target": None if target is None else first_reached(outcome, target).steps,
            **{name: late_mean(outcome, name) for name in plan.question.report if not name.startswith(TIME)},
            "reason": outcome.reason,
            "why": outcome.why,
        }
        rows.append(_finite(row))
    return rows


def _separated(arms: Sequence[Separation | None]) -> dict[str, str]:
    """Of a member's point: for each of its arms what it is worse than, and after how many seeds that was found."""
    return {
        "worse_than": "; ".join("" if how is None else how.better for how in arms),
        "separated_after": "; ".join("" if how is None else str(how.seeds) for how in arms),
    }


def times(plan: Plan, outcomes: Mapping[int, Outcome]) -> list[dict[str, Any]]:
    """The seconds that each finished member took, to its end and to the target return."""
    rows = []
    for member, outcome in sorted(outcomes.items()):
        target = target_return(plan, plan.members[member].env.env_id)
        row = {
            "member": member,
            "training_seconds": outcome.training_seconds,
            "seconds_to_target": None if target is None else first_reached(outcome, target).seconds,
            **{name: late_mean(outcome, name) for name in plan.question.report if name.startswith(TIME)},
        }
        rows.append(_finite(row))
    return rows


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in row.items()}


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same columns as the text of a CSV file."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: as_label(x) if isinstance(x, tuple) else x for name, x in row.items()})
    return file.getvalue()
