"""The agents by name: which there are, and how to make one. Listing them imports no JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from rlgd.errors import unknown

if TYPE_CHECKING:
    from rlgd.agents.base.agent import Agent

# name on the command line: module, class, what it is
REGISTRY: dict[str, tuple[str, str, str]] = {
    "reinforce": ("rlgd.agents.reinforce", "REINFORCE", "Monte-Carlo policy gradient on whole episodes"),
    "a2c": ("rlgd.agents.a2c", "A2C", "advantage actor-critic: one step of ascent on each short rollout"),
    "ppo": ("rlgd.agents.ppo", "PPO", "proximal policy optimization: clipped surrogate, several epochs of minibatches"),
    "npg": ("rlgd.agents.npg", "NPG", "natural policy gradient: ascent in the Fisher metric, by any optimizer"),
    "trpo": ("rlgd.agents.trpo", "TRPO", "trust region policy optimization: natural steps, bounded by their KL"),
}
ALIASES = {"actor-critic": "a2c"}


def registered_name(name: str) -> str:
    """The name of an agent in the registry, by that or an alias, upper or lower case.

    Raises:
        UsageError: naming the nearest known name.
    """
    key = name.lower()
    key = ALIASES.get(key, key)
    if key not in REGISTRY:
        raise unknown("agent", name, [*REGISTRY, *ALIASES])
    return key


def agent_class(name: str) -> "type[Agent]":
    """The class of an agent by its name or alias, upper or lower case.

    Raises:
        UsageError: naming the nearest known name.
    """
    module, cls, _ = REGISTRY[registered_name(name)]
    return getattr(importlib.import_module(module), cls)


def make_agent(name: str, **overrides: Any) -> "Agent":
    """An agent by name, with hyper-parameters by their flat names: ``make_agent("ppo", learning_rate=1e-3)``.

    Raises:
        UsageError: for an unknown agent or hyper-parameter, or a value out of its range.
    """
    from rlgd.hyperparameters import with_values

    agent = with_values(agent_class(name)(), overrides)
    agent.validate()
    return agent


def preset(name: str, env: str) -> "Agent":
    """An agent with the settings that were tuned for an environment: ``preset("ppo", "CartPole-v1")``.

    Raises:
        UsageError: for an unknown agent, or an environment without settings of its own, naming those that have.
    """
    from rlgd.agents import presets

    return make_agent(name, **presets.find(registered_name(name), env).settings)
