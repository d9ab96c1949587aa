"""What a policy keeps between two steps."""

from typing import Any, NamedTuple

from rlgd.pytrees import Features


class Memory(NamedTuple):
    """What a policy keeps between two steps; a part that it does not need is None.

    Attributes:
        hidden: ``[N, size]``, the memory of its recurrent layer.
        noise, age: ``[N, width, d]``, the unit normal numbers of gSDE; ``[N]`` int32, for how many steps each
            environment has used its present ones.
    """

    hidden: Any
    noise: Any
    age: Any


def for_network(features: Features, network: str) -> Features:
    """Features with the memory of one of the two networks, ``"policy"`` or ``"value"``."""
    return features if features.memory is None else features._replace(memory=getattr(features.memory, network))
