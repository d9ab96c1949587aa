"""Arms of a study: settings that stay and values that vary."""

import dataclasses
import itertools
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rlgd.errors import UsageError

MAX_MEMBERS = 100_000
SPACINGS = ("log", "linear")


class Point(NamedTuple):
    """One combination of values: ``label`` is how it is written, ``values`` is what varies, ``settings`` is all."""

    label: str
    values: dict[str, Any]
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One curve or surface of the answer: settings that stay, and those that vary.

    Attributes:
        name: how it is called.
        settings: values that all its points have, by the flat names of hyper-parameters and of ``OPTIONS``.
        vary: values of each setting that varies; every combination is a point.
        cases: instead, points by their names, each with values of several settings.
        effective_step: learning_rate / (1 - momentum), where it is that which stays; ``learning_rate`` follows.
    """

    name: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    vary: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    cases: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    effective_step: float | None = None

    def __post_init__(self) -> None:
        if bool(self.vary) == bool(self.cases):
            raise UsageError(f"{self._who} varies nothing; give values under vary, or cases by their names.")
        object.__setattr__(self, "vary", {name: spaced(name, values) for name, values in self.vary.items()})
        object.__setattr__(self, "settings", as_tuples(self.settings))
        object.__setattr__(self, "cases", {name: as_tuples(case) for name, case in self.cases.items()})
        if self.effective_step is not None and "learning_rate" in {*self.settings, *self.axes}:
            raise UsageError(f"{self._who} has a learning_rate and an effective_step, which decides it.")
        if self.effective_step is not None and "momentum" not in {*self.settings, *self.axes}:
            raise UsageError(f"{self._who} has an effective_step, but no momentum, which decides what follows from it.")

    @property
    def _who(self) -> str:
        return f"arm {self.name!r}" if self.name else "the study"

    @property
    def axes(self) -> tuple[str, ...]:
        """The settings that vary, the first one along the horizontal axis; none where there are named cases."""
        return tuple(self.vary)

    def __len__(self) -> int:
        return len(self.cases) or math.prod(map(len, self.vary.values()))

    def points(self) -> Iterator[Point]:
        """Every point, the last axis fastest."""
        for label, values in self.cases.items():
            yield Point(label, dict(values), self._all(values))
        if self.vary:
            for numbers_ in itertools.product(*self.vary.values()):
                values = dict(zip(self.vary, numbers_, strict=True))
                yield Point(" ".join(f"{k}={written(v)}" for k, v in values.items()), values, self._all(values))

    def _all(self, values: Mapping[str, Any]) -> dict[str, Any]:
        settings = {**self.settings, **values}
        if self.effective_step is not None:
            settings["learning_rate"] = self.effective_step * (1 - settings["momentum"])
        return settings


def written(value: Any) -> str:
    """A value as a label shows it."""
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def spaced(name: str, values: Any) -> tuple[Any, ...]:
    """The values of one setting: a list, or ``{"log": [low, high], "points": n}``, or the same with "linear".

    Raises:
        UsageError: for no values, the same value twice, or a grid that does not exist.
    """
    if isinstance(values, Mapping):
        values = _grid(name, values)
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UsageError(f"{name} varies over {values!r}; expected a list of values.")
    listed = tuple(_plain(value) for value in values)
    if not listed:
        raise UsageError(f"{name} varies over no values; give at least one.")
    twice = [value for n, value in enumerate(listed) if value in listed[:n]]
    if twice:
        raise UsageError(f"{name} varies over {twice[0]!r} twice.")
    return listed


def _grid(name: str, grid: Mapping[str, Any]) -> list[float]:
    spacing = next((word for word in SPACINGS if word in grid), None)
    if spacing is None or set(grid) != {spacing, "points"}:
        raise UsageError(
            f'{name} varies over {dict(grid)!r}; expected a list, or {{"log": [low, high], "points": n}}, or "linear".'
        )
    ends, points = grid[spacing], grid["points"]
    if not isinstance(points, int) or isinstance(points, bool) or not 2 <= points <= MAX_MEMBERS:
        raise UsageError(f"{name} has points = {points!r}; allowed: a whole number from 2 to {MAX_MEMBERS:,}.")
    low, high = bounds(name, spacing, ends)
    values = np.geomspace(low, high, points) if spacing == "log" else np.linspace(low, high, points)
    return [float(f"{value:.3g}") for value in values]


def bounds(name: str, spacing: str, ends: Any) -> tuple[float, float]:
    """The ends of a range of one setting.

    Raises:
        UsageError: if they are not a number and a higher one, both above zero for "log".
    """
    if not isinstance(ends, Sequence) or len(ends) != 2 or not all(isinstance(end, numbers.Real) for end in ends):
        raise UsageError(f"{name} has {spacing} = {ends!r}; expected two numbers, the lowest and the highest.")
    low, high = map(float, ends)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"{name} goes from {low:g} to {high:g}; expected the lowest value and a higher one.")
    if spacing == "log" and low <= 0:
        raise UsageError(f"{name} goes from {low:g} to {high:g} by equal factors, which must not touch zero.")
    return low, high


def _plain(value: Any) -> Any:
    """As Python's own values; lists, such as hidden_sizes, as tuples."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def as_tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in table.items()}
