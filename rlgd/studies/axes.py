"""The horizontal axes of a study's answer: a swept value, with the arms that sweep it."""

from collections.abc import Sequence
from typing import NamedTuple

from rlgd.studies.arms import Arm
from rlgd.studies.plan import Plan
from rlgd.studies.seed_statistics import PointResult


class Axis(NamedTuple):
    """A horizontal axis.

    Attributes:
        name: the setting that varies, or "case", and the environment if there are several.
        setting: the setting that varies, or "".
        labels: its values; one that several arms have is one place.
        arms: each with the results of its points.
    """

    name: str
    setting: str
    labels: tuple[str, ...]
    arms: list[tuple[Arm, Sequence[PointResult]]]

    def place(self, row: PointResult) -> int:
        """The index of a point's value."""
        return self.labels.index(_value(self.setting, row))


def run_of(axis: Axis, arm: Arm) -> str:
    """The name of an arm's run in TensorBoard, and its colour: arms of one name in several environments share it."""
    return arm.name or axis.setting or axis.name


def _value(name: str, row: PointResult) -> str:
    return row.point.label.removeprefix(f"{name}=")


def single_axes(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> list[Axis]:
    """The axes of the arms that vary one setting or have cases, as far as a member has finished."""
    several = len(plan.env_ids) > 1
    found: dict[tuple[str, str], list[tuple[Arm, Sequence[PointResult]]]] = {}
    for arm, points, rows in zip(plan.question.arms, plan.points, arms, strict=True):
        if len(arm.axes) < 2 and any(row.outcomes for row in rows):
            setting = arm.axes[0] if arm.axes else ""
            # Cases are names, which mean something in their arm only.
            name = setting or f"case of {arm.name}".removesuffix(" of ")
            name += f" in {plan.env_of(points).env_id}" if several else ""
            found.setdefault((name, setting), []).append((arm, rows))
    return [
        Axis(name, setting, _labels(setting, [row for _, rows in pairs for row in rows]), pairs)
        for (name, setting), pairs in found.items()
    ]


def _labels(name: str, rows: Sequence[PointResult]) -> tuple[str, ...]:
    """Each value once: numbers from the smallest on, others in their order."""
    values = {_value(name, row): row.point.values.get(name) for row in rows}
    numbers = {label: value for label, value in values.items() if isinstance(value, int | float)}
    return tuple(sorted(numbers, key=numbers.__getitem__) if numbers.keys() == values.keys() else values)
