"""Returns against the sums that define them, written out row by row, in float64."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlgd.maths import returns

Column = NDArray[Any]
T, N = 6, 6  # equal: a shape that is off by a transpose must not pass unnoticed
SHARES = st.floats(0, 1, width=16)


def stream(seed: int, shape: tuple[int, ...] = (T, N)) -> dict[str, Column]:
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=shape) for name in ("reward", "value", "next_value")}
    discount = 0.9 * (rng.random(shape) > 0.2)
    trace = rng.random(shape) * (rng.random(shape) > 0.2)
    return arrays | {"discount": discount, "gae_lambda": trace, "ratio": rng.exponential(size=shape)}


def by_column(loop: Callable[..., list[float]], *arrays: Column, **constants: float) -> Column:
    """``loop`` over every column of ``[T, N]`` arrays."""
    columns = zip(*(np.moveaxis(x, 1, 0) for x in arrays), strict=True)
    return np.stack([loop(*column, **constants) for column in columns], axis=1)


def as_float64(x: dict[str, Column], *names: str) -> dict[str, jax.Array]:
    return {name: jnp.asarray(x[name], jnp.float64) for name in names}


def lambda_return(reward: Column, discount: Column, next_value: Column, trace: Column) -> list[float]:
    result, last = [], len(reward) - 1
    for t in range(len(reward)):
        total, weight = 0.0, 1.0
        for k in range(t, len(reward)):
            further = trace[k] if k < last else 0.0
            total += weight * (reward[k] + discount[k] * (1 - further) * next_value[k])
            weight *= discount[k] * further
        result.append(total)
    return result


def n_step_return(reward: Column, discount: Column, next_value: Column, n: int) -> list[float]:
    result = []
    for t in range(len(reward)):
        total, weight = 0.0, 1.0
        for k in range(t, min(t + n, len(reward))):
            total += weight * reward[k]
            weight *= discount[k]
        result.append(total + weight * next_value[k])
    return result


def advantage_sum(
    reward: Column,
    value: Column,
    next_value: Column,
    terminated: Column,
    truncated: Column,
    gamma: float,
    gae_lambda: float,
) -> list[float]:
    result = []
    for t in range(len(reward)):
        total, weight = 0.0, 1.0
        for k in range(t, len(reward)):
            bootstrap = 0.0 if terminated[k] else gamma * next_value[k]
            total += weight * (reward[k] + bootstrap - value[k])
            if terminated[k] or truncated[k]:
                break
            weight *= gamma * gae_lambda
        result.append(total)
    return result


def vtrace_target(
    reward: Column,
    value: Column,
    next_value: Column,
    discount: Column,
    ratio: Column,
    trace: Column,
    clip_rho: float,
    clip_c: float,
) -> list[float]:
    result = []
    for s in range(len(reward)):
        total, weight = value[s], 1.0
        for t in range(s, len(reward)):
            delta = reward[t] + discount[t] * next_value[t] - value[t]
            total += weight * min(clip_rho, ratio[t]) * delta
            weight *= discount[t] * trace[t] * min(clip_c, ratio[t])
        result.append(total)
    return result


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0, None])
def test_lambda_returns_equal_the_forward_sum(gae_lambda: float | None) -> None:
    x = stream(0)
    trace = x["gae_lambda"] if gae_lambda is None else np.full((T, N), gae_lambda)
    with jax.enable_x64(True):
        arrays = as_float64(x, "reward", "discount", "next_value")
        weight = jnp.asarray(trace) if gae_lambda is None else gae_lambda
        result = returns.lambda_returns(**arrays, gae_lambda=weight)
    expected = by_column(lambda_return, x["reward"], x["discount"], x["next_value"], trace)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, T, T + 5])
def test_n_step_returns_equal_the_forward_sum(n: int) -> None:
    x = stream(1)
    with jax.enable_x64(True):
        result = returns.n_step_returns(**as_float64(x, "reward", "discount", "next_value"), n=n)
    expected = by_column(n_step_return, x["reward"], x["discount"], x["next_value"], n=n)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def test_discounted_returns_are_n_step_returns_without_an_end() -> None:
    x = stream(2)
    with jax.enable_x64(True):
        arrays = as_float64(x, "reward", "discount", "value")
        result = returns.discounted_returns(arrays["reward"], arrays["discount"], arrays["value"][0])
    bootstrap = np.broadcast_to(x["value"][0], (T, N))
    expected = by_column(n_step_return, x["reward"], x["discount"], bootstrap, n=T)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("clip_rho", "clip_c"), [(1.0, 1.0), (2.0, 0.5), (np.inf, np.inf)])
def test_vtrace_equals_the_forward_sum(clip_rho: float, clip_c: float) -> None:
    x = stream(3)
    names = ("reward", "value", "next_value", "discount", "ratio", "gae_lambda")
    with jax.enable_x64(True):
        advantage, target = returns.vtrace(**as_float64(x, *names), clip_rho=clip_rho, clip_c=clip_c)
    expected = by_column(vtrace_target, *(x[name] for name in names), clip_rho=clip_rho, clip_c=clip_c)
    np.testing.assert_allclose(target, expected, rtol=1e-12, atol=1e-12)
    # The target of the next row replaces its value in the advantage, as far as the trace goes.
    excess = np.concatenate([(expected - x["value"])[1:], np.zeros((1, N))])
    following = x["reward"] + x["discount"] * (x["next_value"] + x["gae_lambda"] * excess)
    np.testing.assert_allclose(advantage, np.minimum(clip_rho, x["ratio"]) * (following - x["value"]), atol=1e-12)


def test_vtrace_on_policy_gives_lambda_returns() -> None:
    x = {name: jnp.asarray(array, jnp.float32) for name, array in stream(4).items()}
    _, target = returns.vtrace(
        x["reward"],
        jnp.concatenate([x["value"][:1], x["next_value"][:-1]]),
        x["next_value"],
        x["discount"],
        jnp.ones((T, N)),
        x["gae_lambda"],
    )
    expected = returns.lambda_returns(x["reward"], x["discount"], x["next_value"], x["gae_lambda"])
    np.testing.assert_allclose(target, expected, atol=1e-5)


# Every way in which four rows can end: not, terminated, truncated, or both, in each of them.
ENDS = np.array(list(itertools.product(range(4), repeat=4))).T
TERMINATED, TRUNCATED = ENDS % 2 == 1, ENDS >= 2


@given(seed=st.integers(0, 1000), gamma=SHARES, gae_lambda=SHARES)
def test_gae_equals_the_sum_of_td_errors_for_every_pattern_of_ends(seed: int, gamma: float, gae_lambda: float) -> None:
    x = stream(seed, ENDS.shape)
    columns = (x["reward"], x["value"], x["next_value"], TERMINATED, TRUNCATED)
    with jax.enable_x64(True):
        advantage, target = jax.jit(returns.gae)(*map(jnp.asarray, columns), gamma, gae_lambda)
    expected = by_column(advantage_sum, *columns, gamma=gamma, gae_lambda=gae_lambda)
    np.testing.assert_allclose(advantage, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(target, expected + x["value"], rtol=1e-12, atol=1e-12)


def normalized_advantage(
    reward: Column,
    value: Column,
    next_value: Column,
    terminated: Column,
    truncated: Column,
    gamma: float,
    gae_lambda: float,
    at_terminations: bool,
) -> list[float]:
    """The average of all advantages over k steps that there are, with weights that sum to one."""
    result = []
    for t in range(len(reward)):
        over_k, weights, total, discount = list[float](), list[float](), 0.0, 1.0
        for k in range(t, len(reward)):
            total += discount * (reward[k] + (0.0 if terminated[k] else gamma * next_value[k]) - value[k])
            over_k.append(total)
            weights.append(gae_lambda ** (k - t))
            if terminated[k] or truncated[k]:
                break
            discount *= gamma
        if terminated[k] and not at_terminations and gae_lambda < 1:
            weights[-1] /= 1 - gae_lambda  # all longer ones are equal to it
        elif terminated[k] and not at_terminations:
            weights = [0.0] * (len(weights) - 1) + [1.0]
        result.append(float(np.average(over_k, weights=weights)))
    return result


@pytest.mark.parametrize("correction", ["windows", "ends"])
@given(seed=st.integers(0, 1000), gamma=SHARES, gae_lambda=SHARES)
def test_a_correction_gives_every_number_of_steps_its_share(
    correction: str, seed: int, gamma: float, gae_lambda: float
) -> None:
    x = stream(seed, ENDS.shape)
    columns = (x["reward"], x["value"], x["next_value"], TERMINATED, TRUNCATED)
    with jax.enable_x64(True):
        corrected = jax.jit(returns.gae, static_argnums=7)
        advantage, target = corrected(*map(jnp.asarray, columns), gamma, gae_lambda, correction)
    options = {"gamma": gamma, "gae_lambda": gae_lambda, "at_terminations": correction == "ends"}
    expected = by_column(normalized_advantage, *columns, **options)
    np.testing.assert_allclose(advantage, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(target, expected + x["value"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("flag", ["terminated", "truncated"])
@pytest.mark.parametrize("row", range(T))
def test_an_end_separates_the_rows_before_and_after_it(row: int, flag: str) -> None:
    x = {name: jnp.asarray(array, jnp.float32) for name, array in stream(5).items()}
    never = jnp.zeros((T, N), bool)
    flags: dict[str, Any] = {"terminated": never, "truncated": never}
    ended = flags | {flag: never.at[row].set(True)}

    def advantage(change: float, flags: dict[str, Any]) -> NDArray[Any]:
        reward, value, next_value = (x[name].at[row + 1 :].add(change) for name in ("reward", "value", "next_value"))
        return np.asarray(returns.gae(reward, value, next_value, **flags, gamma=0.9, gae_lambda=0.8)[0])

    np.testing.assert_array_equal(advantage(0.0, ended)[: row + 1], advantage(7.0, ended)[: row + 1])
    np.testing.assert_array_equal(advantage(0.0, ended)[row + 1 :], advantage(0.0, flags)[row + 1 :])


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "lambda_returns": (returns.lambda_returns, ("reward", "discount", "next_value", "gae_lambda")),
    "n_step_returns": (
        lambda reward, discount, next_value: returns.n_step_returns(reward, discount, next_value, 3),
        ("reward", "discount", "next_value"),
    ),
    "gae": (
        lambda reward, value, next_value, terminated, truncated: returns.gae(
            reward, value, next_value, terminated, truncated, 0.9, 0.8
        ),
        ("reward", "value", "next_value", "terminated", "truncated"),
    ),
    "vtrace": (returns.vtrace, ("reward", "value", "next_value", "discount", "ratio", "gae_lambda")),
}


def arguments(names: tuple[str, ...], shape: tuple[int, ...] = (T, N)) -> dict[str, jax.Array]:
    flags = np.random.default_rng(0).random((2, *shape)) < 0.2
    arrays = {name: jnp.asarray(array, jnp.float32) for name, array in stream(6, shape).items()}
    arrays |= {"terminated": jnp.asarray(flags[0]), "truncated": jnp.asarray(flags[1])}
    return {name: arrays[name] for name in names}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batch_axes_are_independent_and_float32_stays(name: str) -> None:
    function, names = FUNCTIONS[name]
    x = arguments(names, (T, 2, 3))
    batched = function(**x)
    one_by_one = jax.vmap(jax.vmap(lambda x: function(**x), in_axes=1, out_axes=1), in_axes=2, out_axes=2)(x)
    for a, b in zip(jax.tree.leaves(batched), jax.tree.leaves(one_by_one), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "argument", "shape"),
    [
        (name, argument, shape)
        for name, (_, names) in FUNCTIONS.items()
        for argument in names
        for shape in [(T, 1), (T,)]
        # A column of lambdas is one number for each row of time; a flat one would be taken for one of each stream.
        if argument != "reward" and (argument != "gae_lambda" or shape == (T,))
    ],
)
def test_shapes_that_would_broadcast_are_refused(name: str, argument: str, shape: tuple[int, ...]) -> None:
    function, names = FUNCTIONS[name]
    x = arguments(names)
    x[argument] = x[argument][:, :1].reshape(shape)
    with pytest.raises(ValueError, match=argument):
        function(**x)


def test_other_mistakes_are_refused() -> None:
    x = arguments(("reward", "discount", "next_value"))
    with pytest.raises(ValueError, match="n is 0; allowed: at least 1"):
        returns.n_step_returns(**x, n=0)
    with pytest.raises(ValueError, match=r"bootstrap_value has shape \(6, 6\); expected \(6,\)"):
        returns.discounted_returns(x["reward"], x["discount"], x["next_value"])
    with pytest.raises(ValueError, match="time first"):
        returns.lambda_returns(**{name: a[0, 0] for name, a in x.items()}, gae_lambda=0.9)
