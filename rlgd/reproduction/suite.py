"""Suites: tables of environments, agents and published scores."""

import tomllib
from importlib.resources import files
from typing import NamedTuple

from rlgd.errors import unknown

FILES = files("rlgd.reproduction") / "suites"


class Published(NamedTuple):
    """A score that others have published; ``note`` says in what it differs, such as the environment's version."""

    source: str
    score: float
    spread: float | None = None
    total_timesteps: int | None = None
    note: str = ""


class Row(NamedTuple):
    """What is trained, in at most how many steps, the least score that is asked of it, and what others have."""

    env: str
    agent: str
    total_timesteps: int
    least: float
    published: tuple[Published, ...]

    @property
    def name(self) -> str:
        """How it is called, in messages and behind ``--only``."""
        return f"{self.env}:{self.agent}"


class Suite(NamedTuple):
    """A table. ``extra`` is the one that its environments need, which is there if ``module`` can be imported."""

    name: str
    title: str
    caption: str
    sources: dict[str, str]
    rows: tuple[Row, ...]
    extra: str = ""
    module: str = ""


def shipped() -> list[str]:
    """The names of the suites."""
    return sorted(path.name.removesuffix(".toml") for path in FILES.iterdir() if path.name.endswith(".toml"))


def read(name: str) -> Suite:
    """A suite by its name.

    Raises:
        UsageError: if there is no such suite.
    """
    if name not in shipped():
        raise unknown("suite", name, shipped())
    content = tomllib.loads((FILES / f"{name}.toml").read_text("utf-8"))
    rows = [row | {"published": tuple(Published(**score) for score in row["published"])} for row in content.pop("rows")]
    return Suite(name, rows=tuple(Row(**row) for row in rows), **content)
