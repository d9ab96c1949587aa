"""Networks of users: flax modules, Linen or NNX, and pairs of functions, all as pairs of functions.

A user writes the layers from features to hidden units. Layers of ``hidden_sizes`` and the outputs follow, which rlgd
adds: they depend on the actions.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flax import linen
from flax.errors import InvalidRngError
from jax import Array

from rlgd.errors import UsageError
from rlgd.models.torsos import NETWORKS
from rlgd.plugins import Kind, described
from rlgd.pytrees import Features

EXPECTED = (
    "a flax module (Linen: its class or an instance; NNX: its class, made with features and rngs), a pair of functions "
    "init(key, features) and apply(params, features), or a function that returns one of these"
)
RANDOM = (
    "the network draws random numbers when it is called, but a policy is a function of its parameters; make such "
    "layers with deterministic=True, or leave them out: the hyper-parameter dropout drops units of hidden_sizes."
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
            return Torso(*own_nnx.functions(part, RANDOM))
    if callable(part):
        made = _called(part)
        if isinstance(made, linen.Module | tuple) or (isinstance(made, type) and not isinstance(part, type)):
            return torso(made)
    raise UsageError(f"the network is {part!r}; expected {EXPECTED}.")


def _called(make: Callable[[], Any]) -> Any:
    try:
        inspect.signature(make).bind()
    except TypeError as error:
        raise UsageError(f"the network {described(make)} cannot be called without arguments: {error}.") from error
    except ValueError:  # a function without a signature: the call says whether it needs arguments
        pass
    try:
        return make()
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"the network {described(make)} raises {type(error).__name__}: {error}.") from error


def _linen(module: linen.Module) -> Torso:
    def init(key: Array, features: Features) -> Any:
        variables = module.init(key, features)
        if others := sorted(set(variables) - {"params"}):
            raise UsageError(f"the network {type(module).__name__} has {', '.join(others)}; only params are trained.")
        return variables.get("params", {})

    def apply(params: Any, features: Features) -> Any:
        try:
            return module.apply({"params": params}, features)
        except InvalidRngError as error:
            raise UsageError(RANDOM) from error

    return Torso(init, apply, getattr(module, "memory_size", None))


def _check(name: str, part: Any) -> None:
    torso(part)


NETWORK = Kind("network", tuple(NETWORKS), _check)
DENSE = ("mlp", "layer_norm", "simba")  # have no layers but those of hidden_sizes
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


def shown(kind: Any) -> str:
    """A value of the hyper-parameter ``network`` as messages have it."""
    return repr(kind if isinstance(kind, str) else described(kind))


def check_sizes(networks: Mapping[str, Any], hidden_sizes: tuple[int, ...]) -> None:
    """Refuse hidden layers that the networks, by the names of their fields, cannot have.

    Raises:
        UsageError: naming the network.
    """
    beside_own = not all(map(NETWORK.is_own, networks.values()))
    for field, kind in networks.items():
        if beside_own and kind in DENSE and not hidden_sizes:
            raise UsageError(
                f"hidden_sizes is empty, as it is with a network of your own, so {field} {kind!r} has no layer; give "
                f"hidden_sizes, which follow your layers too, or a {field} of your own."
            )
        if kind == "simba" and len(set(hidden_sizes)) != 1:
            raise UsageError(
                f"hidden_sizes is {hidden_sizes}, but {field} is 'simba', whose blocks are all of one width; give at "
                "least one width, always the same."
            )
