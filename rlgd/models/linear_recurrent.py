"""Linear recurrent layers: what a cell keeps, and what it adds, depends on its input alone, so no step has matrices.

All matrices are those of the inputs, of all steps at once. Along sequences the memory is then a linear recurrence
(``rlgd.maths.recurrences``), which restarts where an episode begins: there the factor is 0.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from rlgd.maths.recurrences import linear_recurrence
from rlgd.models.initializers import INITIALIZATIONS
from rlgd.models.products import Dense

SMALLEST_RADIUS, LARGEST_RADIUS = 0.9, 0.999  # of the LRU's first eigenvalues: they forget within 10 to 1,000 steps
LARGEST_PHASE = math.pi / 10


def mingru(inputs: Array) -> tuple[Array, Array]:
    """Minimal GRU: z = sigmoid(W x), n = W x; h' = (1 - z) h + z n (Feng et al. 2024, arXiv 2410.01201, section 3.1).

    Args:
        inputs: ``[..., matrices * width]``, W x.

    Returns:
        The factor of the memory, and what is added to it, both ``[..., width]``.
    """
    z, new = jnp.split(inputs, 2, axis=-1)
    return jax.nn.sigmoid(-z), jax.nn.sigmoid(z) * new


def minlstm(inputs: Array) -> tuple[Array, Array]:
    """Minimal LSTM: f, i = sigmoid(W x), n = W x; h' = (f h + i n) / (f + i) (the same paper, section 3.2).

    Arguments and results are those of ``mingru``.
    """
    f, i, new = jnp.split(inputs, 3, axis=-1)
    odds = jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)
    return jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds) * new


class GatedLayer(linen.Module):
    """``mingru`` or ``minlstm`` along sequences; an episode begins with a memory of 0.

    Arguments and results are those of ``RecurrentLayer``.
    """

    gates: Callable[[Array], tuple[Array, Array]]
    matrices: int
    width: int
    initialization: str

    @linen.compact
    def __call__(self, x: Array, first: Array, memory: Array) -> tuple[Array, Array]:
        initializer = INITIALIZATIONS[self.initialization](1.0)
        factor, term = self.gates(Dense(self.matrices * self.width, kernel_init=initializer)(x))
        memory = remembered(factor, term, first, memory)
        return memory, memory


class LRULayer(linen.Module):
    """Linear recurrent unit (Orvieto et al. 2023, arXiv 2303.06349): h' = lambda h + gamma B x and y = Re(C h) + D x.

    lambda is exp(-exp(nu) + i exp(theta)), one complex number for each unit, and gamma begins at sqrt(1 - |lambda|^2).
    A memory is the real parts of all h, then the imaginary ones. Arguments and results are those of ``RecurrentLayer``.
    """

    width: int
    initialization: str

    @linen.compact
    def __call__(self, x: Array, first: Array, memory: Array) -> tuple[Array, Array]:
        initializer = INITIALIZATIONS[self.initialization](1.0)

        def log_rates(key: Array) -> Array:
            square = jax.random.uniform(key, (self.width,), minval=SMALLEST_RADIUS**2, maxval=LARGEST_RADIUS**2)
            return jnp.log(-0.5 * jnp.log(square))  # uniform on the ring between both radii

        def log_phases(key: Array) -> Array:
            return jnp.log(LARGEST_PHASE * jax.random.uniform(key, (self.width,), minval=1e-3))

        rate, phase = (jnp.exp(self.param(name, log)) for name, log in (("nu", log_rates), ("theta", log_phases)))
        log_gamma = self.param("log_gamma", lambda _: 0.5 * jnp.log(-jnp.expm1(-2 * rate)))
        term = Dense(2 * self.width, use_bias=False, kernel_init=initializer, name="B")(x)
        gamma, radius = (
            jnp.broadcast_to(jnp.tile(jnp.exp(log), 2).astype(term.dtype), term.shape) for log in (log_gamma, -rate)
        )
        # In a frame that turns with lambda the memory only shrinks, its real and imaginary parts each by themselves.
        phase = phase.astype(jnp.promote_types(phase.dtype, jnp.float32))  # bfloat16 knows no large angles
        angle = phase if first.ndim == 1 else jnp.arange(1, x.shape[1] + 1, dtype=phase.dtype)[:, None] * phase[None]
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        hidden = turned(remembered(radius, turned(gamma * term, cos, -sin), first, memory), cos, sin)
        read = Dense(self.width, use_bias=False, kernel_init=initializer, name="C")(hidden)
        return read + Dense(self.width, kernel_init=initializer, name="D")(x), hidden


def turned(x: Array, cos: Array, sin: Array) -> Array:
    """Complex numbers times cos + i sin: ``x [..., 2 width]`` is their real parts, then the imaginary ones."""
    real, imaginary = jnp.split(x, 2, axis=-1)
    cos, sin = (jnp.broadcast_to(part.astype(x.dtype), real.shape) for part in (cos, sin))
    return jnp.concatenate([cos * real - sin * imaginary, sin * real + cos * imaginary], axis=-1)


def remembered(factor: Array, term: Array, first: Array, memory: Array) -> Array:
    """The memory after each step, like ``factor`` and ``term``: ``[N, T, size]``, or ``[N, size]`` for a single step.

    Args:
        factor, term: of each step.
        first: whether it begins an episode, ``[N, T]`` or ``[N]``.
        memory: before the first step, ``[N, size]``.
    """
    factor = jnp.where(first[..., None], 0, factor)
    if first.ndim == 1:
        return term + factor * memory.astype(term.dtype)
    factor, term = (jnp.swapaxes(x, 0, 1) for x in (factor, term))
    return jnp.swapaxes(linear_recurrence(factor, term, memory.astype(term.dtype)), 0, 1)
