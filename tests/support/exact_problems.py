"""Small decision problems and policies, and what their solutions are compared with."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd.envs import DeviceEnv
from rlgd.exact import LQR, LinearGaussian, TabularMDP

double = pytest.mark.usefixtures("double_precision")


def random_mdp(
    seed: int = 0, states: int = 4, actions: int = 3, gamma: float = 0.9, ends: bool = True, horizon: int | None = None
) -> TabularMDP:
    """Every transition is possible; the last state is terminal if ``ends``."""
    random = np.random.default_rng(seed)
    terminal = np.arange(states) == states - 1 if ends else np.zeros(states, bool)
    initial = np.where(terminal, 0, random.dirichlet(np.ones(states)))
    return TabularMDP(
        transition=random.dirichlet(np.ones(states), size=(states, actions)),
        reward=random.normal(size=(states, actions)),
        initial=initial / initial.sum(),
        gamma=gamma,
        terminal=terminal,
        horizon=horizon,
    )


MDPS = {
    "discounted": random_mdp(ends=False),
    "episodic": random_mdp(1),
    "undiscounted": random_mdp(2, gamma=1.0),
    "horizon": random_mdp(3, horizon=5),
    "undiscounted horizon": random_mdp(4, gamma=1.0, horizon=3, ends=False),
}
every_mdp = pytest.mark.parametrize("mdp", MDPS.values(), ids=MDPS)


def stable_lqr(gamma: float = 0.9, horizon: int | None = None) -> LQR:
    """Three states, two actions, correlated noise; the second action is expensive."""
    return LQR(
        a=[[0.9, 0.3, 0.0], [-0.2, 1.01, 0.1], [0.0, 0.1, 0.5]],
        b=[[0.0, 0.4], [1.0, 0.2], [0.3, -0.5]],
        q=[[1.0, 0.2, 0.0], [0.2, 0.5, 0.0], [0.0, 0.0, 0.3]],
        r=[[0.2, 0.05], [0.05, 0.8]],
        noise=[[0.02, 0.01, 0.0], [0.01, 0.03, 0.0], [0.0, 0.0, 0.0]],
        initial_mean=[1.0, -0.5, 0.2],
        initial_cov=[[0.1, 0.05, 0.0], [0.05, 0.2, 0.0], [0.0, 0.0, 0.0]],
        gamma=gamma,
        horizon=horizon,
    )


LQRS = {"discounted": stable_lqr(), "horizon": stable_lqr(1.0, 6)}
every_lqr = pytest.mark.parametrize("lqr", LQRS.values(), ids=LQRS)


def linear_gaussian(*leading: int) -> LinearGaussian:
    """A policy under which ``stable_lqr`` stays stable, different in each step if there is a leading axis."""
    random = np.random.default_rng(7)
    gain = np.array([[-0.1, -0.4, 0.0], [-0.2, 0.1, 0.1]]) + 0.05 * random.normal(size=(*leading, 2, 3))
    offset, log_std = 0.3 * random.normal(size=(*leading, 2)), -1 + 0.2 * random.normal(size=(*leading, 2))
    return LinearGaussian(*map(jnp.asarray, (gain, offset, log_std)))


def logits(mdp: TabularMDP, *leading: int) -> Array:
    return jnp.asarray(np.random.default_rng(11).normal(size=(*leading, *mdp.reward.shape)))


def gradient_of(problem: TabularMDP | LQR, policy_of: Any, params: Any, natural: bool = False) -> Any:
    method = problem.natural_gradient if natural else problem.gradient
    return jax.jit(functools.partial(method, policy_of))(params)


def natural_of(problem: TabularMDP | LQR, policy_of: Any, params: Any) -> Any:
    return gradient_of(problem, policy_of, params, natural=True)


def same(policy: Any) -> Any:
    return policy


def finite_differences(function: Any, params: Any, size: float = 1e-5) -> Any:
    flat, unravel = ravel_pytree(params)
    steps = size * jnp.eye(flat.size)
    moved = jnp.concatenate([flat[None] + steps, flat[None] - steps])
    high, low = jax.jit(jax.vmap(lambda flat: function(unravel(flat))))(moved).reshape(2, -1)
    return unravel((high - low) / (2 * size))


def close(actual: Any, expected: Any, atol: float = 1e-10) -> None:
    assert max(np.abs(x).max() for x in jax.tree.leaves(expected)) > 1e-3
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), actual, expected)


def returns(env: DeviceEnv, act: Any, gamma: float, episodes: int) -> np.ndarray:
    """The discounted return of one episode in each environment, up to its end or the time limit."""

    @jax.jit
    def play(key: Array) -> tuple[Array, Array]:
        def step(carry: Any, t: Array) -> tuple[Any, None]:
            (state, obs), alive, result = carry
            keys = jax.random.split(jax.random.fold_in(key, t), 2)
            state, timestep = env.step(keys[0], state, act(keys[1], obs), fresh)
            result += jnp.where(alive, gamma**t * timestep.reward, 0)
            return ((state, timestep.obs), alive & ~(timestep.terminated | timestep.truncated), result), None

        fresh = env.reset(jax.random.fold_in(key, 10**6), episodes)
        carry = (fresh, jnp.ones(episodes, bool), jnp.zeros(episodes))
        assert env.spec.max_episode_steps is not None
        (_, alive, result), _ = jax.lax.scan(step, carry, jnp.arange(env.spec.max_episode_steps, dtype=jnp.float32))
        return alive, result

    alive, result = play(jax.random.key(3))
    assert not alive.any()
    return np.asarray(result, np.float64)
