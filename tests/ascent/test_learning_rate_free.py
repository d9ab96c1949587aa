"""What the formulas do not say of optimizers that estimate their step size: they survive a start that shows nothing."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from rlgd.ascent import OPTIMIZERS, Ascent, apply_step

ESTIMATING = [name for name, row in OPTIMIZERS.items() if row.learning_rate is not None]
SUMMIT, UPDATES, SILENT = jnp.array([3.0, -2.0]), 600, 3


@pytest.mark.parametrize("name", ESTIMATING)
def test_steps_of_0_and_gradients_of_0_at_first_leave_the_estimate_as_it_was(name: str) -> None:
    """As under a schedule with a warm-up, and where no reward has been seen yet."""
    transformation = Ascent(name, schedule="warmup:0.1+constant").transformation()

    def step(carry: tuple[Array, Any], k: Array) -> tuple[tuple[Array, Any], Array]:
        w, state = carry
        gradient = jnp.where(k < SILENT, 0, SUMMIT - w)
        change, state = transformation.update(gradient, state, w, progress=jnp.maximum(k - SILENT, 0) / UPDATES)
        return (apply_step(w, change), state), w

    start = jnp.array([1.0, 1.0])
    first = start, transformation.init(start)
    path = np.asarray(jax.jit(lambda: jax.lax.scan(step, first, jnp.arange(UPDATES)))()[1])
    np.testing.assert_array_equal(path[: SILENT + 2], np.broadcast_to(start, (SILENT + 2, 2)))  # then the rate is 0
    assert np.abs(path[-1] - np.asarray(SUMMIT)).max() < 0.05 * np.abs(start - SUMMIT).max()
