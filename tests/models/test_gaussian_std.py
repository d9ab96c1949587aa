"""Where Gaussian standard deviations come from: each kind against its formula, and what gets a gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from rlgd.models.gaussian_std import LEAST_VARIANCE, STDS, explored_log_std, gsde_deviation

MEAN, OUTPUTS = jnp.zeros((3, 2)), jnp.arange(6.0).reshape(3, 2) / 10
HIDDEN, PARAMETERS = jnp.asarray([[1.0, 2.0, 0.5, -1.0]]), jnp.arange(8.0).reshape(4, 2) / 10


def test_free_ones_are_parameters_and_those_of_the_state_add_outputs() -> None:
    parameters = jnp.array([-0.5, 0.25])
    free = STDS["free"].log_std(parameters, MEAN, jnp.zeros((3, 0)), None)
    np.testing.assert_array_equal(free, np.tile(parameters, (3, 1)))
    state = STDS["state"].log_std(parameters, MEAN, OUTPUTS, None)
    np.testing.assert_allclose(state, free + OUTPUTS, rtol=1e-6)
    assert [STDS[name].outputs for name in ("free", "state", "gsde")] == [0, 1, 0]


def test_gsde_s_deviation_has_the_standard_deviation_that_it_says() -> None:
    variance = np.square(HIDDEN) @ np.exp(2 * np.asarray(PARAMETERS)) + LEAST_VARIANCE
    np.testing.assert_allclose(explored_log_std(PARAMETERS, HIDDEN), 0.5 * np.log(variance), rtol=1e-5)
    noise = jax.random.normal(jax.random.key(0), (20_000, 4, 2))
    drawn = gsde_deviation(PARAMETERS, jnp.broadcast_to(HIDDEN, (20_000, 4)), noise)
    np.testing.assert_allclose(np.var(drawn, axis=0), variance[0], rtol=0.05)
    np.testing.assert_allclose(np.mean(drawn, axis=0), 0, atol=0.1)


def test_gsde_trains_no_hidden_layer() -> None:
    slope = jax.grad(lambda hidden: jnp.sum(explored_log_std(PARAMETERS, hidden)))(HIDDEN)
    np.testing.assert_array_equal(slope, np.zeros((1, 4)))
