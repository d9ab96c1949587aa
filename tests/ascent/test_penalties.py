"""Penalties and clipping alone: their formulas, and what None means."""

import math

import jax.numpy as jnp
import numpy as np

from rlgd.ascent import Clipping, Penalties, global_norm

GRADIENT, PARAMS = {"w": jnp.array([3.0, -4.0])}, {"w": jnp.array([2.0, -1.0])}


def test_penalties_are_subtracted_from_the_gradient() -> None:
    expected = np.array([3.0, -4.0]) - 0.5 * np.array([1.0, -1.0]) - 0.2 * np.array([2.0, -1.0])
    np.testing.assert_allclose(Penalties(l1=0.5, l2=0.2).subtracted(GRADIENT, PARAMS)["w"], expected, rtol=1e-6)
    assert Penalties().subtracted(GRADIENT, PARAMS) is GRADIENT


def test_a_long_gradient_is_shortened_and_keeps_its_direction() -> None:
    clipped = Clipping(1.0).clipped(GRADIENT)
    np.testing.assert_allclose(global_norm(clipped), 1.0, rtol=1e-6)
    np.testing.assert_allclose(clipped["w"], [0.6, -0.8], rtol=1e-6)
    np.testing.assert_array_equal(Clipping(6.0).clipped(GRADIENT)["w"], GRADIENT["w"])
    assert Clipping().clipped(GRADIENT) is GRADIENT


def test_without_a_limit_it_is_infinite() -> None:
    assert (Clipping().limit, Clipping(0.5).limit) == (math.inf, 0.5)
    assert Clipping().resolved() == Clipping(math.inf)
    assert Clipping(0.5).resolved() == Clipping(0.5)
