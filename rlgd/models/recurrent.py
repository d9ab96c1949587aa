"""Recurrent layers, which reset their memory at the beginning of each episode.

``rlgd.models.linear_recurrent`` has those that are linear in their memory.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from rlgd.models.initializers import INITIALIZATIONS
from rlgd.models.linear_recurrent import GatedLayer, LRULayer, mingru, minlstm
from rlgd.models.products import Dense


class Recurrence(NamedTuple):
    """A recurrent layer: its kind, one of ``CELLS``, and its width."""

    kind: str
    width: int

    @property
    def memory_size(self) -> int:
        """The size of the memory of each environment."""
        return CELLS[self.kind].vectors * self.width

    def cost(self, inputs: int) -> int:
        """The number of multiplications in a step with this many inputs."""
        cell = CELLS[self.kind]
        return self.width * (cell.input_matrices * inputs + cell.own_matrices * self.width)

    def layer(self, initialization: str) -> linen.Module:
        """The layer itself, whose weights have one of ``INITIALIZATIONS``; see ``RecurrentLayer``."""
        return CELLS[self.kind].layer(width=self.width, initialization=initialization)


def rnn(memory: Array, inputs: Array, recurrent: Callable[[Array], Array]) -> tuple[Array, Array]:
    """A tanh layer: h' = tanh(W x + U h) (Elman 1990, "Finding structure in time").

    Args:
        memory: ``[N, vectors * width]``, as for every cell.
        inputs: ``[N, matrices * width]``, W x.
        recurrent: h to U h, ``[N, width]`` to ``[N, matrices * width]``.

    Returns:
        The new memory, and the layer's output ``[N, width]``.
    """
    hidden = jnp.tanh(inputs + recurrent(memory))
    return hidden, hidden


def gru(memory: Array, inputs: Array, recurrent: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Gates r, z = sigmoid(W x + U h); n = tanh(W x + r U h); h' = (1 - z) n + z h.

    Cho et al. 2014, arXiv 1406.1078. Arguments and results are those of ``rnn``.
    """
    (r, z, n), (r_h, z_h, n_h) = (jnp.split(x, 3, axis=-1) for x in (inputs, recurrent(memory)))
    r, z = jax.nn.sigmoid(r + r_h), jax.nn.sigmoid(z + z_h)
    hidden = (1 - z) * jnp.tanh(n + r * n_h) + z * memory
    return hidden, hidden


def lstm(memory: Array, inputs: Array, recurrent: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Gates i, f, o = sigmoid(W x + U h); g = tanh(W x + U h); c' = f c + i g; h' = o tanh(c').

    Hochreiter & Schmidhuber 1997, with a forget gate that starts open (Jozefowicz et al. 2015). Arguments and results
    are those of ``rnn``.
    """
    hidden, cell = jnp.split(memory, 2, axis=-1)
    i, f, o, g = jnp.split(inputs + recurrent(hidden), 4, axis=-1)
    cell = jax.nn.sigmoid(f + 1) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
    return jnp.concatenate([hidden, cell], axis=-1), hidden


class RecurrentLayer(linen.Module):
    """A cell such as ``gru`` along sequences, step by step; an episode begins with a memory of 0."""

    cell: Callable[[Array, Array, Callable[[Array], Array]], tuple[Array, Array]]
    matrices: int
    width: int
    initialization: str

    @linen.compact
    def __call__(self, x: Array, first: Array, memory: Array) -> tuple[Array, Array]:
        """``x [N, T, d]``, ``first [N, T]`` and ``memory [N, size]`` to outputs ``[N, T, width]`` and the memory after
        each step, ``[N, T, size]``; or a single step, all without T.
        """
        width, initializer = self.width, INITIALIZATIONS[self.initialization](1.0)

        def square_ones(key: Array) -> Array:
            keys = jax.random.split(key, self.matrices)
            return jnp.concatenate([initializer(key, (width, width)) for key in keys], axis=-1)

        inputs = Dense(self.matrices * width, kernel_init=initializer)(x)  # of all steps at once
        kernel = self.param("recurrent_kernel", square_ones)

        def step(memory: Array, row: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            inputs, first = row
            memory, hidden = self.cell(jnp.where(first[:, None], 0, memory), inputs, lambda h: h @ kernel)
            return memory, (hidden, memory)

        if first.ndim == 1:
            return step(memory, (inputs, first))[1]
        by_time = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (inputs, first))
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), jax.lax.scan(step, memory, by_time)[1])


class Cell(NamedTuple):
    """A kind of recurrent layer.

    Attributes:
        layer: makes the layer from ``width`` and ``initialization``.
        input_matrices, own_matrices: how many matrices it has for its inputs, and for its own units.
        vectors: how many vectors of the layer's width its memory has.
    """

    layer: Callable[..., linen.Module]
    input_matrices: int
    own_matrices: int = 0
    vectors: int = 1


CELLS = {
    "rnn": Cell(functools.partial(RecurrentLayer, rnn, 1), 1, 1),
    "gru": Cell(functools.partial(RecurrentLayer, gru, 3), 3, 3),
    "lstm": Cell(functools.partial(RecurrentLayer, lstm, 4), 4, 4, vectors=2),
    "mingru": Cell(functools.partial(GatedLayer, mingru, 2), 2),
    "minlstm": Cell(functools.partial(GatedLayer, minlstm, 3), 3),
    "lru": Cell(LRULayer, 3, 2, vectors=2),
}
