"""Objectives, which are maximized, and errors of the value function, which are minimized.

All arrays of one call have the same shape; else ValueError is raised. Rows with mask False have no influence, even
where they are NaN.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.maths.shapes import check_same_shape
from rlgd.pytrees import Scalar

# exp of more than this overflows float32. Where this limit acts, the gradient is 0.
MAX_LOG_RATIO = 80.0


def _real(x: Array, mask: Array | None) -> Array:
    """``x`` with 0 where the mask is False, so that neither the value nor the gradient there can be NaN."""
    return x if mask is None else jnp.where(mask, x, 0)


def masked_mean(x: Array, mask: Array | None = None) -> Array:
    """The mean of ``x`` over the rows of the mask, a scalar; 0 if there are none. NaN in other rows does not spread."""
    check_same_shape(x=x, mask=mask)
    if mask is None:
        return jnp.mean(x)
    return jnp.sum(_real(x, mask)) / jnp.maximum(jnp.sum(mask, dtype=x.dtype), 1)


def normalize_advantage(advantage: Array, mask: Array | None = None, epsilon: float = 1e-8) -> Array:
    """Shift and scale to mean 0 and standard deviation 1 over the mask's rows; a single row becomes 0, never NaN.

    Andrychowicz et al. 2021, arXiv 2006.05990. Returns the shape of ``advantage``.
    """
    check_same_shape(advantage=advantage, mask=mask)
    # Subtract a real row first: equal advantages then give exactly 0, not rounding errors that the scale enlarges.
    first = advantage[(0,) * advantage.ndim] if mask is None else advantage.reshape(-1)[jnp.argmax(mask.reshape(-1))]
    shifted = _real(advantage - first, mask)
    centred = shifted - masked_mean(shifted, mask)
    return centred / (jnp.sqrt(masked_mean(jnp.square(centred), mask)) + epsilon)


def score_function(log_prob: Array, advantage: Array, mask: Array | None = None) -> Array:
    """The surrogate with the policy gradient as its gradient: mean(log pi(a|s) * A) (Williams 1992; A2C).

    No gradient flows through ``advantage``. Returns a scalar, the mean over the mask's rows.
    """
    check_same_shape(log_prob=log_prob, advantage=advantage, mask=mask)
    return masked_mean(_real(log_prob, mask) * jax.lax.stop_gradient(_real(advantage, mask)), mask)


def weighted(values: Array, weight: Array | None) -> Array:
    """The values of rows times their importance weights, of the same shape; None: as they are."""
    return values if weight is None else values * weight


def importance_ratio(log_prob: Array, old_log_prob: Array) -> Array:
    """pi(a|s) / pi_old(a|s), kept finite; the shape of ``log_prob``."""
    check_same_shape(log_prob=log_prob, old_log_prob=old_log_prob)
    return jnp.exp(jnp.clip(log_prob - old_log_prob, -MAX_LOG_RATIO, MAX_LOG_RATIO))


def surrogate(log_prob: Array, old_log_prob: Array, advantage: Array, mask: Array | None = None) -> Array:
    """mean(rho * A), rho = pi(a|s) / pi_old(a|s): the advantage over pi_old (Schulman et al. 2015, arXiv 1502.05477).

    No gradient flows through ``old_log_prob`` and ``advantage``. Returns a scalar, the mean over the mask's rows.
    """
    check_same_shape(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage, mask=mask)
    ratio = importance_ratio(_real(log_prob, mask), jax.lax.stop_gradient(_real(old_log_prob, mask)))
    return masked_mean(ratio * jax.lax.stop_gradient(_real(advantage, mask)), mask)


def clipped_surrogate(
    log_prob: Array, old_log_prob: Array, advantage: Array, clip_eps: Scalar, mask: Array | None = None
) -> Array:
    """PPO's objective (Schulman et al. 2017, arXiv 1707.06347, eq. 7).

        mean(min(rho * A, clip(rho, 1 - clip_eps, 1 + clip_eps) * A)),    rho = pi(a|s) / pi_old(a|s)

    No gradient flows through ``old_log_prob`` and ``advantage``. Returns a scalar, the mean over the mask's rows.
    """
    check_same_shape(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage, mask=mask)
    advantage = jax.lax.stop_gradient(_real(advantage, mask))
    ratio = importance_ratio(_real(log_prob, mask), jax.lax.stop_gradient(_real(old_log_prob, mask)))
    clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
    return masked_mean(jnp.minimum(ratio * advantage, clipped * advantage), mask)


def approx_kl(log_prob: Array, old_log_prob: Array, mask: Array | None = None) -> Array:
    """KL(pi_old || pi) from samples of pi_old, by the estimator k3 (Schulman 2020): mean(rho - 1 - log rho)."""
    check_same_shape(log_prob=log_prob, old_log_prob=old_log_prob, mask=mask)
    log_ratio = jnp.clip(log_prob - old_log_prob, -MAX_LOG_RATIO, MAX_LOG_RATIO)
    return masked_mean(jnp.expm1(log_ratio) - log_ratio, mask)


def clip_fraction(log_prob: Array, old_log_prob: Array, clip_eps: Scalar, mask: Array | None = None) -> Array:
    """The share of rows with a ratio outside [1 - clip_eps, 1 + clip_eps] (Schulman et al. 2017, arXiv 1707.06347)."""
    check_same_shape(log_prob=log_prob, old_log_prob=old_log_prob, mask=mask)
    outside = jnp.abs(importance_ratio(log_prob, old_log_prob) - 1) > clip_eps
    return masked_mean(outside.astype(log_prob.dtype), mask)


def value_error(value: Array, value_target: Array, mask: Array | None = None) -> Array:
    """Half the mean squared error of the value function (Sutton & Barto 2018, eq. 9.1), a scalar.

    No gradient flows through the target.
    """
    check_same_shape(value=value, value_target=value_target, mask=mask)
    return 0.5 * masked_mean(jnp.square(_real(value - jax.lax.stop_gradient(value_target), mask)), mask)


def clipped_value_error(
    value: Array, old_value: Array, value_target: Array, clip_eps: Scalar, mask: Array | None = None
) -> Array:
    """PPO's clipped value error (Engstrom et al. 2020, arXiv 2005.12729), a scalar.

    mean(max((v - target)^2, (v_old + clip(v - v_old, -clip_eps, clip_eps) - target)^2)) / 2
    """
    check_same_shape(value=value, old_value=old_value, value_target=value_target, mask=mask)
    value, old_value = _real(value, mask), _real(old_value, mask)
    target = jax.lax.stop_gradient(_real(value_target, mask))
    clipped = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
    return 0.5 * masked_mean(jnp.maximum(jnp.square(value - target), jnp.square(clipped - target)), mask)


def explained_variance(value: Array, value_target: Array, mask: Array | None = None) -> Array:
    """1 - Var(target - value) / Var(target), a scalar: 1 is a perfect value function, 0 as good as a constant.

    Also 0 where all targets are equal and there is nothing to explain.
    """
    check_same_shape(value=value, value_target=value_target, mask=mask)
    residual = value_target - value
    unexplained = masked_mean(jnp.square(residual - masked_mean(residual, mask)), mask)
    total = masked_mean(jnp.square(value_target - masked_mean(value_target, mask)), mask)
    tiny = jnp.finfo(value.dtype).tiny
    return jnp.where(total > tiny, 1 - unexplained / jnp.maximum(total, tiny), 0)
