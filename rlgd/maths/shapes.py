"""Checks of ranks and shapes, for the first lines of functions. They run while tracing and cost nothing afterwards."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def check_shape(name: str, x: Any, expected: tuple[int, ...], about: str = "") -> None:
    """Raise ValueError unless ``x`` has the shape ``expected``; ``about`` is added to the message."""
    if jnp.shape(x) != expected:
        raise ValueError(f"{name} has shape {jnp.shape(x)}; expected {expected}{about}.")


def check_time_major(name: str, x: Array, like: Array) -> None:
    """Raise ValueError unless ``x`` has the shape of ``like``, ``[T, ...]``."""
    if x.shape != like.shape or x.ndim < 1:
        raise ValueError(f"{name} has shape {x.shape}; expected {like.shape}, time first.")


def check_same_shape(**arrays: Array | None) -> None:
    """Raise ValueError unless all arrays have one shape; None is left out."""
    shapes = {name: array.shape for name, array in arrays.items() if array is not None}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"shapes differ: {', '.join(f'{name} {shape}' for name, shape in shapes.items())}.")


def num_rows(tree: Any) -> int:
    """The length of the leading axis of every leaf.

    Raises:
        ValueError: if there are no leaves, or their leading axes differ.
    """
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(f"leading axes have the lengths {sorted(lengths)}; expected one length, the rows.")
    return lengths.pop()[0]


def check_like(name: str, tree: Any, like: Any) -> None:
    """Raise ValueError unless a tree has the structure and the shapes of ``like``."""
    shapes, expected = (jax.tree.map(jnp.shape, x) for x in (tree, like))
    if shapes != expected:
        raise ValueError(f"{name} has the shapes {shapes}; expected {expected}.")
