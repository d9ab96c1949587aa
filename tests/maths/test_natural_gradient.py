"""Fisher products against matrices, conjugate gradient against solvers, the line search against its rules."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd.maths import blocks, natural_gradient
from rlgd.maths.distributions import Bernoulli, Categorical, DiagGaussian, Distribution, MultiCategorical, TanhGaussian
from rlgd.maths.natural_gradient import Solution
from rlgd.system.layout import ACCELERATOR, CPU, Layout, laid_out

ROWS, INPUTS, OUTPUTS = 24, 3, 5
NVEC = (2, 3)


def outputs(params: dict[str, Array], x: Array) -> Array:
    """A network of one hidden layer, ``[..., OUTPUTS]``."""
    return jnp.tanh(x @ params["first"]) @ params["last"]


def gaussian(params: dict[str, Array], x: Array) -> DiagGaussian:
    """Whose standard deviations depend on the row, too."""
    return DiagGaussian(outputs(params, x)[..., :2], 0.3 * outputs(params, x)[..., 2:4])


def squashed(params: dict[str, Array], x: Array) -> TanhGaussian:
    plain = gaussian(params, x)
    return TanhGaussian(plain.mean, plain.log_std, -jnp.ones(2), jnp.full(2, 3.0))


POLICIES: dict[str, Callable[[Any, Any], Distribution]] = {
    "categorical": lambda params, x: Categorical(outputs(params, x)),
    "multi-categorical": lambda params, x: MultiCategorical(outputs(params, x), NVEC),
    "bernoulli": lambda params, x: Bernoulli(outputs(params, x)),
    "gaussian": gaussian,
    "squashed": squashed,
}
ACTIONS: dict[str, list[Any]] = {
    "categorical": list(range(OUTPUTS)),
    "multi-categorical": list(itertools.product(*map(range, NVEC))),
    "bernoulli": list(itertools.product(range(2), repeat=OUTPUTS)),
}


def problem(seed: int = 0) -> tuple[dict[str, Array], Array]:
    """Parameters and rows."""
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {"first": jax.random.normal(keys[0], (INPUTS, 2)), "last": jax.random.normal(keys[1], (2, OUTPUTS))}
    return params, jax.random.normal(keys[2], (ROWS, INPUTS))


def matrix_of(product: Callable[[Any], Any], like: Any) -> Array:
    """``[size, size]`` of a linear function of trees."""
    flat, unravel = ravel_pytree(like)
    return jax.vmap(lambda v: ravel_pytree(product(unravel(v)))[0])(jnp.eye(len(flat)))


def squares(function: Callable[[Any], Array], params: Any) -> Array:
    """J^T J, J the derivative of a function of parameters."""
    flat, unravel = ravel_pytree(params)
    derivative = jax.jacobian(lambda flat: function(unravel(flat)).reshape(-1))(flat)
    return derivative.T @ derivative


def explicit_fisher(name: str, params: Any, x: Array) -> Array:
    """The mean over rows of E[score score^T], by its definition: all actions weighted by their probability."""
    if name in ACTIONS:

        def weighted_score(params: Any, x: Array) -> Array:
            policy = POLICIES[name](params, x)
            log_prob = jnp.stack(
                [policy.log_prob(jnp.broadcast_to(jnp.array(a), (len(x), *np.shape(a)))) for a in ACTIONS[name]]
            )
            return jax.lax.stop_gradient(jnp.exp(0.5 * log_prob)) * log_prob

        return squares(lambda params: weighted_score(params, x), params) / len(x)
    std = jax.lax.stop_gradient(jnp.exp(gaussian(params, x).log_std))
    of_mean = squares(lambda params: gaussian(params, x).mean / std, params)
    return (of_mean + 2 * squares(lambda params: gaussian(params, x).log_std, params)) / len(x)


@pytest.mark.parametrize("name", POLICIES)
def test_the_product_is_that_of_the_fisher_matrix(name: str) -> None:
    """Of its definition, and of the KL's Hessian."""
    params, x = problem()
    flat, unravel = ravel_pytree(params)

    @jax.jit
    def matrices() -> tuple[Array, ...]:
        plain, damped = (natural_gradient.fisher_product(POLICIES[name], params, x, damping=d) for d in (0.0, 0.5))
        hessian = jax.hessian(lambda new: natural_gradient.mean_kl(POLICIES[name], params, unravel(new), x))(flat)
        return matrix_of(plain, params), matrix_of(damped, params), hessian, explicit_fisher(name, params, x)

    fisher, damped, hessian, explicit = matrices()
    for expected in (hessian, explicit, damped - 0.5 * jnp.eye(len(flat))):
        np.testing.assert_allclose(fisher, expected, atol=2e-5)
    assert np.linalg.eigvalsh(fisher).max() > 0.1


def kl_and_product(name: str, x: Array, mask: Array | None) -> Any:
    params, other = (problem(seed)[0] for seed in range(2))

    @jax.jit
    def both(x: Array) -> Any:
        policy = POLICIES[name]
        product = natural_gradient.fisher_product(policy, params, x, mask)
        return natural_gradient.mean_kl(policy, params, other, x, mask), product(other)

    return both(x)


@pytest.mark.parametrize("name", POLICIES)
def test_masked_rows_count_for_nothing(name: str) -> None:
    mask, x = jnp.arange(ROWS) % 3 > 0, problem()[1]
    masked = kl_and_product(name, jnp.where(mask[:, None], x, 1e9), mask)
    alone = kl_and_product(name, x[mask], None)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), masked, alone)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "layout", [CPU._replace(block_rows=8), ACCELERATOR._replace(beside_rows=8)], ids=["in turn", "beside"]
)
def test_blocks_are_the_whole(layout: Layout, masked: bool) -> None:
    mask, x = jnp.arange(ROWS) % 5 > 1 if masked else None, problem()[1]
    whole = kl_and_product("gaussian", x, mask)
    with laid_out(layout):
        assert 3 in (blocks.num_blocks(ROWS), blocks.num_beside(ROWS, 1))
        in_blocks = kl_and_product("gaussian", x, mask)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), in_blocks, whole)


# ------------------------------------------------------------------------------------------------ conjugate gradient


def spectrum(eigenvalues: list[float], seed: int = 0) -> Array:
    """A symmetric matrix with these."""
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues), len(eigenvalues))))[0]
    return jnp.asarray((basis * eigenvalues) @ basis.T, jnp.float32)


def solve(matrix: Array, b: Array, iters: int) -> Solution:
    return jax.jit(lambda b: natural_gradient.conjugate_gradient(lambda v: matrix @ v, b, iters))(b)


@pytest.mark.parametrize("seed", range(3))
def test_positive_definite_systems_are_solved(seed: int) -> None:
    matrix, b = spectrum([1, 2, 3, 5, 8, 10], seed), jax.random.normal(jax.random.key(seed), (6,))
    solution = solve(matrix, b, 6)
    np.testing.assert_allclose(solution.x, jnp.linalg.solve(matrix, b), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(solution.curvature, solution.x @ matrix @ solution.x, rtol=1e-5)
    assert solution.residual < 1e-5


@pytest.mark.parametrize("iters", [1, 2, 4])
def test_the_residual_is_the_true_one(iters: int) -> None:
    matrix, b = spectrum([0.01, 0.3, 1, 4, 30, 100]), jnp.arange(1.0, 7.0)
    solution = solve(matrix, b, iters)
    true = jnp.linalg.norm(b - matrix @ solution.x) / jnp.linalg.norm(b)
    assert true > 0.01
    np.testing.assert_allclose(solution.residual, true, rtol=1e-4)
    assert solution.iterations == iters


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_singular_systems_are_solved_where_they_can_be(damping: float) -> None:
    """Without damping the shortest solution is found, that of the pseudo-inverse; too many steps do no harm."""
    matrix = spectrum([0, 0, 1, 2, 4])
    b = matrix @ jnp.arange(1.0, 6.0)
    whole = matrix + damping * jnp.eye(5)
    solution = solve(whole, b, 50)
    np.testing.assert_allclose(solution.x, jnp.linalg.pinv(whole, rtol=1e-4) @ b, atol=1e-4)
    assert solution.residual < 1e-5


def test_a_direction_without_curvature_ends_it() -> None:
    solution = solve(jnp.zeros((3, 3)), jnp.arange(3.0), 5)
    np.testing.assert_array_equal(solution.x, 0)
    np.testing.assert_array_equal([solution.curvature, solution.residual], [0, 1])


def test_nothing_is_the_solution_of_nothing() -> None:
    solution = solve(spectrum([1, 2, 3]), jnp.zeros(3), 5)
    np.testing.assert_array_equal(solution.x, 0)
    np.testing.assert_array_equal([solution.curvature, solution.residual, solution.iterations], [0, 0, 0])


@pytest.mark.parametrize("where", ["matrix", "b"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(where: str, value: float) -> None:
    matrix, b = spectrum([1, 2, 3]), jnp.ones(3)
    if where == "matrix":
        matrix = matrix.at[0, 0].set(value)
    else:
        b = b.at[1].set(value)
    assert not np.isfinite(solve(matrix, b, 5).residual)


# ------------------------------------------------------------------------------------------------ line search


def search(max_kl: float, length: float = 1.0, max_backtracks: int = 10, **options: Any) -> natural_gradient.Search:
    """From 0 on a line where the KL is x^2 and the gain x (3 - x)."""

    def run(start: Array) -> natural_gradient.Search:
        def measure(x: Array) -> tuple[Array, Array]:
            return jnp.square(x), x * (3 - x)

        return natural_gradient.line_search(start, jnp.float32(length), measure, max_kl, 0.5, max_backtracks, **options)

    return jax.jit(run)(jnp.zeros(()))


@pytest.mark.parametrize(("max_kl", "backtracks"), [(1.0, 0), (0.99, 1), (0.25, 1), (0.2, 2), (1e-4, 7)])
def test_the_first_step_within_the_region_is_taken(max_kl: float, backtracks: int) -> None:
    found = search(max_kl)
    assert found.accepted
    assert found.backtracks == backtracks
    assert found.params == 0.5**backtracks
    assert found.kl == found.params**2 <= max_kl
    np.testing.assert_allclose(found.gain, found.params * (3 - found.params))


def test_none_is_taken_if_none_is_good() -> None:
    for found in (
        search(1e-4, max_backtracks=6),
        search(1.0, np.nan),
        search(1.0, np.inf),
        search(1.0, -1.0, least_gain=0.0),
    ):
        assert not found.accepted
        np.testing.assert_array_equal([found.params, found.kl, found.gain], 0)
    assert search(1e-4, max_backtracks=6).backtracks == 6
    assert not search(1e-4, max_backtracks=0).accepted


def test_the_gain_has_to_be_large_enough() -> None:
    found = search(100.0, 4.0, least_gain=0.0)  # the whole step lies beyond the summit, at a loss
    np.testing.assert_array_equal([found.params, found.backtracks], [2, 1])
    assert search(100.0, 4.0).params == 4
    assert not search(100.0, 4.0, least_gain=2.2).accepted
