"""What a policy keeps in memory while it acts."""

from typing import Any, NamedTuple

from rlgd.pytrees import Features


class Memory(NamedTuple):
    """What a policy remembers between steps; None what it does not.

    Attributes:
        hidden: ``[N, size]``, of its recurrent layer.
        noise, age: ``[N, width, d]``, gSDE's unit normal numbers; ``[N]`` int32, for how many steps they have served.
    """

    hidden: Any
    noise: Any
    age: Any


def for_network(features: Features, network: str) -> Features:
    """Features with the memory of one of the two networks."""
    return features if features.memory is None else features._replace(memory=getattr(features.memory, network))
