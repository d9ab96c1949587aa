"""Sums and maps over rows in blocks, as the processor likes them.

On a CPU the blocks fit its cache; on a GPU there are only some that are computed beside one another.

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

T = TypeVar("T")
MOST_BESIDE = 128  # blocks that are computed at a time
MOST_NUMBERS = 2**22  # that are kept until they are added up: those of one block's sums times the number of blocks


def num_blocks(rows: int, pixels: int = 0) -> int:
    """The number of equal blocks for this many rows, with this many numbers in the images of each, see ``Layout``.

    Rows whose number has no divisor in reach, such as a prime number, are one block.
    """
    most = layout().block_rows
    if most is not None and pixels and (most_pixels := layout().block_pixels) is not None:
        most = min(most, max(most_pixels // pixels, 1))
    if most is None or rows <= most:
        return 1
    blocks = next(blocks for blocks in range(-(-rows // most), rows + 1) if rows % blocks == 0)
    return blocks if rows // blocks >= most // 8 else 1


def _pixels(tree: Any) -> int:
    """The numbers in all images of a row: in arrays ``[rows, ..., height, width, channels]``."""
    return sum(math.prod(x.shape[1:]) for x in jax.tree.leaves(tree) if x.ndim > 3)


def _cut(tree: T, blocks: int) -> T:
    return jax.tree.map(lambda x: x.reshape(blocks, x.shape[0] // blocks, *x.shape[1:]), tree)


def map_rows(function: Callable[[Any], Any], tree: Any) -> Any:
    """``function(tree)``, computed block by block. Argument and result are trees of rows.

    Raises:
        ValueError: if leading axes differ.
    """
    rows = num_rows(tree)
    blocks = num_blocks(rows, _pixels(tree))
    if blocks == 1:
        return function(tree)
    result = jax.lax.map(function, _cut(tree, blocks))
    return jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), result)


def num_beside(rows: int, numbers: int = 1) -> int:
    """How many equal blocks are summed at a time, if each block's sum has ``numbers`` numbers; 1: no cut.

    See ``Layout.beside_rows``. Sums of more than half of ``MOST_NUMBERS`` are never cut.
    """
    least = layout().beside_rows
    if least is None:
        return 1
    most = min(MOST_BESIDE, rows // least, MOST_NUMBERS // max(numbers, 1))
    return next((blocks for blocks in range(most, 1, -1) if rows % blocks == 0), 1)


def weighted_sum(
    function: Callable[[Any, Array, Array], T], tree: Any, weight: Array | None, may_be_beside: bool = True
) -> T:
    """The sum over blocks of ``function(block, share, number)``, where ``share`` is the block's share of all weight.

    ``function`` returns a pytree of means over its block, times ``share``; the sum is then the mean over all rows. On a
    CPU the blocks come one after another; a GPU takes all rows as one block, or many blocks beside one another.

    Args:
        function: of a block of rows, its share (a scalar) and its number (int32).
        tree: the rows.
        weight: ``[rows, ...]``, a mask or numbers; None: all rows weigh the same.
        may_be_beside: a GPU may compute all blocks at a time, by vmap, and then add up all numbers in one kernel. Not
            good for two networks that are computed as one; rows with images, whose convolutions would be grouped ones,
            are never computed so.

    Raises:
        ValueError: if leading axes differ.
    """
    rows = num_rows((tree, weight))
    whole = tree, jnp.ones(()), jnp.zeros((), jnp.int32)
    pixels = _pixels(tree)
    beside = may_be_beside and not pixels and num_beside(rows) > 1
    if beside:
        sums = jax.tree.leaves(jax.eval_shape(function, *whole))
        blocks = num_beside(rows, sum(x.size for x in sums))
    else:
        blocks = num_blocks(rows, pixels)
    if blocks == 1:
        return function(*whole)
    if weight is None:
        shares = jnp.full(blocks, 1 / blocks)
    else:
        cut = _cut(weight, blocks)
        per_block = jnp.sum(cut, axis=tuple(range(1, cut.ndim)), dtype=jax.dtypes.canonicalize_dtype(float))
        shares = per_block / jnp.maximum(jnp.sum(per_block), 1)
    parts = (_cut(tree, blocks), shares, jnp.arange(blocks, dtype=jnp.int32))
    return (_sum_beside if beside else _sum_in_turn)(function, parts)


def _sum_in_turn(function: Callable[..., T], parts: Any) -> T:
    """The sum of ``function`` over the leading axis of ``parts``, block by block."""

    def add(total: T, block: tuple[Any, Array, Array]) -> tuple[T, None]:
        return jax.tree.map(jnp.add, total, function(*block)), None

    first = jax.tree.map(lambda x: x[0], parts)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *first))
    return jax.lax.scan(add, zero, parts)[0]


def _sum_beside(function: Callable[..., T], parts: Any) -> T:
    """The same, all blocks at a time; where all numbers have one dtype, they are added up as one array."""
    sums = jax.vmap(function)(*parts)
    if len({x.dtype for x in jax.tree.leaves(sums)}) > 1:
        return jax.tree.map(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), sums)
    split = ravel_pytree(jax.tree.map(lambda x: x[0], sums))[1]
    total: T = split(jnp.sum(jax.vmap(lambda tree: ravel_pytree(tree)[0])(sums), axis=0))
    return total
