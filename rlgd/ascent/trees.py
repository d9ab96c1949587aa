"""Arithmetic on trees of arrays: norms, clipping, steps."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rlgd.pytrees import Scalar


def clip_by_norm(gradient: Any, max_norm: Scalar | None) -> Any:
    """``gradient``, scaled down to global norm ``max_norm`` if it is longer; None: as it is."""
    if max_norm is None:
        return gradient
    norm = optax.tree.norm(gradient)
    scale = jnp.where(norm > max_norm, max_norm / norm, 1.0)
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), gradient)


def global_norm(tree: Any) -> Array:
    """The Euclidean length of all leaves together, a scalar."""
    return optax.tree.norm(tree)


def apply_step(params: Any, step: Any) -> Any:
    """``params + step``."""
    return jax.tree.map(jnp.add, params, step)


def cosine(a: Any, b: Any) -> Array:
    """The cosine of the angle between two trees, a scalar; 0 where one of them is 0."""
    lengths = optax.tree.norm(a) * optax.tree.norm(b)
    return optax.tree.vdot(a, b) / jnp.maximum(lengths, jnp.finfo(lengths.dtype).tiny)
