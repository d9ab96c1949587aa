"""Products of rows and a matrix whose gradient is fast on a CPU."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rlgd.system.layout import layout

# The narrower factor is copied unless it has fewer columns than this, or the other one has this many times its columns:
# then reading it with a stride costs less.
FEW_COLUMNS, MUCH_WIDER = 32, 4


def matmul(x: Array, matrix: Array) -> Array:
    """``x [..., K]`` times ``matrix [K, N]``: ``[..., N]``.

    The gradient of the matrix is ``x^T g``, a sum over rows. XLA's CPU compiler reads both factors with a stride then,
    the second one slowly, and spends up to three times as long as on the product itself. So where
    ``Layout.transposes`` the narrower one comes first, and is copied with the rows along it where that costs less.
    Derivatives of all orders and ``vmap`` work. What lies on several devices is left to JAX.
    """
    fits = x.ndim > 1 and matrix.ndim == 2 and x.shape[-1] == matrix.shape[0] and x.dtype == matrix.dtype
    if not (layout().transposes and fits and x.dtype.itemsize >= 4) or _is_on_a_mesh(x, matrix):
        return x @ matrix
    return _of_one_matrix(x, matrix)


def dot_general(
    x: Array,
    matrix: Array,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    **options: Any,
) -> Array:
    """``matmul`` for ``linen.Dense(..., dot_general=dot_general)``; other products are those of JAX."""
    is_plain = precision is None and preferred_element_type is None and not options and x.dtype == matrix.dtype
    if is_plain and matrix.ndim == 2 and dimension_numbers == (((x.ndim - 1,), (0,)), ((), ())):
        return matmul(x, matrix)
    return jax.lax.dot_general(x, matrix, dimension_numbers, precision, preferred_element_type, **options)


Dense = functools.partial(linen.Dense, dot_general=dot_general)

_product = Primitive("rows_times_matrix")  # of [..., M, K] and [..., K, N], with equal leading axes


def _is_on_a_mesh(*arrays: Array) -> bool:
    """Whether their types say how they are divided, which ours would have to say of the product too."""
    meshes = [jax.sharding.get_abstract_mesh(), *(jax.typeof(array).sharding.mesh for array in arrays)]
    return not all(mesh.empty for mesh in meshes)


def _of_one_matrix(x: Array, matrix: Array) -> Array:
    """All rows ``[..., K]`` as those of one product."""
    product: Array = _product.bind(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), matrix)
    return product.reshape(*x.shape[:-1], matrix.shape[-1])


def _transposed(x: Array) -> Array:
    return jnp.swapaxes(x, -1, -2)


def _gradient_of_rows(g: Array, _: Any, matrix: Array) -> Array:
    return jnp.matmul(g, _transposed(matrix))


def _gradient_of_matrix(g: Array, x: Array, _: Any) -> Array:
    first, second = (x, g) if x.shape[-1] < g.shape[-1] else (g, x)
    columns = _transposed(first)
    if first.shape[-1] >= FEW_COLUMNS and second.shape[-1] < MUCH_WIDER * first.shape[-1]:
        columns = jax.lax.optimization_barrier(columns)  # else XLA makes one product of both
    gradient = jnp.matmul(columns, second)
    # Without a barrier XLA swaps the factors to save the copy of the result, which is small.
    return gradient if first is x else _transposed(jax.lax.optimization_barrier(gradient))


def _batched(factors: tuple[Array, Array], axes: tuple[int | None, int | None]) -> tuple[Array, int]:
    x, matrix = (a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(factors, axes, strict=True))
    if None not in axes:
        return _product.bind(x, matrix), 0
    if axes[1] is None and matrix.ndim == 2:  # more rows
        return _of_one_matrix(x, matrix), 0
    return jax.vmap(jnp.matmul, tuple(None if axis is None else 0 for axis in axes))(x, matrix), 0


_product.def_impl(jax.jit(jnp.matmul))
_product.def_abstract_eval(lambda x, matrix: x.update(shape=(*x.shape[:-1], matrix.shape[-1]), weak_type=False))
ad.defbilinear(_product, _gradient_of_rows, _gradient_of_matrix)
batching.primitive_batchers[_product] = _batched
mlir.register_lowering(_product, mlir.lower_fun(jnp.matmul, multiple_results=False))
