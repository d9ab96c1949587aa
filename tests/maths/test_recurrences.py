"""Linear recurrences against loops in NumPy, and their derivatives against those of the loops, on each layout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from rlgd.maths.recurrences import linear_recurrence
from rlgd.system.layout import ACCELERATOR, CPU, Layout, laid_out

layouts = pytest.mark.parametrize("layout", [CPU, ACCELERATOR], ids=["steps", "doubling"])
both_ways = pytest.mark.parametrize("reverse", [False, True])


def problem(length: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(length)
    factor = rng.uniform(-1.1, 1.1, size=(length, 2, 3)) * (rng.random((length, 2, 1)) > 0.2)  # 0: a restart
    return factor, rng.normal(size=(length, 2, 3)), rng.normal(size=(2, 3))


def by_loop(factor: Any, term: Any, start: Any, reverse: bool) -> Any:
    times = range(len(term))
    result, x = {}, start
    for t in reversed(times) if reverse else times:
        x = term[t] + factor[t] * x
        result[t] = x
    return [result[t] for t in times]


@layouts
@both_ways
@pytest.mark.parametrize("length", [1, 2, 5, 8, 13])
def test_it_is_the_loop(length: int, reverse: bool, layout: Layout) -> None:
    arrays = problem(length)
    factor, term, start = map(jnp.float32, arrays)
    with laid_out(layout):
        result = linear_recurrence(factor, term, start, reverse)
    np.testing.assert_allclose(result, np.stack(by_loop(*arrays, reverse)), rtol=1e-5, atol=1e-5)


@layouts
@both_ways
def test_its_derivatives_are_those_of_the_loop(reverse: bool, layout: Layout) -> None:
    """Forward, backward and forward over backward, as curvatures need them."""
    arrays = tuple(map(jnp.float32, problem(6)))
    along = tuple(map(jnp.float32, problem(7)))
    along = (along[0][:6], along[1][:6], along[2])

    def ours(factor: Any, term: Any, start: Any) -> Any:
        return jnp.sum(jnp.sin(linear_recurrence(factor, term, start, reverse)))

    def loop(factor: Any, term: Any, start: Any) -> Any:
        return jnp.sum(jnp.sin(jnp.stack(by_loop(factor, term, start, reverse))))

    def curvature(function: Any) -> Any:
        gradient = jax.grad(function, argnums=(0, 1, 2))
        return jax.jvp(function, arrays, along), jax.jvp(gradient, arrays, along)

    with laid_out(layout):
        found = jax.jit(lambda: curvature(ours))()
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4),
        found,
        jax.jit(lambda: curvature(loop))(),
    )


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="factor has shape"):
        linear_recurrence(jnp.ones((3, 2)), jnp.ones((4, 2)), jnp.ones(2))
    with pytest.raises(ValueError, match="start has shape"):
        linear_recurrence(jnp.ones((4, 2)), jnp.ones((4, 2)), jnp.ones(3))
