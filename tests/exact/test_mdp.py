"""Tabular problems against enumeration, finite differences, and the theorems about them."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd.envs import DeviceEnv, make
from rlgd.errors import UsageError
from rlgd.exact import TabularMDP
from tests.support.exact_problems import (
    MDPS,
    close,
    double,
    every_mdp,
    finite_differences,
    gradient_of,
    logits,
    natural_of,
    random_mdp,
)


@double
@pytest.mark.parametrize("leading", [(), (3,)], ids=["stationary", "time-dependent"])
@pytest.mark.parametrize("ends", [False, True])
def test_objective_visits_and_values_are_sums_over_all_trajectories(ends: bool, leading: tuple[int, ...]) -> None:
    mdp = random_mdp(5, states=3, actions=2, gamma=0.7, ends=ends, horizon=3)
    policy = jax.nn.softmax(logits(mdp, *leading))
    pi = np.broadcast_to(policy, (3, 3, 2))
    starts = np.flatnonzero(~mdp.terminal).tolist()
    action_value, visits = np.zeros((3, 2)), np.zeros(3)
    for first, steps in itertools.product(starts, itertools.product(range(2), range(3), repeat=3)):
        now, probability, result, reached = first, 1.0, 0.0, np.zeros(3)
        moves = list(zip(steps[::2], steps[1::2], strict=True))
        for t, (action, following) in enumerate(moves):
            if not mdp.terminal[now]:
                result += mdp.gamma**t * mdp.reward[now, action]
                reached[now] += mdp.gamma**t
                probability *= pi[t, now, action] * mdp.transition[now, action, following]
                now = following
            elif (action, following) != (0, 0):  # after the end all continuations are the same one
                probability = 0.0
        action_value[first, moves[0][0]] += probability / pi[0, first, moves[0][0]] * result
        visits += mdp.initial[first] * probability * reached
    value = (pi[0] * action_value).sum(axis=1)
    close(mdp.action_value(policy), action_value)
    close(mdp.value(policy), value)
    close(mdp.visits(policy), visits)
    close(mdp.objective(policy), mdp.initial @ value)


@double
@pytest.mark.parametrize("mdp", [mdp for mdp in MDPS.values() if mdp.horizon is None])
def test_without_a_horizon_values_obey_bellman_and_visits_are_a_power_series(mdp: TabularMDP) -> None:
    policy = jax.nn.softmax(logits(mdp))
    value, action_value = np.asarray(mdp.value(policy)), np.asarray(mdp.action_value(policy))
    live = ~mdp.terminal
    assert (value[mdp.terminal] == 0).all()
    target = mdp.reward + mdp.gamma * mdp.transition[:, :, live] @ value[live]
    close(action_value[live], target[live])
    close(value[live], (policy * target).sum(axis=1)[live])
    matrix = mdp.gamma * np.einsum("sa,sak->sk", policy, mdp.transition) * live * live[:, None]
    series, term = np.zeros(len(live)), mdp.initial
    for _ in range(2000):
        series, term = series + term, term @ matrix
    close(mdp.visits(policy), series)
    close(mdp.objective(policy), mdp.initial @ value)


@double
@every_mdp
def test_gradient_of_a_table_against_finite_differences_and_the_policy_gradient_theorem(mdp: TabularMDP) -> None:
    theta = logits(mdp)
    gradient = gradient_of(mdp, jax.nn.softmax, theta)
    close(gradient, finite_differences(lambda theta: mdp.objective(jax.nn.softmax(theta)), theta), 1e-8)
    if mdp.horizon is None:  # else the action values depend on time
        visits, action_value = mdp.visits(jax.nn.softmax(theta)), mdp.action_value(jax.nn.softmax(theta))
        jacobian = jax.jacobian(jax.nn.softmax)(theta)
        close(gradient, jnp.einsum("s,sa,saij->ij", visits, action_value, jacobian))


@double
@every_mdp
def test_no_deterministic_policy_is_better_than_the_optimum(mdp: TabularMDP) -> None:
    states, actions = mdp.reward.shape
    tables = np.eye(actions)[np.array(list(itertools.product(range(actions), repeat=states)))]
    values = np.asarray(jax.jit(jax.vmap(mdp.value))(tables))
    best = mdp.optimum()
    policy = jnp.asarray(best.policy)
    close(mdp.value(policy), best.value)
    close(mdp.objective(policy), np.asarray(best.objective))
    assert set(best.policy.ravel()) == {0, 1}
    assert (best.policy.sum(axis=-1) == 1).all()
    assert (values <= best.value + 1e-9).all()
    if mdp.horizon is None:
        close(values.max(axis=0), best.value)


@double
def test_with_a_horizon_the_optimum_is_the_best_time_dependent_policy() -> None:
    mdp = random_mdp(6, states=3, actions=2, horizon=3)
    tables = np.eye(2)[np.array(list(itertools.product(range(2), repeat=6))).reshape(-1, 3, 2)]
    tables = np.concatenate([tables, tables[:, :, :1]], axis=2)  # the action in the terminal state does not matter
    objectives = np.asarray(jax.jit(jax.vmap(mdp.objective))(tables))
    best = mdp.optimum()
    assert np.unique(objectives.round(9)).size > 30
    close(objectives.max(), np.asarray(best.objective))
    np.testing.assert_array_equal(best.policy[:, :2], tables[objectives.argmax()][:, :2])


def two_ways(reward: list[list[float]], gamma: float = 1.0) -> TabularMDP:
    """In state 0: stay, or go to state 1, which is the end."""
    return TabularMDP([[[1, 0], [0, 1]], [[1, 0], [0, 1]]], reward, [1, 0], gamma, [False, True])


def test_undiscounted_optima_end_or_do_not_exist() -> None:
    for going in (-1.0, 0.0, 1.0):
        best = two_ways([[0, going], [0, 0]]).optimum()
        np.testing.assert_array_equal(best.policy[0], [0, 1])
        assert best.objective == going
    with pytest.raises(UsageError, match=r"gains without bound; allowed: gamma below 1"):
        two_ways([[0.1, 1], [0, 0]]).optimum()
    best = two_ways([[0.1, 0.5], [0, 0]], 0.9).optimum()
    np.testing.assert_array_equal(best.policy[0], [1, 0])
    np.testing.assert_allclose(best.objective, 1)


@double
def test_transitions_and_rewards_of_terminal_states_are_ignored() -> None:
    mdp = random_mdp(1)
    transition, reward = mdp.transition.copy(), mdp.reward.copy()
    transition[-1], reward[-1] = -7, 1e9
    other = dataclasses.replace(mdp, transition=transition, reward=reward)
    policy = jax.nn.softmax(logits(mdp))
    for name in ("objective", "value", "action_value", "visits"):
        np.testing.assert_array_equal(getattr(other, name)(policy), getattr(mdp, name)(policy))
    assert other.optimum().objective == mdp.optimum().objective
    assert transition[-1, 0, 0] == -7


@double
@every_mdp
def test_the_natural_gradient_of_a_table_is_the_advantage(mdp: TabularMDP) -> None:
    """Up to a constant in each state: of least norm is the one with mean 0."""
    live = ~mdp.terminal
    theta = logits(mdp) if mdp.horizon is None else logits(mdp, mdp.horizon)
    pi = jax.nn.softmax(theta)
    natural = np.asarray(natural_of(mdp, jax.nn.softmax, theta))
    first = natural if mdp.horizon is None else natural[0]
    centered = mdp.action_value(pi) - mdp.action_value(pi).mean(axis=1, keepdims=True)
    close(first[live], centered[live], 1e-9)
    assert np.abs(natural[..., ~live, :]).max(initial=0) < 1e-12
    if mdp.horizon is not None:  # the last step is a bandit
        close(natural[-1][live], (mdp.reward - mdp.reward.mean(axis=1, keepdims=True))[live], 1e-9)


@double
@pytest.mark.parametrize("mdp", [MDPS["discounted"], MDPS["horizon"]], ids=["discounted", "horizon"])
def test_the_natural_gradient_solves_with_the_fisher_matrix_of_its_definition(mdp: TabularMDP) -> None:
    states, actions = mdp.reward.shape
    random = np.random.default_rng(12)
    features = random.normal(size=(states, actions, 4))
    params = {"weights": jnp.asarray(random.normal(size=4)), "temperature": jnp.asarray(0.3)}

    def log_pi(params: Any) -> Array:
        return jax.nn.log_softmax(jnp.exp(params["temperature"]) * features @ params["weights"])

    def policy_of(params: Any) -> Array:
        return jnp.exp(log_pi(params))

    flat, unravel = ravel_pytree(params)
    score = jax.jacobian(lambda flat: log_pi(unravel(flat)))(flat)
    pi = policy_of(params)
    fisher = np.einsum("s,sa,sai,saj->ij", mdp.visits(pi), pi, score, score)
    gradient = ravel_pytree(gradient_of(mdp, policy_of, params))[0]
    assert np.linalg.matrix_rank(fisher, tol=1e-8) == 4  # the scale of the weights and the temperature are one
    expected = unravel(jnp.asarray(np.linalg.pinv(fisher, rcond=1e-10, hermitian=True) @ gradient))
    close(natural_of(mdp, policy_of, params), expected, 1e-8)


@double
def test_a_rarely_visited_state_has_its_natural_gradient_too() -> None:
    mdp = TabularMDP(
        transition=[[[1 - 1e-9, 1e-9, 0]] * 2, [[0, 1, 0]] * 2, [[0, 0, 1]] * 2],
        reward=[[1, 0], [0, 1], [0, 1]],
        initial=[1, 0, 0],
        gamma=0.5,
    )
    natural = natural_of(mdp, jax.nn.softmax, jnp.zeros((3, 2)))
    close(natural, np.array([[0.5, -0.5], [-0.5, 0.5], [0, 0]]), 1e-6)


@pytest.mark.parametrize("mdp", [MDPS["episodic"], MDPS["horizon"]], ids=["episodic", "horizon"])
def test_single_precision_is_close(mdp: TabularMDP) -> None:
    with jax.enable_x64(True):
        theta = logits(mdp)
        exact = natural_of(mdp, jax.nn.softmax, theta), gradient_of(mdp, jax.nn.softmax, theta)
        mixed = natural_of(mdp, jax.nn.softmax, theta.astype(jnp.float32))
    assert mixed.dtype == jnp.float32
    close(mixed, exact[0], 1e-4)
    theta = logits(mdp)
    single = natural_of(mdp, jax.nn.softmax, theta), gradient_of(mdp, jax.nn.softmax, theta)
    assert {x.dtype for x in single} == {np.dtype(np.float32)}
    jax.tree.map(lambda x, y: close(x, y, 1e-4), single, exact)


@settings(max_examples=12)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 4]),
    st.sampled_from([1, 3]),
    st.floats(0, 0.99),
    st.sampled_from([None, 1, 6]),
)
def test_random_problems(seed: int, states: int, actions: int, gamma: float, horizon: int | None) -> None:
    mdp = random_mdp(seed, states, actions, gamma, ends=False, horizon=horizon)
    total = (1 - gamma ** (horizon or np.inf)) / (1 - gamma)
    with jax.enable_x64(True):
        policy = jax.nn.softmax(logits(mdp))
        visits, value = np.asarray(mdp.visits(policy)), np.asarray(mdp.value(policy))
        np.testing.assert_allclose(visits.sum(), total, rtol=1e-10)
        np.testing.assert_allclose(visits @ (policy * mdp.reward).sum(axis=1), mdp.initial @ value, atol=1e-9)
    best = mdp.optimum()
    assert (visits >= mdp.initial - 1e-12).all()
    assert (value <= best.value + 1e-9).all()
    assert np.abs(value).max() <= total * np.abs(mdp.reward).max() + 1e-9


def test_entering_a_terminal_state_terminates() -> None:
    mdp = random_mdp(1)
    env = make(mdp.env)
    assert isinstance(env, DeviceEnv)
    state, _ = env.reset(jax.random.key(0), 64)
    step = jax.jit(env.step_without_reset)
    over = np.zeros(64, bool)
    for key in jax.random.split(jax.random.key(1), 3):
        state, timestep = step(key, state, jnp.ones(64, jnp.int32))
        np.testing.assert_array_equal(timestep.terminated, mdp.terminal[timestep.next_obs])
        assert timestep.terminated[over].all()
        assert (np.asarray(timestep.reward)[over] == 0).all()
        over = np.asarray(timestep.terminated)
    assert 0 < over.sum() < 64


TWO: dict[str, Any] = {
    "transition": np.full((2, 1, 2), 0.5),
    "reward": np.zeros((2, 1)),
    "initial": [1, 0],
    "gamma": 0.9,
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"transition": np.ones((2, 2))}, r"transition has the shape \(2, 2\); allowed: \[S, A, S\]"),
        ({"transition": np.ones((2, 0, 2))}, r"transition has the shape \(2, 0, 2\)"),
        ({"transition": [[[0.5, 0.4]]] * 2}, r"transition .* differ from 1 by 0\.1; allowed: numbers from 0"),
        ({"transition": [[[1.5, -0.5]]] * 2}, r"transition has the least number -0\.5"),
        ({"reward": np.zeros(2)}, r"reward has the shape \(2,\); allowed: \(2, 1\)"),
        ({"reward": [[np.nan], [0]]}, r"reward is not finite everywhere"),
        ({"initial": [0.5, 0.4]}, r"initial .* differ from 1 by 0\.1"),
        ({"initial": [0.9, 0.1], "terminal": [False, True]}, r"initial is 0\.1 in a terminal state; allowed: 0"),
        ({"terminal": [False]}, r"terminal has the shape \(1,\); allowed: \(2,\)"),
        ({"gamma": 1.1}, r"gamma is 1\.1; allowed: within \[0, 1\]"),
        ({"gamma": float("nan")}, r"gamma is nan"),
        ({"gamma": 1.0}, r"gamma is 1 without a horizon, but no terminal state can be reached from state 0"),
        ({"horizon": 0}, r"horizon is 0; allowed: a whole number from 1, or None"),
        ({"horizon": 2.5}, r"horizon is 2\.5"),
    ],
)
def test_arrays_that_are_not_a_decision_process_are_refused(changed: dict[str, Any], message: str) -> None:
    TabularMDP(**TWO)
    with pytest.raises(UsageError, match=message):
        TabularMDP(**(TWO | changed))
