"""Diagnostics of the ascent. ``docs/ascent.md`` says how to read each number.

A measurement takes a gradient of its own and a trial step, so it is made in one iteration of many.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.ascent.accumulation import Accumulation
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.trees import cosine, global_norm
from rlgd.pytrees import Metrics


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


def measure(ascent: Ascent, state: Any, params: Any, progress: Array, parts: Any, last: Any) -> tuple[Metrics, Any]:
    """Numbers about the next update.

    Args:
        ascent: its ``transformation`` makes the update.
        state: the optimizer's state before the update.
        params: the parameters before the update.
        progress: share of the run done, a scalar.
        parts: the policy's gradients on the ``halves`` of a batch, stacked.
        last: the gradient of the measurement before, as it was returned; zeros before the first one.

    Returns:
        Scalars by their names, and the gradient.
    """
    gradient = jax.tree.map(lambda x: jnp.mean(x, axis=0), parts)
    if ascent.accumulates:  # the step that would be made now
        ascent = dataclasses.replace(ascent, accumulation=Accumulation(gradient_accumulation_steps=1.0))
    step, after = ascent.transformation().update(gradient, state, params, progress, new_rollout=True)
    length = global_norm(step)
    metrics = {
        "ascent/update_norm": length,
        "ascent/update_ratio": length / global_norm(params),
        "ascent/gradient_alignment": _angle(last, gradient),
    }
    if jax.tree.leaves(parts)[0].shape[0] == 2:
        metrics["ascent/noise_to_signal"] = noise_to_signal(parts)
    moment = ascent.first_moment(state)
    if moment is not None and ascent.moments.rollout_moments != "reset":  # a reset moment cannot be compared
        metrics["ascent/momentum_alignment"] = _angle(moment, gradient)
    if (share := ascent.epsilon_share(after)) is not None:
        metrics["ascent/epsilon_share"] = share
    return metrics, gradient


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
