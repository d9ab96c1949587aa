"""Rows of a rollout in minibatches: a shuffle without sorting, and loops over passes.

In every tree of rows, all leaves have the rows as their leading axis.

On several devices each has the rows of its own environments, beside one another. Minibatches are drawn from the rows of
all devices, which are copied to each; or, with ``--shuffle local``, each device shuffles its own, and none moves. A
minibatch then has as many rows of each device: a stratified sample, with the same mean as one that is drawn from all.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd.maths.shapes import num_rows
from rlgd.system.mesh import divided, everywhere, num_devices, num_shuffles

T = TypeVar("T")
Rows = TypeVar("Rows")
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
    step: Callable[[T, Rows, Array], tuple[T, Any]],
    carry: T,
    rows: Rows,
    num_envs: int,
    key: Array,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[T, Any]:
    """Scan ``step(carry, minibatch, number)`` over ``num_epochs`` passes through ``rows``, each in a new order.

    ``rows`` are those of ``as_rows``, or one for each of the ``num_envs`` environments. ``number`` counts the
    minibatches of all passes. Returns the last carry and the outputs of ``step``, arrays of one dtype, stacked:
    ``[num_epochs, num_minibatches, ...]``.

    Raises:
        ValueError: if ``num_minibatches`` does not divide the rows, or those of a device if each shuffles its own.
    """
    size = num_rows(rows)
    rows = _to_draw_from(rows, num_envs)
    split: list[Callable[[Array], Any]] = []

    def joined(carry: T, minibatch: tuple[Array, Array]) -> tuple[T, Array]:
        index, number = minibatch
        carry, outputs = step(carry, _taken(rows, divided(index)), number)
        vector, splits = ravel_pytree(outputs)  # one array to write to, instead of one for each output
        split[:] = [splits]
        return carry, vector

    # All orders before the loop: one loop instead of two, one within the other.
    at_once = min(max(ROWS_AT_ONCE // size, 1), num_epochs)  # shuffling takes several times the room of an order
    orders = jax.lax.map(
        lambda number: _orders(jax.random.fold_in(key, number), size, num_minibatches),
        jnp.arange(num_epochs),
        batch_size=at_once,
    )
    parts = (orders.reshape(num_epochs * num_minibatches, -1), jnp.arange(num_epochs * num_minibatches))
    carry, stacked = jax.lax.scan(joined, carry, parts)
    return carry, jax.vmap(jax.vmap(split[0]))(stacked.reshape(num_epochs, num_minibatches, -1))


def minibatch(rows: Rows, num_envs: int, key: Array, num_minibatches: int) -> Rows:
    """One minibatch, as ``epochs`` draws them."""
    index = _orders(key, num_rows(rows), num_minibatches)[0]
    return _taken(_to_draw_from(rows, num_envs), divided(index))


def _orders(key: Array, size: int, num_minibatches: int) -> Array:
    """The numbers of the rows of each minibatch of a pass, ``[num_minibatches, size / num_minibatches]``."""
    parts = num_shuffles()
    if size % (parts * num_minibatches):
        whose = f"{size} rows" if parts == 1 else f"{size} rows on {parts} devices"
        raise ValueError(f"num_minibatches is {num_minibatches}, which does not divide {whose}.")
    if parts == 1:
        return shuffle(key, size).reshape(num_minibatches, -1)
    numbers = jnp.arange(parts)
    own = jax.vmap(lambda number: shuffle(jax.random.fold_in(key, number), size // parts))(numbers)
    first = (numbers * (size // parts))[:, None]
    return jnp.swapaxes((own + first).reshape(parts, num_minibatches, -1), 0, 1).reshape(num_minibatches, -1)


def _to_draw_from(rows: Rows, num_envs: int) -> Rows:
    """If rows of all devices are shuffled together, each device has all, in the order that one device has."""
    if num_devices() == num_shuffles():
        return rows

    def in_order(x: Array) -> Array:
        return everywhere(by_time(x, num_envs)).reshape(x.shape)

    return jax.tree.map(in_order, rows)


def _taken(rows: Rows, index: Array) -> Rows:
    """The rows with the numbers ``index [size]``."""
    # Each number is that of a row, so nothing is asked about it: a GPU takes a kernel less.
    get = {"mode": "promise_in_bounds", "wrap_negative_indices": False}
    parts = num_shuffles()

    def of_each_device(x: Array) -> Array:
        own = index.reshape(parts, -1) - (jnp.arange(parts) * (x.shape[0] // parts))[:, None]
        taken = jax.vmap(lambda part, numbers: part.at[numbers].get(**get))(x.reshape(parts, -1, *x.shape[1:]), own)
        return taken.reshape(-1, *x.shape[1:])

    return jax.tree.map(lambda x: x.at[index].get(**get) if parts == 1 else of_each_device(x), rows)


def as_rows(tree: T) -> T:
    """``[T, N, ...]`` to rows, ``[T * N, ...]``, in every array; those of a device beside one another."""
    parts = num_devices()

    def flat(x: Array) -> Array:
        if parts == 1:
            return x.reshape(-1, *x.shape[2:])
        by_device = jnp.swapaxes(x.reshape(x.shape[0], parts, -1, *x.shape[2:]), 0, 1)
        return by_device.reshape(-1, *x.shape[2:])

    return jax.tree.map(flat, tree)


def by_time(rows: Array, num_envs: int) -> Array:
    """The opposite of ``as_rows``: ``[T * N, ...]`` to ``[T, N, ...]``."""
    parts = num_devices()
    if parts == 1:
        return rows.reshape(-1, num_envs, *rows.shape[1:])
    by_device = rows.reshape(parts, -1, num_envs // parts, *rows.shape[1:])
    return jnp.swapaxes(by_device, 0, 1).reshape(-1, num_envs, *rows.shape[1:])
