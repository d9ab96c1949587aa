"""The results of a study as pictures. No display is needed."""

import functools
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlgd.maths import confidence
from rlgd.studies.arms import Arm, as_label
from rlgd.studies.axes import Axis, run_of, single_axes
from rlgd.studies.over_tasks import TITLE, Overall, over_tasks
from rlgd.studies.plan import Plan
from rlgd.studies.seed_statistics import PointResult, mean_curve

PANEL = (5.2, 3.8)  # inches
COLUMNS = 3
DPI = 110
# Those that TensorBoard gives to the arms' runs, which come after the first one; so the legend holds for both.
OF_ARMS = ("#12b5cb", "#e52592", "#f9ab00", "#9334e6", "#7cb342", "#e8710a", "#425066")
LINES = ("o-", "s--", "^:", "D-.")  # marker and line, so that more arms than there are colours can be told apart
NORMALIZED = {  # what is drawn over all environments
    "normalized-return": "normalized return, all environments",
    "normalized-time": "share of the time to the target, all environments",
}
THRESHOLDS = np.linspace(0.0, 1.05, 64)  # of performance profiles
ORDERED = "viridis"  # for values that have an order; the others have colours that differ

ArmResults: TypeAlias = tuple[Arm, Sequence[PointResult]]


def draw(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> dict[str, bytes]:
    """All figures of a study, as PNG, by name."""
    pairs = [(arm, rows) for arm, rows in zip(plan.question.arms, arms, strict=True) if any(r.outcomes for r in rows)]
    lines = [pair for pair in pairs if len(pair[0].axes) < 2]
    surfaces = [pair for pair in pairs if len(pair[0].axes) == 2]
    figures: dict[str, bytes] = {}
    if overall := over_tasks(plan, arms):
        figures |= {name: png(figure) for name, figure in over_all_tasks(overall).items()}
    if lines:
        for name, against in (("return-against-steps", "steps"), ("return-against-seconds", "seconds")):
            figures[name] = png(panels(plan, lines, functools.partial(draw_curves, against=against)))
        figures["return-by-value"] = png(return_by_value(single_axes(plan, arms)))
    if surfaces:
        figures["surface"] = png(panels(plan, surfaces, draw_surface))
    return figures


def png(figure: Figure) -> bytes:
    """The bytes of a figure; the same figure has the same ones."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def panels(plan: Plan, pairs: Sequence[ArmResults], draw_panel: Callable[..., None]) -> Figure:
    """A figure with a panel for each arm, drawn by ``draw_panel(plan, axes, arm, rows)``."""
    figure, places = _grid(len(pairs))
    for axes, (arm, results) in zip(places, pairs, strict=True):
        draw_panel(plan, axes, arm, results)
        axes.set_title(arm.title or plan.question.name, fontsize="medium")
    return figure


def _grid(number: int) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels."""
    columns = min(number, COLUMNS)
    rows = -(-number // columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, n + 1) for n in range(number)]


def _styles(number: int) -> list[tuple[str, str]]:
    """Colour, and marker with line, of each of so many arms."""
    repeated = itertools.product(LINES, OF_ARMS)
    return [(colour, line) for line, colour in itertools.islice(itertools.cycle(repeated), number)]


def _legend(figure: Figure, number: int) -> None:
    """What the lines of the arms are: in each panel, or beside all of them where they are many."""
    panels = figure.axes
    if number <= len(OF_ARMS):
        for panel in panels:
            if panel.get_legend_handles_labels()[0]:
                panel.legend(fontsize="small")
        return
    by_label = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(by_label.values(), by_label.keys(), loc="outside right upper", fontsize="small")
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + 1.5, max(height, 0.25 * number))


def _colours(arm: Arm, number: int) -> list[Any]:
    if arm.cases or any(isinstance(value, str) for value in next(iter(arm.vary.values()))):
        return [colormaps["tab10"](n % 10) for n in range(number)]
    return [colormaps[ORDERED](0.9 * n / max(number - 1, 1)) for n in range(number)]


def draw_curves(plan: Plan, axes: Axes, arm: Arm, rows: Sequence[PointResult], *, against: str) -> None:
    """The return of training's episodes against ``"steps"`` or ``"seconds"``: a line with its band for each point."""
    for colour, row in zip(_colours(arm, len(rows)), rows, strict=True):
        line = mean_curve(row, against)
        if line is None:
            continue
        style = "--" if row.separated else "-"
        axes.plot(line.x, line.mean, style, color=colour, label=_label(plan, row), linewidth=1.5)
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    _draw_target(axes, rows)
    axes.set_xlabel("environment steps" if against == "steps" else "training seconds of a member")
    axes.set_ylabel("episodic return while training")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="x-small")


def _label(plan: Plan, row: PointResult) -> str:
    """A point's name; with ``until_separated`` its seeds as well, and whether it is worse than another one."""
    if plan.question.until_separated is None:
        return row.point.label
    return f"{row.point.label} ({len(row.outcomes)} seeds{', worse' if row.separated else ''})"


def _draw_target(axes: Axes, rows: Sequence[PointResult]) -> None:
    target = rows[0].target
    if target is not None:
        axes.axhline(target, color="gray", linewidth=0.8, linestyle=":")


def return_by_value(axes: Sequence[Axis]) -> Figure:
    """The return at each point with its interval, a line for each arm: arms along the same axis share a panel."""
    figure, places = _grid(len(axes))
    names = list(dict.fromkeys(run_of(axis, arm) for axis in axes for arm, _ in axis.arms))
    styles = dict(zip(names, _styles(len(names)), strict=True))
    for panel, axis in zip(places, axes, strict=True):
        _draw_returns(panel, axis, styles)
        _draw_target(panel, axis.arms[0][1])
    if any(len(axis.arms) > 1 for axis in axes):
        _legend(figure, len(names))
    return figure


def _draw_returns(panel: Axes, axis: Axis, styles: Mapping[str, tuple[str, str]]) -> None:
    """One panel of ``return_by_value``: the arms are a little apart so that bars do not overlap.

    A point that is worse than the best of its arm has a hollow marker.
    """
    labels = axis.labels
    for shift, (arm, rows) in zip(_shifts(len(axis.arms)), axis.arms, strict=True):
        colour, line = styles[run_of(axis, arm)]
        scores = [(axis.place(row), row.score) for row in rows if row.score]
        if not scores:
            continue
        x = np.array([place for place, _ in scores]) + shift
        _draw_intervals(panel, x, [score for _, score in scores], colour, line, arm.name)
        worse = [bool(row.separated) for row in rows if row.score]
        value = np.array([score.value for _, score in scores])
        panel.plot(x[worse], value[worse], line[0], color="white", markeredgecolor=colour, zorder=3)
    _name_values(panel, labels)
    panel.set_xlabel(axis.name)
    panel.set_ylabel("return of the greedy policy")


def _shifts(number: int) -> list[float]:
    """How far the lines of so many arms are moved aside."""
    return np.linspace(-0.12, 0.12, number).tolist() if number > 1 else [0.0]


def _draw_intervals(
    panel: Axes, x: Any, intervals: Sequence[confidence.Interval], colour: str, line: str, name: str
) -> None:
    value, low, high = np.array(intervals).T
    # A single seed has no interval: matplotlib draws no bar where the error is NaN.
    error = np.abs(np.stack([value - low, high - value]))
    panel.errorbar(x, value, error, fmt=line, color=colour, markersize=5, capsize=3, linewidth=1.2, label=name or None)


def over_all_tasks(overall: Sequence[Overall]) -> dict[str, Figure]:
    """The normalized return and the time at each point, a line for the arms of each name, and performance profiles."""
    figures = {}
    axes = list(dict.fromkeys(family.axis for family in overall))
    names = list(dict.fromkeys(family.name for family in overall))
    styles = dict(zip(names, _styles(len(names)), strict=True))
    for name, label in NORMALIZED.items():
        figures[name], places = _grid(len(axes))
        for panel, axis in zip(places, axes, strict=True):
            _draw_families(panel, [family for family in overall if family.axis == axis], name, label, styles)
        if any(family.name for family in overall):
            _legend(figures[name], len(names))
    profiles, places = _grid(len(overall))
    for panel, family in zip(places, overall, strict=True):
        _draw_profiles(panel, family)
    return figures | {"performance-profiles": profiles}


def _draw_families(
    panel: Axes, overall: Sequence[Overall], name: str, label: str, styles: Mapping[str, tuple[str, str]]
) -> None:
    labels = list(dict.fromkeys(family.value(point) for family in overall for point in family.points))
    for shift, family in zip(_shifts(len(overall)), overall, strict=True):
        colour, line = styles[family.name]
        intervals = [point.score if name == "normalized-return" else point.time for point in family.points]
        x = np.array([labels.index(family.value(point)) for point in family.points]) + shift
        _draw_intervals(panel, x, intervals, colour, line, family.name)
    _name_values(panel, labels)
    panel.set_xlabel(overall[0].axis)
    panel.set_ylabel(label)


def _name_values(panel: Axes, labels: Sequence[str]) -> None:
    is_long = max(map(len, labels)) > 6
    panel.set_xticks(range(len(labels)), labels, rotation=30 if is_long else 0, ha="right" if is_long else "center")


def _draw_profiles(panel: Axes, family: Overall) -> None:
    shades = [colormaps[ORDERED](0.9 * k / max(len(family.points) - 1, 1)) for k in range(len(family.points))]
    for shade, point in zip(shades, family.points, strict=True):
        scores = [np.array(list(by_seed.values())) for by_seed in point.returns]
        value, low, high = confidence.profile(scores, THRESHOLDS)
        panel.plot(THRESHOLDS, value, color=shade, label=point.label, linewidth=1.5)
        panel.fill_between(THRESHOLDS, low, high, color=shade, alpha=0.12, linewidth=0)
    panel.set_xlabel("normalized return")
    panel.set_ylabel("share of runs above it")
    panel.set_title(family.name or TITLE, fontsize="medium")
    panel.legend(fontsize="x-small")


def draw_surface(plan: Plan, axes: Axes, arm: Arm, rows: Sequence[PointResult]) -> None:
    """The return over two axes, as a heat map with its numbers."""
    across, up = arm.axes
    shape = len(arm.vary[across]), len(arm.vary[up])
    values = np.array([row.score.value if row.score else np.nan for row in rows]).reshape(shape).T
    seeds = [f"\n{len(row.outcomes)} seeds{', worse' if row.separated else ''}" for row in rows]
    extra = np.array(seeds if plan.question.until_separated else [""] * len(rows), object).reshape(shape).T
    image = axes.imshow(values, origin="lower", aspect="auto", cmap=ORDERED)
    known = values[np.isfinite(values)]
    middle = (known.min() + known.max()) / 2 if known.size else 0.0
    for (y, x), value in np.ndenumerate(values):
        text = "-" if np.isnan(value) else f"{value:.0f}{extra[y, x]}"
        axes.text(x, y, text, ha="center", va="center", fontsize="small", color="black" if value > middle else "white")
    for name, ticks in ((across, axes.set_xticks), (up, axes.set_yticks)):
        ticks(range(len(arm.vary[name])), [as_label(value) for value in arm.vary[name]])
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    assert axes.figure is not None
    axes.figure.colorbar(image, ax=axes, label="return of the greedy policy")
