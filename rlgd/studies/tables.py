"""The results of a study as tables: Markdown for people, CSV for programs."""

import csv
import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlgd.maths import confidence
from rlgd.maths.confidence import in_words
from rlgd.studies.arms import as_label
from rlgd.studies.directory import SUMMARY
from rlgd.studies.outcome import ROWS, Outcome
from rlgd.studies.plan import Plan
from rlgd.studies.rounds import Separation, separations
from rlgd.studies.seed_statistics import PointResult, area, first_reached, late_mean, median_reached, target_return
from rlgd.tables import as_html, markdown_within

DISTANCE, SEPARATED = "distance to the optimum", "worse than"
KEPT = ("setting", "return")  # columns, also on narrow terminals
TIME = "time/"  # metrics with this prefix differ from one execution to the next


def columns(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> list[str]:
    """The headings of the tables: the columns that at least one row fills."""
    rows = [result for arm in arms for result in arm]
    heads = ["setting", "seeds", "return", "P(better)"]
    heads += [] if plan.question.until_separated is None else [SEPARATED]
    heads += ["mean over training"]
    target = target_return(plan)
    if target is not None:
        heads += [f"steps to {target:g}", "seconds to it"]
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
        "mean over training": in_words(result.area),
        DISTANCE: in_words(result.distance, ".3g"),
        "training seconds": f"{result.seconds:.2f}",
        "diverged": f"{result.diverged:.0%}",
    }
    target = target_return(plan)
    if target is not None and result.reached:
        middle = median_reached(result)
        number = sum(math.isfinite(reached.steps) for reached in result.reached)
        row[f"steps to {target:g}"] = f"{_or_never(middle.steps, ',.0f')} ({number} of {len(result.reached)})"
        row["seconds to it"] = _or_never(middle.seconds, ".2f")
    return row | {name: in_words(value, ".3g") for name, value in result.metrics.items()}


def _or_never(value: float, form: str) -> str:
    """A number, or "-" for infinity, which is never."""
    return format(value, form) if math.isfinite(value) else "-"


def arm_tables(plan: Plan, arms: Sequence[Sequence[PointResult]], width: int | None = None) -> str:
    """A table for each arm, in Markdown; for a terminal of this ``width`` with fewer columns."""
    texts = [(name, markdown_within(width, heads, rows, KEPT, SUMMARY)) for name, heads, rows in _contents(plan, arms)]
    return "\n\n".join(f"**{name}**\n\n{text}" if name else text for name, text in texts)


def html_tables(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> str:
    """A table for each arm, in HTML."""
    return "".join(as_html(heads, rows, name) for name, heads, rows in _contents(plan, arms))


def _contents(
    plan: Plan, arms: Sequence[Sequence[PointResult]]
) -> Iterator[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    """The name, the headings and the rows of each arm's table."""
    heads = columns(plan, arms)
    for arm, results in zip(plan.question.arms, arms, strict=True):
        rows = [cells(plan, result) for result in results]
        yield arm.name, heads, [[row.get(head, "") for head in heads] for row in rows]


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
                arms.setdefault(member, []).append(arm.name)
                settings.setdefault(member, point.settings)
                separated.setdefault(member, []).append(how)
    names = dict.fromkeys(name for values in settings.values() for name in values)
    target = target_return(plan)
    rows = []
    for member, outcome in sorted(outcomes.items()):
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
    target = target_return(plan)
    return [
        _finite(
            {
                "member": member,
                "training_seconds": outcome.training_seconds,
                "seconds_to_target": None if target is None else first_reached(outcome, target).seconds,
                **{name: late_mean(outcome, name) for name in plan.question.report if name.startswith(TIME)},
            }
        )
        for member, outcome in sorted(outcomes.items())
    ]


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


def summary_page(plan: Plan, arms: Sequence[Sequence[PointResult]], figures: Sequence[str]) -> str:
    """``summary.md``: the question, the tables, the figures, and how the numbers were measured."""
    question = plan.question
    parts = [
        f"# {question.name}",
        question.question,
        what_was_trained(plan, arms),
        arm_tables(plan, arms),
        *(f"![{name}]({name}.png)" for name in figures),
        "\n".join(f"- {note}" for note in _notes(plan, arms)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def what_was_trained(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> str:
    """The agent, the environment, the steps and the seeds, as a sentence."""
    question = plan.question
    return f"{question.agent} in {plan.env.env_id}, {question.total_timesteps:,} steps, {_seeds(plan, arms)}."


def _seeds(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> str:
    """How many seeds were trained; a member that several arms have counts once."""
    question = plan.question
    pairs = zip(itertools.chain(*plan.points), itertools.chain(*arms), strict=True)
    done = len({members[seed] for (_, members), row in pairs for seed in row.outcomes})
    if question.until_separated is None:
        return f"{question.seeds} seeds" + (
            f"; {done} of {len(plan.members)} finished" if done < len(plan.members) else ""
        )
    error = f"P = {question.until_separated:g}"
    return f"at most {question.seeds} seeds, until points separate ({error}): {done} of {len(plan.members)} members"


def _notes(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> list[str]:
    """How the columns of the tables were measured."""
    notes = [
        f"Return: of the greedy policy after training, mean over {plan.question.eval_episodes} episodes; interquartile "
        f"mean over seeds with its {confidence.CONFIDENCE:.0%} bootstrap interval.",
        "P(better): the probability that a seed of this row does better than a seed of the table's first row.",
        "Mean over training: the area under the curve of the return of training's episodes, divided by its steps.",
    ]
    if plan.question.until_separated is not None:
        notes.append(
            "Worse than: a point of the same arm, by a rank test and Welch's test, after this many seeds of each; it "
            "got no more for this arm. The others stop together: when all seeds are trained, or when more of the same "
            "would not tell them apart. The probability of a false call in the whole study is "
            f"{plan.question.until_separated:g} at most. A point stops when its seeds came out low, so its return is "
            "somewhat too low on average; and intervals hold for a number of seeds that is fixed, not for one that the "
            "returns decide."
        )
    if any(row.distance is not None for arm in arms for row in arm):
        notes.append(
            "Distance to the optimum: the discounted return of the optimal policy from the start, less that of the "
            "learned policy; both are exact."
        )
    target = target_return(plan)
    if target is not None:
        notes.append(
            f"Steps and seconds to {target:g}: when the mean return of training's episodes, averaged over one of "
            f"{ROWS} parts of the run, first reached it; the median over seeds, and in parentheses how many reached it."
        )
    notes.append(
        "Training seconds: of one member, without compilation and evaluation. Members that share a program share its "
        "time by their steps; on a CPU as many slices of members run at once as there are cores."
        if plan.on_device
        else "Training seconds: of one member, without compilation and evaluation; members ran one after another."
    )
    if any(row.diverged > 0 for arm in arms for row in arm):
        notes.append("Diverged: the share of seeds that diverged; their last finite policy was evaluated.")
    return notes
