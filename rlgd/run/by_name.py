"""An agent by its name, with what the command line would give it."""

from collections.abc import Mapping
from typing import Any

from rlgd import hyperparameters as hp
from rlgd.agents import make_agent, named, presets, registered_name
from rlgd.agents.base.agent import Agent
from rlgd.envs import Env
from rlgd.errors import UsageError
from rlgd.run.by_rule import automatic
from rlgd.run.settings import RunSettings


def split(agent: Agent | str, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the run, and hyper-parameters, which an agent that is given by its name may have beside them.

    Raises:
        UsageError: if there are hyper-parameters beside an agent that has its own.
    """
    own = hp.flat_fields(named(agent)() if isinstance(agent, str) else agent) if isinstance(agent, Agent | str) else {}
    mine = {name: value for name, value in values.items() if name in own}
    if mine and isinstance(agent, Agent):
        name, who = next(iter(mine)), type(agent).__name__
        raise UsageError(f"{name} is a hyper-parameter, so the agent has it: {who}({name}=...), or give {who}'s name.")
    return {name: value for name, value in values.items() if name not in own}, mine


def chosen(name: str, env: Env, hyperparameters: Mapping[str, Any], auto: bool) -> tuple[Agent, int]:
    """The agent of ``rlgd train NAME --env ENV`` with these flags, and the number of steps without a flag for them.

    With ``auto`` it is that of ``--auto``: its other settings follow from rules instead of a preset.

    Raises:
        UsageError: for an unknown agent or hyper-parameter, or a value out of its range.
    """
    if auto:
        return automatic(name, env, **hyperparameters), RunSettings().total_timesteps
    preset = presets.known(registered_name(name), env.env_id)
    if preset is None:
        return make_agent(name, **hyperparameters), RunSettings().total_timesteps
    return make_agent(name, **preset.settings | dict(hyperparameters)), preset.total_timesteps
