"""Variance-reduced momentum: against exact gradients, and what it needs."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from rlgd import training
from rlgd.agents import make_agent
from rlgd.agents.base.variance_reduction import sum_within_episodes
from rlgd.envs import DeviceEnv, make
from rlgd.errors import UsageError
from rlgd.exact import comparison
from tests.support.exact_problems import random_mdp
from tests.support.marks import quick

HORIZON, MOMENTUM, SAMPLES, UPDATES = 5, 0.9, 400, 40
PROBLEM = random_mdp(4, gamma=1.0, horizon=HORIZON, ends=False)
FIXED: dict[str, Any] = {
    "num_envs": 8, "hidden_sizes": (), "measure_every": 0, "max_grad_norm": None, "gamma": 1.0,
    "optimizer": "momentum", "momentum": MOMENTUM, "learning_rate": 0.0, "schedule": "constant",
}  # fmt: skip
OF_AGENT: dict[str, dict[str, Any]] = {
    "reinforce": {"baseline": "none"},
    "a2c": {"rollout_length": HORIZON, "gae_lambda": 1.0},  # a rollout is one whole episode of each environment
}


class Error(NamedTuple):
    """Of first moments against the exact gradient: length of the mean error, its standard error, variance."""

    bias: float
    bias_error: float
    variance: float


def first_moment_errors(name: str, kind: str) -> Error:
    """Of the average of 40 gradients along a straight line of policies, at its end; fresh rollouts at each of them."""
    agent = make_agent(name, **FIXED, **OF_AGENT[name], variance_reduction=kind).prepared()
    env = make(PROBLEM.env, max_episode_steps=HORIZON)
    assert isinstance(env, DeviceEnv)
    begun = training.initialize(agent, env, jax.random.key(0)).agent_state
    params = dataclasses.replace(begun.params, value=jax.tree.map(jnp.zeros_like, begun.params.value))
    begun = dataclasses.replace(begun, params=params)
    start = begun.params.policy
    end = jax.tree.map(lambda x: x + 3 * jax.random.normal(jax.random.key(5), x.shape), start)

    def climb(loop: Any, share: Array) -> tuple[Any, None]:
        state = loop.agent_state  # the update leaves the policy where it is, so it is moved by hand
        policy = jax.tree.map(lambda a, b: a + share * (b - a), start, end)
        params = dataclasses.replace(state.params, policy=policy)
        loop = dataclasses.replace(loop, agent_state=dataclasses.replace(state, params=params))
        return training.iterate(agent, env, loop)[0], None

    def first_moment(key: Array) -> Array:
        loop = dataclasses.replace(training.initialize(agent, env, key), agent_state=begun)
        loop, _ = jax.lax.scan(climb, loop, jnp.linspace(0, 1, UPDATES))
        return flat(agent.ascent.first_moment(loop.agent_state.opt_state.policy)) * (1 - MOMENTUM)

    keys = jax.random.split(jax.random.key(1), SAMPLES)
    # A2C's gradient is a mean over rows, REINFORCE's a sum over each episode.
    moments = np.asarray(jax.jit(lambda keys: jax.lax.map(first_moment, keys))(keys)) * (
        HORIZON if name == "a2c" else 1
    )
    exact = flat(PROBLEM.gradient(comparison.policy_of(agent, env.spec, PROBLEM, begun), end))
    variance = float(np.sum(np.var(moments, axis=0, ddof=1)))
    return Error(float(np.linalg.norm(np.mean(moments, axis=0) - exact)), (variance / SAMPLES) ** 0.5, variance)


def flat(tree: Any) -> Array:
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(tree)])


@pytest.mark.parametrize("name", quick(["a2c"], OF_AGENT))
def test_the_first_moment_is_carried_along_without_bias_and_with_less_variance(name: str) -> None:
    plain = first_moment_errors(name, "off")
    assert plain.bias > 15 * plain.bias_error  # it lags behind, and an average from 0 lacks a share of 0.9^40
    for kind in ("storm", "hessian"):
        corrected = first_moment_errors(name, kind)
        assert corrected.bias < 4 * corrected.bias_error, kind
        assert corrected.variance < 0.75 * plain.variance, kind


def test_a_policy_with_a_memory_is_corrected_too() -> None:
    env = make("CartPole-v1", max_episode_steps=20)
    assert isinstance(env, DeviceEnv)
    options: dict[str, Any] = {"network": "gru", "memory_width": 4, "hidden_sizes": (4,), "measure_every": 0}
    agent = make_agent("a2c", **options, num_envs=2, variance_reduction="storm", max_importance_weight=1.5)
    agent.validate()
    agent, step = agent.prepared(), jax.jit(training.iterate, static_argnums=1)
    loop, first = step(agent, env, training.initialize(agent, env, jax.random.key(0)))
    loop, second = step(agent, env, loop)
    assert float(first["ascent/correction_norm"]) < 1e-5  # nothing has moved yet
    assert float(first["ascent/importance_weight"]) == pytest.approx(1, abs=1e-5)
    assert float(second["ascent/correction_norm"]) > 1e-4
    assert float(second["ascent/importance_weight"]) != 1
    state = loop.agent_state
    assert state.previous is not None
    assert float(state.previous.updates) == 2
    for now, before in zip(*(jax.tree.leaves(x) for x in (state.params.policy, state.previous.policy)), strict=True):
        assert np.any(np.asarray(now) != np.asarray(before))


def test_sums_are_those_of_each_episode_in_the_rollout() -> None:
    values = jnp.arange(12.0).reshape(6, 2)
    done = jnp.array([[0, 0], [1, 0], [0, 0], [0, 1], [1, 0], [0, 0]], bool)
    expected = [[2, 16], [2, 16], [18, 16], [18, 16], [18, 20], [10, 20]]
    np.testing.assert_array_equal(sum_within_episodes(values, done), expected)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"optimizer": "sgd"}, "sgd does not average gradients; choose one of momentum, adam"),
        ({"optimizer": "lion"}, "lion does not average gradients"),
        ({"optimizer": "momentum", "momentum": 0.0}, "momentum is 0, so there is nothing to correct"),
        ({"rollout_moments": "reset"}, "'reset' forgets what it corrects"),
        ({"value_network": "policy"}, "its layers have gradients of both"),
        ({"dropout": 0.1}, "under dropout"),
        ({"variance_reduction": "hessian", "max_importance_weight": 3.0}, "choose 'storm'"),
        ({"max_importance_weight": 1.0}, r"\(1, inf\)"),
        ({"variance_reduction": "strom"}, "storm"),
        ({"sync_every": 2.0}, "federated"),
    ],
)
def test_what_cannot_be_corrected_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        make_agent("a2c", **{"variance_reduction": "storm"} | fields).validate()
