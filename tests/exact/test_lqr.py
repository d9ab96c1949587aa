"""Linear-quadratic control against simulation, finite differences, SciPy, and the theorems about it."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd.errors import UsageError
from rlgd.exact import LQR, LinearGaussian
from tests.support.exact_problems import (
    close,
    double,
    every_lqr,
    finite_differences,
    gradient_of,
    linear_gaussian,
    natural_of,
    same,
    stable_lqr,
)


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
def test_no_horizon_is_the_limit_of_long_horizons() -> None:
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
def test_the_optimum_equals_scipys_and_is_stationary(gamma: float) -> None:
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
def test_unstable_policies_have_value_minus_infinity_and_no_gradient() -> None:
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
    # A rotation: both eigenvalues are complex.
    eye = np.eye(2)
    two: dict[str, Any] = {"b": eye, "q": eye, "r": eye, "noise": eye, "initial_mean": [1, 1], "initial_cov": eye}
    rotation = LQR(a=[[0.0, 1.0], [-1.0, 0.0]], **two, gamma=0.64)
    for scale, finite in ((1.24, True), (1.26, False)):
        rotating = LinearGaussian(jnp.asarray((scale - 1) * rotation.a), jnp.zeros(2), jnp.zeros(2))
        assert np.isfinite(jax.jit(rotation.objective)(rotating)) == finite
    assert np.isfinite(LQR(a=[[0.5]], **one, gamma=1.0, horizon=9).objective(policy(3.0)))


@double
@every_lqr
def test_the_natural_gradient_of_a_linear_gaussian_equals_the_formula_of_fazel(lqr: LQR) -> None:
    """Fazel et al. 2018 (arXiv 1801.05039), in the coordinates (x, 1) and with the policy's own noise.

    -2 std^2 ((R + gamma B^T P B) G + gamma B^T P A) for the mean, -std_i^2 (R + gamma B^T P B)_ii for log_std.
    """
    policy = linear_gaussian() if lqr.horizon is None else linear_gaussian(lqr.horizon)
    natural = natural_of(lqr, same, policy)
    a, b, q = scipy.linalg.block_diag(lqr.a, 1), np.pad(lqr.b, ((0, 1), (0, 0))), np.pad(lqr.q, (0, 1))
    p = np.zeros((4, 4))
    expected: list[tuple[Any, ...]] = []
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


def test_single_precision_is_close() -> None:
    lqr = stable_lqr()
    with jax.enable_x64(True):
        policy = linear_gaussian()
        exact = jax.jit(lqr.objective)(policy), natural_of(lqr, same, policy)
    policy = linear_gaussian()
    single = jax.jit(lqr.objective)(policy), natural_of(lqr, same, policy)
    assert single[0].dtype == jnp.float32
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=1e-3), single, exact)


def test_the_natural_gradient_is_zero_where_the_state_does_not_go() -> None:
    """One step from a known state: F has rank 1 for each action, also after rounding."""
    random = np.random.default_rng(16)
    n, mean = 8, random.normal(size=8)
    lqr = LQR(np.eye(n), np.eye(n, 1), np.eye(n), [[2]], np.eye(n), mean, np.zeros((n, n)), 0.9, horizon=1)
    policy = LinearGaussian(jnp.asarray(random.normal(size=(1, n))), jnp.ones(1), jnp.zeros(1))
    natural = natural_of(lqr, same, policy)
    z = np.append(mean, 1)
    expected = -2 * 2 * policy.affine @ np.outer(z, z) / (z @ z)
    close(natural.affine, expected, 1e-4)


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
def test_arrays_that_are_not_a_linear_quadratic_problem_are_refused(changed: dict[str, Any], message: str) -> None:
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
def test_a_problem_that_cannot_be_stabilized_has_no_optimum(changed: dict[str, Any]) -> None:
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
