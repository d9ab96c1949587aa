"""Arithmetic on trees, against NumPy on flat vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgd.ascent.trees import apply_step, clip_by_norm, cosine, global_norm

A = {"w": jnp.array([[3.0, 0.0], [0.0, 0.0]]), "b": jnp.array([4.0])}  # norm 5
B = {"w": jnp.array([[1.0, 2.0], [0.0, 2.0]]), "b": jnp.array([0.0])}  # norm 3


def test_the_norm_is_that_of_all_leaves_together() -> None:
    assert global_norm(A) == 5.0
    assert global_norm(A).shape == ()


@pytest.mark.parametrize(("most", "norm"), [(None, 5.0), (10.0, 5.0), (5.0, 5.0), (1.0, 1.0), (0.0, 0.0)])
def test_clipping_shortens_and_keeps_the_direction(most: float | None, norm: float) -> None:
    clipped = clip_by_norm(A, most)
    np.testing.assert_allclose(global_norm(clipped), norm, rtol=1e-6)
    jax.tree.map(lambda x, a: np.testing.assert_allclose(x, a * norm / 5, rtol=1e-6), clipped, A)


def test_clipping_keeps_zero_and_the_type() -> None:
    zero = {"w": jnp.zeros(3, jnp.bfloat16), "b": jnp.zeros(2, jnp.bfloat16)}
    clipped = clip_by_norm(zero, 1.0)
    jax.tree.map(lambda x, z: np.testing.assert_array_equal(x, z, strict=True), clipped, zero)


def test_a_step_is_added() -> None:
    after = apply_step(A, B)
    np.testing.assert_array_equal(after["w"], [[4.0, 2.0], [0.0, 2.0]])
    np.testing.assert_array_equal(after["b"], [4.0])


def test_the_cosine_of_an_angle() -> None:
    np.testing.assert_allclose(cosine(A, B), 3 / 15, rtol=1e-6)
    np.testing.assert_allclose(cosine(A, jax.tree.map(lambda x: -2 * x, A)), -1.0, rtol=1e-6)
    assert cosine(A, jax.tree.map(jnp.zeros_like, A)) == 0.0
