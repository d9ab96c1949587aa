"""Metrics of iterations: they come back by name, in the dtype that they had."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlgd.training.history import History

MANY = 2**24 + 1  # not a float32


def filled(length: int, start: int) -> History:
    def row(i: Any) -> dict[str, Any]:
        return {"steps": start + i, "loss": 0.5 * i.astype(float), "episodes": 2 * i, "on": i > 1}

    numbers = jnp.arange(length)
    history = History.blank(jax.eval_shape(row, numbers[0]), length)
    return jax.lax.fori_loop(0, length, lambda i, history: history.with_iteration(i, row(numbers[i])), history)


def test_each_metric_keeps_its_name_its_type_and_its_values() -> None:
    metrics = jax.device_get(jax.jit(filled, static_argnums=(0, 1))(4, MANY)).metrics()
    assert sorted(metrics) == ["episodes", "loss", "on", "steps"]
    np.testing.assert_array_equal(metrics["steps"], MANY + np.arange(4))
    np.testing.assert_array_equal(metrics["episodes"], [0, 2, 4, 6])
    np.testing.assert_array_equal(metrics["loss"], [0, 0.5, 1, 1.5])
    np.testing.assert_array_equal(metrics["on"], [False, False, True, True])
    dtypes = {name: value.dtype.name for name, value in metrics.items()}
    assert dtypes == {"steps": "int32", "episodes": "int32", "loss": "float32", "on": "bool"}


def test_histories_side_by_side_have_an_axis_in_front() -> None:
    both = jax.vmap(lambda start: filled(3, 0).with_iteration(jnp.int32(0), row_of(start)))(jnp.arange(2))
    np.testing.assert_array_equal(both.metrics()["steps"], [[0, 1, 2], [1, 1, 2]])


def row_of(start: Any) -> dict[str, Any]:
    return {"steps": start, "loss": jnp.zeros(()), "episodes": jnp.zeros((), jnp.int32), "on": jnp.array(False)}
