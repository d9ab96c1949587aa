"""Rows of a rollout in blocks and minibatches: a shuffle without sorting, and sums over blocks that fit the cache.

In every tree of rows, all leaves have the rows as their leading axis.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd.maths.shapes import num_rows
from rlgd.system.layout import layout
from rlgd.system.mesh import divided

T = TypeVar("T")
ROWS_AT_ONCE = 2**21  # that are shuffled


def shuffle(key: Array, size: int) -> Array:
    """A random permutation of ``range(size)``, int32, by three additive Feistel rounds (Luby & Rackoff 1988).

    The index is a pair (x, y), over two factors of ``size``. Each round shifts one half by a random function of the
    other, which is a bijection. It costs about 3 sqrt(size) random numbers, while ``jax.random.permutation`` sorts.
    Sizes without two factors of similar size are sorted.

    Raises:
        ValueError: if ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}; allowed: at least 1.")
    rows = max(factor for factor in range(1, math.isqrt(size) + 1) if size % factor == 0)
    columns = size // rows
    if rows * 8 < columns:
        return jax.random.permutation(key, size)
    # Remainders of 32-bit integers are uniform to size / 2^32.
    bits = jax.random.bits(key, (2 * columns + rows,), jnp.uint32)
    shift_x, shift_x_again = ((bits[i : i + columns] % rows).astype(jnp.int32) for i in (0, columns))
    shift_y = (bits[2 * columns :] % columns).astype(jnp.int32)
    index = jnp.arange(size, dtype=jnp.int32)
    x, y = index // columns, index % columns
    x = (x + shift_x[y]) % rows
    y = (y + shift_y[x]) % columns
    x = (x + shift_x_again[y]) % rows
    return x * columns + y


def epochs(
    step: Callable[[T, tuple[Array, Array]], tuple[T, Any]],
    carry: T,
    key: Array,
    size: int,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[T, Any]:
    """Scan ``step(carry, (index, number))`` over ``num_epochs`` passes through ``size`` rows, each in a new order.

    ``index [size / num_minibatches]`` are the rows of a minibatch, ``number`` counts the minibatches of all passes.
    Returns the last carry and the outputs of ``step``, arrays of one dtype, stacked:
    ``[num_epochs, num_minibatches, ...]``.

    Raises:
        ValueError: if ``num_minibatches`` does not divide ``size``.
    """
    if size % num_minibatches:
        raise ValueError(f"num_minibatches is {num_minibatches}, which does not divide {size} rows.")
    split: list[Callable[[Array], Any]] = []

    def joined(carry: T, minibatch: tuple[Array, Array]) -> tuple[T, Array]:
        index, number = minibatch
        carry, outputs = step(carry, (divided(index), number))
        vector, splits = ravel_pytree(outputs)  # one array to write to, instead of one for each output
        split[:] = [splits]
        return carry, vector

    # All orders before the loop: one loop instead of two, one within the other.
    at_once = min(max(ROWS_AT_ONCE // size, 1), num_epochs)  # shuffling takes several times the room of an order
    orders = jax.lax.map(
        lambda number: shuffle(jax.random.fold_in(key, number), size), jnp.arange(num_epochs), batch_size=at_once
    )
    parts = (orders.reshape(num_epochs * num_minibatches, -1), jnp.arange(num_epochs * num_minibatches))
    carry, stacked = jax.lax.scan(joined, carry, parts)
    return carry, jax.vmap(jax.vmap(split[0]))(stacked.reshape(num_epochs, num_minibatches, -1))


def num_blocks(rows: int) -> int:
    """The number of equal blocks for this many rows, see ``Layout.block_rows``."""
    most = layout().block_rows
    if most is None or rows <= most:
        return 1
    blocks = next(blocks for blocks in range(-(-rows // most), rows + 1) if rows % blocks == 0)
    return blocks if rows // blocks >= most // 8 else 1


def _cut(tree: T, blocks: int) -> T:
    return jax.tree.map(lambda x: x.reshape(blocks, x.shape[0] // blocks, *x.shape[1:]), tree)


def map_rows(function: Callable[[Any], Any], tree: Any) -> Any:
    """``function(tree)``, computed block by block. Argument and result are trees of rows.

    Raises:
        ValueError: if leading axes differ.
    """
    rows = num_rows(tree)
    blocks = num_blocks(rows)
    if blocks == 1:
        return function(tree)
    result = jax.lax.map(function, _cut(tree, blocks))
    return jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), result)


def weighted_sum(function: Callable[[Any, Array, Array], T], tree: Any, weight: Array | None) -> T:
    """The sum over blocks of ``function(block, share, number)``, where ``share`` is the block's share of all weight.

    ``function`` returns a pytree of means over its block, times ``share``; the sum is then the mean over all rows.

    Args:
        function: of a block of rows, its share (a scalar) and its number (int32).
        tree: the rows.
        weight: ``[rows, ...]``, a mask or numbers; None: all rows weigh the same.

    Raises:
        ValueError: if leading axes differ.
    """
    rows = num_rows((tree, weight))
    blocks = num_blocks(rows)
    if blocks == 1:
        return function(tree, jnp.ones(()), jnp.zeros((), jnp.int32))
    if weight is None:
        shares = jnp.full(blocks, 1 / blocks)
    else:
        cut = _cut(weight, blocks)
        per_block = jnp.sum(cut, axis=tuple(range(1, cut.ndim)), dtype=jax.dtypes.canonicalize_dtype(float))
        shares = per_block / jnp.maximum(jnp.sum(per_block), 1)

    def add(total: T, block: tuple[Any, Array, Array]) -> tuple[T, None]:
        return jax.tree.map(jnp.add, total, function(*block)), None

    parts = (_cut(tree, blocks), shares, jnp.arange(blocks, dtype=jnp.int32))
    first = jax.tree.map(lambda x: x[0], parts)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *first))
    return jax.lax.scan(add, zero, parts)[0]
