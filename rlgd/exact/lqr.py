"""Linear-quadratic control with a linear Gaussian policy."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box
from jax import Array

from rlgd.errors import UsageError
from rlgd.exact.problem import Numbers, Optimum, Problem, check_time, floats, own_value, precise, propagate

DOUBLINGS = 60


class LinearGaussian(NamedTuple):
    """u = gain x + offset + exp(log_std) * N(0, 1): ``gain [m, n]``, ``offset [m]``, ``log_std [m]``."""

    gain: Array
    offset: Array
    log_std: Array

    @property
    def affine(self) -> Array:
        """``[m, n + 1]``, the matrix from (x, 1) to the mean of u."""
        return jnp.concatenate([self.gain, self.offset[:, None]], axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class LQR(Problem):
    """The linear-quadratic regulator: x' = a x + b u + N(0, noise), reward -(x^T q x + u^T r u).

    A policy is a ``LinearGaussian``; a ``log_std`` of -inf is allowed in ``objective``. Without a horizon, J is -inf
    and its gradients are NaN if sqrt(gamma) (a + b gain) has an eigenvalue outside the open unit disc, even if the
    growing part of the state costs nothing.

    Attributes:
        a, b: the dynamics, ``[n, n]`` and ``[n, m]``.
        q, r: the costs, ``[n, n]`` positive semidefinite and ``[m, m]`` positive definite.
        noise: ``[n, n]``, positive semidefinite.
        initial_mean, initial_cov: ``[n]`` and ``[n, n]``: x_0 ~ N(initial_mean, initial_cov).
        gamma: the discount, in [0, 1]; below 1 without a horizon.
        horizon: the number of steps of an episode; None: no limit.

    Raises:
        UsageError: if the arrays do not describe such a problem.
    """

    a: Numbers
    b: Numbers
    q: Numbers
    r: Numbers
    noise: Numbers
    initial_mean: Numbers
    initial_cov: Numbers
    gamma: float
    horizon: int | None = None

    def __post_init__(self) -> None:
        if len(np.shape(self.b)) != 2 or 0 in np.shape(self.b):
            raise UsageError(f"b has the shape {np.shape(self.b)}; allowed: [n, m], x' = a x + b u + w.")
        n, m = np.shape(self.b)
        for name, shape in {"a": (n, n), "b": (n, m), "initial_mean": (n,)}.items():
            own_value(self, name, shape)
        for name, size in {"q": n, "r": m, "noise": n, "initial_cov": n}.items():
            matrix = own_value(self, name, (size, size))
            least, scale = np.linalg.eigvalsh(matrix)[0], np.abs(matrix).max()
            if not np.allclose(matrix, matrix.T, rtol=0, atol=1e-6 * scale) or least < -1e-6 * scale:
                raise UsageError(f"{name} is {matrix.tolist()}; allowed: symmetric and positive semidefinite.")
            if name == "r" and least <= 0:
                raise UsageError(f"r has the eigenvalue {least:.7g}; allowed: positive definite.")
        check_time(self.gamma, self.horizon)
        if self.gamma == 1 and self.horizon is None:
            raise UsageError("gamma is 1 without a horizon; allowed: gamma below 1, or a horizon.")

    def _template(self) -> LinearGaussian:
        return LinearGaussian(self.b.T, self.b[0], self.b[0])

    @property
    def _second_moment(self) -> np.ndarray:
        """E[x_0 x_0^T]."""
        return self.initial_cov + np.outer(self.initial_mean, self.initial_mean)

    def _state_moments(self, policy: LinearGaussian) -> Array:
        """gamma^t E[z z^T] with z = (x, 1), ``[T, n + 1, n + 1]``; gamma^t is the last element."""
        a, b, noise, mean = map(floats, (self.a, self.b, self.noise, self.initial_mean[:, None]))
        start = jnp.block([[floats(self._second_moment), mean], [mean.T, jnp.ones((1, 1))]])

        def step(moments: Array, policy: LinearGaussian) -> Array:
            closed = jnp.pad(a, ((0, 0), (0, 1))) + b @ policy.affine
            closed = jnp.concatenate([closed, jnp.eye(1, len(a) + 1, len(a))])
            spread = noise + (b * jnp.exp(2 * policy.log_std)[None]) @ b.T
            return self.gamma * (closed @ moments @ closed.T + moments[-1, -1] * jnp.pad(spread, (0, 1)))

        moments = propagate(step, start, policy, self.horizon)
        if self.horizon is not None:
            return moments
        # The linear equation has a solution even if the sum diverges. x' = C x is stable if and only if the solution
        # of X = I + C X C^T is positive definite (Stein 1952).
        closed = self.gamma**0.5 * (a + b @ jax.lax.stop_gradient(policy.gain[0]))
        stein = propagate(lambda x, c: c @ x @ c.T, jnp.eye(len(a)), closed[None], None)[0]
        return moments * jnp.where(jnp.linalg.eigvalsh(stein)[0] > 0, 1, jnp.nan)

    def _expected_reward(self, moments: Array, policy: LinearGaussian) -> Array:
        of_action = policy.affine @ moments @ policy.affine.T + moments[-1, -1] * jnp.diag(jnp.exp(2 * policy.log_std))
        cost = jnp.sum(floats(self.q) * moments[:-1, :-1]) + jnp.sum(floats(self.r) * of_action)
        return jnp.where(jnp.isnan(cost), -jnp.inf, -cost)

    def _whitened(self, moments: Array, policy: LinearGaussian, x: LinearGaussian) -> Any:
        precision = jnp.exp(-policy.log_std)[:, None]
        return precision * (x.affine @ _root(moments)), jnp.sqrt(2 * moments[-1, -1]) * x.log_std

    def optimum(self) -> Optimum:
        """The optimal policy u = K x, which is deterministic, from the Riccati equation.

        Without a horizon the equation is solved by doubling (Anderson 1978), else backwards in time.

        Returns:
            ``policy``: K ``[m, n]``, with a horizon ``[horizon, m, n]``; ``value``: P ``[n, n]``, at the beginning of
            the episode, by which V*(x) = -x^T P x - c, where c comes from the noise alone; ``objective``: J*.

        Raises:
            UsageError: if no gain, or not the best one, makes sqrt(gamma) (a + b K) stable.
        """
        return self._by_doubling() if self.horizon is None else self._backwards(self.horizon)

    @property
    def _undiscounted(self) -> tuple[np.ndarray, np.ndarray]:
        """The dynamics a, b of an undiscounted problem with the same J."""
        return np.sqrt(self.gamma) * self.a, np.sqrt(self.gamma) * self.b

    def _best_gain(self, p: np.ndarray) -> np.ndarray:
        a, b = self._undiscounted
        return -np.linalg.solve(self.r + b.T @ p @ b, b.T @ p @ a)

    def _optimum(self, gain: np.ndarray, p: np.ndarray, constant: float) -> Optimum:
        return Optimum(gain, p, -float(np.sum(p * self._second_moment) + constant))

    def _backwards(self, horizon: int) -> Optimum:
        a, b = self._undiscounted
        p, constant, gains = np.zeros_like(self.q), 0.0, []
        for _ in range(horizon):
            constant = self.gamma * (constant + np.sum(p * self.noise))
            gains.append(self._best_gain(p))
            p = self.q + a.T @ p @ (a + b @ gains[-1])
        return self._optimum(np.stack(gains[::-1]), p, constant)

    def _by_doubling(self) -> Optimum:
        a, b = self._undiscounted
        p, f, g = self.q, a, b @ np.linalg.solve(self.r, b.T)  # p is for one step, then two, four and so on
        for _ in range(DOUBLINGS):
            inverse = np.linalg.inv(np.eye(len(a)) + g @ p)
            change = f.T @ p @ inverse @ f
            p, f, g = p + change, f @ inverse @ f, g + f @ inverse @ g @ f.T
            # f maps the state to the state after the same number of steps.
            if np.abs(change).max() <= 1e-15 * np.abs(p).max() or np.abs(f).max() > 1e9:
                break
        gain = self._best_gain(p)
        if (radius := np.abs(np.linalg.eigvals(a + b @ gain)).max()) >= 1 - 1e-12:
            raise UsageError(
                f"the best gain leaves sqrt(gamma) (a + b K) with an eigenvalue of size {radius:.7g}; allowed: below "
                "1. Every growing part of the state must be reachable through b, and must cost something."
            )
        return self._optimum(gain, p, self.gamma / (1 - self.gamma) * np.sum(p * self.noise))

    @functools.cached_property
    def env(self) -> "LQREnv":
        """The same problem for agents; see ``TabularMDP.env``. Episodes end only with a time limit."""
        return LQREnv(self)


class LQREnv(FuncEnv[Array, Array, Array, Array, Array, Any, Any]):
    """An ``LQR`` as an environment. The state is x, and also the observation; states and actions are unbounded."""

    def __init__(self, lqr: LQR) -> None:
        super().__init__()
        self.lqr = lqr
        self.observation_space, self.action_space = (Box(-np.inf, np.inf, (size,)) for size in lqr.b.shape)
        self.initial_root, self.noise_root = _root(lqr.initial_cov, np), _root(lqr.noise, np)

    @precise
    def initial(self, rng: Array, params: Any = None) -> Array:
        normal = jax.random.normal(rng, self.lqr.initial_mean.shape)
        return floats(self.lqr.initial_mean) + floats(self.initial_root) @ normal

    @precise
    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        noise = floats(self.noise_root) @ jax.random.normal(rng, state.shape)
        return floats(self.lqr.a) @ state + floats(self.lqr.b) @ floats(action) + noise

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state

    @precise
    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        action = floats(action)
        return -(state @ floats(self.lqr.q) @ state + action @ floats(self.lqr.r) @ action)

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.zeros((), bool)


def _root(matrix: Any, xp: Any = jnp) -> Any:
    """L with L L^T = ``matrix [n, n]``, positive semidefinite; eigenvalues within rounding of 0 count as 0."""
    size, vectors = xp.linalg.eigh(matrix)
    rounding = 10 * len(matrix) * xp.finfo(matrix.dtype).eps * size[-1]
    return vectors * xp.sqrt(xp.where(size > rounding, size, 0))[None]
