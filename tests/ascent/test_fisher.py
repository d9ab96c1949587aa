"""Optimizers that are given an estimate of the Fisher matrix, against NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgd.ascent import Ascent
from rlgd.ascent.fisher import Fisher, dense_layers
from rlgd.ascent.second_order import LONGEST, PERIOD

UPDATES = PERIOD + 4
# The outputs' kernel is square, so that its name alone says that it is transposed; no factors are given of "other".
SHAPES = {
    "Dense_0": {"kernel": (3, 2), "bias": (2,)},
    "OutputLayer_0": {"kernel": (2, 2), "bias": (2,)},
    "other": {"kernel": (2, 2), "bias": (2,)},
    "log_std": (2,),
}
SIZES = {"Dense_0": (4, 2), "OutputLayer_0": (3, 2)}
M, B, E = 0.8, 0.9, 0.01


def random(seed: int, *batch: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda shape: rng.normal(size=(*batch, *shape)), SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def estimates() -> Fisher:
    """Scores, and factors as of a few rows, ``[UPDATES, ...]``."""
    rng = np.random.default_rng(1)
    rows = {name: [rng.normal(size=(UPDATES, 5, size)) for size in sizes] for name, sizes in SIZES.items()}
    factors = {name: tuple(np.swapaxes(x, 1, 2) @ x / 5 for x in pair) for name, pair in rows.items()}
    return Fisher(random(2, UPDATES), factors)


GRADIENTS, ESTIMATES = random(0, UPDATES), estimates()


def steps(ascent: Ascent) -> Any:
    """Along ``GRADIENTS``, ``[UPDATES, ...]``."""
    transformation, params = ascent.transformation(), jax.tree.map(jnp.asarray, random(3))

    def update(state: Any, given: Any) -> tuple[Any, Any]:
        gradient, fisher, number = given
        step, state = transformation.update(gradient, state, params, 0.0, number == 3, fisher=fisher)
        return state, step

    given = jax.tree.map(jnp.asarray, (GRADIENTS, ESTIMATES, np.arange(UPDATES)))
    return jax.lax.scan(update, transformation.init(params), given)[1]


def averages(xs: Any, coefficient: float, share: float = 1.0) -> Any:
    """Of each array's values so far; at the third update only a share of them is left."""
    average, path = 0 * xs[0], []
    for number, x in enumerate(xs):
        average = coefficient * (share * average if number == 3 else average) + (1 - coefficient) * x
        path.append(average)
    return np.array(path)


def same(steps: Any, expected: Any) -> None:
    np.testing.assert_allclose(steps, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("mode", ["keep", "decay"])
def test_sophia_divides_by_the_average_of_squared_scores(mode: str) -> None:
    share = 1.0 if mode == "keep" else 0.5
    ascent = Ascent("sophia", 0.1, momentum=M, second_moment=B, epsilon=E, rollout_moments=mode)
    with jax.enable_x64(True):
        got = steps(ascent)
    for step, gradient, score in zip(*map(jax.tree.leaves, (got, GRADIENTS, ESTIMATES.score)), strict=True):
        v, s = averages(gradient, M, share), averages(score**2, B, share)
        same(step, 0.1 * np.clip(v / np.maximum(0.05 * s, E), -1, 1))


def kfac(**fields: Any) -> Ascent:
    return Ascent("kfac", 0.1, momentum=M, second_moment=B, epsilon=E, **fields)


def test_kfac_solves_with_the_factors_of_a_layer_and_divides_the_rest_by_the_diagonal() -> None:
    with jax.enable_x64(True):
        got = steps(kfac())
    t = np.arange(1, UPDATES + 1)
    for name, (inputs, outputs) in ESTIMATES.factors.items():
        turn = (0, 2, 1) if name == "OutputLayer_0" else (0, 1, 2)

        def joined(tree: Any, name: str = name, turn: Any = turn) -> Any:
            kernel, bias = (np.asarray(tree[name][part]) for part in ("kernel", "bias"))
            return np.concatenate([kernel.transpose(turn), bias[:, None]], axis=1)

        v, (a, g) = averages(joined(GRADIENTS), M), (averages(x, B) for x in (inputs, outputs))
        for n, step in enumerate(joined(got)):
            if t[n] <= PERIOD or t[n] % PERIOD == 0:
                left, right = (x[n] / (1 - B ** t[n]) for x in (a, g))
                p = np.sqrt(np.trace(left) / len(left) / (np.trace(right) / len(right)))
                left, right = left + p * np.sqrt(E) * np.eye(len(left)), right + np.sqrt(E) / p * np.eye(len(right))
            solved = np.linalg.solve(np.kron(left, right), v[n].ravel()).reshape(v[n].shape)
            same(step, 0.1 * solved)
    rest = [{name: tree[name] for name in ("other", "log_std")} for tree in (got, GRADIENTS, ESTIMATES.score)]
    for step, gradient, score in zip(*map(jax.tree.leaves, rest), strict=True):
        bias = (1 - B**t).reshape(-1, *[1] * (score.ndim - 1))
        same(step, 0.1 * averages(gradient, M) / (averages(score**2, B) / bias + E))


def test_an_update_without_an_estimate_leaves_the_factors_and_uses_them() -> None:
    transformation, params = kfac().transformation(), jax.tree.map(jnp.asarray, random(3))
    gradient, fisher = jax.tree.map(lambda x: jnp.asarray(x[0], float), (GRADIENTS, ESTIMATES))
    _, state = transformation.update(gradient, transformation.init(params), params, fisher=fisher)
    step, after = transformation.update(gradient, state, params)
    jax.tree.map(np.testing.assert_array_equal, state[0][0].factors, after[0][0].factors)
    again, _ = transformation.update(gradient, state, params, fisher=fisher)  # the averages are those of one estimate
    for name in SIZES:
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), step[name], again[name])


def test_optimizers_that_read_no_estimate_ignore_it() -> None:
    jax.tree.map(np.testing.assert_array_equal, steps(Ascent("adam")), steps_without())
    assert [Ascent(name).fisher for name in ("adam", "sophia", "kfac")] == ["", "diagonal", "layers"]


def steps_without() -> Any:
    transformation, params = Ascent("adam").transformation(), jax.tree.map(jnp.asarray, random(3))

    def update(state: Any, gradient: Any) -> tuple[Any, Any]:
        step, state = transformation.update(gradient, state, params)
        return state, step

    return jax.lax.scan(update, transformation.init(params), jax.tree.map(jnp.asarray, GRADIENTS))[1]


def test_vmap_equals_a_loop() -> None:
    rates = (0.1, 0.3)
    together = jax.vmap(lambda rate: steps(Ascent("kfac", rate)))(jnp.array(rates))
    for n, rate in enumerate(rates):
        jax.tree.map(
            lambda x, y, n=n: np.testing.assert_allclose(x[n], y, rtol=1e-3), together, steps(Ascent("kfac", rate))
        )


def test_layers_are_kernels_and_biases_that_fit() -> None:
    def layer(*kernel: int, bias: int = 2) -> Any:
        return {"kernel": jnp.zeros(kernel), "bias": jnp.zeros(bias)}

    tree = {
        "a": layer(3, 2),
        "OutputLayer_1": layer(2, 5),
        "in": {"b": layer(2, 2)},
        **{"wrong": layer(2, 3), "conv": layer(3, 3, 4, 2), "long": layer(LONGEST, 2), "OutputLayer_2": layer(5, 2)},
        "free": {"kernel": jnp.zeros((3, 2))},
        "scale": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros((1, 2))},
        "kernel": jnp.zeros((3, 2)),
    }
    found = dense_layers(tree)
    assert {name: layer.sizes for name, layer in found.items()} == {
        "a": (4, 2), "OutputLayer_1": (6, 2), "in/b": (3, 2),
    }  # fmt: skip
    assert {name for name, layer in found.items() if layer.transposed} == {"OutputLayer_1"}
