"""What a study asks: which values of which settings, for how many seeds; from a file of data, or given in Python."""

import dataclasses
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from rlgd.errors import UsageError, unknown
from rlgd.studies.arms import MAX_MEMBERS, Arm, as_tuples

FILES = files("rlgd.studies") / "questions"
# The options of ``rlgd.train`` that members may have of their own.
OPTIONS = (
    "total_timesteps", "eval_every", "target_return", "patience", "min_gradient_norm", "min_objective_change",
)  # fmt: skip


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
        object.__setattr__(self, "settings", as_tuples(self.settings))
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
