"""Both kinds of problems: coordinates, precision, shapes, and the environments made from them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd import training
from rlgd.agents import PPO, REINFORCE
from rlgd.envs import DeviceEnv, make
from rlgd.errors import UsageError
from rlgd.exact import LQR, LinearGaussian, TabularMDP
from rlgd.maths.distributions import Categorical, DiagGaussian
from tests.support.exact_problems import (
    MDPS,
    close,
    double,
    linear_gaussian,
    logits,
    natural_of,
    random_mdp,
    returns,
    same,
    stable_lqr,
)


@double
@pytest.mark.parametrize("kind", ["tabular", "lqr"])
def test_the_natural_gradient_moves_the_policy_in_the_same_way_in_all_linear_coordinates(kind: str) -> None:
    problem: Any = random_mdp(8, ends=False) if kind == "tabular" else stable_lqr()
    params, policy_of = (logits(problem), jax.nn.softmax) if kind == "tabular" else (linear_gaussian(), same)
    flat, unravel = ravel_pytree(params)
    matrix = jnp.asarray(np.random.default_rng(13).normal(size=(flat.size, flat.size)))

    def of_coordinates(x: Array) -> Any:
        return policy_of(unravel(matrix @ x))

    directions = []
    for function, point in ((policy_of, params), (of_coordinates, jnp.linalg.solve(matrix, flat))):
        directions.append(jax.jvp(function, (point,), (natural_of(problem, function, point),))[1])
    close(directions[1], directions[0], 1e-7)


@pytest.mark.parametrize("name", ["episodic", "horizon"])
def test_a_tabular_environment_pays_the_objective(name: str) -> None:
    mdp = MDPS[name]
    env = make(mdp.env, max_episode_steps=mdp.horizon or 120)
    assert isinstance(env, DeviceEnv)
    table = logits(mdp)
    result = returns(env, lambda key, obs: Categorical(table[obs]).sample(key), mdp.gamma, 40_000)
    error = result.std() / np.sqrt(len(result))
    assert abs(result.mean() - float(mdp.objective(jax.nn.softmax(table)))) < 4.5 * error
    assert error < 0.02


def test_an_lqr_environment_pays_the_objective() -> None:
    lqr = stable_lqr(0.9, 6)
    env = make(lqr.env, max_episode_steps=lqr.horizon)
    assert isinstance(env, DeviceEnv)
    policy = linear_gaussian(6)
    now = LinearGaussian(*(part[2] for part in policy))

    def act(key: Array, obs: Array) -> Array:
        return DiagGaussian(obs @ now.gain.T + now.offset[None], now.log_std[None]).sample(key)

    result = returns(env, act, lqr.gamma, 40_000)
    error = result.std() / np.sqrt(len(result))
    assert abs(result.mean() - float(jax.jit(lqr.objective)(now))) < 4.5 * error
    assert error < 0.01 * abs(result.mean())


def test_environments_are_made_once_and_observe_their_state() -> None:
    for problem in (random_mdp(horizon=5), stable_lqr(0.9, 5)):
        one, other = (make(problem.env, max_episode_steps=problem.horizon) for _ in range(2))
        assert isinstance(one, DeviceEnv)
        assert one == other
        assert hash(one) == hash(other)
        state, obs = one.reset(jax.random.key(0), 64)
        np.testing.assert_array_equal(state.inner, obs)
        assert all(problem.env.observation_space.contains(x) for x in np.asarray(obs))
        assert dataclasses.replace(problem).env != problem.env


@double
def test_environments_work_in_double_precision() -> None:
    for problem, action in ((random_mdp(), jnp.zeros(8, int)), (stable_lqr(), jnp.zeros((8, 2), jnp.float32))):
        env = make(problem.env)
        assert isinstance(env, DeviceEnv)
        state, _ = jax.jit(lambda key, env=env: env.reset(key, 8))(jax.random.key(0))
        after, timestep = jax.jit(env.step_without_reset)(jax.random.key(1), state, action)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        assert after.inner.dtype == state.inner.dtype
        assert np.isfinite(timestep.reward).all()


@pytest.mark.parametrize("problem", [random_mdp(horizon=5), stable_lqr(0.9, 5)], ids=["tabular", "lqr"])
@pytest.mark.parametrize(
    "agent",
    [
        PPO(num_envs=4, rollout_length=8, hidden_sizes=(), num_epochs=1, num_minibatches=2),
        REINFORCE(num_envs=4, hidden_sizes=()),
    ],
    ids=["ppo", "reinforce"],
)
def test_agents_learn_from_the_environments(agent: Any, problem: TabularMDP | LQR) -> None:
    env = make(problem.env, max_episode_steps=problem.horizon)
    agent = agent.prepared()
    loop = training.initialize(agent, env, jax.random.key(0), 100)
    after, metrics = jax.jit(training.iterate, static_argnums=1)(agent, env, loop)
    before, now = (ravel_pytree(x.agent_state.params)[0] for x in (loop, after))
    assert np.isfinite(now).all()
    assert (before != now).any()
    assert np.isfinite(metrics["train/objective"])


def test_a_policy_of_another_shape_is_refused() -> None:
    mdp, lqr = random_mdp(horizon=5), stable_lqr()
    with pytest.raises(UsageError, match=r"shape \(4, 2\); allowed: \(4, 3\) or \(5, 4, 3\)"):
        mdp.objective(jnp.zeros((4, 2)))
    with pytest.raises(UsageError, match=r"shape \(6, 4, 3\); allowed"):
        mdp.value(jnp.zeros((6, 4, 3)))
    with pytest.raises(UsageError, match=r"shape \(3, 2\); allowed: \(2, 3\)"):
        lqr.objective(LinearGaussian(jnp.zeros((3, 2)), jnp.zeros(2), jnp.zeros(2)))
