"""What a study asks: which values of which settings, for how many seeds; from a file of data, or given in Python."""

import dataclasses
import itertools
import math
import numbers
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlgd.errors import UsageError, unknown

MAX_MEMBERS = 100_000
FILES = files("rlgd") / "studies"
SPACINGS = ("log", "linear")
# The options of ``rlgd.train`` that members may have of their own.
OPTIONS = (
    "total_timesteps", "eval_every", "target_return", "patience", "min_gradient_norm", "min_objective_change",
)  # fmt: skip


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
        object.__setattr__(self, "settings", _tuples(self.settings))
        object.__setattr__(self, "cases", {name: _tuples(case) for name, case in self.cases.items()})
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


@dataclasses.dataclass(frozen=True)
class Question:
    """A study as data.

    Attributes:
        name, question: what it is called, what it asks.
        agent: name of the agent.
        env: id of the environment.
        total_timesteps, seeds, eval_episodes: of each member; seeds are 0, 1, 2, ...
        settings: values that all members have.
        arms: what varies.
        report: metrics that the table shows beside the return, such as "train/entropy".
        target_return: to which steps and seconds are counted; None: the environment's ``reward_threshold``.
    """

    arms: tuple[Arm, ...]
    name: str = "study"
    question: str = ""
    agent: str = "ppo"
    env: str = "CartPole-v1"
    total_timesteps: int = 100_000
    seeds: int = 10
    eval_episodes: int = 100
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    report: tuple[str, ...] = ()
    target_return: float | None = None

    def __post_init__(self) -> None:
        if not self.arms:
            raise UsageError("the study has no arm; nothing varies.")
        object.__setattr__(self, "settings", _tuples(self.settings))
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise UsageError(f"the arms are called {names!r}; expected a name for each.")
        for name, low in {"seeds": 1, "total_timesteps": 1, "eval_episodes": 1}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise UsageError(f"{name} is {value!r}; allowed: a whole number from {low}.")
        members = sum(map(len, self.arms)) * self.seeds
        if members > MAX_MEMBERS:
            raise UsageError(
                f"the study has {members:,} members ({sum(map(len, self.arms)):,} combinations of values, "
                f"{self.seeds:,} seeds each); allowed: {MAX_MEMBERS:,}. Vary less, or in several studies."
            )

    def to_json(self) -> dict[str, Any]:
        """As plain values, from which ``of`` makes the same again."""
        plain = dataclasses.asdict(self)
        empty: tuple[Any, ...] = (None, {}, ())
        plain["arms"] = [{k: v for k, v in arm.items() if v not in empty} for arm in plain["arms"]]
        return plain

    @classmethod
    def of(cls, content: Mapping[str, Any], name: str) -> "Question":
        """A study from plain values, as a file has them.

        Raises:
            UsageError: for what is missing, unknown, or of the wrong kind.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in content:
            if key not in known:
                raise unknown("setting of a study", key, known)
        arms = content.get("arms", ())
        if not isinstance(arms, list | tuple) or not all(isinstance(arm, Mapping) for arm in arms):
            raise UsageError("arms is not a list of tables; write [[arms]].")
        kinds: dict[str, type | tuple[type, ...]] = {
            "settings": Mapping,
            "report": (list, tuple),
            "agent": str,
            "env": str,
        }
        for key, kind in kinds.items():
            if key in content and not isinstance(content[key], kind):
                raise UsageError(f"{key} is {content[key]!r}; expected {'a table' if kind is Mapping else 'text'}.")
        values = {**content, "arms": tuple(map(_arm, arms)), "report": tuple(content.get("report", ()))}
        return cls(**{"name": name, **values})


def _arm(content: Mapping[str, Any]) -> Arm:
    known = [field.name for field in dataclasses.fields(Arm)]
    for key in content:
        if key not in known:
            raise unknown("setting of an arm", key, known)
    tables = ("settings", "vary", "cases")
    for key in tables:
        if not isinstance(content.get(key, {}), Mapping):
            raise UsageError(f"{key} of an arm is {content[key]!r}; expected a table.")
    cases = content.get("cases", {})
    for name, case in cases.items():
        if not isinstance(case, Mapping):
            raise UsageError(f"case {name!r} is {case!r}; expected a table of settings.")
    return Arm(
        content.get("name", ""),
        content.get("settings", {}),
        content.get("vary", {}),
        cases,
        content.get("effective_step"),
    )


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in table.items()}


def shipped() -> dict[str, str]:
    """The studies that ship with the package: what each asks, by name."""
    names = sorted(path.name.removesuffix(".toml") for path in FILES.iterdir() if path.name.endswith(".toml"))
    return {name: tomllib.loads((FILES / f"{name}.toml").read_text("utf-8"))["question"] for name in names}


def read(source: str, full: bool = False) -> Question:
    """A study by its name or from a file; ``full`` takes what stands under ``[full]`` in place of the fast setting.

    Raises:
        UsageError: if there is no such study, or the file is none.
    """
    path = Path(source)
    is_file = path.suffix == ".toml"
    if not is_file and source not in shipped():
        raise unknown("study", source, shipped())
    try:
        text = path.read_text("utf-8-sig") if is_file else (FILES / f"{source}.toml").read_text("utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"{source} is not TOML: {error}") from error
    larger = content.pop("full", {})
    if not isinstance(larger, Mapping):
        raise UsageError(f"full is {larger!r}; expected a table.")
    if full and not larger:
        raise UsageError(f"{source} has no [full] setting.")
    return Question.of({**content, **(larger if full else {})}, path.stem if is_file else source)
