"""Exact solutions against enumeration, simulation, finite differences, SciPy, and the environments made of them."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd import training
from rlgd.agents import PPO, REINFORCE
from rlgd.envs import DeviceEnv, make
from rlgd.errors import UsageError
from rlgd.exact import LQR, LinearGaussian, TabularMDP
from rlgd.maths.distributions import Categorical, DiagGaussian

double = pytest.mark.usefixtures("_double")


@pytest.fixture
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


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


# ---------------------------------------------------------------------------------------------- tabular problems


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
            elif (action, following) != (0, 0):  # behind the end all continuations are one and the same
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
    tables = np.concatenate([tables, tables[:, :, :1]], axis=2)  # in the terminal state, whatever
    objectives = np.asarray(jax.jit(jax.vmap(mdp.objective))(tables))
    best = mdp.optimum()
    assert np.unique(objectives.round(9)).size > 30
    close(objectives.max(), np.asarray(best.objective))
    np.testing.assert_array_equal(best.policy[:, :2], tables[objectives.argmax()][:, :2])


def two_ways(reward: list[list[float]], gamma: float = 1.0) -> TabularMDP:
    """In state 0: stay, or go to state 1, which is the end."""
    return TabularMDP([[[1, 0], [0, 1]], [[1, 0], [0, 1]]], reward, [1, 0], gamma, [False, True])


def test_undiscounted_optima_surely_end_or_do_not_exist() -> None:
    for going in (-1.0, 0.0, 1.0):
        best = two_ways([[0, going], [0, 0]]).optimum()
        np.testing.assert_array_equal(best.policy[0], [0, 1])
        assert best.objective == going
    with pytest.raises(UsageError, match=r"gains for ever; allowed: gamma below 1"):
        two_ways([[0.1, 1], [0, 0]]).optimum()
    best = two_ways([[0.1, 0.5], [0, 0]], 0.9).optimum()
    np.testing.assert_array_equal(best.policy[0], [1, 0])
    np.testing.assert_allclose(best.objective, 1)


@double
def test_what_is_given_for_terminal_states_is_not_read() -> None:
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
def test_the_natural_gradient_moves_the_policy_alike_in_all_linear_coordinates() -> None:
    mdp = random_mdp(8, ends=False)
    theta = logits(mdp)
    matrix = jnp.asarray(np.random.default_rng(13).normal(size=(theta.size, theta.size)))

    def of_coordinates(x: Array) -> Array:
        return jax.nn.softmax((matrix @ x).reshape(theta.shape))

    x = jnp.linalg.solve(matrix, theta.ravel())
    directions = []
    for policy_of, params in ((jax.nn.softmax, theta), (of_coordinates, x)):
        directions.append(jax.jvp(policy_of, (params,), (natural_of(mdp, policy_of, params),))[1])
    close(directions[1], directions[0], 1e-8)


@double
def test_what_is_hardly_visited_has_its_natural_gradient_too() -> None:
    mdp = TabularMDP(
        transition=[[[1 - 1e-9, 1e-9, 0]] * 2, [[0, 1, 0]] * 2, [[0, 0, 1]] * 2],
        reward=[[1, 0], [0, 1], [0, 1]],
        initial=[1, 0, 0],
        gamma=0.5,
    )
    natural = natural_of(mdp, jax.nn.softmax, jnp.zeros((3, 2)))
    close(natural, np.array([[0.5, -0.5], [-0.5, 0.5], [0, 0]]), 1e-6)


@pytest.mark.parametrize("mdp", [MDPS["episodic"], MDPS["horizon"]], ids=["episodic", "horizon"])
def test_single_precision_comes_close(mdp: TabularMDP) -> None:
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


# -------------------------------------------------------------------------------------- linear-quadratic problems


@double
@pytest.mark.parametrize(
    ("gamma", "horizon", "leading"), [(0.9, None, ()), (0.9, 6, ()), (1.0, 6, (6,))], ids=["endless", "6", "changing"]
)
def test_objective_agrees_with_a_simulation(gamma: float, horizon: int | None, leading: tuple[int, ...]) -> None:
    lqr, policy = stable_lqr(gamma, horizon), linear_gaussian(*leading)
    steps, episodes = horizon or 150, 20_000
    random = np.random.default_rng(14)
    x = random.multivariate_normal(lqr.initial_mean, lqr.initial_cov, episodes)
    result = np.zeros(episodes)
    for t in range(steps):
        gain, offset, log_std = (np.asarray(part)[t] if leading else np.asarray(part) for part in policy)
        u = x @ gain.T + offset + np.exp(log_std) * random.normal(size=(episodes, 2))
        result -= gamma**t * (np.einsum("ei,ij,ej->e", x, lqr.q, x) + np.einsum("ei,ij,ej->e", u, lqr.r, u))
        x = x @ lqr.a.T + u @ lqr.b.T + random.multivariate_normal(np.zeros(3), lqr.noise, episodes)
    z = (float(jax.jit(lqr.objective)(policy)) - result.mean()) / (result.std() / np.sqrt(episodes))
    assert abs(z) < 4.5
    assert result.std() / np.sqrt(episodes) < 0.02 * abs(result.mean())


@double
def test_without_a_horizon_is_the_limit_of_long_horizons() -> None:
    policy = linear_gaussian()
    endless, long = (stable_lqr(0.9, horizon) for horizon in (None, 400))
    close(jax.jit(long.objective)(policy), jax.jit(endless.objective)(policy))
    gradients = [gradient_of(lqr, same, policy) for lqr in (endless, long)]
    close(gradients[1], gradients[0])
    close(long.optimum().policy[0], endless.optimum().policy)
    close(long.optimum().value, endless.optimum().value)
    close(np.asarray(long.optimum().objective), np.asarray(endless.optimum().objective))


@double
@every_lqr
def test_gradient_of_a_linear_gaussian_against_finite_differences(lqr: LQR) -> None:
    policies = [linear_gaussian()] + ([linear_gaussian(lqr.horizon)] if lqr.horizon else [])
    for policy in policies:
        gradient = gradient_of(lqr, same, policy)
        close(gradient, finite_differences(lqr.objective, policy), 1e-7)


@double
@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.999])
def test_the_optimum_is_that_of_scipy_and_stationary(gamma: float) -> None:
    lqr = stable_lqr(gamma)
    best = lqr.optimum()
    a, b = np.sqrt(gamma) * lqr.a, np.sqrt(gamma) * lqr.b
    p = scipy.linalg.solve_discrete_are(a, b, lqr.q, lqr.r)
    close(best.value, p, 1e-8)
    close(best.policy, -np.linalg.solve(lqr.r + b.T @ p @ b, b.T @ p @ a), 1e-8)
    objective = jax.jit(lqr.objective)
    for log_std in (-jnp.inf, -30.0):
        policy = LinearGaussian(jnp.asarray(best.policy), jnp.zeros(2), jnp.full(2, log_std))
        np.testing.assert_allclose(objective(policy), best.objective, rtol=1e-9)
    noisy = policy._replace(log_std=jnp.zeros(2))
    gradient = gradient_of(lqr, same, noisy)
    np.testing.assert_allclose(gradient.gain, 0, atol=1e-6)
    np.testing.assert_allclose(gradient.offset, 0, atol=1e-6)
    assert (np.asarray(gradient.log_std) < -0.1).all()


@pytest.mark.parametrize("q", [1e-12, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("a", [1.0, 1.5])
def test_the_optimum_of_one_number_is_the_root_of_a_quadratic(a: float, q: float) -> None:
    """With the least cost and a = 1, the state decays by 1e-6 a step."""
    gamma = 1 - 1e-12
    lqr = LQR([[a]], [[1]], [[q]], [[1]], [[0]], [1], [[0]], gamma)
    half = (gamma * (a**2 + q) - 1) / 2
    root = np.sqrt(half**2 + gamma * q)
    p = (half + root) / gamma if half > 0 else q / (root - half)
    best = lqr.optimum()
    np.testing.assert_allclose(best.value, p, rtol=1e-9)
    np.testing.assert_allclose(best.policy, -gamma * p * a / (1 + gamma * p), rtol=1e-9)


@double
def test_with_a_horizon_every_other_gain_is_worse() -> None:
    lqr = stable_lqr(0.95, 4)
    best = lqr.optimum()
    flat = jnp.asarray(best.policy.ravel())

    def objective(flat: Array) -> Array:
        gain = flat.reshape(best.policy.shape)
        return lqr.objective(LinearGaussian(gain, jnp.zeros(2), jnp.full(2, -jnp.inf)))

    close(objective(flat), np.asarray(best.objective))
    moved = jnp.concatenate([flat[None] + size * jnp.eye(flat.size) for size in (-0.03, 0.03)])
    assert (np.asarray(jax.jit(jax.vmap(objective))(moved)) < best.objective - 1e-7).all()
    np.testing.assert_array_equal(best.policy[-1], 0)
    assert np.abs(best.policy[0] - best.policy[1]).max() > 1e-3


@double
def test_unstable_policies_are_worth_minus_infinity_without_a_gradient() -> None:
    """The boundary is a spectral radius of 1 / sqrt(gamma)."""
    one: dict[str, Any] = {
        "b": [[1.0]],
        "q": [[1.0]],
        "r": [[1.0]],
        "noise": [[0.1]],
        "initial_mean": [1.0],
        "initial_cov": [[0.0]],
    }
    lqr = LQR(a=[[0.5]], **one, gamma=0.64)

    def policy(closed: float) -> LinearGaussian:
        return LinearGaussian(jnp.full((1, 1), closed - 0.5), jnp.zeros(1), jnp.zeros(1))

    objective = jax.jit(lqr.objective)
    methods = (lqr.gradient, lqr.natural_gradient)
    gradients = [jax.jit(functools.partial(method, same)) for method in methods]
    values = [float(objective(policy(closed))) for closed in (1.0, 1.2, 1.24, 1.2499)]
    assert np.isfinite(values).all()
    assert (np.diff(values) < 0).all()
    for closed in (1.25, 1.2501, -1.3, 3.0, 1e200):
        assert objective(policy(closed)) == -np.inf
        for gradient in gradients:
            assert np.isnan(ravel_pytree(gradient(policy(closed)))[0]).any()
    # Whirling: both eigenvalues are complex.
    eye = np.eye(2)
    two: dict[str, Any] = {"b": eye, "q": eye, "r": eye, "noise": eye, "initial_mean": [1, 1], "initial_cov": eye}
    whirl = LQR(a=[[0.0, 1.0], [-1.0, 0.0]], **two, gamma=0.64)
    for scale, finite in ((1.24, True), (1.26, False)):
        whirling = LinearGaussian(jnp.asarray((scale - 1) * whirl.a), jnp.zeros(2), jnp.zeros(2))
        assert np.isfinite(jax.jit(whirl.objective)(whirling)) == finite
    assert np.isfinite(LQR(a=[[0.5]], **one, gamma=1.0, horizon=9).objective(policy(3.0)))


@double
@every_lqr
def test_the_natural_gradient_of_a_linear_gaussian_is_that_of_fazel(lqr: LQR) -> None:
    """Fazel et al. 2018 (arXiv 1801.05039), in the coordinates (x, 1) and with the policy's own noise.

    -2 std^2 ((R + gamma B^T P B) G + gamma B^T P A) for the mean, -std_i^2 (R + gamma B^T P B)_ii for log_std.
    """
    policy = linear_gaussian() if lqr.horizon is None else linear_gaussian(lqr.horizon)
    natural = natural_of(lqr, same, policy)
    a, b, q = scipy.linalg.block_diag(lqr.a, 1), np.pad(lqr.b, ((0, 1), (0, 0))), np.pad(lqr.q, (0, 1))
    p = np.zeros((4, 4))
    expected = []
    steps = lqr.horizon or 2000
    for t in reversed(range(steps)):
        part = [np.asarray(x) if lqr.horizon is None else np.asarray(x)[t] for x in policy]
        affine, variance = np.column_stack(part[:2]), np.exp(2 * part[2])
        curvature = lqr.r + lqr.gamma * b.T @ p @ b
        mean = -2 * variance[:, None] * (curvature @ affine + lqr.gamma * b.T @ p @ a)
        expected.append((mean[:, :3], mean[:, 3], -variance * np.diag(curvature)))
        closed = a + b @ affine
        p = q + affine.T @ lqr.r @ affine + lqr.gamma * closed.T @ p @ closed
    if lqr.horizon is None:
        close(natural, LinearGaussian(*expected[-1]), 1e-8)
    else:
        stacked = [np.stack(part) for part in zip(*reversed(expected), strict=True)]
        # The initial state moves in two directions of three, and the constant: there the step is of least norm.
        close(natural.log_std, stacked[2], 1e-8)
        close(natural.gain[2:], stacked[0][2:], 1e-6)
        close(natural.offset[2:], stacked[1][2:], 1e-6)


@double
def test_the_natural_gradient_of_an_lqr_ascends_alike_in_all_linear_coordinates() -> None:
    lqr, policy = stable_lqr(), linear_gaussian()
    flat, unravel = ravel_pytree(policy)
    matrix = jnp.asarray(np.random.default_rng(15).normal(size=(flat.size, flat.size)))
    natural = natural_of(lqr, same, policy)
    coordinates = natural_of(lqr, lambda x: unravel(matrix @ x), jnp.linalg.solve(matrix, flat))
    close(unravel(matrix @ coordinates), natural, 1e-7)


def test_single_precision_lqr_comes_close() -> None:
    lqr = stable_lqr()
    with jax.enable_x64(True):
        policy = linear_gaussian()
        exact = jax.jit(lqr.objective)(policy), natural_of(lqr, same, policy)
    policy = linear_gaussian()
    single = jax.jit(lqr.objective)(policy), natural_of(lqr, same, policy)
    assert single[0].dtype == jnp.float32
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=1e-3), single, exact)


def test_where_the_state_does_not_go_the_natural_gradient_is_zero() -> None:
    """One step from a known state: F is of rank 1 for each action, whatever rounding makes of it."""
    random = np.random.default_rng(16)
    n, mean = 8, random.normal(size=8)
    lqr = LQR(np.eye(n), np.eye(n, 1), np.eye(n), [[2]], np.eye(n), mean, np.zeros((n, n)), 0.9, horizon=1)
    policy = LinearGaussian(jnp.asarray(random.normal(size=(1, n))), jnp.ones(1), jnp.zeros(1))
    natural = natural_of(lqr, same, policy)
    z = np.append(mean, 1)
    expected = -2 * 2 * policy.affine @ np.outer(z, z) / (z @ z)
    close(natural.affine, expected, 1e-4)


# ------------------------------------------------------------------------------------------------- environments


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
def test_agents_learn_from_them(agent: Any, problem: TabularMDP | LQR) -> None:
    env = make(problem.env, max_episode_steps=problem.horizon)
    agent = agent.prepared()
    loop = training.initialize(agent, env, jax.random.key(0), 100)
    after, metrics = jax.jit(training.iterate, static_argnums=1)(agent, env, loop)
    before, now = (ravel_pytree(x.agent_state.params)[0] for x in (loop, after))
    assert np.isfinite(now).all()
    assert (before != now).any()
    assert np.isfinite(metrics["train/objective"])


# ----------------------------------------------------------------------------------------------------- mistakes

TWO: dict[str, Any] = {
    "transition": np.full((2, 1, 2), 0.5),
    "reward": np.zeros((2, 1)),
    "initial": [1, 0],
    "gamma": 0.9,
}
ONE: dict[str, Any] = {
    "a": [[1]],
    "b": [[1]],
    "q": [[1]],
    "r": [[1]],
    "noise": [[1]],
    "initial_mean": [0],
    "initial_cov": [[1]],
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
def test_what_is_no_decision_process_is_refused(changed: dict[str, Any], message: str) -> None:
    TabularMDP(**TWO)
    with pytest.raises(UsageError, match=message):
        TabularMDP(**(TWO | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"b": [1]}, r"b has the shape \(1,\); allowed: \[n, m\]"),
        ({"a": np.eye(2)}, r"a has the shape \(2, 2\); allowed: \(1, 1\)"),
        ({"noise": [[-1]]}, r"noise is \[\[-1\.0\]\]; allowed: symmetric and positive semidefinite"),
        ({"r": [[0]]}, r"r has the eigenvalue 0; allowed: positive definite"),
        ({"initial_mean": [np.inf]}, r"initial_mean is not finite"),
        ({"gamma": 1.0}, r"gamma is 1 without a horizon; allowed"),
        ({"gamma": -0.1}, r"gamma is -0\.1"),
        ({"horizon": -1}, r"horizon is -1"),
    ],
)
def test_what_is_no_linear_quadratic_problem_is_refused(changed: dict[str, Any], message: str) -> None:
    LQR(**ONE, gamma=0.9)
    with pytest.raises(UsageError, match=message):
        LQR(**({"gamma": 0.9} | ONE | changed))


def test_an_unsymmetric_cost_is_refused() -> None:
    with pytest.raises(UsageError, match=r"q is .* allowed: symmetric"):
        dataclasses.replace(stable_lqr(), q=np.eye(3) + np.eye(3, k=1) / 10)


@pytest.mark.parametrize(
    "changed",
    [
        {"a": [[1.2, 0], [0, 0.5]], "b": [[0], [1]]},  # out of reach
        {"a": [[1.2, 0], [0, 0.5]], "b": [[1], [0]], "q": [[0, 0], [0, 1]]},  # at no cost
        {"a": [[1.2, 0], [0, 0.5]], "b": [[0, 0], [1, 1]], "r": np.eye(2)},
    ],
)
def test_what_cannot_be_stabilized_has_no_optimum(changed: dict[str, Any]) -> None:
    eye = np.eye(2)
    rest: dict[str, Any] = {
        "q": eye,
        "r": [[1]],
        "noise": eye,
        "initial_mean": [0, 0],
        "initial_cov": eye,
        "gamma": 0.9,
    } | changed
    with pytest.raises(UsageError, match=r"an eigenvalue of size 1\.13842; allowed: below 1"):
        LQR(**rest).optimum()
    assert np.isfinite(LQR(**rest, horizon=50).optimum().objective)


def test_a_policy_of_another_shape_is_refused() -> None:
    mdp, lqr = random_mdp(horizon=5), stable_lqr()
    with pytest.raises(UsageError, match=r"shape \(4, 2\); allowed: \(4, 3\) or \(5, 4, 3\)"):
        mdp.objective(jnp.zeros((4, 2)))
    with pytest.raises(UsageError, match=r"shape \(6, 4, 3\); allowed"):
        mdp.value(jnp.zeros((6, 4, 3)))
    with pytest.raises(UsageError, match=r"shape \(3, 2\); allowed: \(2, 3\)"):
        lqr.objective(LinearGaussian(jnp.zeros((3, 2)), jnp.zeros(2), jnp.zeros(2)))
