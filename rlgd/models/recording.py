"""The inputs of the dense layers of a network, and a term in their outputs to take gradients with respect to."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from flax import linen
from jax import Array

from rlgd.models.torsos import OutputLayer

T = TypeVar("T")


class Layer(Protocol):
    """A dense layer in a tree of parameters."""

    @property
    def kernel(self) -> Array: ...

    @property
    def bias(self) -> Array: ...

    @property
    def transposed(self) -> bool: ...


def recorded(
    call: Callable[[], T], layers: Mapping[str, Layer], added: Mapping[str, Array]
) -> tuple[T, dict[str, tuple[Array, Array]]]:
    """The result of ``call()``, and the inputs and outputs of those ``layers`` that it reads once.

    A layer is found by its very arrays: they must be those that the call is given. Copies, as of another dtype, are
    not found, nor are layers with another kind of arithmetic.

    Args:
        call: reads a network.
        layers: by name.
        added: numbers that are added to a layer's outputs, by its name.
    """
    seen: dict[str, list[tuple[Array, Array]]] = {}

    def read(function: Callable[..., Any], given: tuple[Any, ...], named: Any, context: Any) -> Any:
        outputs, module = function(*given, **named), context.module
        if not isinstance(module, linen.Dense | OutputLayer) or context.method_name != "__call__" or len(given) != 1:
            return outputs
        parts = module.variables["params"]
        for name, layer in layers.items():
            if parts.get("kernel") is not layer.kernel or parts.get("bias") is not layer.bias:
                continue
            if isinstance(module, OutputLayer) == layer.transposed and given[0].dtype == outputs.dtype:
                seen.setdefault(name, []).append((given[0], outputs))
                return outputs + added[name] if name in added else outputs
        return outputs

    with linen.intercept_methods(read):
        result = call()
    return result, {name: calls[0] for name, calls in seen.items() if len(calls) == 1}
