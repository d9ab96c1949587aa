"""Arms of a study: fixed settings, and settings that vary."""

import dataclasses
import itertools
import math
import numbers
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from rlgd.errors import UsageError
from rlgd.plugins import remember

MAX_MEMBERS = 100_000
SPACINGS = ("log", "linear")
NAMED = ("agent", "env")  # settings that are names; others take the place of them in ``Arm.crossed``


class Point(NamedTuple):
    """One combination of values.

    Attributes:
        label: its name in tables and figures.
        values: the settings that vary in its arm.
        settings: all settings of the arm, the fixed ones too.
    """

    label: str
    values: dict[str, Any]
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One curve or surface of the answer: fixed settings, and settings that vary.

    Attributes:
        name: of its curve. Arms of the same name in several environments are also compared over all of these.
        settings: values shared by all its points. Keys are flat names of hyper-parameters, names in ``OPTIONS``,
            "agent" (a name) and "env" (an id).
        vary: the values of each setting that varies; every combination is a point.
        cases: in place of ``vary``, named points, each with values of several settings.
        effective_step: a fixed learning_rate / (1 - momentum), from which ``learning_rate`` is computed; None: off.
        envs: environments by their ids, each with settings that the arm has there, "effective_step" among them.

    Raises:
        UsageError: if nothing varies, both ``vary`` and ``cases`` are given, a case has an environment of its own, or
            the effective step is not defined.
    """

    name: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    vary: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    cases: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    effective_step: float | None = None
    envs: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.vary) == bool(self.cases):
            raise UsageError(f"{self._described} varies nothing; give values under vary, or named cases.")
        if any("env" in case for case in self.cases.values()):
            raise UsageError(f"{self._described} has a case with an env; give it under settings or vary.")
        object.__setattr__(self, "vary", {name: expand_values(name, values) for name, values in self.vary.items()})
        for name in NAMED:
            for value in (*self.vary.get(name, ()), *([self.settings[name]] if name in self.settings else [])):
                if not isinstance(value, str):
                    raise UsageError(f"{name} is {value!r} in {self._described}; expected a name.")
        if any(name in own for own in self.envs.values() for name in NAMED):
            raise UsageError(f"{self._described} names an agent or an environment within another environment.")
        object.__setattr__(self, "settings", as_tuples(self.settings))
        object.__setattr__(self, "cases", {name: as_tuples(case) for name, case in self.cases.items()})
        object.__setattr__(self, "envs", {env: as_tuples(settings) for env, settings in self.envs.items()})
        if self.effective_step is not None or any("effective_step" in own for own in self.envs.values()):
            self._check_step({*self.settings, *self.axes, *(name for own in self.envs.values() for name in own)})

    def _check_step(self, known: Set[str]) -> None:
        if "learning_rate" in known:
            raise UsageError(f"{self._described} has both a learning_rate and an effective_step; give one of them.")
        if "momentum" not in known:
            raise UsageError(
                f"{self._described} has an effective_step but no momentum; both are needed to compute learning_rate."
            )

    @property
    def _described(self) -> str:
        return f"arm {self.name!r}" if self.name else "the study"

    @property
    def env(self) -> str:
        """The id of its environment; empty for that of the study."""
        envs = self.vary.get("env", (self.settings.get("env", ""),))
        return str(envs[0]) if len(envs) == 1 else ""

    @property
    def title(self) -> str:
        """What it is called in tables and figures."""
        return " in ".join(part for part in (self.name, self.env) if part)

    def crossed(self, apart: Mapping[str, Sequence[Any]], axes: Mapping[str, Sequence[Any]]) -> Iterator["Arm"]:
        """The arm with more axes: an arm for each combination of ``apart``, agents and environments.

        Raises:
            UsageError: if it has cases, and ``axes`` are given.
        """
        if self.cases and axes:
            raise UsageError(f"{self._described} has named cases, beside which {', '.join(axes)} cannot vary.")
        for combination in itertools.product(*apart.values()):
            fixed = dict(zip(apart, combination, strict=True))
            name = ", ".join(part for part in (self.name, fixed.get("agent", "")) if part)
            vary = {k: v for k, v in {**self.vary, **axes}.items() if k not in apart}
            if not vary and not self.cases:  # nothing else varies: the name is the axis, of one point
                name = self.name
                vary, fixed = {k: (v,) for k, v in fixed.items()}, {}
            yield dataclasses.replace(self, name=name, settings={**self.settings, **fixed}, vary=vary)

    def split(self) -> Iterator["Arm"]:
        """The arm as arms of one environment each, and of one agent each if anything else varies.

        Returns in different environments cannot be compared, and a curve belongs to one agent.
        """
        if self.envs:
            for env, own in self.envs.items():
                step = own.get("effective_step", self.effective_step)
                settings = {**self.settings, **own, "env": env}
                settings.pop("effective_step", None)
                yield from dataclasses.replace(self, settings=settings, effective_step=step, envs={}).split()
            return
        # Where nothing else varies, agents stay an axis: they are compared with each other.
        apart = ("agent", "env") if self.vary.keys() - {*NAMED} else ("env",)
        yield from self.crossed({name: self.vary[name] for name in apart if name in self.vary}, {})

    @property
    def axes(self) -> tuple[str, ...]:
        """The settings that vary, the horizontal axis first; empty for named cases."""
        return tuple(self.vary)

    def __len__(self) -> int:
        return len(self.cases) or math.prod(map(len, self.vary.values()))

    def points(self) -> Iterator[Point]:
        """All points; the last axis varies fastest."""
        for label, values in self.cases.items():
            yield Point(label, dict(values), self._all(values))
        if self.vary:
            for combination in itertools.product(*self.vary.values()):
                values = dict(zip(self.vary, combination, strict=True))
                yield Point(" ".join(f"{k}={as_label(v)}" for k, v in values.items()), values, self._all(values))

    def _all(self, values: Mapping[str, Any]) -> dict[str, Any]:
        settings = {**self.settings, **values}
        if self.effective_step is not None:
            settings["learning_rate"] = self.effective_step * (1 - settings["momentum"])
        return settings


def as_label(value: Any) -> str:
    """A value as labels and tables show it."""
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    if isinstance(value, str) and (part := re.fullmatch(r"[A-Za-z_][\w.]*:([A-Za-z_].*)", value)):
        return part[1]  # of a part of a user: its module says little
    return f"{value:g}" if isinstance(value, float) else str(value)


def expand_values(name: str, values: Any) -> tuple[Any, ...]:
    """The values of one setting as a tuple.

    Args:
        name: of the setting, for messages.
        values: a list, or a grid: ``{"log": [low, high], "points": n}``, or the same with "linear".

    Raises:
        UsageError: if there are no values, a value is given twice, or the grid is not valid.
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
    names = [as_label(value) for value in listed if isinstance(value, str)]
    if len(set(names)) < len(names):
        raise UsageError(f"{name} varies over parts of the same name: {', '.join(names)}; rename one of them.")
    return listed


def _grid(name: str, grid: Mapping[str, Any]) -> list[float]:
    spacing = next((word for word in SPACINGS if word in grid), None)
    if spacing is None or set(grid) != {spacing, "points"}:
        raise UsageError(
            f'{name} varies over {dict(grid)!r}; expected a list, or {{"log": [low, high], "points": n}}, or "linear".'
        )
    ends, points = grid[spacing], grid["points"]
    if not isinstance(points, numbers.Integral) or isinstance(points, bool) or not 2 <= int(points) <= MAX_MEMBERS:
        raise UsageError(f"{name} has points = {points!r}; allowed: a whole number from 2 to {MAX_MEMBERS:,}.")
    low, high = bounds(name, spacing, ends)
    values = np.geomspace(low, high, int(points)) if spacing == "log" else np.linspace(low, high, int(points))
    return [float(f"{value:.3g}") for value in values]


def bounds(name: str, spacing: str, ends: Any) -> tuple[float, float]:
    """The lower and the upper end of a setting's range.

    Raises:
        UsageError: if they are not two finite numbers in increasing order, or not positive where spacing is "log".
    """
    ends = _plain(ends)
    if not isinstance(ends, tuple) or len(ends) != 2 or not all(map(_is_number, ends)):
        raise UsageError(f"{name} has {spacing} = {ends!r}; expected two numbers, the lower and the upper end.")
    low, high = map(float, ends)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"{name} runs from {low:g} to {high:g}; expected a lower and then a higher number.")
    if spacing == "log" and low <= 0:
        raise UsageError(f"{name} runs from {low:g} to {high:g} on a log scale; expected numbers above zero.")
    return low, high


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """NumPy values as Python's own; lists, such as hidden_sizes, as tuples; parts of users by their names."""
    if callable(value) or (isinstance(value, tuple) and any(map(callable, value))):
        return remember(value)
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def as_tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``table`` with Python's own values, its lists as tuples."""
    return {name: _plain(value) for name, value in table.items()}
