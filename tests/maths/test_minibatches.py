import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy import stats

from rlgd.maths import minibatches

ROWS = 24


def shuffles(size: int, count: int) -> Array:
    keys = jax.random.split(jax.random.key(0), count)
    return jax.jit(jax.vmap(lambda key: minibatches.shuffle(key, size)))(keys)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 9, 12, 17, 97, 142, 1000, 1009, 2048])
def test_shuffle_is_a_permutation(size: int) -> None:
    index = shuffles(size, 3)
    assert index.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(index), np.tile(np.arange(size), (3, 1)))


def test_shuffle_puts_every_row_everywhere_equally_often() -> None:
    index = np.asarray(shuffles(12, 6000))
    for place in range(12):
        assert stats.chisquare(np.bincount(index[:, place], minlength=12)).pvalue > 1e-3


@pytest.mark.parametrize(("length", "envs"), [(128, 8), (5, 205)])
def test_minibatch_means_vary_as_those_of_a_random_sample(length: int, envs: int) -> None:
    """Rows that belong together, of one environment or of one time, must not end up in the same minibatch."""
    size = length * envs
    first = size // 4
    minibatch = np.asarray(shuffles(size, 2000))[:, :first]
    row = np.arange(size)
    for signal in (row % envs, row // envs, row < size // 2, np.sin(row * 2 * np.pi / envs)):
        values = (signal - np.mean(signal)) / np.std(signal)
        expected = (1 / first) * (1 - first / size) * size / (size - 1)
        assert 0.8 < np.var(np.mean(values[minibatch], axis=1)) / expected < 1.3


def test_epochs_go_through_every_row_in_another_order() -> None:
    def step(count: Array, rows: Array, number: Array) -> tuple[Array, tuple[Array, Array]]:
        return count + 1, (rows, number)

    start, rows = jnp.zeros((), jnp.int32), jnp.arange(ROWS)
    count, (index, number) = minibatches.epochs(step, start, rows, ROWS, jax.random.key(0), 3, 4)
    assert count == 12
    np.testing.assert_array_equal(number, np.arange(12).reshape(3, 4))
    assert index.shape == (3, 4, ROWS // 4)
    orders = np.asarray(index).reshape(3, ROWS)
    np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(ROWS), (3, 1)))
    assert len(np.unique(orders, axis=0)) == 3
