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
    columns = min(len(pairs), COLUMNS)
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained")
    for n, (arm, results) in enumerate(pairs):
        axes = figure.add_subplot(rows, columns, n + 1)
        draw_panel(plan, axes, arm, results)
        axes.set_title(arm.title or plan.question.name, fontsize="medium")
    return figure


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
    columns = min(len(axes), COLUMNS)
    lines = -(-len(axes) // columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * lines), layout="constrained")
    names = list(dict.fromkeys(run_of(axis, arm) for axis in axes for arm, _ in axis.arms))
    colours = dict(zip(names, itertools.cycle(OF_ARMS), strict=False))
    for n, axis in enumerate(axes):
        panel = figure.add_subplot(lines, columns, n + 1)
        _draw_returns(panel, axis, colours)
        _draw_target(panel, axis.arms[0][1])
    return figure


def _draw_returns(panel: Axes, axis: Axis, colours: Mapping[str, str]) -> None:
    """One panel of ``return_by_value``: the arms are a little apart so that bars do not overlap.

    A point that is worse than the best of its arm has a hollow marker.
    """
    labels = axis.labels
    shifts = np.linspace(-0.12, 0.12, len(axis.arms))
    for shift, (arm, rows) in zip(shifts, axis.arms, strict=True):
        colour = colours[run_of(axis, arm)]
        scores = [(axis.place(row), row.score) for row in rows if row.score]
        if not scores:
            continue
        x = np.array([place for place, _ in scores]) + (shift if len(axis.arms) > 1 else 0)
        value, low, high = np.array([score for _, score in scores]).T
        # A single seed has no interval: matplotlib draws no bar where the error is NaN.
        error = np.abs(np.stack([value - low, high - value]))
        panel.errorbar(x, value, error, color=colour, marker="o", capsize=3, linewidth=1.2, label=arm.name or None)
        worse = [bool(row.separated) for row in rows if row.score]
        panel.plot(x[worse], value[worse], "o", color="white", markeredgecolor=colour, zorder=3)
    _name_values(panel, labels)
    panel.set_xlabel(axis.name)
    panel.set_ylabel("return of the greedy policy")
    if len(axis.arms) > 1:
        panel.legend(fontsize="small")


def over_all_tasks(overall: Sequence[Overall]) -> dict[str, Figure]:
    """The normalized return and the time at each point, a line for the arms of each name, and performance profiles."""
    figures = {}
    axes = list(dict.fromkeys(family.axis for family in overall))
    for name, label in NORMALIZED.items():
        figures[name] = Figure(figsize=(PANEL[0] * len(axes), PANEL[1]), layout="constrained")
        for n, axis in enumerate(axes):
            families = [family for family in overall if family.axis == axis]
            _draw_families(figures[name].add_subplot(1, len(axes), n + 1), families, name, label)
    profiles = Figure(figsize=(PANEL[0] * len(overall), PANEL[1]), layout="constrained")
    for n, family in enumerate(overall):
        _draw_profiles(profiles.add_subplot(1, len(overall), n + 1), family)
    return figures | {"performance-profiles": profiles}


def _draw_families(panel: Axes, overall: Sequence[Overall], name: str, label: str) -> None:
    labels = list(dict.fromkeys(family.value(point) for family in overall for point in family.points))
    shifts = np.linspace(-0.12, 0.12, len(overall)) if len(overall) > 1 else [0.0]
    for shift, colour, family in zip(shifts, itertools.cycle(OF_ARMS), overall, strict=False):
        intervals = [point.score if name == "normalized-return" else point.time for point in family.points]
        value, low, high = np.array(intervals).T
        x = np.array([labels.index(family.value(point)) for point in family.points]) + shift
        error = np.abs(np.stack([value - low, high - value]))
        panel.errorbar(x, value, error, color=colour, marker="o", capsize=3, linewidth=1.2, label=family.name or None)
    _name_values(panel, labels)
    panel.set_xlabel(overall[0].axis)
    panel.set_ylabel(label)
    if overall[0].name:
        panel.legend(fontsize="small")


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
