"""Convolutions as products of matrices: those of XLA, with their derivatives, and without its slow ones."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from flax import linen
from jax import Array

import rlgd
from rlgd.models.convolutions import convolve
from rlgd.system.layout import ACCELERATOR, CPU, laid_out
from tests.exporting.test_onnx import Case, made

# Shape of an image, side of the window, stride, padding.
CASES = [
    ((84, 84, 4), 8, 4, "VALID"),
    ((20, 20, 32), 4, 2, "VALID"),
    ((9, 9, 64), 3, 1, "VALID"),
    ((10, 10, 7), 3, 1, "VALID"),
    ((10, 11, 4), 3, 1, "SAME"),
    ((12, 9, 33), 4, 1, "SAME"),
    ((37, 50, 3), 8, 4, "VALID"),  # pixels are left over
    ((11, 13, 40), 5, 3, "VALID"),  # the stride does not divide the window
    ((11, 14, 5), 4, 2, "SAME"),
    ((11, 14, 5), 3, 2, ((0, 2), (1, -1))),
]


def layer(side: int, stride: int, padding: Any) -> linen.Conv:
    return linen.Conv(8, (side, side), stride, padding, conv_general_dilated=convolve)


def applied(module: linen.Conv, params: Any, x: Array) -> Any:
    return module.apply(params, x)


def results(module: linen.Conv, params: Any, x: Array) -> Any:
    """Value, gradients, and a derivative of a gradient along a direction, as the natural gradient needs it."""

    def value(params: Any, x: Array) -> Array:
        return jnp.sum(jnp.sin(applied(module, params, x)))

    def slope(params: Any) -> Any:
        return jax.grad(value)(params, x)

    along = jax.tree.map(jnp.cos, params)
    return module.apply(params, x), jax.grad(value, (0, 1))(params, x), jax.jvp(slope, (params,), (along,))[1]


@pytest.mark.parametrize(("shape", "side", "stride", "padding"), CASES)
def test_they_are_those_of_xla(shape: tuple[int, int, int], side: int, stride: int, padding: Any) -> None:
    x = jax.random.normal(jax.random.key(0), (3, *shape))
    module = layer(side, stride, padding)
    params = module.init(jax.random.key(1), x)
    found = []
    for layout in (CPU, ACCELERATOR):
        with laid_out(layout):
            found.append(results(module, params, x))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(other).max())


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": (3, 2)},
        {"kernel_size": (3, 3), "strides": (2, 1)},
        {"kernel_size": (3, 3), "kernel_dilation": 2},
        {"kernel_size": (3, 3), "input_dilation": 2, "padding": 1},
        {"kernel_size": (3, 3), "feature_group_count": 2},
        {"kernel_size": (3,)},
    ],
)
def test_others_are_left_to_xla(options: dict[str, Any]) -> None:
    x = jax.random.normal(jax.random.key(0), (2, 9, 10, 6) if len(options["kernel_size"]) == 2 else (2, 9, 6))
    own, theirs = linen.Conv(4, conv_general_dilated=convolve, **options), linen.Conv(4, **options)
    params = own.init(jax.random.key(1), x)
    np.testing.assert_array_equal(applied(own, params, x), applied(theirs, params, x))


def test_16_bits_are_summed_with_32() -> None:
    x = jax.random.uniform(jax.random.key(0), (2, 20, 20, 32))
    module = layer(4, 2, "VALID")
    params = module.init(jax.random.key(1), x)
    rounded = applied(module, *jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (params, x)))
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded.astype(jnp.float32), applied(module, params, x), atol=0.03)


def operations(function: Any, *args: Any) -> str:
    return str(jax.make_jaxpr(function)(*args))


def test_no_convolution_is_left_where_a_cpu_learns() -> None:
    """XLA's CPU compiler takes the slowest way for the gradient of one that is in a loop."""
    x, module = jnp.zeros((2, 84, 84, 4)), layer(8, 4, "VALID")
    params = module.init(jax.random.key(0), x)

    def value(params: Any) -> Array:
        return jnp.sum(jnp.sin(applied(module, params, x)))

    with laid_out(CPU):
        assert "conv_general_dilated" not in operations(jax.grad(value), params)
    with laid_out(ACCELERATOR):
        assert "conv_general_dilated" in operations(jax.grad(value), params)


def test_other_programs_read_convolutions(tmp_path: Any) -> None:
    policy = made(Case(rlgd.agents.PPO(hidden_sizes=(8,)), "image"))
    model = onnx.load(rlgd.export(policy, tmp_path / "policy.onnx"))
    assert any(node.op_type == "Conv" for node in model.graph.node)
