"""Decision problems small enough to be solved exactly, with which estimators and optimizers are checked.

J = E[sum_t gamma^t r_t] is a differentiable function of the policy, in JAX's default float type: in double precision
under ``jax.enable_x64(True)``. With a horizon a policy may depend on time: a leading axis, ``[horizon, ...]``. T below
is the horizon, or 1 without one.
"""

import dataclasses
import functools
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Discrete
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd.distributions import Categorical
from rlgd.errors import UsageError

Numbers: TypeAlias = Any  # given: anything array-like; kept: a NumPy array
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

DOUBLINGS = 60


def _precise(function: F) -> F:
    """Without rounding the factors of products to fewer bits, as accelerators do."""
    return jax.default_matmul_precision("highest")(function)


def _floats(x: Any) -> Array:
    return jnp.asarray(x, float)


class Optimum(NamedTuple):
    """The best policy, what each state is worth, and J, in double precision: see the ``optimum`` methods."""

    policy: np.ndarray
    value: np.ndarray
    objective: float


class _Problem:
    """What both kinds have in common: the state's discounted moments follow one another linearly, and make up J."""

    gamma: float
    horizon: int | None

    def _template(self) -> Any:
        """Anything shaped like a policy for one step."""
        raise NotImplementedError

    def _moments(self, policy: Any) -> Array:
        """``[T, ...]``: in each step, or without a horizon their sum over all steps."""
        raise NotImplementedError

    def _expected_reward(self, moments: Array, policy: Any) -> Array:
        """Of one step."""
        raise NotImplementedError

    def _whitened(self, moments: Array, policy: Any, x: Any) -> Any:
        """Of one step, a linear function of x, like a policy; with X its derivative by parameters, F is X^T X."""
        raise NotImplementedError

    def _over_time(self, policy: Any) -> Any:
        """The parts of ``policy`` as ``[T, ...]``."""

        def part(template: np.ndarray, given: Array) -> Array:
            array, whole = _floats(given), (self.horizon or 1, *template.shape)
            if array.shape not in (template.shape, whole):
                raise UsageError(f"the policy has the shape {array.shape}; allowed: {template.shape} or {whole}.")
            return jnp.broadcast_to(array, whole)

        return jax.tree.map(part, self._template(), policy)

    @_precise
    def objective(self, policy: Any) -> Array:
        """J, a scalar.

        Raises:
            UsageError: here and in all methods, for a policy of another shape.
        """
        policy = self._over_time(policy)
        return jnp.sum(jax.vmap(self._expected_reward)(self._moments(policy), policy))

    @_precise
    def gradient(self, policy_of: Callable[[T], Any], params: T) -> T:
        """The gradient of J(policy_of(params)), like ``params``, which is any pytree of float arrays."""
        return jax.grad(lambda params: self.objective(policy_of(params)))(params)

    @_precise
    def natural_gradient(self, policy_of: Callable[[T], Any], params: T) -> T:
        """F^+ times the gradient, like ``params`` (Amari 1998; Kakade 2001); F^+ is the pseudo-inverse of

            F = sum_t gamma^t E[grad log pi(a_t|s_t) grad log pi(a_t|s_t)^T]

        The visits are not normalized: of a table of logits it is the advantage, up to a constant in each state.
        """
        flat, unravel = ravel_pytree(params)
        policy = self._over_time(policy_of(params))
        moments = self._moments(policy)

        def whitened(flat: Array) -> Array:
            x = self._over_time(policy_of(unravel(flat)))
            return ravel_pytree(jax.vmap(self._whitened)(moments, policy, x))[0]

        # X itself is inverted, not X^T X: what few visits tell of is not lost in rounding. Directions whose part in F
        # is below the rounding of the gradient, as those of actions that are never taken, would multiply it.
        inverse = jnp.linalg.pinv(jax.jacfwd(whitened)(flat), rtol=float(jnp.finfo(flat.dtype).eps) ** 0.5)
        gradient = ravel_pytree(self.gradient(policy_of, params))[0].astype(moments.dtype)
        return unravel((inverse @ (inverse.T @ gradient)).astype(flat.dtype))


@dataclasses.dataclass(frozen=True, eq=False)
class TabularMDP(_Problem):
    """A Markov decision process with S states and A actions. A policy is the table pi(a|s), ``[S, A]``.

    Attributes:
        transition: ``[S, A, S]``, P(s'|s, a).
        reward: ``[S, A]``.
        initial: ``[S]``, P(s_0); 0 in terminal states.
        gamma: the discount, in [0, 1].
        terminal: ``[S]`` bool; entering such a state ends the episode. None: no state is terminal. What is given as its
            ``transition`` and ``reward`` is replaced: it stays where it is, at reward 0.
        horizon: episodes end after so many steps, and nothing counts behind; None: never. With gamma 1 and no horizon
            J is finite only for policies that surely end.

    Raises:
        UsageError: for what is no decision process.
    """

    transition: Numbers
    reward: Numbers
    initial: Numbers
    gamma: float
    terminal: Numbers = None
    horizon: int | None = None

    def __post_init__(self) -> None:
        shape = np.shape(self.transition)
        if len(shape) != 3 or shape[0] != shape[2] or 0 in shape:
            raise UsageError(f"transition has the shape {shape}; allowed: [S, A, S], P(s'|s, a).")
        object.__setattr__(self, "terminal", np.zeros(shape[0], bool) if self.terminal is None else self.terminal)
        terminal = _own(self, "terminal", shape[:1], bool)
        transition, reward = _own(self, "transition", shape), _own(self, "reward", shape[:2])
        initial = _own(self, "initial", shape[:1])
        transition[terminal], reward[terminal] = np.eye(shape[0])[terminal, None], 0
        for name, p in {"transition": transition, "initial": initial}.items():
            worst = np.abs(p.sum(axis=-1) - 1).max()
            if p.min() < 0 or worst > 1e-6:
                raise UsageError(
                    f"{name} has the least number {p.min():.7g}, and sums that differ from 1 by {worst:.7g}; allowed: "
                    "numbers from 0 with the sum 1."
                )
        if initial[terminal].any():
            raise UsageError(f"initial is {initial[terminal].max():.7g} in a terminal state; allowed: 0.")
        _check_time(self.gamma, self.horizon)
        ends = _towards_the_end(transition, terminal)[1]
        if self.gamma == 1 and self.horizon is None and not ends.all():
            raise UsageError(
                f"gamma is 1 without a horizon, but no terminal state can be reached from state {ends.argmin()}; "
                "allowed: gamma below 1, or a horizon."
            )

    def _template(self) -> np.ndarray:
        return self.reward

    @property
    def _following(self) -> np.ndarray:
        """``[S, A, S]``, gamma P(s'|s, a), and 0 for terminal s': nothing counts behind the end."""
        return self.gamma * np.where(self.terminal, 0, self.transition)

    def _moments(self, policy: Array) -> Array:
        def step(visits: Array, policy: Array) -> Array:
            return jnp.einsum("s,sa,sak->k", visits, policy, following)

        following = _floats(self._following)
        return _propagate(step, _floats(self.initial), policy, self.horizon)

    def _expected_reward(self, moments: Array, policy: Array) -> Array:
        return jnp.sum(moments[:, None] * policy * _floats(self.reward))

    def _whitened(self, moments: Array, policy: Array, x: Array) -> Array:
        visits = jnp.maximum(moments, 0)[:, None]  # rounding may leave a little less than 0
        return jnp.where(policy > 0, jnp.sqrt(visits / jnp.where(policy > 0, policy, 1)), 0) * x

    @_precise
    def visits(self, policy: Array) -> Array:
        """d(s) = sum_t gamma^t P(s_t = s), ``[S]``, not normalized (Sutton et al. 2000); 0 in terminal states."""
        return jnp.sum(self._moments(self._over_time(policy)), axis=0)

    @_precise
    def action_value(self, policy: Array) -> Array:
        """Q(s, a) = r(s, a) + gamma E[V(s')], ``[S, A]``, at the beginning of the episode; 0 in terminal states."""
        reward, following = _floats(self.reward), _floats(self._following)

        def step(value: Array, policy: Array) -> tuple[Array, Array]:
            action_value = reward + following @ value
            return jnp.sum(policy * action_value, axis=1), action_value

        policy = self._over_time(policy)
        if self.horizon is not None:
            return jax.lax.scan(step, jnp.zeros(len(reward)), policy, reverse=True)[1][0]
        matrix = jnp.eye(len(reward)) - jnp.einsum("sa,sak->sk", policy[0], following)
        return reward + following @ jnp.linalg.solve(matrix, jnp.sum(policy[0] * reward, axis=1))

    def value(self, policy: Array) -> Array:
        """V(s) = sum_a pi(a|s) Q(s, a), ``[S]``, at the beginning of the episode; 0 in terminal states."""
        return jnp.sum(self._over_time(policy)[0] * self.action_value(policy), axis=1)

    def optimum(self) -> Optimum:
        """An optimal deterministic policy, by policy iteration (Howard 1960), or backwards from the horizon.

        Returns:
            ``policy``: one-hot ``[S, A]``, with a horizon ``[horizon, S, A]``; ``value``: V* ``[S]`` at the beginning
            of the episode; ``objective``: J*. With gamma 1 and no horizon: the best of the policies that surely end.

        Raises:
            UsageError: if gamma is 1 and a policy that never ends gains for ever.
        """
        states, actions = self.reward.shape
        following, value, policies = self._following, np.zeros(states), []
        for _ in range(self.horizon or 0):
            action_value = self.reward + following @ value
            policies.append(np.eye(actions)[action_value.argmax(axis=1)])
            value = action_value.max(axis=1)
        if self.horizon is not None:
            return Optimum(np.stack(policies[::-1]), value, float(self.initial @ value))
        # With gamma 1, a policy that surely ends and is changed only where that is strictly better either ends again or
        # gains for ever (Bertsekas & Tsitsiklis 1991).
        action, ends = _towards_the_end(self.transition, self.terminal)
        rows, total = np.arange(states), -np.inf
        while self.gamma < 1 or ends.all():
            value = np.linalg.solve(np.eye(states) - following[rows, action], self.reward[rows, action])
            action_value = self.reward + following @ value
            better = action_value.max(axis=1) > value + 1e-12 * np.abs(action_value).max()
            # What only rounding takes for better could go round in circles.
            if not better.any() or value.sum() <= total:
                return Optimum(np.eye(actions)[action], value, float(self.initial @ value))
            total, action = value.sum(), np.where(better, action_value.argmax(axis=1), action)
            ends = _towards_the_end(self.transition[rows, action][:, None], self.terminal)[1]
        raise UsageError(
            "gamma is 1, and a policy that never ends gains for ever; allowed: gamma below 1, or a horizon."
        )

    @functools.cached_property
    def env(self) -> "TabularEnv":
        """The same problem for agents: ``rlgd.envs.make(mdp.env, max_episode_steps=mdp.horizon)``.

        At a time limit actor-critics bootstrap: with a horizon they do not maximize J. REINFORCE does.
        """
        return TabularEnv(self)


class TabularEnv(FuncEnv[Array, Array, Array, Array, Array, Any, Any]):
    """A ``TabularMDP``. The state is an int32, and is what is observed."""

    def __init__(self, mdp: TabularMDP) -> None:
        super().__init__()
        self.mdp = mdp
        self.observation_space, self.action_space = map(Discrete, mdp.reward.shape)

    def initial(self, rng: Array, params: Any = None) -> Array:
        return Categorical(jnp.log(_floats(self.mdp.initial))).sample(rng)

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        return Categorical(jnp.log(_floats(self.mdp.transition)[state, action])).sample(rng)

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return _floats(self.mdp.reward)[state, action]

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.asarray(self.mdp.terminal)[state]


class LinearGaussian(NamedTuple):
    """u = gain x + offset + exp(log_std) * N(0, 1): ``gain [m, n]``, ``offset [m]``, ``log_std [m]``."""

    gain: Array
    offset: Array
    log_std: Array

    @property
    def affine(self) -> Array:
        """``[m, n + 1]``, what maps (x, 1) to the mean of u."""
        return jnp.concatenate([self.gain, self.offset[:, None]], axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class LQR(_Problem):
    """The linear-quadratic regulator: x' = a x + b u + N(0, noise), reward -(x^T q x + u^T r u).

    A policy is a ``LinearGaussian``; a ``log_std`` of -inf is allowed in ``objective``. Without a horizon J is -inf and
    its gradients are NaN if sqrt(gamma) (a + b gain) has an eigenvalue outside the open unit disc, even if what grows
    costs nothing.

    Attributes:
        a, b: the dynamics, ``[n, n]`` and ``[n, m]``.
        q, r: the costs, ``[n, n]`` positive semidefinite and ``[m, m]`` positive definite.
        noise: ``[n, n]``, positive semidefinite.
        initial_mean, initial_cov: ``[n]`` and ``[n, n]``: x_0 ~ N(initial_mean, initial_cov).
        gamma: the discount, in [0, 1]; below 1 without a horizon.
        horizon: episodes end after so many steps, and nothing counts behind; None: never.

    Raises:
        UsageError: for what is no such problem.
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
            _own(self, name, shape)
        for name, size in {"q": n, "r": m, "noise": n, "initial_cov": n}.items():
            matrix = _own(self, name, (size, size))
            least, scale = np.linalg.eigvalsh(matrix)[0], np.abs(matrix).max()
            if not np.allclose(matrix, matrix.T, rtol=0, atol=1e-6 * scale) or least < -1e-6 * scale:
                raise UsageError(f"{name} is {matrix.tolist()}; allowed: symmetric and positive semidefinite.")
            if name == "r" and least <= 0:
                raise UsageError(f"r has the eigenvalue {least:.7g}; allowed: positive definite.")
        _check_time(self.gamma, self.horizon)
        if self.gamma == 1 and self.horizon is None:
            raise UsageError("gamma is 1 without a horizon; allowed: gamma below 1, or a horizon.")

    def _template(self) -> LinearGaussian:
        return LinearGaussian(self.b.T, self.b[0], self.b[0])

    @property
    def _second_moment(self) -> np.ndarray:
        """E[x_0 x_0^T]."""
        return self.initial_cov + np.outer(self.initial_mean, self.initial_mean)

    def _moments(self, policy: LinearGaussian) -> Array:
        """gamma^t E[z z^T] with z = (x, 1), ``[T, n + 1, n + 1]``; gamma^t is the last element."""
        a, b, noise, mean = map(_floats, (self.a, self.b, self.noise, self.initial_mean[:, None]))
        start = jnp.block([[_floats(self._second_moment), mean], [mean.T, jnp.ones((1, 1))]])

        def step(moments: Array, policy: LinearGaussian) -> Array:
            closed = jnp.pad(a, ((0, 0), (0, 1))) + b @ policy.affine
            closed = jnp.concatenate([closed, jnp.eye(1, len(a) + 1, len(a))])
            spread = noise + (b * jnp.exp(2 * policy.log_std)[None]) @ b.T
            return self.gamma * (closed @ moments @ closed.T + moments[-1, -1] * jnp.pad(spread, (0, 1)))

        moments = _propagate(step, start, policy, self.horizon)
        if self.horizon is not None:
            return moments
        # The equation has a solution even where the sum diverges. x' = C x is stable if and only if the solution of
        # X = I + C X C^T is positive definite (Stein 1952).
        closed = self.gamma**0.5 * (a + b @ jax.lax.stop_gradient(policy.gain[0]))
        stein = _propagate(lambda x, c: c @ x @ c.T, jnp.eye(len(a)), closed[None], None)[0]
        return moments * jnp.where(jnp.linalg.eigvalsh(stein)[0] > 0, 1, jnp.nan)

    def _expected_reward(self, moments: Array, policy: LinearGaussian) -> Array:
        of_action = policy.affine @ moments @ policy.affine.T + moments[-1, -1] * jnp.diag(jnp.exp(2 * policy.log_std))
        cost = jnp.sum(_floats(self.q) * moments[:-1, :-1]) + jnp.sum(_floats(self.r) * of_action)
        return jnp.where(jnp.isnan(cost), -jnp.inf, -cost)

    def _whitened(self, moments: Array, policy: LinearGaussian, x: LinearGaussian) -> Any:
        precision = jnp.exp(-policy.log_std)[:, None]
        return precision * (x.affine @ _root(moments)), jnp.sqrt(2 * moments[-1, -1]) * x.log_std

    def optimum(self) -> Optimum:
        """The optimal policy u = K x, which is deterministic, from the Riccati equation.

        Without a horizon it is solved by doubling (Anderson 1978), else backwards.

        Returns:
            ``policy``: K ``[m, n]``, with a horizon ``[horizon, m, n]``; ``value``: P ``[n, n]``, at the beginning of
            the episode, by which V*(x) = -x^T P x - c, where c comes from the noise alone; ``objective``: J*.

        Raises:
            UsageError: if no gain, or not the best one, makes sqrt(gamma) (a + b K) stable.
        """
        a, b = np.sqrt(self.gamma) * self.a, np.sqrt(self.gamma) * self.b  # for these nothing is discounted

        def best_gain(p: np.ndarray) -> np.ndarray:
            return -np.linalg.solve(self.r + b.T @ p @ b, b.T @ p @ a)

        def optimum(gain: np.ndarray, p: np.ndarray, constant: float) -> Optimum:
            return Optimum(gain, p, -float(np.sum(p * self._second_moment) + constant))

        if self.horizon is not None:
            p, constant, gains = np.zeros_like(self.q), 0.0, []
            for _ in range(self.horizon):
                constant = self.gamma * (constant + np.sum(p * self.noise))
                gains.append(best_gain(p))
                p = self.q + a.T @ p @ (a + b @ gains[-1])
            return optimum(np.stack(gains[::-1]), p, constant)

        p, f, g = self.q, a, b @ np.linalg.solve(self.r, b.T)  # p: of one step, of two, of four
        for _ in range(DOUBLINGS):
            inverse = np.linalg.inv(np.eye(len(a)) + g @ p)
            change = f.T @ p @ inverse @ f
            p, f, g = p + change, f @ inverse @ f, g + f @ inverse @ g @ f.T
            # f is where the state is after as many steps.
            if np.abs(change).max() <= 1e-15 * np.abs(p).max() or np.abs(f).max() > 1e9:
                break
        gain = best_gain(p)
        if (radius := np.abs(np.linalg.eigvals(a + b @ gain)).max()) >= 1 - 1e-12:
            raise UsageError(
                f"the best gain leaves sqrt(gamma) (a + b K) with an eigenvalue of size {radius:.7g}; allowed: below "
                "1. What grows must be within reach of b, and must cost something."
            )
        return optimum(gain, p, self.gamma / (1 - self.gamma) * np.sum(p * self.noise))

    @functools.cached_property
    def env(self) -> "LQREnv":
        """The same problem for agents; see ``TabularMDP.env``. Episodes end only with a time limit."""
        return LQREnv(self)


class LQREnv(FuncEnv[Array, Array, Array, Array, Array, Any, Any]):
    """An ``LQR``. The state is x, and is what is observed; states and actions are unbounded."""

    def __init__(self, lqr: LQR) -> None:
        super().__init__()
        self.lqr = lqr
        self.observation_space, self.action_space = (Box(-np.inf, np.inf, (size,)) for size in lqr.b.shape)
        self.initial_root, self.noise_root = _root(lqr.initial_cov, np), _root(lqr.noise, np)

    @_precise
    def initial(self, rng: Array, params: Any = None) -> Array:
        normal = jax.random.normal(rng, self.lqr.initial_mean.shape)
        return _floats(self.lqr.initial_mean) + _floats(self.initial_root) @ normal

    @_precise
    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        noise = _floats(self.noise_root) @ jax.random.normal(rng, state.shape)
        return _floats(self.lqr.a) @ state + _floats(self.lqr.b) @ _floats(action) + noise

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state

    @_precise
    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        action = _floats(action)
        return -(state @ _floats(self.lqr.q) @ state + action @ _floats(self.lqr.r) @ action)

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.zeros((), bool)


def _propagate(step: Callable[[Array, Any], Array], start: Array, policy: Any, horizon: int | None) -> Array:
    """x_0 = start, x_{t+1} = step(x_t, policy_t), linear in x: ``[T, ...]``, without a horizon the sum over all t."""
    if horizon is not None:
        return jax.lax.scan(lambda x, policy: (step(x, policy), x), start, policy)[1]
    matrix = jax.jacfwd(step)(start, jax.tree.map(lambda x: x[0], policy)).reshape(start.size, start.size)
    return jnp.linalg.solve(jnp.eye(start.size) - matrix, start.ravel()).reshape(1, *start.shape)


def _root(matrix: Any, xp: Any = jnp) -> Any:
    """L with L L^T = ``matrix [n, n]``, positive semidefinite; what is 0 up to rounding is 0."""
    size, vectors = xp.linalg.eigh(matrix)
    rounding = 10 * len(matrix) * xp.finfo(matrix.dtype).eps * size[-1]
    return vectors * xp.sqrt(xp.where(size > rounding, size, 0))[None]


def _towards_the_end(transition: np.ndarray, terminal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An action in each state that leads nearer to a terminal state, and whether there is one, ``[S]``."""
    action, ends = np.zeros(len(terminal), int), terminal
    for _ in range(len(terminal)):
        nearer = np.any(transition[:, :, ends] > 0, axis=2)
        action, ends = np.where(ends, action, nearer.argmax(axis=1)), ends | nearer.any(axis=1)
    return action, ends


def _own(problem: Any, name: str, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """Make a field an array of the problem's own, and check it."""
    array = np.array(getattr(problem, name), dtype)
    if array.shape != shape:
        raise UsageError(f"{name} has the shape {array.shape}; allowed: {shape}.")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} is not finite everywhere; allowed: finite numbers.")
    object.__setattr__(problem, name, array)
    return array


def _check_time(gamma: float, horizon: int | None) -> None:
    if not 0 <= gamma <= 1:
        raise UsageError(f"gamma is {gamma}; allowed: within [0, 1].")
    if horizon is not None and not (isinstance(horizon, numbers.Integral) and horizon >= 1):
        raise UsageError(f"horizon is {horizon}; allowed: a whole number from 1, or None.")
