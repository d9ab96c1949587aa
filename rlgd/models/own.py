"""Networks of users: flax modules, Linen or NNX, and pairs of functions, all as pairs of functions.

A user writes the layers from features to hidden units. Layers of ``hidden_sizes`` and the outputs follow, which rlgd
adds: they depend on the actions.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from flax import linen
from jax import Array

from rlgd.errors import UsageError
from rlgd.models.torsos import NETWORKS
from rlgd.plugins import Kind
from rlgd.pytrees import Features

EXPECTED = (
    "a flax module (Linen: its class or an instance; NNX: its class, made with features and rngs), a pair of functions "
    "init(key, features) and apply(params, features), or a function that returns one of these"
)


class Torso(NamedTuple):
    """The layers of a network before its outputs, as functions of parameters.

    Attributes:
        init: ``init(key, features) -> params``, arrays alone; the features of one environment show the shapes.
        apply: ``apply(params, features) -> hidden [..., width]``; with a memory ``(hidden, memory)``, where memory is
            that after each step, ``[N, T, size]`` or ``[N, size]``.
        memory_size: how many numbers it keeps of each environment from step to step; None: it has no memory.
    """

    init: Callable[[Array, Features], Any]
    apply: Callable[[Any, Features], Any]
    memory_size: int | None = None


def torso(part: Any) -> Torso:
    """The layers that a user gave, in whatever form.

    Raises:
        UsageError: if they are none.
    """
    if isinstance(part, Torso):
        return part
    if isinstance(part, tuple) and len(part) == 2 and all(map(callable, part)):
        return Torso(*part)
    if isinstance(part, linen.Module):
        return _linen(part)
    if "flax.nnx" in sys.modules:  # importing it takes long; who gives an NNX module has imported it
        from rlgd.models import own_nnx

        if own_nnx.is_module(part):
            return Torso(*own_nnx.functions(part))
    if callable(part):
        try:
            made = part()
        except TypeError as error:
            raise UsageError(f"the network {part!r} cannot be called without arguments: {error}.") from error
        if isinstance(made, linen.Module | tuple) or (isinstance(made, type) and not isinstance(part, type)):
            return torso(made)
    raise UsageError(f"the network is {part!r}; expected {EXPECTED}.")


def _linen(module: linen.Module) -> Torso:
    def init(key: Array, features: Features) -> Any:
        variables = module.init(key, features)
        if others := sorted(set(variables) - {"params"}):
            raise UsageError(f"the network {type(module).__name__} has {', '.join(others)}; only params are trained.")
        return variables.get("params", {})

    def apply(params: Any, features: Features) -> Any:
        return module.apply({"params": params}, features)

    return Torso(init, apply, getattr(module, "memory_size", None))


def _check(name: str, part: Any) -> None:
    torso(part)


NETWORK = Kind("network", tuple(NETWORKS), _check)
SHARED = "policy"  # of the value function: it is outputs on the policy's layers
VALUE_NETWORK = Kind("network", (SHARED, *NETWORKS), _check)


def resolved(kind: Any) -> str | Torso:
    """A value of the hyper-parameter ``network``: the name of one of ours, or the layers of a user.

    Raises:
        UsageError: if it is neither.
    """
    return kind if NETWORK.is_own(kind) else torso(NETWORK.part(kind))


def implied(kind: Any) -> dict[str, Any]:
    """The layers of a user are followed by no other hidden layers, unless these are given."""
    return {} if NETWORK.is_own(kind) else {"hidden_sizes": ()}
