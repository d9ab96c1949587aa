"""The natural gradient without matrices: Fisher-vector products, conjugate gradient, a line search by measured KL.

A policy is a function of parameters and rows, ``policy(params, rows)``; every leaf of ``rows`` has the rows as its
leading axis. The metric is that of Amari (1998) and Kakade (2001). Its inverse is computed as in Schulman et al. 2015
(arXiv 1502.05477, appendix C).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd.ascent.trees import apply_step
from rlgd.maths import blocks, objectives
from rlgd.maths.shapes import check_like
from rlgd.pytrees import Scalar

T = TypeVar("T")
PolicyFunction: TypeAlias = Callable[[Any, Any], Any]  # parameters and rows to a distribution


def mean_kl(policy: PolicyFunction, old: Any, new: Any, rows: Any, mask: Array | None = None) -> Array:
    """KL(pi_old || pi_new) in nats, by its closed form, the mean over the mask's rows; a scalar.

    Schulman et al. 2015, arXiv 1502.05477, eq. 12.

    Raises:
        ValueError: if ``new`` is not like ``old``, or leading axes differ.
    """
    check_like("new", new, old)

    def of_block(block: tuple[Any, Array | None], share: Array, number: Array) -> Array:
        return share * _kl_of_block(policy, old, new, block)

    return blocks.weighted_sum(of_block, (rows, mask), mask)


def fisher_product(
    policy: PolicyFunction,
    params: T,
    rows: Any,
    mask: Array | None = None,
    damping: Scalar = 0.0,
) -> Callable[[T], T]:
    """The linear function v -> (F + damping I) v, of trees like ``params``.

        F = E[grad log pi(a|s) grad log pi(a|s)^T], a drawn from pi, s the mask's rows

    At the old parameters F is the Hessian of ``mean_kl``. The product with v is the derivative of the gradient along v:
    forward over reverse (Pearlmutter 1994). The gradient is linearized once for all products.

    Raises:
        ValueError: if leading axes differ.
    """

    def of_block(new: T, block: tuple[Any, Array | None], share: Array) -> T:
        return jax.grad(lambda new: share * _kl_of_block(policy, params, new, block))(new)

    def gradient(new: T) -> T:
        return blocks.weighted_sum(lambda block, share, _: of_block(new, block, share), (rows, mask), mask)

    _, derivative = jax.linearize(gradient, params)

    def product(v: T) -> T:
        return jax.tree.map(lambda f, x: f + jnp.asarray(damping, x.dtype) * x, derivative(v), v)

    return product


def _kl_of_block(policy: PolicyFunction, old: Any, new: Any, block: tuple[Any, Array | None]) -> Array:
    rows, mask = block
    return objectives.masked_mean(policy(old, rows).kl(policy(new, rows)), mask)


class Solution(NamedTuple):
    """The result of conjugate gradient for A x = b.

    Attributes:
        x: like b.
        curvature: x^T A x, a scalar.
        residual: abs(b - A x) / abs(b), by the recursion, without a further product; 0 where b is 0.
        iterations: the number of steps, int32.
    """

    x: Any
    curvature: Array
    residual: Array
    iterations: Array


def conjugate_gradient(product: Callable[[T], T], b: T, iters: int) -> Solution:
    """Solve A x = b from x = 0, for a positive (semi)definite A: at most ``iters`` steps (Hestenes & Stiefel 1952).

    It ends earlier once the residual is as small as rounding, or at a direction with a curvature as small as rounding,
    along which x would be noise. Where b or A is not finite, the residual is not finite.

    Raises:
        ValueError: if ``iters`` is below 0.
    """
    if iters < 0:
        raise ValueError(f"iters is {iters}; allowed: at least 0.")
    flat, unravel = ravel_pytree(b)
    eps = jnp.finfo(flat.dtype).eps

    def flat_product(v: Array) -> Array:
        return ravel_pytree(product(unravel(v)))[0]

    def unfinished(carry: Carry) -> Array:
        return (carry.number < iters) & (carry.square > (100 * eps) ** 2 * jnp.vdot(flat, flat))

    def step(carry: Carry) -> Carry:
        number, x, residual, direction, square, steepest = carry
        image = flat_product(direction)
        curvature, length = jnp.vdot(direction, image), jnp.vdot(direction, direction)
        steepest = jnp.maximum(steepest, curvature / length)
        level = curvature <= 10 * eps * steepest * length
        step = jnp.where(level, 0, square / curvature)
        x, residual = x + step * direction, residual - step * image
        new_square = jnp.where(level, 0, jnp.vdot(residual, residual))
        return Carry(number + 1, x, residual, residual + new_square / square * direction, new_square, steepest)

    square = jnp.vdot(flat, flat)
    start = Carry(jnp.zeros((), jnp.int32), jnp.zeros_like(flat), flat, flat, square, jnp.zeros_like(square))
    last = jax.lax.while_loop(unfinished, step, start)
    missing = jnp.linalg.norm(last.residual) / jnp.where(square > 0, jnp.sqrt(square), 1)
    return Solution(unravel(last.x), jnp.vdot(last.x, flat - last.residual), missing, last.number)


class Carry(NamedTuple):
    """Between the steps of conjugate gradient: ``square`` is |residual|^2, ``steepest`` the largest curvature yet."""

    number: Array
    x: Array
    residual: Array
    direction: Array
    square: Array
    steepest: Array


class Search(NamedTuple):
    """The result of a line search; scalars, except ``params``.

    Attributes:
        params: after the accepted step; without one, the same bits as at the start.
        kl: measured at the accepted step; 0 without one.
        gain: of the objective at the accepted step; 0 without one.
        backtracks: how often the step was shortened, int32.
        accepted: bool, whether a step was accepted.
    """

    params: Any
    kl: Array
    gain: Array
    backtracks: Array
    accepted: Array


def line_search(
    params: Any,
    step: Any,
    measure: Callable[[Any], tuple[Array, Array]],
    max_kl: Scalar,
    backtrack_coeff: Scalar,
    max_backtracks: int,
    least_gain: Scalar = -jnp.inf,
) -> Search:
    """The first of params + backtrack_coeff^k step, k = 0 to ``max_backtracks``, that lies in the trust region.

    Schulman et al. 2015, arXiv 1502.05477, appendix C.

    Args:
        params: the start.
        step: like ``params``.
        measure: from parameters to their KL from ``params`` and the gain of the objective, two scalars.
        max_kl: the bound of the KL, inclusive.
        backtrack_coeff: factor of the step at each try, below 1.
        max_backtracks: how often the step may be shortened.
        least_gain: the gain must be larger than this; a step that is not finite is never accepted.

    Raises:
        ValueError: if ``step`` is not like ``params``.
    """
    check_like("step", step, params)

    def attempt(number: Array, length: Array) -> tuple[Search, Array]:
        candidate = apply_step(params, jax.tree.map(lambda x: length.astype(x.dtype) * x, step))
        kl, gain = measure(candidate)
        finite = [jnp.all(jnp.isfinite(x)) for x in (*jax.tree.leaves(candidate), gain)]
        accepted = (kl <= max_kl) & (gain > least_gain) & jnp.all(jnp.stack(finite))
        made = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), (candidate, kl, gain), rejected)
        search = Search(made[0], made[1], made[2], number, accepted)
        return search, length * jnp.asarray(backtrack_coeff, length.dtype)

    def unfinished(carry: tuple[Search, Array]) -> Array:
        search, _ = carry
        return ~search.accepted & (search.backtracks < max_backtracks)

    rejected = (params, *jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(measure, params)))
    first = attempt(jnp.zeros((), jnp.int32), jnp.ones(()))
    return jax.lax.while_loop(unfinished, lambda carry: attempt(carry[0].backtracks + 1, carry[1]), first)[0]
