"""Settings that were tuned for an agent in an environment: data, one file an agent."""

import tomllib
from importlib.resources import files
from typing import Any, NamedTuple

from rlgd.errors import UsageError

FOLDER = files("rlgd.agents.presets")


class Tuning(NamedTuple):
    """How settings were found: ``trials`` of other ones, each with ``seeds`` and ``total_timesteps``; 0: by hand."""

    trials: int
    seeds: int
    total_timesteps: int
    note: str = ""

    def __str__(self) -> str:
        how = f"{_several(self.trials, 'trial')}, each " if self.trials else ""
        note = f"; {self.note}" if self.note else ""
        return f"{how}{_several(self.seeds, 'seed')}, {self.total_timesteps:,} steps{note}"


def _several(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


class Preset(NamedTuple):
    """Settings for an agent in an environment, by their flat names; all else keeps the agent's defaults."""

    agent: str
    env: str
    total_timesteps: int
    settings: dict[str, Any]
    tuned: Tuning

    @property
    def flags(self) -> dict[str, Any]:
        """All that is set, by the names of flags."""
        return {"total_timesteps": self.total_timesteps, **self.settings}


def of_agent(agent: str) -> dict[str, Preset]:
    """The presets of an agent, by environment.

    Args:
        agent: its name in the registry.
    """
    path = FOLDER / f"{agent}.toml"
    tables = tomllib.loads(path.read_text("utf-8")) if path.is_file() else {}
    return {env: _read(agent, env, dict(table)) for env, table in tables.items()}


def _read(agent: str, env: str, table: dict[str, Any]) -> Preset:
    total_timesteps, tuned = table.pop("total_timesteps"), Tuning(**table.pop("tuned"))
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    return Preset(agent, env, total_timesteps, settings, tuned)


def known(agent: str, env: str) -> Preset | None:
    """The preset of an agent for an environment: its own, or that of its family, such as ``ALE/*``; None: none."""
    presets = of_agent(agent)
    family = (preset for name, preset in presets.items() if name.endswith("*") and env.startswith(name[:-1]))
    preset = presets.get(env) or next(family, None)
    return None if preset is None else preset._replace(env=env)


def find(agent: str, env: str) -> Preset:
    """The preset of an agent for an environment.

    Raises:
        UsageError: if there is none, naming the environments that have one.
    """
    if (preset := known(agent, env)) is None:
        presets = of_agent(agent)
        others = f"there are some for {', '.join(presets)}" if presets else "it has none"
        raise UsageError(f"no preset of {agent} for {env}; {others}.")
    return preset
