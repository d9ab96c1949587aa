"""Optimizers that look at matrices: which arrays they take for one, and what they do with long sides."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgd.ascent import Ascent, second_order
from rlgd.models.networks import network

GRADIENTS = np.random.default_rng(0).normal(size=(second_order.PERIOD + 2, 2, 3, 4))


def steps(name: str, shape: tuple[int, ...], **fields: Any) -> Any:
    """The steps along fixed gradients of an array of this shape, ``[updates, 6, 4]``."""
    transformation, w = Ascent(name, 0.1, epsilon=1e-3, **fields).transformation(), jnp.ones(shape)

    def update(state: Any, gradient: Any) -> tuple[Any, Any]:
        change, state = transformation.update(gradient, state, w)
        return state, change

    gradients = jnp.asarray(GRADIENTS, float).reshape(-1, *shape)
    path = jax.jit(lambda: jax.lax.scan(update, transformation.init(w), gradients))()[1]
    return np.asarray(path).reshape(-1, 6, 4)


@pytest.mark.parametrize("name", ["shampoo", "soap"])
def test_the_kernel_of_a_convolution_is_a_matrix_to_each_output(name: str) -> None:
    np.testing.assert_allclose(steps(name, (2, 3, 4)), steps(name, (6, 4)), rtol=1e-6)


def test_long_sides_have_the_diagonal_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_order, "LONGEST", 5)
    v, left, right = np.zeros((6, 4)), np.full(6, 1e-3), 1e-3 * np.eye(4)
    for t, (g, step) in enumerate(zip(GRADIENTS.reshape(-1, 6, 4), steps("shampoo", (6, 4)), strict=True), 1):
        v, left, right = 0.9 * v + 0.1 * g, left + (g**2).sum(axis=1), right + g.T @ g
        if t <= 10:
            values, vectors = np.linalg.eigh(right)
            roots = left[:, None] ** -0.25, vectors @ np.diag(values**-0.25) @ vectors.T
        np.testing.assert_allclose(step, 0.1 * roots[0] * v @ roots[1], rtol=1e-3, atol=1e-5)
    monkeypatch.setattr(second_order, "LONGEST", 3)
    same = {"momentum": 0.95, "second_moment": 0.95}
    np.testing.assert_allclose(steps("soap", (6, 4)), steps("adam", (6, 4), **same), rtol=1e-5)


def test_muon_takes_the_hidden_layers_of_a_policy_alone() -> None:
    """Adam, with Nesterov's momentum, has the first layer, the outputs, the biases and the standard deviations."""
    made = jax.eval_shape(network(3, 2, (8, 6)).init, jax.random.key(0))
    shapes = {"network": made, "log_std": jax.ShapeDtypeStruct((2,), float)}
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape), float), shapes)

    def step(name: str) -> Any:
        transformation = Ascent(name, 1.0, momentum=0.9).transformation()
        return transformation.update(params, transformation.init(params), params)[0]

    muon, adam = step("muon"), step("nadam")
    hidden = muon["network"]["Dense_1"].pop("kernel")
    adam["network"]["Dense_1"].pop("kernel")
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), muon, adam)
    assert np.all(np.abs(np.linalg.svd(hidden, compute_uv=False) - 1) < 0.35)  # as near 1 as five iterations bring it
