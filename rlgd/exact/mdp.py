"""Tabular Markov decision processes."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Discrete
from jax import Array

from rlgd.errors import UsageError
from rlgd.exact.problem import Numbers, Optimum, Problem, check_time, floats, own_value, precise, propagate
from rlgd.maths.distributions import Categorical


@dataclasses.dataclass(frozen=True, eq=False)
class TabularMDP(Problem):
    """A Markov decision process with S states and A actions. A policy is the table pi(a|s), ``[S, A]``.

    Attributes:
        transition: ``[S, A, S]``, P(s'|s, a).
        reward: ``[S, A]``.
        initial: ``[S]``, P(s_0); 0 in terminal states.
        gamma: the discount, in [0, 1].
        terminal: ``[S]`` bool; entering a terminal state ends the episode. None: no state is terminal. The
            ``transition`` and ``reward`` of terminal states are replaced: they stay where they are, with reward 0.
        horizon: the number of steps of an episode; None: no limit. With gamma 1 and no horizon, J is finite only for
            policies that end with probability 1.

    Raises:
        UsageError: if the arrays do not describe a decision process.
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
        terminal = own_value(self, "terminal", shape[:1], bool)
        transition, reward = own_value(self, "transition", shape), own_value(self, "reward", shape[:2])
        initial = own_value(self, "initial", shape[:1])
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
        check_time(self.gamma, self.horizon)
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
        """``[S, A, S]``, gamma P(s'|s, a), and 0 for terminal s': no reward counts after the end."""
        return self.gamma * np.where(self.terminal, 0, self.transition)

    def _state_moments(self, policy: Array) -> Array:
        def step(visits: Array, policy: Array) -> Array:
            return jnp.einsum("s,sa,sak->k", visits, policy, following)

        following = floats(self._following)
        return propagate(step, floats(self.initial), policy, self.horizon)

    def _expected_reward(self, moments: Array, policy: Array) -> Array:
        return jnp.sum(moments[:, None] * policy * floats(self.reward))

    def _whitened(self, moments: Array, policy: Array, x: Array) -> Array:
        visits = jnp.maximum(moments, 0)[:, None]  # rounding may make them slightly negative
        return jnp.where(policy > 0, jnp.sqrt(visits / jnp.where(policy > 0, policy, 1)), 0) * x

    @precise
    def visits(self, policy: Array) -> Array:
        """d(s) = sum_t gamma^t P(s_t = s), ``[S]``, not normalized (Sutton et al. 2000); 0 in terminal states."""
        return jnp.sum(self._state_moments(self._over_time(policy)), axis=0)

    @precise
    def action_value(self, policy: Array) -> Array:
        """Q(s, a) = r(s, a) + gamma E[V(s')], ``[S, A]``, at the beginning of the episode; 0 in terminal states."""
        reward, following = floats(self.reward), floats(self._following)

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
            of the episode; ``objective``: J*. With gamma 1 and no horizon: the best of the policies that end with
            probability 1.

        Raises:
            UsageError: if gamma is 1 and a policy that never ends gains without bound.
        """
        return self._policy_iteration() if self.horizon is None else self._backwards(self.horizon)

    def _backwards(self, horizon: int) -> Optimum:
        states, actions = self.reward.shape
        following, value, policies = self._following, np.zeros(states), []
        for _ in range(horizon):
            action_value = self.reward + following @ value
            policies.append(np.eye(actions)[action_value.argmax(axis=1)])
            value = action_value.max(axis=1)
        return Optimum(np.stack(policies[::-1]), value, float(self.initial @ value))

    def _policy_iteration(self) -> Optimum:
        states, actions = self.reward.shape
        following = self._following
        # With gamma 1: take a policy that ends with probability 1, and change it only where that is strictly better.
        # The new policy also ends with probability 1, or it gains without bound (Bertsekas & Tsitsiklis 1991).
        action, ends = _towards_the_end(self.transition, self.terminal)
        rows, total = np.arange(states), -np.inf
        while self.gamma < 1 or ends.all():
            value = np.linalg.solve(np.eye(states) - following[rows, action], self.reward[rows, action])
            action_value = self.reward + following @ value
            better = action_value.max(axis=1) > value + 1e-12 * np.abs(action_value).max()
            # An improvement that is only rounding could lead back to an earlier policy.
            if not better.any() or value.sum() <= total:
                return Optimum(np.eye(actions)[action], value, float(self.initial @ value))
            total, action = value.sum(), np.where(better, action_value.argmax(axis=1), action)
            ends = _towards_the_end(self.transition[rows, action][:, None], self.terminal)[1]
        raise UsageError(
            "gamma is 1, and a policy that never ends gains without bound; allowed: gamma below 1, or a horizon."
        )

    @functools.cached_property
    def env(self) -> "TabularEnv":
        """The same problem for agents: ``rlgd.envs.make(mdp.env, max_episode_steps=mdp.horizon)``.

        Actor-critic agents bootstrap at a time limit: with a horizon they do not maximize J. REINFORCE does.
        """
        return TabularEnv(self)


class TabularEnv(FuncEnv[Array, Array, Array, Array, Array, Any, Any]):
    """A ``TabularMDP`` as an environment. The state is an int32, and also the observation."""

    def __init__(self, mdp: TabularMDP) -> None:
        super().__init__()
        self.mdp = mdp
        self.observation_space, self.action_space = map(Discrete, mdp.reward.shape)

    def initial(self, rng: Array, params: Any = None) -> Array:
        return Categorical(jnp.log(floats(self.mdp.initial))).sample(rng)

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        return Categorical(jnp.log(floats(self.mdp.transition)[state, action])).sample(rng)

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return floats(self.mdp.reward)[state, action]

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.asarray(self.mdp.terminal)[state]


def _towards_the_end(transition: np.ndarray, terminal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each state an action that leads nearer to a terminal state, and whether there is one; both ``[S]``."""
    action, ends = np.zeros(len(terminal), int), terminal
    for _ in range(len(terminal)):
        nearer = np.any(transition[:, :, ends] > 0, axis=2)
        action, ends = np.where(ends, action, nearer.argmax(axis=1)), ends | nearer.any(axis=1)
    return action, ends
