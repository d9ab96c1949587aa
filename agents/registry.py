"""The agents by name: which there are, and how to make one. Listing them imports no JAX.

Agents of users have names too: ``module:Class``, or the name of an entry point in the group ``rlgd.agents`` of an
installed package. A name in a file imports nothing by itself: its class must have been used in this process, belong to
an installed entry point, or lie in a package that the user trusts.
"""

import functools
import importlib
import importlib.metadata
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from rlgd.errors import UsageError, unknown

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
GROUP = "rlgd.agents"  # of entry points

log = logging.getLogger("rlgd")
_used: "dict[str, type[Agent]]" = {}  # agents of users that this process was given, by their names in files
_trusted: set[str] = set()  # packages whose agents a file may name


@functools.cache
def installed() -> dict[str, importlib.metadata.EntryPoint]:
    """The agents of installed packages by name; one that takes a name of ours is left out, with a warning."""
    found = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.name.lower() in {*REGISTRY, *ALIASES} or ":" in entry.name:
            where = entry.dist.name if entry.dist else entry.value
            log.warning("the agent %r of %s is left out: the name is taken, or has a colon", entry.name, where)
        else:
            found[entry.name] = entry
    return found


def name_of(cls: "type[Agent]") -> str:
    """The name of an agent's class in files: ours have short ones, others are ``module:Class``."""
    own = next((key for key, (module, name, _) in REGISTRY.items() if (module, name) == _place(cls)), None)
    return own or ":".join(_place(cls))


def _place(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def use(cls: "type[Agent]", name: str | None = None) -> None:
    """Let files name a class that the user gave to this process; ``name`` is the one in a file, if that is another.

    Raises:
        UsageError: if the file names another class.
    """
    own = name_of(cls)
    if name is not None and name.rpartition(":")[2] != own.rpartition(":")[2]:
        raise UsageError(f"the agent is {name!r}, but {own!r} was given.")
    if own not in REGISTRY:
        _used[own if name is None else name] = cls


def trust(package: str) -> None:
    """Let files name the agents of a package: they are imported when they are asked for."""
    _trusted.add(package)


def named(name: str) -> "type[Agent]":
    """The class of an agent that the user named: of ours or of an installed package, or ``module:Class``.

    Raises:
        UsageError: if there is none.
    """
    if ":" in name and name not in _used:
        use(_from_here(name))
    return agent_class(name)


def _from_here(name: str) -> "type[Agent]":
    """An agent that the user means, which may lie in the working directory, wherever rlgd's own script lies."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the last place, so that it replaces nothing that is installed
    return _imported(name)


def _imported(name: str) -> "type[Agent]":
    from rlgd.agents.base.agent import Agent

    module, _, attribute = name.partition(":")
    try:
        cls: Any = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"the agent {name!r} cannot be imported: {error}.") from error
    if not (isinstance(cls, type) and issubclass(cls, Agent)):
        raise UsageError(f"{name!r} is {cls!r}; expected a class of agents, derived from rlgd.agents.Agent.")
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise UsageError(f"the agent {name!r} lacks {', '.join(missing)}.")
    return cls


def registered_name(name: str) -> str:
    """The name of an agent as files have it: ours by their names or aliases, upper or lower case.

    Raises:
        UsageError: naming the nearest known name.
    """
    key = name.lower()
    key = ALIASES.get(key, key)
    if key in REGISTRY:
        return key
    if ":" in name or name in installed():
        return name
    raise unknown("agent", name, [*REGISTRY, *ALIASES, *installed()])


def agent_class(name: str) -> "type[Agent]":
    """The class of an agent by its name in a file; see this module's beginning for what is imported.

    Raises:
        UsageError: naming the nearest known name, or what the user may do.
    """
    key = registered_name(name)
    if key in REGISTRY:
        module, cls, _ = REGISTRY[key]
        return getattr(importlib.import_module(module), cls)
    if key in _used:
        return _used[key]
    entry = installed().get(key) or next((entry for entry in installed().values() if entry.value == key), None)
    if entry is not None:
        return _imported(entry.value)
    package = key.partition(":")[0]
    if any(package == each or package.startswith(f"{each}.") for each in _trusted):
        return _from_here(key)
    raise UsageError(
        f"the agent {name!r} is not part of rlgd, and a file alone imports no code; name it yourself: --trust "
        f"{package.partition('.')[0]}, or agent={key.rpartition(':')[2]} in Python."
    )


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
