"""NNX modules of users as pairs of functions. Only who uses them imports this: ``flax.nnx`` takes long."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from rlgd.errors import UsageError
from rlgd.pytrees import Features


def is_module(part: Any) -> bool:
    """Whether a part is the class of an NNX module, or a partial of one.

    Raises:
        UsageError: if it is a module that has its parameters already: each member of a study needs its own.
    """
    if isinstance(part, nnx.Module):
        raise UsageError("the network is an NNX module that has parameters already; give its class, or its partial.")
    return _class(part) is not None


def _class(part: Any) -> type | None:
    made_of = part.func if isinstance(part, functools.partial) else part
    return made_of if isinstance(made_of, type) and issubclass(made_of, nnx.Module) else None


def _counts(module: nnx.Module) -> list[Any]:
    """How often each source of random numbers was used; layers that are deterministic may have one, too."""
    return jax.tree.leaves(nnx.state(module, nnx.RngCount))


def functions(make: Callable[..., Any], is_random: str) -> tuple[Callable[..., Any], Callable[..., Any], int | None]:
    """``init``, ``apply`` and ``memory_size`` of a ``rlgd.models.Torso``, of ``make(features, rngs=...)``.

    ``is_random`` is what to say of a module that draws random numbers when it is called.
    """

    def init(key: Array, features: Features) -> Any:
        module = make(features, rngs=nnx.Rngs(key))
        params, _, others = nnx.state(module, nnx.Param, nnx.RngState, ...)
        if kept := [path for path, _ in nnx.to_flat_state(others)]:
            raise UsageError(f"the network has {'.'.join(map(str, kept[0]))}, which is no nnx.Param and never trained.")
        counts = _counts(module)
        module(features)
        if any(after is not before for before, after in zip(counts, _counts(module), strict=True)):
            raise UsageError(is_random)
        return nnx.to_pure_dict(params)

    def apply(params: Any, features: Features) -> Any:
        # The structure is that of a module made from features of one environment, of which only shapes are used.
        one = features._replace(
            vector=jnp.zeros((1, features.vector.shape[-1]), features.vector.dtype),
            images=tuple(jnp.zeros((1, *image.shape[-3:]), image.dtype) for image in features.images),
        )
        graph, abstract = nnx.split(nnx.eval_shape(lambda: make(one, rngs=nnx.Rngs(0))))
        nnx.replace_by_pure_dict(abstract, params)
        return nnx.merge(graph, abstract)(features)

    return init, apply, getattr(_class(make), "memory_size", None)
