"""How the ascent goes: what is measured of one update in many. ``docs/ascent.md`` says how to read each number.

Measuring takes a gradient of its own and a trial step, so it is done in one iteration of ``every`` and costs nothing in
the others, where the numbers are NaN.
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
    """What is kept between measurements: the last one's gradient, and iterations until the next one (int32)."""

    gradient: Any
    wait: Array


def begin(params: Any) -> Measured:
    """Before the first measurement, of parameters like ``params``."""
    return Measured(jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32))


def halves(rows: Any, axis: int = 0) -> Any:
    """Every other row and those between, stacked: ``[2, ...]``; the batch itself, ``[1, ...]``, if it has one row only.

    Of an odd number of rows the last one is in neither half.
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
    """Numbers about the update that comes next, NaN in iterations that are not measured.

    Args:
        ascent: whose ``transformation`` makes the update.
        state: the optimizer's, before the update.
        params: before the update.
        progress: share of the run done.
        gradients: computes the policy's gradients on the ``halves`` of a batch, stacked; called where it is measured.
        last: as ``begin`` or ``measure`` returned it.
        every: one iteration in so many is measured.
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
        if moment is not None and ascent.moments.rollout_moments != "reset":  # which leaves nothing to compare with
            metrics["ascent/momentum_alignment"] = _angle(moment, gradient)
        if (share := ascent.epsilon_share(after)) is not None:
            metrics["ascent/epsilon_share"] = share
        return metrics, Measured(gradient, jnp.full((), every, jnp.int32))

    # A loop that turns once or not at all. Unlike a cond it does not copy the gradient where it waits, and under vmap
    # it still computes nothing then.
    blank = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), jax.eval_shape(measured)[0])
    metrics, last = jax.lax.while_loop(lambda carry: carry[1].wait <= 0, lambda _: measured(), (blank, last))
    return metrics, last._replace(wait=last.wait - 1)


def noise_to_signal(parts: Any) -> Array:
    """The standard deviation of a batch's gradient over its length: |a - b| / |a + b|, a and b its halves' gradients.

    (a - b) / 2 has mean 0 and the covariance of (a + b) / 2. Near 0 the gradient is all signal; 1 is what two
    directions without anything in common give. NaN where the halves cancel; 0 where both are 0.
    """
    difference, total = (global_norm(jax.tree.map(f, parts)) for f in (lambda x: x[0] - x[1], lambda x: x[0] + x[1]))
    ratio = difference / jnp.where(total > 0, total, 1)
    return jnp.where((total > 0) | (difference == 0), ratio, jnp.nan)


def _angle(a: Any, b: Any) -> Array:
    """The cosine, or NaN where ``a`` is 0: nothing has been gathered yet."""
    return jnp.where(global_norm(a) > 0, cosine(a, b), jnp.nan)
