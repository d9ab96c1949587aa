"""An agent in a file: its name, and its hyper-parameters by their flat names.

Reading imports no code that a file names; ``rlgd.plugins`` says which parts of users it may name.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlgd import hyperparameters as hp
from rlgd.agents.base.agent import Agent
from rlgd.agents.registry import REGISTRY, agent_class, use
from rlgd.errors import UsageError


def read(name: str, values: Mapping[str, Any]) -> Agent:
    """The agent that a file describes; what it lacks has its default.

    Raises:
        UsageError: if a part of a user is needed, or a value is not allowed.
        LookupError, TypeError, AttributeError, ValueError, ArithmeticError: if the values are damaged.
    """
    agent = agent_class(name)()
    agent = hp.from_dict(agent, hp.to_dict(agent) | dict(values))
    agent.validate()
    for field_name, (_, field, _, value) in hp.flat_fields(agent).items():
        if np.ndim(value) and not field.metadata["static"]:
            raise TypeError(f"{field_name} is {value!r}")
    return agent


def with_newer(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters from a file, and those that it lacks.

    What a file lacks is newer than the file; its default is what was done before. Agents of users are not imported
    here.
    """
    return (hp.to_dict(agent_class(name)()) if name in REGISTRY else {}) | dict(values)


def use_own(agent: Agent) -> None:
    """Let files name the parts of an agent that this process has: what it writes, it may read again."""
    use(type(agent))
    hp.remember_parts(agent)


def use_parts(
    name: str, values: Mapping[str, Any], agent: type[Agent] | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Let a file name the parts of users that are given again.

    Args:
        name: of the agent in the file.
        values: the hyper-parameters in the file.
        agent: the class of an agent that is not rlgd's; None if it is, or if files may name it already.
        given: parts by the names of their fields, such as ``network``, and anything else.

    Returns:
        What is no object of Python for such a field.

    Raises:
        UsageError: if the file has another part.
    """
    if agent is not None:
        use(agent, name)
    if not given:
        return {}
    fields = hp.flat_fields(agent_class(name)())
    rest = dict(given)
    for field_name, part in given.items():
        kind = fields[field_name].field.metadata["kind"] if field_name in fields else None
        if kind is not None and not isinstance(part, str):
            kind.use(part, values.get(field_name))
            del rest[field_name]
    return rest


def refuse_others(rest: Mapping[str, Any]) -> None:
    """Refuse what ``use_parts`` left.

    Raises:
        UsageError: naming it.
    """
    if rest:
        raise UsageError(f"{', '.join(rest)}: no such part of the agent; give objects of Python, as network=MyTorso.")
