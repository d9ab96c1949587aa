"""Decision problems small enough to be solved exactly, to check estimators and optimizers.

J = E[sum_t gamma^t r_t] is a differentiable function of the policy, in JAX's default float type: in double precision
under ``jax.enable_x64(True)``. With a horizon, a policy may depend on time and have a leading axis, ``[horizon, ...]``.
T below is the horizon, or 1 without one.
"""

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd.errors import UsageError

T = TypeVar("T")

Numbers: TypeAlias = Any  # as an argument anything array-like; as a field a NumPy array
F = TypeVar("F", bound=Callable[..., Any])


def precise(function: F) -> F:
    """Compute matrix products in full precision, also on accelerators."""
    return jax.default_matmul_precision("highest")(function)


def floats(x: Any) -> Array:
    """``x`` as an array of JAX's default float type."""
    return jnp.asarray(x, float)


class Optimum(NamedTuple):
    """The best policy, the values of the states, and J, in double precision: see the ``optimum`` methods."""

    policy: np.ndarray
    value: np.ndarray
    objective: float


class Problem:
    """The common base of both kinds: discounted moments of the state, each linear in the one before, determine J."""

    gamma: float
    horizon: int | None

    def _template(self) -> Any:
        """Anything shaped like a policy for one step."""
        raise NotImplementedError

    def _state_moments(self, policy: Any) -> Array:
        """The state's discounted moments in each step, ``[T, ...]``; without a horizon their sum over all steps."""
        raise NotImplementedError

    def _expected_reward(self, moments: Array, policy: Any) -> Array:
        """The expected reward of one step."""
        raise NotImplementedError

    def _whitened(self, moments: Array, policy: Any, x: Any) -> Any:
        """For one step, a linear function of ``x``, which is shaped like a policy.

        With X its derivative by the parameters, summed over steps, the Fisher matrix F is X^T X.
        """
        raise NotImplementedError

    def _over_time(self, policy: Any) -> Any:
        """The parts of ``policy`` as ``[T, ...]``."""

        def part(template: np.ndarray, given: Array) -> Array:
            array, whole = floats(given), (self.horizon or 1, *template.shape)
            if array.shape not in (template.shape, whole):
                raise UsageError(f"the policy has the shape {array.shape}; allowed: {template.shape} or {whole}.")
            return jnp.broadcast_to(array, whole)

        return jax.tree.map(part, self._template(), policy)

    @precise
    def objective(self, policy: Any) -> Array:
        """J, a scalar.

        Raises:
            UsageError: here and in all methods, for a policy of another shape.
        """
        policy = self._over_time(policy)
        return jnp.sum(jax.vmap(self._expected_reward)(self._state_moments(policy), policy))

    @precise
    def gradient(self, policy_of: Callable[[T], Any], params: T) -> T:
        """The gradient of J(policy_of(params)), like ``params``, which is any pytree of float arrays."""
        return jax.grad(lambda params: self.objective(policy_of(params)))(params)

    @precise
    def natural_gradient(self, policy_of: Callable[[T], Any], params: T) -> T:
        """F^+ times the gradient, like ``params`` (Amari 1998; Kakade 2001); F^+ is the pseudo-inverse of

            F = sum_t gamma^t E[grad log pi(a_t|s_t) grad log pi(a_t|s_t)^T]

        The visits are not normalized: for a table of logits the result is the advantage, up to a constant per state.
        """
        flat, unravel = ravel_pytree(params)
        policy = self._over_time(policy_of(params))
        moments = self._state_moments(policy)

        def whitened(flat: Array) -> Array:
            x = self._over_time(policy_of(unravel(flat)))
            return ravel_pytree(jax.vmap(self._whitened)(moments, policy, x))[0]

        # Inverting X instead of X^T X keeps precision for states with few visits. The tolerance drops directions with
        # less weight in F than the gradient's rounding error, such as actions that are never taken: they would
        # multiply that error.
        inverse = jnp.linalg.pinv(jax.jacfwd(whitened)(flat), rtol=float(jnp.finfo(flat.dtype).eps) ** 0.5)
        gradient = ravel_pytree(self.gradient(policy_of, params))[0].astype(moments.dtype)
        return unravel((inverse @ (inverse.T @ gradient)).astype(flat.dtype))


def propagate(step: Callable[[Array, Any], Array], start: Array, policy: Any, horizon: int | None) -> Array:
    """x_0 = start, x_{t+1} = step(x_t, policy_t), linear in x: ``[T, ...]``; without a horizon the sum over all t."""
    if horizon is not None:
        return jax.lax.scan(lambda x, policy: (step(x, policy), x), start, policy)[1]
    matrix = jax.jacfwd(step)(start, jax.tree.map(lambda x: x[0], policy)).reshape(start.size, start.size)
    return jnp.linalg.solve(jnp.eye(start.size) - matrix, start.ravel()).reshape(1, *start.shape)


def own_value(problem: Any, name: str, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """Replace a field by a checked copy of it, as a NumPy array."""
    array = np.array(getattr(problem, name), dtype)
    if array.shape != shape:
        raise UsageError(f"{name} has the shape {array.shape}; allowed: {shape}.")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} is not finite everywhere; allowed: finite numbers.")
    object.__setattr__(problem, name, array)
    return array


def check_time(gamma: float, horizon: int | None) -> None:
    """Check the discount and the number of steps of an episode.

    Raises:
        UsageError: if one is out of range.
    """
    if not 0 <= gamma <= 1:
        raise UsageError(f"gamma is {gamma}; allowed: within [0, 1].")
    if horizon is not None and not (isinstance(horizon, numbers.Integral) and horizon >= 1):
        raise UsageError(f"horizon is {horizon}; allowed: a whole number from 1, or None.")
