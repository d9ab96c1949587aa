"""The question of a study: which settings vary over which values, and with how many seeds. Read from TOML or Python."""

import dataclasses
import numbers
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypedDict

from rlgd.errors import UsageError, shown, unknown, whole_number
from rlgd.studies import separation
from rlgd.studies.arms import MAX_MEMBERS, NAMED, Arm, as_tuples
from rlgd.system.reading import checked, parse_toml, read_text

FILES = files("rlgd.studies") / "questions"
# Options of ``rlgd.train`` that an arm may set or vary, as it does hyper-parameters.
OPTIONS = (
    "total_timesteps", "eval_every", "target_return", "patience", "min_gradient_norm", "min_objective_change",
)  # fmt: skip


class _ArmContent(TypedDict, total=False):
    """The types of an arm in a file."""

    name: str
    settings: dict[str, Any]
    vary: dict[str, list[Any] | dict[str, Any]]
    cases: dict[str, dict[str, Any]]
    effective_step: float | None
    envs: dict[str, dict[str, Any]]


class _Content(TypedDict, total=False):
    """The types of a question in a file."""

    arms: list[_ArmContent]
    name: str
    question: str
    agent: str
    env: str
    total_timesteps: int
    seeds: int
    first_seed: int
    eval_episodes: int
    settings: dict[str, Any]
    envs: dict[str, dict[str, Any]]
    report: list[str]
    target_return: float | None
    until_separated: float | None


@dataclasses.dataclass(frozen=True)
class Question:
    """A study as data.

    Attributes:
        arms: the curves or surfaces of the answer: what varies. One that varies the environment becomes several, see
            ``Arm.split``.
        name: the study's name, also of its directory.
        question: one sentence, shown above the answer.
        agent: the agent's name, where an arm has no other.
        env: the environment's id, where an arm has no other; empty if it was not made from an id.
        total_timesteps: environment steps of each member.
        seeds: members of each combination of values.
        first_seed: of these seeds, which follow one another. Take others to choose a setting than to report it.
        eval_episodes: episodes of each evaluation.
        settings: values shared by all members.
        envs: values shared by all members in an environment, by its id; they come before ``settings``.
        report: metrics that the table shows in addition to the return, such as "train/entropy".
        target_return: the table shows after how many steps and seconds training reaches it; None: the environment's
            ``reward_threshold``.
        until_separated: train in rounds, and give no more seeds to a point that is worse than the best of its arm; the
            probability that the study calls a point worse that is not (see ``separation.py``). None: all seeds.

    Raises:
        UsageError: naming the setting, what was given and what is allowed.
    """

    arms: tuple[Arm, ...]
    name: str = "study"
    question: str = ""
    agent: str = "ppo"
    env: str = "CartPole-v1"
    total_timesteps: int = 100_000
    seeds: int = 10
    first_seed: int = 0
    eval_episodes: int = 100
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    envs: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    report: tuple[str, ...] = ()
    target_return: float | None = None
    until_separated: float | None = None

    def __post_init__(self) -> None:
        if not self.arms:
            raise UsageError("the study has no arm, so nothing varies; give at least one.")
        object.__setattr__(self, "settings", as_tuples(self.settings))
        object.__setattr__(self, "envs", {env: as_tuples(settings) for env, settings in self.envs.items()})
        object.__setattr__(self, "arms", tuple(one for arm in self.arms for one in arm.split()))
        names = [arm.title for arm in self.arms]
        for env, settings in self.envs.items():
            if any(name in settings for name in NAMED):
                raise UsageError(f"the study names an agent or an environment within {env!r}.")
        if len(set(names)) < len(names):
            raise UsageError(f"the arms are named {names!r}; expected a different name for each.")
        for name, low in {"seeds": 1, "first_seed": 0, "total_timesteps": 1, "eval_episodes": 1}.items():
            object.__setattr__(self, name, whole_number(name, getattr(self, name), low))
        members = sum(map(len, self.arms)) * self.seeds
        if members > MAX_MEMBERS:
            raise UsageError(
                f"the study has {members:,} members ({sum(map(len, self.arms)):,} combinations of values, "
                f"{self.seeds:,} seeds each); allowed: at most {MAX_MEMBERS:,}. Give fewer values or fewer seeds."
            )
        if self.until_separated is not None:
            self._check_rounds(self.until_separated)

    def _check_rounds(self, error: float) -> None:
        if not isinstance(error, numbers.Real) or isinstance(error, bool) or not 0 < error < 1:
            raise UsageError(f"until_separated is {shown(error)}; allowed: a probability in (0, 1), such as 0.05.")
        object.__setattr__(self, "until_separated", float(error))
        if self.seeds < separation.FEWEST:
            raise UsageError(
                f"seeds is {self.seeds}; with until_separated allowed: a whole number from {separation.FEWEST}. It is "
                "the most that a combination of values gets."
            )
        points, largest = self._compared
        if not points:
            raise UsageError("until_separated compares the combinations of an arm, but no arm has two of them.")
        if not self.rounds.seeds:
            raise UsageError(
                f"with until_separated = {error:g} and {points:,} combinations {self.seeds} seeds cannot separate any "
                f"two; give at least {separation.fewest_seeds(points, largest, float(error))} seeds."
            )

    def varied(self, vary: Mapping[str, Sequence[Any]]) -> "Question":
        """The question with more axes in each arm; "agent" and "env" take the place of those that it names.

        In an environment that arms name, their settings are those that they have there, else those of the first one.

        Raises:
            UsageError: if a setting varies beside named cases.
        """
        agents = {"agent": vary["agent"]} if "agent" in vary else {}
        axes = {name: values for name, values in vary.items() if name not in NAMED}
        arms: list[Arm] = []
        for env in vary.get("env", (None,)):
            for arm in self._arms_in(env):
                alone = not (arm.cases or axes or arm.vary.keys() - {*NAMED})  # so agents are compared with each other
                beside = {**axes, **agents} if alone else axes
                apart = ({} if alone else agents) | ({} if env is None else {"env": [env]})
                arms += arm.crossed(apart, beside)
        return dataclasses.replace(self, arms=tuple(arms))

    def within(self, env: str) -> "Question":
        """The question in another environment."""
        if any(arm.env for arm in self.arms):
            return dataclasses.replace(self.varied({"env": [env]}), env=env)
        return dataclasses.replace(self, env=env)

    def _arms_in(self, env: str | None) -> list[Arm]:
        named = [arm.env for arm in self.arms if arm.env]
        if env is None or not named:
            return list(self.arms)
        return [arm for arm in self.arms if arm.env in ("", env if env in named else named[0])]

    def lasting(self, total_timesteps: int) -> "Question":
        """The question with this length for all members whose length does not vary."""

        def rest(settings: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in settings.items() if name != "total_timesteps"}

        arms = tuple(dataclasses.replace(arm, settings=rest(arm.settings)) for arm in self.arms)
        envs = {env: rest(settings) for env, settings in self.envs.items()}
        return dataclasses.replace(
            self, arms=arms, settings=rest(self.settings), envs=envs, total_timesteps=total_timesteps
        )

    @property
    def env_ids(self) -> frozenset[str]:
        """The ids of all environments that are made for it: its own where an arm names no other."""
        return frozenset(arm.env or self.env for arm in self.arms)

    @property
    def seeds_of_a_point(self) -> range:
        """The seeds that each combination of values has."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def _compared(self) -> tuple[int, int]:
        """The number of points in arms of several, and in the largest arm."""
        sizes = [len(arm) for arm in self.arms if len(arm) > 1]
        return sum(sizes), max(sizes, default=0)

    @property
    def rounds(self) -> separation.Schedule:
        """The rounds of seeds with ``until_separated``; else one of all seeds."""
        if self.until_separated is None:
            return separation.Schedule((self.seeds,), (0.0,))
        return separation.schedule(self.seeds, *self._compared, self.until_separated)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``study.json``; the inverse of ``from_json``."""
        plain = dataclasses.asdict(self)
        empty: tuple[Any, ...] = (None, {}, ())
        plain["arms"] = [{k: v for k, v in arm.items() if v not in empty} for arm in plain["arms"]]
        return plain

    @classmethod
    def from_json(cls, content: Mapping[str, Any], name: str) -> "Question":
        """A question from plain values, as in a TOML file or ``study.json``.

        Args:
            content: the values.
            name: of the study, if ``content`` has none.

        Raises:
            UsageError: if a value is missing, unknown, or of the wrong type.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in content:
            if key not in known:
                raise unknown("setting of a study", key, known)
        try:
            checked(dict(content), _Content)
        except ValueError as error:
            raise UsageError(f"the study {name!r} is not valid: {error}.") from error
        arms = content.get("arms", ())
        values = {**content, "arms": tuple(map(_arm, arms)), "report": tuple(content.get("report", ()))}
        return cls(**{"name": name, **values})


def _arm(content: Mapping[str, Any]) -> Arm:
    known = [field.name for field in dataclasses.fields(Arm)]
    for key in content:
        if key not in known:
            raise unknown("setting of an arm", key, known)
    return Arm(
        content.get("name", ""),
        content.get("settings", {}),
        content.get("vary", {}),
        content.get("cases", {}),
        content.get("effective_step"),
        content.get("envs", {}),
    )


def shipped_questions() -> dict[str, str]:
    """The studies that ship with rlgd: each name with its question in one sentence."""
    names = sorted(path.name.removesuffix(".toml") for path in FILES.iterdir() if path.name.endswith(".toml"))
    return {name: tomllib.loads((FILES / f"{name}.toml").read_text("utf-8"))["question"] for name in names}


def read_question(source: str, full: bool = False) -> Question:
    """Read a question by its name or from a TOML file.

    Args:
        source: the name of a shipped study, or a path that ends in ``.toml``.
        full: use the settings under ``[full]`` in place of the fast ones.

    Raises:
        UsageError: if there is no study of this name, or the file cannot be read or is not a study.
    """
    path = Path(source)
    is_file = path.suffix == ".toml"
    if not is_file and source not in shipped_questions():
        raise unknown("study", source, shipped_questions())
    try:
        content = parse_toml(read_text(path) if is_file else (FILES / f"{source}.toml").read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"{source} is not TOML: {error}") from error
    larger = content.pop("full", {})
    if not isinstance(larger, Mapping):
        raise UsageError(f"full is {larger!r}; expected a table.")
    if full and not larger:
        raise UsageError(f"{source} has no [full] setting.")
    return Question.from_json({**content, **(larger if full else {})}, path.stem if is_file else source)
