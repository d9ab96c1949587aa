"""Networks against NumPy: dense layers, convolutions, what initialization and output scale act on."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from numpy.typing import NDArray

from rlgd.models import initializers, networks, torsos
from rlgd.pytrees import Features


@pytest.mark.parametrize(
    ("name", "variance"), [("orthogonal", 2), ("he", 2), ("glorot", 1), ("xavier", 1), ("lecun", 1)]
)
def test_hidden_layers_have_the_variance_that_the_initialization_s_name_promises(name: str, variance: float) -> None:
    """Times the fan-in: 2 keeps the size of what rectifiers let through half of, 1 of what is linear near 0."""
    network = networks.network(3, 2, (256, 256), initialization=name)
    kernel = layers(jax.jit(network.init)(jax.random.key(0)))[1][0]
    np.testing.assert_allclose(np.var(kernel) * 256, variance, rtol=0.03)


def layers(params: Any) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Every layer as ``(kernel [inputs, outputs], bias)``; the last one keeps its kernel transposed."""
    *hidden, last = [params[name] for name in sorted(params)]
    pairs = [(np.asarray(layer["kernel"]), np.asarray(layer["bias"])) for layer in hidden]
    return [*pairs, (np.asarray(last["kernel"]).T, np.asarray(last["bias"]))]


def random_params(network: networks.Network) -> Any:
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden_sizes", [(), (8,), (8, 5, 3)])
def test_a_perceptron_equals_numpy(activation: str, hidden_sizes: tuple[int, ...]) -> None:
    network = networks.network(4, 2, hidden_sizes, activation)
    params = random_params(network)
    x = np.random.default_rng(1).normal(size=(6, 3, 4)).astype(np.float32)
    expected = x
    *hidden, (kernel, bias) = layers(params)
    for hidden_kernel, hidden_bias in hidden:
        expected = expected @ hidden_kernel + hidden_bias
        expected = np.tanh(expected) if activation == "tanh" else np.maximum(expected, 0)
    result = network.apply(params, Features(jnp.asarray(x)))
    np.testing.assert_allclose(result, expected @ kernel + bias, rtol=1e-4, atol=1e-5)
    assert [kernel.shape for kernel, _ in layers(params)] == list(itertools.pairwise((4, *hidden_sizes, 2)))


@pytest.mark.parametrize("initialization", initializers.INITIALIZATIONS)
def test_biases_start_at_0_and_output_scale_acts_on_the_last_layer_alone(initialization: str) -> None:
    plain_init, scaled_init = (
        networks.network(4, 2, (8,), initialization=initialization, output_scale=scale).init for scale in (1.0, 0.01)
    )
    both = jax.jit(lambda key: (plain_init(key), scaled_init(jax.random.clone(key))))
    plain, scaled = map(layers, both(jax.random.key(0)))
    assert not any(np.any(bias) for _, bias in plain)
    np.testing.assert_array_equal(plain[0][0], scaled[0][0])
    np.testing.assert_allclose(0.01 * plain[1][0], scaled[1][0], rtol=1e-5)


@pytest.mark.parametrize("activation", torsos.ACTIVATIONS)
def test_rows_do_not_see_each_other(activation: str) -> None:
    network = networks.network(4, 2, (8,), activation)
    params = random_params(network)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(5, 4)), jnp.float32)
    expected = network.apply(params, Features(x))
    spoilt = network.apply(params, Features(x.at[2].set(jnp.nan)))
    assert np.all(np.isfinite(expected))
    assert np.all(np.isnan(spoilt[2]))
    np.testing.assert_array_equal(np.delete(spoilt, 2, axis=0), np.delete(expected, 2, axis=0))
    np.testing.assert_allclose(
        jax.vmap(lambda row: network.apply(params, Features(row)))(x), expected, rtol=1e-5, atol=1e-6
    )


def test_a_network_without_hidden_layers_is_affine() -> None:
    network = networks.network(4, 2, ())
    params = network.init(jax.random.key(0))
    jacobian = jax.jacobian(lambda x: network.apply(params, Features(x)))
    x = jnp.arange(4.0)
    np.testing.assert_array_equal(jacobian(x), jacobian(-3 * x))
    np.testing.assert_allclose(network.apply(params, Features(x)), jacobian(x) @ x, rtol=1e-5)


def test_equal_keys_give_equal_networks_alone_and_under_vmap() -> None:
    names = ("orthogonal", "glorot")

    def init(key: Array) -> dict[str, Any]:
        return {
            name: networks.network(4, 2, (8,), initialization=name).init(jax.random.fold_in(key, i))
            for i, name in enumerate(names)
        }

    stacked = jax.jit(jax.vmap(init))(jax.random.split(jax.random.key(0), 3))
    jitted = jax.jit(init)
    for i in range(3):
        alone, again = (jitted(jax.random.split(jax.random.key(0), 3)[i]) for _ in range(2))
        member = jax.tree.map(lambda x, i=i: x[i], stacked)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), member, alone)
        jax.tree.map(np.testing.assert_array_equal, alone, again)
    for name in names:
        kernel = stacked[name]["Dense_0"]["kernel"]
        assert not np.allclose(kernel[0], kernel[1])


@pytest.mark.parametrize("shape", [(9, 8, 3), (40, 36, 4), (84, 84, 4)])
def test_convolutions_equal_numpy(shape: tuple[int, int, int]) -> None:
    """Bytes are read as shares of 255; the outputs of the convolutions come after the vector."""
    network = networks.network(2, 3, (), images=(shape,))
    params = random_params(network)
    rng = np.random.default_rng(1)
    vector, image = rng.normal(size=(2, 2)).astype(np.float32), rng.integers(0, 256, (2, *shape), np.uint8)
    x, cost = image / 255, 0
    reader = params["ImageReader_0"]
    for layer, (channels, window, stride) in enumerate(torsos.convolutions(*shape[:2])):
        kernel, bias = (np.asarray(reader[f"Conv_{layer}"][name]) for name in ("kernel", "bias"))
        windows = np.lib.stride_tricks.sliding_window_view(x, (window, window), axis=(1, 2))[:, ::stride, ::stride]
        assert kernel.shape == (window, window, x.shape[-1], channels)
        x = np.maximum(np.einsum("nijcab,abco->nijo", windows, kernel) + bias, 0)
        cost += windows[0].size * channels
    assert torsos.convolution_cost(shape, "mlp") == cost
    kernel, bias = (np.asarray(params["mlp"]["OutputLayer_0"][name]) for name in ("kernel", "bias"))
    expected = np.concatenate([vector, x.reshape(2, -1)], axis=1) @ kernel.T + bias
    features = Features(jnp.asarray(vector), (jnp.asarray(image),))
    result = network.apply(params, features)
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    by_time = network.apply(params, jax.tree.map(lambda x: x[:, None], features))
    np.testing.assert_allclose(by_time[:, 0], result, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_convolutions_begin_orthogonal() -> None:
    network = networks.network(0, 3, (), images=((84, 84, 4),))
    kernel = np.asarray(jax.jit(network.init)(jax.random.key(0))["ImageReader_0"]["Conv_1"]["kernel"]).reshape(-1, 64)
    np.testing.assert_allclose(kernel.T @ kernel, 2 * np.eye(64), atol=1e-4)
