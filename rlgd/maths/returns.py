"""Returns and advantages: one function, one equation. Time is the leading axis, any batch axes follow it.

``discount`` is ``gamma * (1 - terminated)``: termination is data, not a branch. Truncation never enters the discount.
It cuts the lambda trace, by a ``gae_lambda`` of 0 in its row, and ``next_value`` is the value of the true next
observation there.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.maths.recurrences import linear_recurrence
from rlgd.maths.shapes import check_shape, check_time_major
from rlgd.pytrees import Scalar


def _per_row(name: str, x: Scalar, like: Array) -> Array:
    """A number, or one for each row, as ``[T, ...]``."""
    array = jnp.asarray(x, like.dtype)
    if array.ndim:
        check_time_major(name, array, like)
    return jnp.broadcast_to(array, like.shape)


def lambda_returns(reward: Array, discount: Array, next_value: Array, gae_lambda: Scalar) -> Array:
    """TD(lambda) returns (Sutton & Barto 2018, eq. 12.18), computed backwards:

        G_t = r_t + discount_t * ((1 - lambda_t) * v_{t+1} + lambda_t * G_{t+1}),    G_T = v_T

    Args:
        reward: ``[T, ...]`` float.
        discount: ``[T, ...]`` float, gamma * (1 - terminated).
        next_value: ``[T, ...]`` float, the value of the true next observation of each row.
        gae_lambda: a scalar, or ``[T, ...]``; 0 cuts the trace after a row.

    Returns:
        ``[T, ...]`` float.

    Raises:
        ValueError: if the shapes differ.
    """
    check_time_major("discount", discount, reward)
    check_time_major("next_value", next_value, reward)
    trace = _per_row("gae_lambda", gae_lambda, reward)

    def step(following: Array, row: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, discount, value, weight = row
        result = reward + discount * ((1 - weight) * value + weight * following)
        return result, result

    return jax.lax.scan(step, next_value[-1], (reward, discount, next_value, trace), reverse=True)[1]


def discounted_returns(reward: Array, discount: Array, bootstrap_value: Array) -> Array:
    """Monte-Carlo returns (Sutton & Barto 2018, eq. 3.9), G_t = r_t + discount_t * G_{t+1}, G_T = bootstrap_value.

    Args:
        reward, discount: ``[T, ...]`` float.
        bootstrap_value: ``[...]`` float, the value of the state after the last row.

    Returns:
        ``[T, ...]`` float.

    Raises:
        ValueError: if the shapes differ.
    """
    check_time_major("discount", discount, reward)
    check_shape("bootstrap_value", bootstrap_value, reward.shape[1:])
    return linear_recurrence(discount, reward, bootstrap_value, reverse=True)


def n_step_returns(reward: Array, discount: Array, next_value: Array, n: int) -> Array:
    """n-step returns (Sutton & Barto 2018, eq. 7.1); near the end they are shorter and bootstrap after the last row.

    They ignore truncation: ``lambda_returns`` can cut the trace, these cannot.

        G_t = r_t + discount_t * (r_{t+1} + ... + discount_{t+n-1} * v_{t+n})

    Args:
        reward, discount, next_value: ``[T, ...]`` float, as for ``lambda_returns``.
        n: the number of rewards in each return, at least 1.

    Returns:
        ``[T, ...]`` float.

    Raises:
        ValueError: if the shapes differ or ``n`` is below 1.
    """
    check_time_major("discount", discount, reward)
    check_time_major("next_value", next_value, reward)
    if n < 1:
        raise ValueError(f"n is {n}; allowed: at least 1.")
    result = reward + discount * next_value
    for _ in range(min(n, reward.shape[0]) - 1):
        longer = reward[:-1] + discount[:-1] * result[1:]
        result = jnp.concatenate([longer, result[-1:]])
    return result


GAE_CORRECTIONS = ("off", "windows", "ends")


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    gamma: Scalar,
    gae_lambda: Scalar,
    correction: str = "off",
) -> tuple[Array, Array]:
    """Generalized advantage estimation (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

        A_t = delta_t + gamma * lambda * (1 - done_t) * A_{t+1},
        delta_t = r_t + gamma * (1 - terminated_t) * v(s'_t) - v(s_t)

    Termination ends the return; truncation bootstraps from ``next_value`` and cuts the trace; where both are set,
    termination wins.

    It averages the advantages over k = 1, 2, ... steps with the weights (1 - lambda) lambda^(k - 1). Where only K
    steps are left, the last one has the weight of all that are longer, lambda^(K - 1). A correction gives each its
    share instead, (1 - lambda) lambda^(k - 1) / (1 - lambda^K) (Doering et al. 2026, arXiv 2602.03386):

        A_t = (delta_t S_t + gamma lambda (1 - done_t) A_{t+1} S_{t+1}) / S_t,    S_t = 1 + lambda + ... + lambda^(K-1)

    Args:
        reward, value, next_value: ``[T, ...]`` float; ``next_value`` is the value of the true next observation.
        terminated, truncated: ``[T, ...]`` bool.
        gamma, gae_lambda: numbers in [0, 1].
        correction: "off"; "windows", where rows end while the return goes on: at the last one, and at truncations;
            "ends", at terminations too, where the longer advantages exist, and equal that over K steps.

    Returns:
        ``(advantage, value_target)``, each ``[T, ...]`` float; value_target = advantage + value.

    Raises:
        ValueError: if the shapes differ.
    """
    for name, x in {"value": value, "terminated": terminated, "truncated": truncated}.items():
        check_time_major(name, x, reward)
    check_time_major("next_value", next_value, reward)
    delta = reward + gamma * (1 - terminated.astype(reward.dtype)) * next_value - value
    goes_on, zero = 1 - (terminated | truncated).astype(reward.dtype), jnp.zeros_like(value[0])
    weight = gamma * gae_lambda * goes_on
    if correction == "off":
        advantage = discounted_returns(delta, weight, zero)
        return advantage, advantage + value
    share = discounted_returns(jnp.ones_like(reward), gae_lambda * goes_on, zero)
    if correction == "windows":
        terminates = discounted_returns(terminated.astype(reward.dtype), goes_on, zero) > 0
        share = jnp.where(terminates, 1, share)  # a constant one leaves the weights as they are
    advantage = discounted_returns(delta * share, weight, zero) / share
    return advantage, advantage + value


def vtrace(
    reward: Array,
    value: Array,
    next_value: Array,
    discount: Array,
    ratio: Array,
    gae_lambda: Scalar = 1.0,
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
) -> tuple[Array, Array]:
    """V-trace (Espeholt et al. 2018, arXiv 1802.01561, eq. 1), with lambda as in its remark 2.

        v_t = V_t + rho_t * delta_t + discount_t * lambda_t * c_t * (v_{t+1} - V(s'_t))

    Args:
        reward, value, next_value, discount: ``[T, ...]`` float.
        ratio: ``[T, ...]`` float, target policy over behaviour policy, pi(a|s) / mu(a|s).
        gae_lambda: a scalar, or ``[T, ...]``; 0 cuts the trace after a row.
        clip_rho, clip_c: the truncation levels rho-bar and c-bar.

    Returns:
        ``(advantage, value_target)``, each ``[T, ...]``: the policy-gradient advantage
        rho_t * (r_t + discount_t * v_{t+1} - V_t), and v_t.

    Raises:
        ValueError: if the shapes differ.
    """
    for name, x in {"value": value, "next_value": next_value, "discount": discount, "ratio": ratio}.items():
        check_time_major(name, x, reward)
    rho = jnp.minimum(ratio, clip_rho)
    trace = _per_row("gae_lambda", gae_lambda, reward)
    delta = rho * (reward + discount * next_value - value)
    weight = discount * trace * jnp.minimum(ratio, clip_c)
    excess = discounted_returns(delta, weight, jnp.zeros_like(value[0]))
    following = jnp.concatenate([excess[1:], jnp.zeros_like(excess[:1])])
    advantage = rho * (reward + discount * (next_value + trace * following) - value)
    return advantage, value + excess
