"""Linear recurrences, sums that grow by a factor and a term: discounted returns, and what linear cells remember."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.maths.shapes import check_shape, check_time_major
from rlgd.system.layout import layout


def linear_recurrence(factor: Array, term: Array, start: Array, reverse: bool = False) -> Array:
    """x_t = term_t + factor_t x_{t-1} from x_{-1} = start; in reverse x_t = term_t + factor_t x_{t+1} from x_T = start.

    On a CPU it is a loop over time, the fastest there since its steps are short; elsewhere log2(T) passes (Hillis &
    Steele 1986). Its derivative is the recurrence of term' + factor' x_{t-1}, so no loop has to be differentiated.

    Args:
        factor, term: ``[T, ...]`` float.
        start: ``[...]`` float.

    Returns:
        ``[T, ...]`` float.

    Raises:
        ValueError: if the shapes differ.
    """
    check_time_major("factor", factor, term)
    check_shape("start", start, term.shape[1:])
    return _differentiable(reverse, factor, term, start)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _differentiable(reverse: bool, factor: Array, term: Array, start: Array) -> Array:
    return _solved(reverse, factor, term, start)


@_differentiable.defjvp
def _derivative(
    reverse: bool, values: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    factor, _, start = values
    factor_tangent, term_tangent, start_tangent = tangents
    result = _differentiable(reverse, *values)
    before = jnp.concatenate([result[1:], start[None]] if reverse else [start[None], result[:-1]])
    return result, _solved(reverse, factor, term_tangent + factor_tangent * before, start_tangent)


def _solved(reverse: bool, factor: Array, term: Array, start: Array) -> Array:
    if not layout().doubling:
        return _step_by_step(reverse, factor, term, start)
    return _by_doubling(factor, term, start) if reverse else _by_doubling(factor[::-1], term[::-1], start)[::-1]


def _step_by_step(reverse: bool, factor: Array, term: Array, start: Array) -> Array:
    def step(before: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        result = row[0] + row[1] * before
        return result, result

    return jax.lax.scan(step, start, (term, factor), reverse=reverse)[1]


def _by_doubling(factor: Array, term: Array, start: Array) -> Array:
    """In reverse: after k passes, row t has the sum of its first 2^k terms, and the factor of what follows."""
    result = jnp.concatenate([term, start[None]])
    factor = jnp.concatenate([factor, jnp.zeros_like(start)[None]])
    reach = 1
    while reach <= len(term):
        # Without the barrier the compiler would merge the passes, and compute each row again for each that reads it.
        result, factor = jax.lax.optimization_barrier(result), jax.lax.optimization_barrier(factor)
        longer = result[:-reach] + factor[:-reach] * result[reach:]
        result = jnp.concatenate([longer, result[-reach:]])
        factor = jnp.concatenate([factor[:-reach] * factor[reach:], jnp.zeros_like(factor[-reach:])])
        reach *= 2
    return result[:-1]
