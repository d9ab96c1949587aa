"""Suites: tables of environments, agents and published scores."""

import tomllib
from importlib.resources import files
from typing import NamedTuple

from rlgd.errors import unknown

FILES = files("rlgd.reproduction") / "suites"


class Published(NamedTuple):
    """A score published by others.

    Attributes:
        source: a key of ``ScoreSuite.sources``.
        score: the mean return.
        spread: the number after "±", with the meaning that the source gives it.
        total_timesteps: environment steps of training.
        note: how its task differs from the row's, such as another version of the environment.
    """

    source: str
    score: float
    spread: float | None = None
    total_timesteps: int | None = None
    note: str = ""


class ScoreRow(NamedTuple):
    """A row of a suite: an agent in an environment.

    Attributes:
        env: the environment's id.
        agent: the agent's name.
        total_timesteps: the most environment steps that a run may take.
        least: the required score.
        published: scores of others; there may be none.
        sampled: whether the score is that of the policy as it explores, instead of the greedy one.
    """

    env: str
    agent: str
    total_timesteps: int
    least: float
    published: tuple[Published, ...]
    sampled: bool = False

    @property
    def name(self) -> str:
        """``ENV:AGENT``, as in messages and for ``--only``."""
        return f"{self.env}:{self.agent}"


class ScoreSuite(NamedTuple):
    """A table of scores to reproduce.

    Attributes:
        name, title, caption: shown in the page of results.
        sources: the origin of the published scores, by short name.
        rows: of the table.
        extra: the extra of rlgd that installs the environments.
        module: can be imported if this extra is installed.
    """

    name: str
    title: str
    caption: str
    sources: dict[str, str]
    rows: tuple[ScoreRow, ...]
    extra: str = ""
    module: str = ""


def shipped_suites() -> list[str]:
    """The names of the suites."""
    return sorted(path.name.removesuffix(".toml") for path in FILES.iterdir() if path.name.endswith(".toml"))


def read_suite(name: str) -> ScoreSuite:
    """A suite by its name.

    Raises:
        UsageError: if there is no suite of this name.
    """
    if name not in shipped_suites():
        raise unknown("suite", name, shipped_suites())
    content = tomllib.loads((FILES / f"{name}.toml").read_text("utf-8"))
    rows = [row | {"published": tuple(Published(**score) for score in row["published"])} for row in content.pop("rows")]
    return ScoreSuite(name, rows=tuple(ScoreRow(**row) for row in rows), **content)
