"""The agents by name: which there are, and how to make one. Listing them imports no JAX.

Agents of users have names too; ``rlgd.plugins`` says which, and when they are imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rlgd.errors import UsageError, unknown
from rlgd.plugins import Kind

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


def _check(name: str, cls: Any) -> None:
    from rlgd.agents.base.agent import Agent

    if not (isinstance(cls, type) and issubclass(cls, Agent)):
        raise UsageError(f"{name!r} is {cls!r}; expected a class of agents, derived from rlgd.agents.Agent.")
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise UsageError(f"the agent {name!r} lacks {', '.join(missing)}.")


KIND = Kind("agent", (*REGISTRY, *ALIASES), _check)


def name_of(cls: "type[Agent]") -> str:
    """The name of an agent's class in files: ours have short ones, others are ``module:Class``."""
    place = cls.__module__, cls.__qualname__
    return next((key for key, (module, name, _) in REGISTRY.items() if (module, name) == place), ":".join(place))


def use(cls: "type[Agent]", name: str | None = None) -> None:
    """Let files name a class that the user gave to this process; ``name`` is the one in a file, if that is another.

    Raises:
        UsageError: if the file names another class.
    """
    own = name_of(cls)
    if own not in REGISTRY:
        KIND.use(cls, name)
    elif name not in (None, own):
        raise UsageError(f"the agent is {name!r}, but {own!r} was given.")


def named(name: str) -> "type[Agent]":
    """The class of an agent that the user named: of ours or of an installed package, or ``module:Class``.

    Raises:
        UsageError: if there is none.
    """
    return KIND.named(name) if ":" in name else agent_class(name)


def registered_name(name: str) -> str:
    """The name of an agent as files have it: ours by a name or an alias, upper or lower case, others ``module:Class``.

    Raises:
        UsageError: naming the nearest known name.
    """
    key = name.lower()
    key = ALIASES.get(key, key)
    if key in REGISTRY:
        return key
    if ":" in name:
        return name
    installed = KIND.installed()
    if name in installed:
        return installed[name].value
    raise unknown("agent", name, [*REGISTRY, *ALIASES, *installed])


def agent_class(name: str) -> "type[Agent]":
    """The class of an agent by its name in a file; see ``rlgd.plugins`` for what is imported.

    Raises:
        UsageError: naming the nearest known name, or what the user may do.
    """
    key = registered_name(name)
    if key not in REGISTRY:
        return KIND.get(key)
    module, cls, _ = REGISTRY[key]
    return getattr(importlib.import_module(module), cls)


def make_agent(name: str, **overrides: Any) -> "Agent":
    """An agent by name, with hyper-parameters by their flat names: ``make_agent("ppo", learning_rate=1e-3)``.

    ``name`` may be ``module:Class``, which is imported.

    Raises:
        UsageError: for an unknown agent or hyper-parameter, or a value out of its range.
    """
    from rlgd.hyperparameters import with_values

    agent = with_values(named(name)(), overrides)
    agent.validate()
    return agent


def preset(name: str, env: str) -> "Agent":
    """An agent with the settings that were tuned for an environment: ``preset("ppo", "CartPole-v1")``.

    Raises:
        UsageError: for an unknown agent, or an environment without settings of its own, naming those that have.
    """
    from rlgd.agents import presets

    return make_agent(name, **presets.find(registered_name(name), env).settings)
