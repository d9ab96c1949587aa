"""Initial weights."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

Initializer = Callable[..., Array]


def orthogonal(scale: float) -> Initializer:
    """Orthogonal matrices, uniformly distributed, times ``scale`` (Saxe, McClelland & Ganguli 2014, arXiv 1312.6120).

    A product of random Householder reflections (Stewart 1980) rather than a QR factorization: several of those,
    batched, make XLA hang on the CPU.
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        rows, columns = math.prod(shape[:-1]), shape[-1]  # a convolution reads its window as one row
        q = _reflections(key, max(rows, columns), min(rows, columns), dtype)
        return scale * (q if rows >= columns else q.T).reshape(shape)

    return init


# Flax asks for the shape of each new parameter whenever a network is read; with jit this is traced once for each shape.
@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _reflections(key: Array, size: int, rank: int, dtype: Any) -> Array:
    """The first ``rank`` columns of an orthogonal matrix."""
    normal = jax.random.normal(key, (rank, size), dtype)

    def reflect(index: Array, q: Array) -> Array:
        # Reflect a random vector in the coordinates from ``rank - 1 - index`` on.
        first = rank - 1 - index
        x = jnp.where(jnp.arange(size) >= first, normal[first], 0)
        sign = jnp.where(x[first] >= 0, 1, -1).astype(dtype)
        v = x + jnp.where(jnp.arange(size) == first, sign * jnp.linalg.norm(x), 0)
        v = v / jnp.linalg.norm(v)
        reflected = q - 2 * jnp.outer(v, v @ q)
        # The sign makes the factor's diagonal positive, without which the product is not uniform.
        return reflected * jnp.where(jnp.arange(rank) == first, -sign, 1)[None]

    return jax.lax.fori_loop(0, rank, reflect, jnp.eye(size, rank, dtype=dtype))


def glorot(scale: float) -> Initializer:
    """Uniform with variance scale^2 / mean of inputs and outputs (Glorot & Bengio 2010)."""
    return jax.nn.initializers.variance_scaling(scale**2, "fan_avg", "uniform")


INITIALIZATIONS: dict[str, Callable[[float], Initializer]] = {
    "orthogonal": orthogonal,
    "glorot": glorot,
    "xavier": glorot,  # Xavier Glorot: both names are common
    "he": lambda scale: jax.nn.initializers.variance_scaling(scale**2, "fan_in", "truncated_normal"),
    "lecun": lambda scale: jax.nn.initializers.variance_scaling(scale**2, "fan_in", "uniform"),
}

# The scale of hidden layers, where it is not 1. The caller gives the scale of the last layer.
HIDDEN_SCALES = {"orthogonal": 2**0.5, "he": 2**0.5}
