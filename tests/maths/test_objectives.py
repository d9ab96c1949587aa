"""Objectives against NumPy, row by row, and the ways in which a mask or a number out of range could spoil them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import Array
from numpy.typing import NDArray

from rlgd.maths import objectives

ROWS = 12
EPS = 0.2


def columns(seed: int = 0, rows: int = ROWS) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    names = ("log_prob", "old_log_prob", "advantage", "value", "old_value", "value_target")
    return {name: rng.normal(size=rows).astype(np.float32) for name in names}


def surrogate_row(log_prob: float, old_log_prob: float, advantage: float) -> float:
    ratio = np.exp(log_prob - old_log_prob)
    return float(min(ratio * advantage, min(max(ratio, 1 - EPS), 1 + EPS) * advantage))


def clipped_error_row(value: float, old_value: float, value_target: float) -> float:
    clipped = old_value + min(max(value - old_value, -EPS), EPS)
    return 0.5 * max((value - value_target) ** 2, (clipped - value_target) ** 2)


def explained(value: NDArray[Any], value_target: NDArray[Any]) -> float:
    return float(1 - np.var(value_target - value) / np.var(value_target))


def with_eps(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda *args: function(*args[:-1], EPS, args[-1])


def mean_of(row: Callable[..., float]) -> Callable[..., float]:
    return lambda *xs: float(np.mean([row(*values) for values in zip(*xs, strict=True)]))


# name: the function with its mask last, what it takes, the same in NumPy
OBJECTIVES: dict[str, tuple[Callable[..., Array], tuple[str, ...], Callable[..., float]]] = {
    "score_function": (objectives.score_function, ("log_prob", "advantage"), lambda lp, a: float(np.mean(lp * a))),
    "surrogate": (
        objectives.surrogate,
        ("log_prob", "old_log_prob", "advantage"),
        lambda lp, old, a: float(np.mean(np.exp(lp - old) * a)),
    ),
    "clipped_surrogate": (
        with_eps(objectives.clipped_surrogate),
        ("log_prob", "old_log_prob", "advantage"),
        mean_of(surrogate_row),
    ),
    "value_error": (
        objectives.value_error,
        ("value", "value_target"),
        lambda v, target: float(0.5 * np.mean((v - target) ** 2)),
    ),
    "clipped_value_error": (
        with_eps(objectives.clipped_value_error),
        ("value", "old_value", "value_target"),
        mean_of(clipped_error_row),
    ),
}
DIAGNOSTICS: dict[str, tuple[Callable[..., Array], tuple[str, ...], Callable[..., float]]] = {
    "approx_kl": (
        objectives.approx_kl,
        ("log_prob", "old_log_prob"),
        lambda new, old: float(np.mean(np.exp(new - old) - 1 - (new - old))),
    ),
    "clip_fraction": (
        with_eps(objectives.clip_fraction),
        ("log_prob", "old_log_prob"),
        lambda new, old: float(np.mean(np.abs(np.exp(new - old) - 1) > EPS)),
    ),
    "explained_variance": (objectives.explained_variance, ("value", "value_target"), explained),
}
FUNCTIONS = OBJECTIVES | DIAGNOSTICS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_numpy_over_the_rows_of_the_mask(name: str) -> None:
    function, names, reference = FUNCTIONS[name]
    x = columns()
    masks = [None, np.ones(ROWS, bool), np.arange(ROWS) % 3 > 0, np.arange(ROWS) >= ROWS - 2]
    for mask in masks:
        rows = slice(None) if mask is None else mask
        result = function(*(jnp.asarray(x[n]) for n in names), None if mask is None else jnp.asarray(mask))
        assert result.shape == ()
        np.testing.assert_allclose(result, reference(*(x[n][rows] for n in names)), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_masked_rows_count_for_nothing_whatever_they_hold(name: str) -> None:
    function, names, _ = FUNCTIONS[name]
    mask = np.arange(ROWS) % 3 > 0
    x = [np.where(mask, columns()[n], np.nan) for n in names]
    kept = [jnp.asarray(array[mask]) for array in x]
    result = function(*map(jnp.asarray, x), jnp.asarray(mask))
    np.testing.assert_allclose(result, function(*kept, None), rtol=1e-5)
    no_row = function(*map(jnp.asarray, x), jnp.zeros(ROWS, bool))
    assert np.isfinite(no_row)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_masked_rows_have_no_gradient_whatever_they_hold(name: str) -> None:
    function, names, _ = FUNCTIONS[name]
    mask = np.arange(ROWS) % 3 > 0
    x = [np.where(mask, columns()[n], np.nan) for n in names]
    gradient = jax.grad(function)(*map(jnp.asarray, x), jnp.asarray(mask))
    kept = jax.grad(function)(*(jnp.asarray(array[mask]) for array in x), None)
    np.testing.assert_array_equal(gradient[~mask], 0)
    np.testing.assert_allclose(gradient[mask], kept, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        (name, argument)
        for name, (_, names, _) in OBJECTIVES.items()
        for argument in names
        if argument in ("advantage", "old_log_prob", "value_target")
    ],
)
def test_no_gradient_flows_into_what_is_given(name: str, argument: str) -> None:
    function, names, _ = FUNCTIONS[name]
    x = [jnp.asarray(columns()[n]) for n in names]
    gradients = jax.grad(function, argnums=tuple(range(len(names))))(*x, None)
    np.testing.assert_array_equal(gradients[names.index(argument)], 0)
    assert np.any(gradients[0])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_shapes_that_would_broadcast_are_refused(name: str) -> None:
    function, names, _ = FUNCTIONS[name]
    x = [jnp.asarray(columns()[n]) for n in names]
    with pytest.raises(ValueError, match="shapes differ"):
        function(*(a[None] for a in x[:-1]), x[-1][:, None], None)
    with pytest.raises(ValueError, match="shapes differ"):
        function(*(a[None] for a in x), jnp.ones((ROWS, 1), bool))


@pytest.mark.parametrize("name", ["score_function", "clipped_surrogate"])
def test_ascending_raises_the_probability_of_good_actions(name: str) -> None:
    function, names, _ = FUNCTIONS[name]
    x = columns() | {"old_log_prob": columns()["log_prob"]}
    gradient = jax.grad(function)(*(jnp.asarray(x[n]) for n in names), None)
    # At a ratio of 1 the gradient of both is the policy gradient, whatever the clipping.
    np.testing.assert_allclose(gradient, x["advantage"] / ROWS, rtol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "slope"),
    [(1.3, 1.0, 0.0), (1.3, -1.0, -1.3), (0.7, 1.0, 0.7), (0.7, -1.0, 0.0), (1.1, 1.0, 1.1), (0.9, -1.0, -0.9)],
)
def test_the_surrogate_is_flat_only_beyond_the_clip_in_the_direction_of_gain(
    ratio: float, advantage: float, slope: float
) -> None:
    gradient = jax.grad(objectives.clipped_surrogate)(
        jnp.log(jnp.array([ratio])), jnp.zeros(1), jnp.array([advantage]), EPS
    )
    np.testing.assert_allclose(gradient, [slope], rtol=1e-6)


@pytest.mark.parametrize("nats", [-200.0, 200.0])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_stays_finite_when_the_policy_has_moved_by_200_nats(nats: float, advantage: float) -> None:
    log_prob, old = jnp.array([nats, 0.0]), jnp.zeros(2)
    value, gradient = jax.value_and_grad(objectives.clipped_surrogate)(log_prob, old, jnp.full(2, advantage), EPS)
    assert np.all(np.isfinite([value, *gradient]))
    np.testing.assert_allclose(gradient[1], advantage / 2)
    assert np.all(np.isfinite(objectives.importance_ratio(log_prob, old)))
    assert np.isfinite(objectives.approx_kl(log_prob, old))
    assert objectives.clip_fraction(log_prob, old, EPS) == 0.5


def test_approx_kl_estimates_the_divergence_from_the_old_policy() -> None:
    rng = np.random.default_rng(1)
    old, new = rng.dirichlet(np.ones(4), 2)
    actions = rng.choice(4, size=200_000, p=old)
    estimate = objectives.approx_kl(*(jnp.asarray(np.log(p)[actions], jnp.float32) for p in (new, old)))
    np.testing.assert_allclose(estimate, np.sum(old * np.log(old / new)), rtol=0.02)


@given(
    rows=st.lists(st.floats(-1000, 1000, width=32), min_size=ROWS, max_size=ROWS),
    mask=st.lists(st.booleans(), min_size=ROWS, max_size=ROWS),
)
def test_normalized_advantages_have_mean_0_and_variance_1(rows: list[float], mask: list[bool]) -> None:
    x, keep = np.array(rows, np.float32), np.array(mask)
    result = np.asarray(objectives.normalize_advantage(jnp.asarray(np.where(keep, x, np.nan)), jnp.asarray(keep)))[keep]
    spread = np.std(x[keep].astype(float)) if keep.any() else 0.0
    if spread > 1e-2:
        np.testing.assert_allclose([np.mean(result), np.std(result)], [0, 1], atol=1e-2)
        assert np.all(np.diff(result[np.argsort(x[keep])]) >= 0)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e6])
@pytest.mark.parametrize("count", [1, 3, ROWS])
def test_equal_advantages_become_0(value: float, count: int) -> None:
    mask = jnp.arange(ROWS) < count
    np.testing.assert_array_equal(objectives.normalize_advantage(jnp.full(count, value)), 0)
    advantage = jnp.where(mask, value, jnp.nan)
    np.testing.assert_array_equal(objectives.normalize_advantage(advantage, mask)[:count], 0)


def test_clipping_only_raises_the_value_error() -> None:
    x = {name: jnp.asarray(array) for name, array in columns(2).items()}
    plain = objectives.value_error(x["value"], x["value_target"])
    errors = [
        objectives.clipped_value_error(x["value"], x["old_value"], x["value_target"], eps) for eps in (0.01, 0.2, 100.0)
    ]
    assert errors[0] > errors[1] > errors[2] - 1e-6
    np.testing.assert_allclose(errors[2], plain, rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "target", "expected"),
    [
        ([1.0, 2.0, 4.0], [1.0, 2.0, 4.0], 1.0),
        ([5.0, 5.0, 5.0], [1.0, 2.0, 4.0], 0.0),
        ([2.0, 3.0, 5.0], [1.0, 2.0, 4.0], 1.0),
        ([-1.0, -2.0, -4.0], [1.0, 2.0, 4.0], -3.0),
    ],
)
def test_explained_variance(value: list[float], target: list[float], expected: float) -> None:
    np.testing.assert_allclose(objectives.explained_variance(jnp.array(value), jnp.array(target)), expected, atol=1e-6)


def test_explained_variance_of_equal_targets_is_finite() -> None:
    """As in every rollout of a sparse task before its first reward."""
    assert np.isfinite(objectives.explained_variance(jnp.array([10.0, -20.0, 30.0]), jnp.zeros(3)))
