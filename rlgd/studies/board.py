"""A study's answer in TensorBoard: few runs, so that all of it is shown before anybody selects anything.

The run ``answer`` has the figures, the answer in words, and how Custom Scalars is laid out. Each arm that
varies one setting is a run below ``arms/``, with what was found at each value. Each combination of values is a run
below ``settings/``, with the mean curve of its seeds and a row of HParams. TensorBoard sorts runs and tags by their
names, and opens the first two groups of tags: ``answer/`` and ``curves/``.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rlgd.maths.confidence import Interval
from rlgd.run.layout import in_file_name
from rlgd.run.sinks import tensorboard
from rlgd.run.sinks.tensorboard import Board
from rlgd.studies import tables, words
from rlgd.studies.arms import Arm, Point, as_label
from rlgd.studies.axes import Axis, run_of, single_axes
from rlgd.studies.directory import TENSORBOARD
from rlgd.studies.over_tasks import TITLE, OverallPoint, over_tasks
from rlgd.studies.plan import Plan
from rlgd.studies.seed_statistics import PointResult, mean_curve, median_reached
from rlgd.system import files

ANSWER = "answer"
PLACES_APART, APART = 100, 2  # steps from one value to the next on the horizontal axis, and between its points
PICTURES = {  # the tags of figures
    "normalized-return": "answer/all environments, 1 return",
    "normalized-time": "answer/all environments, 2 time to the target",
    "performance-profiles": "figures/performance profiles",
    "return-by-value": "answer/figure of the return",
    "surface": "answer/surface of the return",
    "return-against-steps": "figures/return against steps",
    "return-against-seconds": "figures/return against seconds",
}
AGAINST = {"steps": ("steps", 1), "seconds": ("milliseconds", 1000)}  # what a step of a curve is

Scalars: TypeAlias = dict[int, dict[str, float]]  # the values of tags, by step
Bands: TypeAlias = dict[str, tuple[str, str, str]]


def folder_name(text: str) -> str:
    """A name of a folder. Without leading dots: a case named ".." would lead out of the directory."""
    return in_file_name(text).lstrip(".") or "all"


def write_answer(
    plan: Plan, arms: Sequence[Sequence[PointResult]], pictures: Mapping[str, bytes], directory: Path
) -> None:
    """Write ``tensorboard/`` in the study's directory.

    Args:
        plan: of the study.
        arms: the results of the points of each arm.
        pictures: the figures as PNG, by name.
        directory: of the study.

    Raises:
        OSError: if it cannot be written.
        StorageFault: if it cannot be written to the end.
    """
    tensorboard.remove_runs(files.make_folder(directory, TENSORBOARD))
    axes = single_axes(plan, arms)
    start = time.time()
    runs = {ANSWER: _answer(plan, arms, axes)}
    for name, board in [*_arms(plan, arms, axes), *_settings(plan, arms)]:
        runs[_free(name, runs)] = board
    for name, board in runs.items():
        tensorboard.write_board(files.make_folder(directory, TENSORBOARD, *name.split("/")), start, board)
    folder = files.make_folder(directory, TENSORBOARD, ANSWER)
    tensorboard.add_pictures(folder, {PICTURES[name]: png for name, png in pictures.items()})


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """The name of a run, with a number if another run has it: arms may have names that are alike as folders."""
    known = {other.casefold() for other in taken}
    names = [name, *(f"{name}-{n}" for n in range(2, len(taken) + 3))]
    return next(free for free in names if free.casefold() not in known)


def quantities(plan: Plan, row: PointResult) -> dict[str, Interval | None]:
    """What is shown of a point, as in the tables; NaN for no bounds, None or infinity for what was not found."""
    found: dict[str, Interval | None] = {"return": row.score}
    if row.reached:
        (steps, seconds), target = median_reached(row), target_words(plan, row)
        found |= {f"steps to {target}": _exactly(steps), f"seconds to {target}": _exactly(seconds)}
        found |= {f"steps to {target}, mean": row.steps_to_target, f"seconds to {target}, mean": row.seconds_to_target}
    found |= {"distance to the optimum": row.distance} if row.distance is not None else {}
    found |= {
        "training return, mean": row.area,
        "training return, mean of equal seconds": row.area_in_time,
        "training seconds": _exactly(row.seconds),
    }
    return found | {"win probability": row.improvement} | row.metrics


def target_words(plan: Plan, row: PointResult) -> str:
    """The target return of a point that has one.

    In words if there are several environments, so that all have the same columns.
    """
    return "the target" if len(plan.env_ids) > 1 else f"{row.target:g}"


def _exactly(value: float) -> Interval:
    return Interval(value, math.nan, math.nan)


def _tag(text: str) -> str:
    """A tag without round brackets: TensorBoard draws no band where a tag has them."""
    return text.replace("(", "[").replace(")", "]")


def _value_tag(name: str, axis: Axis) -> str:
    return _tag(f"{ANSWER}/{name} by {axis.name}")


def _bounds(tag: str) -> tuple[str, str]:
    """The tags of an interval's lower and upper bound."""
    return f"interval/{tag}, low", f"interval/{tag}, high"


def _add(scalars: Scalars, step: int, tag: str, interval: Interval) -> None:
    """Add a value, with its bounds if it has any."""
    values = dict(zip((tag, *_bounds(tag)), interval, strict=True))
    scalars.setdefault(step, {}).update({name: x for name, x in values.items() if name == tag or not math.isnan(x)})


# The answer in words, figures and layouts


def _answer(plan: Plan, arms: Sequence[Sequence[PointResult]], axes: Sequence[Axis]) -> Board:
    found = [part for part in (tables.overall_tables(plan, arms), tables.arm_tables(plan, arms)) if part]
    texts = {"answer/1 in words": words.answer(plan, arms), "answer/2 as a table": "\n\n".join(found)}
    return Board(
        texts=texts | {"answer/3 what the steps stand for": _legend(axes)},
        bands={"answer": _answer_bands(plan, axes), "while training": _curve_bands(plan)},
    )


def _legend(axes: Sequence[Axis]) -> str:
    """What a step on the horizontal axis of the charts stands for."""
    lines = [
        f"In charts `answer/... by {axis.name}`, steps {n * PLACES_APART} to {(n + 1) * PLACES_APART - 1}: **{label}**"
        for axis in axes
        for n, label in enumerate(axis.labels)
    ]
    notes = [
        "A triangle: fewer than half of the seeds have reached the target with this value.",
        "`win probability` is P(better) of the table, and `training return, mean` its mean over training.",
        "`steps to ..., mean` is over seeds; one that has not reached the target counts with all steps.",
        "In charts `curves/... against milliseconds` a step is a millisecond of a member's training.",
    ]
    return "\n".join(f"- {line}" for line in [*lines, *notes])


def _answer_bands(plan: Plan, axes: Sequence[Axis]) -> Bands:
    """Charts of each quantity that has an interval against each axis."""
    return {
        tag.removeprefix(f"{ANSWER}/"): (tag, *_bounds(tag))
        for axis in axes
        for _, rows in axis.arms
        for row in rows
        for name, found in quantities(plan, row).items()
        if found is not None and not math.isnan(found.low)
        for tag in [_value_tag(name, axis)]
    }


def _curve_bands(plan: Plan) -> Bands:
    tags = [_curve_tag(arm, against) for arm in plan.question.arms for against in AGAINST]
    return {tag.removeprefix("curves/"): (tag, *_bounds(tag)) for tag in tags}


# The arms: what was found against the swept value


def _arms(plan: Plan, arms: Sequence[Sequence[PointResult]], axes: Sequence[Axis]) -> Iterator[tuple[str, Board]]:
    """The names and boards of the arms' runs."""
    runs: dict[str, Scalars] = {}
    for axis in axes:
        for arm, rows in axis.arms:
            scalars = runs.setdefault(run_of(axis, arm), {})
            for row in rows:
                for name, found in quantities(plan, row).items():
                    _add_value(scalars, axis.place(row), _value_tag(name, axis), found)
    for overall in over_tasks(plan, arms):
        scalars = runs.get(overall.name or overall.axis, {}) if overall.axis else {}
        for place, point in enumerate(overall.points):
            for name, value in _overall_quantities(point).items():
                _add_value(scalars, place, _tag(f"{ANSWER}/{name} by {overall.axis} in {TITLE}"), value)
    for name, scalars in runs.items():
        yield f"arms/{folder_name(name)}", Board(scalars=sorted(scalars.items()))


def _overall_quantities(point: OverallPoint) -> dict[str, Interval | None]:
    return {
        "normalized return": point.score,
        "normalized time to the target": point.time,
        "win probability": point.improvement,
    }


def _add_value(scalars: Scalars, place: int, tag: str, found: Interval | None) -> None:
    """Add what was found at the value with this index, as a level line as wide as the value.

    A single point would not be read: TensorBoard smooths lines over points, and shows five of them as if each was the
    mean of those before.
    """
    if found is None:
        return
    if not math.isfinite(found.value):
        middle = place * PLACES_APART + PLACES_APART // 2
        scalars.setdefault(middle, {})[tag] = math.nan  # shown as a triangle in a gap of the line
        return
    for shift in range(0, PLACES_APART, APART):
        _add(scalars, place * PLACES_APART + shift, tag, found)


# The settings: mean curves, and the rows of HParams


def _settings(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> list[tuple[str, Board]]:
    """The names and boards of the runs of all combinations; one that several arms have is a run of the first."""
    boards: dict[tuple[int, ...], tuple[str, Board, Scalars]] = {}
    names = {arm.name for arm in plan.question.arms}
    digits = len(str(sum(map(len, plan.points))))
    columns = _columns(plan, [(arm, row) for arm, rows in zip(plan.question.arms, arms, strict=True) for row in rows])
    for arm, points, rows in zip(plan.question.arms, plan.points, arms, strict=True):
        for (point, members), row in zip(points, rows, strict=True):
            if members not in boards:
                parts = (arm.env, arm.name if len(names) > 1 or not arm.env else "", point.label)
                run = "/".join(["settings", *(folder_name(part) for part in parts if part)])
                # The table of HParams is sorted by this name.
                group = f"{len(boards) + 1:0{digits}} " + ", ".join(part for part in (point.label, arm.title) if part)
                end = max((outcome.steps for outcome in row.outcomes.values()), default=0)
                boards[members] = (
                    run,
                    Board(session=_values(columns, arm, point), group=group),
                    {end: _results(plan, row)},
                )
            _add_curves(boards[members][2], arm, row)
    return [(run, board._replace(scalars=sorted(scalars.items()))) for run, board, scalars in boards.values()]


def _results(plan: Plan, row: PointResult) -> dict[str, float]:
    """What HParams shows first of a combination, by tags; what was never reached is left out.

    The return has the tag that it has in runs, so that a folder with both has one column for it.
    """
    names = ["return"]
    if row.reached:
        target = target_words(plan, row)
        names += [f"steps to {target}", f"seconds to {target}"]
    found = quantities(plan, row)
    known = {name: x.value for name in names if (x := found.get(name)) is not None and math.isfinite(x.value)}
    return {tensorboard.RETURN if name == "return" else f"{ANSWER}/{name}": x for name, x in known.items()}


def _curve_tag(arm: Arm, against: str) -> str:
    return _tag(f"curves/return against {AGAINST[against][0]}" + (f", {arm.title}" if arm.title else ""))


def _add_curves(scalars: Scalars, arm: Arm, row: PointResult) -> None:
    """Add the mean curves of the return while training."""
    for against, (_, unit) in AGAINST.items():
        line = mean_curve(row, against)
        for x, *interval in zip(*line, strict=True) if line is not None else ():
            _add(scalars, round(x * unit), _curve_tag(arm, against), Interval(*map(float, interval)))


def _columns(plan: Plan, settings: Sequence[tuple[Arm, PointResult]]) -> dict[str, bool]:
    """The columns of HParams, and whether each is a number: what is swept, environment and arm if there are several."""
    swept = dict.fromkeys(name for arm in plan.question.arms for name in arm.axes)
    columns = {
        name: all(isinstance(row.point.settings.get(name, 0), int | float) for _, row in settings) for name in swept
    }
    columns |= {"env": False} if len(plan.env_ids) > 1 else {}
    columns |= {"arm": False} if len({arm.name for arm in plan.question.arms}) > 1 else {}
    return columns | ({"case": False} if any(arm.cases for arm in plan.question.arms) else {})


def _values(columns: Mapping[str, bool], arm: Arm, point: Point) -> dict[str, float | str]:
    """The row of a point in HParams: numbers in a column of numbers, else labels."""
    known = {**point.settings, "arm": arm.name} | ({} if arm.axes else {"case": point.label})
    return {
        name: float(known[name]) if is_number else as_label(known[name])
        for name, is_number in columns.items()
        if name in known
    }
