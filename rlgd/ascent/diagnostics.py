"""Diagnostics of the ascent, measured in one iteration of many. ``docs/ascent.md`` says how to read each number.

A measurement takes a gradient of its own and a trial step. It is made once in ``every`` iterations. The others
cost nothing, and their numbers are NaN.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.ascent.ascent import Ascent
from rlgd.ascent.trees import cosine, global_norm
from rlgd.pytrees import Metrics


class Measured(NamedTuple):
    """Kept between measurements: the gradient of the last one, and the number of iterations to the next one (int32)."""

    gradient: Any
    wait: Array


def begin(params: Any) -> Measured:
    """The value before the first measurement, for parameters like ``params``."""
    return Measured(jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32))


def halves(rows: Any, axis: int = 0) -> Any:
    """The even rows and the odd rows, stacked, ``[2, ...]``; a batch of one row is returned as it is, ``[1, ...]``.

    If the number of rows is odd, the last one is in neither half.
    """

    def cut(x: Array) -> Array:
        parts = min(x.shape[axis], 2)
        half = x.shape[axis] // parts
        even = jax.lax.slice_in_dim(x, 0, half * parts, axis=axis)
        return jnp.moveaxis(even.reshape(*x.shape[:axis], half, parts, *x.shape[axis + 1 :]), axis + 1, 0)

    return jax.tree.map(cut, rows)


def measure(
    ascent: Ascent,
    state: Any,
    params: Any,
    progress: Array,
    gradients: Callable[[], Any],
    last: Measured,
    every: int,
) -> tuple[Metrics, Measured]:
    """Numbers about the next update, NaN in iterations without a measurement.

    Args:
        ascent: its ``transformation`` makes the update.
        state: the optimizer's state before the update.
        params: the parameters before the update.
        progress: share of the run done, a scalar.
        gradients: computes the policy's gradients on the ``halves`` of a batch, stacked; called for a measurement.
        last: as ``begin`` or ``measure`` returned it.
        every: one of this many iterations is measured.

    Returns:
        Scalars by their names, and the value of ``last`` for the next call.
    """

    def measured() -> tuple[Metrics, Measured]:
        parts = gradients()
        gradient = jax.tree.map(lambda x: jnp.mean(x, axis=0), parts)
        step, after = ascent.transformation().update(gradient, state, params, progress, new_rollout=True)
        length = global_norm(step)
        metrics = {
            "ascent/update_norm": length,
            "ascent/update_ratio": length / global_norm(params),
            "ascent/gradient_alignment": _angle(last.gradient, gradient),
        }
        if jax.tree.leaves(parts)[0].shape[0] == 2:
            metrics["ascent/noise_to_signal"] = noise_to_signal(parts)
        moment = ascent.first_moment(state)
        if moment is not None and ascent.moments.rollout_moments != "reset":  # a reset moment cannot be compared
            metrics["ascent/momentum_alignment"] = _angle(moment, gradient)
        if (share := ascent.epsilon_share(after)) is not None:
            metrics["ascent/epsilon_share"] = share
        return metrics, Measured(gradient, jnp.full((), every, jnp.int32))

    # A loop that runs once or not at all. Unlike a cond it does not copy the gradient while it waits, and it computes
    # nothing then, also under vmap.
    blank = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), jax.eval_shape(measured)[0])
    metrics, last = jax.lax.while_loop(lambda carry: carry[1].wait <= 0, lambda _: measured(), (blank, last))
    return metrics, last._replace(wait=last.wait - 1)


def noise_to_signal(parts: Any) -> Array:
    """The standard deviation of a batch's gradient over its length: |a - b| / |a + b| for the gradients of its halves.

    (a - b) / 2 has mean 0 and the covariance of (a + b) / 2. Near 0 the gradient is all signal; two unrelated
    directions give 1. NaN where the halves cancel; 0 where both are 0.
    """
    difference, total = (global_norm(jax.tree.map(f, parts)) for f in (lambda x: x[0] - x[1], lambda x: x[0] + x[1]))
    ratio = difference / jnp.where(total > 0, total, 1)
    return jnp.where((total > 0) | (difference == 0), ratio, jnp.nan)


def _angle(a: Any, b: Any) -> Array:
    """The cosine, or NaN where ``a`` is 0, as it is before the first measurement or update."""
    return jnp.where(global_norm(a) > 0, cosine(a, b), jnp.nan)
