"""Initial weights: orthogonal matrices uniformly distributed, and the variances that the names promise."""

import functools
import itertools
from typing import Any

import jax
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from rlgd.models import initializers

SAMPLES = 4000


@functools.cache
def orthogonals(shape: tuple[int, int], count: int = SAMPLES) -> NDArray[Any]:
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: initializers.orthogonal(1.0)(key, shape)))(keys))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 3), (3, 7), (7, 3), (64, 64), (4, 128)])
def test_rows_or_columns_are_orthogonal(shape: tuple[int, int]) -> None:
    scale = 0.01
    matrix = np.asarray(jax.jit(lambda key: initializers.orthogonal(scale)(key, shape))(jax.random.key(1))) / scale
    assert matrix.shape == shape
    gram = matrix @ matrix.T if shape[0] < shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=2e-5)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_half_of_the_square_ones_are_reflections(size: int) -> None:
    determinant = np.linalg.det(orthogonals((size, size)))
    np.testing.assert_allclose(np.abs(determinant), 1, atol=1e-5)
    assert stats.binomtest(int(np.sum(determinant > 0)), SAMPLES).pvalue > 0.01


@pytest.mark.parametrize("size", [2, 3])
def test_square_ones_are_uniform_over_the_group(size: int) -> None:
    """Entries and traces are distributed as SciPy's."""
    ours = orthogonals((size, size))
    scipys = stats.ortho_group(size, seed=0).rvs(SAMPLES)
    for i, j in itertools.product(range(size), repeat=2):
        assert stats.ks_2samp(ours[:, i, j], scipys[:, i, j]).pvalue > 1e-3
    for power in (1, 2):
        # Rounded: the trace of a plane reflection is 0, and rounding errors are not what is compared.
        traces = (np.trace(np.linalg.matrix_power(q, power), axis1=1, axis2=2).round(4) for q in (ours, scipys))
        assert stats.ks_2samp(*traces).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(2, 5), (5, 2)])
def test_entries_of_rectangular_ones_are_coordinates_of_a_random_direction(shape: tuple[int, int]) -> None:
    matrices = orthogonals(shape)
    size = max(shape)
    for i, j in itertools.product(*map(range, shape)):
        assert stats.kstest((matrices[:, i, j] + 1) / 2, stats.beta((size - 1) / 2, (size - 1) / 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "fan"),
    [("orthogonal", lambda i, o: max(i, o)), ("glorot", lambda i, o: (i + o) / 2)]
    + [(name, lambda i, o: i) for name in ("he", "lecun")],
)
def test_variance_of_the_weights(name: str, fan: Any) -> None:
    inputs, outputs, scale = 100, 300, 0.7
    init = initializers.INITIALIZATIONS[name](scale)
    kernel = jax.jit(lambda key: init(key, (inputs, outputs)))(jax.random.key(0))
    np.testing.assert_allclose(np.var(kernel) * fan(inputs, outputs), scale**2, rtol=0.03)
