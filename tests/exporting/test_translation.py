"""What a function of JAX computes, ONNX Runtime computes from its graph: operation by operation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from flax import linen
from jax import lax

from rlgd.exporting.graph import Graph
from rlgd.exporting.translation import LONGEST_SCAN, NoRuleError, translate

X = np.random.default_rng(0).normal(size=(6, 4, 5)).astype(np.float32)
INTS = np.random.default_rng(1).integers(-9, 9, (6, 4)).astype(np.int32)


def translated(function: Callable[..., Any], *arrays: np.ndarray[Any, Any], **rules: Any) -> list[Any]:
    """What ONNX Runtime makes of a function: the first axis of each array is the batch."""
    (batch,) = jax.export.symbolic_shape("batch")
    graph = Graph(batch)
    inputs = [graph.input(f"x{i}", (batch, *array.shape[1:]), array.dtype) for i, array in enumerate(arrays)]
    _, values = translate(graph, function, tuple(inputs), rules)
    for number, value in enumerate(values):
        graph.output(f"y{number}", value, value.dtype)
    model = graph.model("test", {}, ("rlgd", "0"))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {f"x{i}": array for i, array in enumerate(arrays)})


def check(function: Callable[..., Any], *arrays: np.ndarray[Any, Any], **rules: Any) -> None:
    expected = jax.tree.leaves(function(*map(jnp.asarray, arrays)))
    for found, wanted in zip(translated(function, *arrays, **rules), expected, strict=True):
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6)


NUMBER_BY_NUMBER: dict[str, Callable[[Any], Any]] = {
    name: getattr(jnp, name)
    for name in (
        "abs", "arctan", "arcsinh", "ceil", "cos", "cosh", "exp", "exp2", "floor", "isfinite", "negative", "reciprocal",
        "round", "sign", "sin", "sinh", "square", "tan", "tanh",
    )
} | {
    "acos": lambda x: jnp.arccos(jnp.tanh(x)),
    "acosh": lambda x: jnp.arccosh(1 + x**2),
    "asin": lambda x: jnp.arcsin(jnp.tanh(x)),
    "atanh": lambda x: jnp.arctanh(0.9 * jnp.tanh(x)),
    "clamp": lambda x: lax.clamp(-0.5, x, 0.5),
    "cube": lambda x: x**3,
    "elu": jax.nn.elu,
    "erf": lax.erf,
    "erfc": lax.erfc,
    "gelu": jax.nn.gelu,
    "gelu_exact": lambda x: jax.nn.gelu(x, approximate=False),
    "inverse": lambda x: lax.integer_pow(x, -1),
    "log": lambda x: jnp.log(x**2 + 0.1),
    "log1p": lambda x: jnp.log1p(x**2),
    "log_softmax": jax.nn.log_softmax,
    "logsumexp": lambda x: jax.nn.logsumexp(x, axis=(0, 2)[1]),
    "power": lambda x: jnp.abs(x) ** 1.7,
    "remainder": lambda x: lax.rem(x, jnp.full_like(x, 0.3)),
    "round_away": lambda x: lax.round(3 * x, lax.RoundingMethod.AWAY_FROM_ZERO),
    "rsqrt": lambda x: lax.rsqrt(x**2 + 0.1),
    "silu": jax.nn.silu,
    "softmax": jax.nn.softmax,
    "softplus": jax.nn.softplus,
    "sqrt": lambda x: jnp.sqrt(jnp.abs(x)),
    "stop_gradient": lax.stop_gradient,
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBER_BY_NUMBER)
def test_numbers_one_by_one(name: str) -> None:
    check(NUMBER_BY_NUMBER[name], X)


PLACES = jnp.array([[2, 0], [1, 3], [0, 0]])
MOVED: dict[str, Callable[[Any], Any]] = {
    "across_the_batch": lambda x: x - x.mean(axis=0, keepdims=True) / x.shape[0],
    "arange_of_the_batch": lambda x: x[:, 0, 0] * jnp.arange(x.shape[0]).astype(jnp.float32),
    "argmax": lambda x: (jnp.argmax(x, axis=1), jnp.argmin(x, axis=2)),
    "argmax_of_truth": lambda x: jnp.argmax(x > 0, axis=1),
    "broadcast": lambda x: jnp.broadcast_to(x[:, :, None], (x.shape[0], 4, 3, 5)) * 1.0,
    "broadcast_of_a_constant": lambda x: jnp.broadcast_to(jnp.arange(5.0), x.shape),
    "constant": lambda x: jnp.arange(3.0),
    "concatenate": lambda x: jnp.concatenate([x, 2 * x, x[:, :, :0]], axis=2),
    "cumsum": lambda x: (jnp.cumsum(x, axis=1), lax.cumsum(x, axis=2, reverse=True)),
    "dynamic_slice_of_known": lambda x: lax.dynamic_slice_in_dim(x, 3, 2, axis=2),
    "dynamic_slice_of_computed": lambda x: lax.dynamic_slice_in_dim(x, jnp.sum(x > 0) % 7, 2, axis=2),
    "flat": lambda x: x.reshape(x.shape[0], -1),
    "index": lambda x: (x[:, 1], x[..., -1], x[:, 1, 2]),
    "moveaxis": lambda x: jnp.moveaxis(x, -1, 1),
    "one_hot": lambda x: jax.nn.one_hot(jnp.argmax(x, axis=2), 5),
    "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 3)), constant_values=7.0),
    "prod": lambda x: (jnp.prod(x, axis=1), jnp.min(x, axis=(1, 2)), jnp.mean(x, axis=2)),
    "reverse": lambda x: x[:, ::-1, ::-2],
    "rows_to_batch": lambda x: jnp.tanh(x.reshape(-1, 5)).sum(axis=1),
    "sort": lambda x: (jnp.sort(x, axis=1), jnp.argsort(x, axis=2), lax.top_k(x, 3)),
    "slice": lambda x: x[:, 1:3, ::2],
    "split": lambda x: tuple(jnp.split(x, [1, 3], axis=2)),
    "squeeze": lambda x: jnp.squeeze(x[:, :1], axis=1),
    "stack": lambda x: jnp.stack([x, -x], axis=2),
    "take": lambda x: (x[:, PLACES], x[..., PLACES], jnp.take(x, PLACES[0], axis=1)),
    "take_along": lambda x: jnp.take_along_axis(x, jnp.argmax(x, axis=2, keepdims=True), axis=2),
    "take_at_computed": lambda x: jnp.arange(10.0)[jnp.argmax(x, axis=2)],
    "take_where_there_is_nothing": lambda x: jnp.take(jnp.arange(3.0), jnp.argmax(x, axis=2), axis=0),
    "tile": lambda x: jnp.tile(x, (1, 2, 3)),
    "truth": lambda x: (jnp.any(x > 1, axis=2), jnp.all(x < 1, axis=1), (x > 0) & ~(x > 1), (x > 0) ^ (x < 1)),
    "variance": lambda x: jnp.var(x, axis=(1, 2), keepdims=True),
    "where": lambda x: (jnp.where(x > 0, x, 0), jnp.where(x[:, :1] > 0, x > 1, x < -1), x == 0, x != 0),
}


@pytest.mark.parametrize("name", MOVED)
def test_numbers_moved_and_summed(name: str) -> None:
    check(MOVED[name], X)


@pytest.mark.parametrize("equation", ["btc,cd->btd", "btc,btc->bt", "btc,bsc->bts", "btc,dc->bdt", "btc,btd->bcd"])
def test_products_of_matrices(equation: str) -> None:
    shapes = {"btc": X, "cd": X[0], "bsc": X[:, :3], "dc": X[0, :, :5], "btd": X[:, :, :3]}
    right = equation.partition("->")[0].partition(",")[2]
    second = shapes[right].T if right == "cd" else shapes[right]
    if right in ("cd", "dc"):
        check(lambda x: jnp.einsum(equation, x, second), X)
    else:
        check(lambda x, y: jnp.einsum(equation, x, y), X, second)


@pytest.mark.parametrize(
    "options",
    [
        {"window_strides": (1, 1), "padding": "SAME"},
        {"window_strides": (2, 3), "padding": "VALID"},
        {"window_strides": (2, 2), "padding": ((1, 0), (2, 1)), "rhs_dilation": (2, 1)},
        {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2},
    ],
    ids=["same", "strides", "dilated", "groups"],
)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_convolutions(options: dict[str, Any], layout: str) -> None:
    images = np.random.default_rng(2).normal(size=(3, 9, 10, 4)).astype(np.float32)
    images = images if layout == "NHWC" else np.moveaxis(images, -1, 1).copy()
    groups = options.get("feature_group_count", 1)
    kernel = np.random.default_rng(3).normal(size=(3, 2, 4 // groups, 6)).astype(np.float32)
    names = (layout, "HWIO", layout)
    check(lambda x: 0.1 * lax.conv_general_dilated(x, jnp.asarray(kernel), dimension_numbers=names, **options), images)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_pooling(padding: str) -> None:
    images = np.random.default_rng(2).normal(size=(3, 9, 10, 4)).astype(np.float32)
    windows, strides = (1, 3, 2, 1), (1, 2, 2, 1)
    check(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, windows, strides, padding), images)
    check(lambda x: lax.reduce_window(x, 0.0, lax.add, windows, strides, padding), images)


def test_whole_numbers() -> None:
    check(lambda x: (x + 3, x * x, lax.div(x, jnp.full_like(x, 4)), lax.rem(x, jnp.full_like(x, 4)), -x), INTS)
    check(lambda x: (jnp.maximum(x, 2), x > 1, x.astype(jnp.float32) / 2, jnp.cumsum(x, axis=1), x.sum(axis=1)), INTS)
    check(lambda x: lax.select_n(x % 3, x, 10 * x, 100 * x), np.abs(INTS))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32"])
def test_small_whole_numbers_wrap_around_as_in_jax(dtype: str) -> None:
    info = np.iinfo(dtype)
    values = np.array([[info.min, info.min + 1], [3, info.max]], dtype)
    check(
        lambda x: (x + x.dtype.type(5), x - x.dtype.type(2), x > 3, x.astype(jnp.float32), jnp.max(x, axis=1)), values
    )


def test_numbers_of_16_bits_are_computed_in_32() -> None:
    check(lambda x: (2 * x.astype(jnp.bfloat16)).astype(jnp.float32), np.round(X))
    check(lambda x: x * 2 + 1, np.round(X).astype(np.float16))


def test_floats_become_the_nearest_whole_numbers_as_in_jax() -> None:
    values = np.array([[-np.inf, -300.0, -1.7, np.nan, 2.7, 1e10, np.inf]], np.float32)
    for dtype in (jnp.int32, jnp.uint8, jnp.int8, jnp.uint32):
        check(lambda x, dtype=dtype: x.astype(dtype), values)


def test_a_branch_is_chosen() -> None:
    def chosen(x: Any) -> Any:
        first = lax.cond(jnp.sum(x) > 0, lambda x: (x, x > 0), lambda x: (2 * x, x > 1), x)
        return first, lax.switch(jnp.sum(x > 0) % 5, [jnp.sin, jnp.cos, jnp.tanh], x)

    for sign in (1, -1):
        check(chosen, (sign * np.abs(X)).astype(np.float32))


def test_pooling_along_one_axis() -> None:
    check(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 1), (1, 1, 1), "SAME"), X)
    check(lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 1, 1, 1), (1, 1, 1, 1), "VALID"), X[..., None])
    check(
        lambda x: lax.reduce_window(x, jnp.iinfo(jnp.int32).min, lax.max, (1, 2, 1), (1, 1, 1), "VALID"),
        INTS[..., None],
    )


def test_infinite_numbers() -> None:
    values = np.array([[-np.inf, np.nan, 0.0, 1.0, np.inf]], np.float32)
    check(lambda x: (jnp.isfinite(x), jnp.isnan(x), jnp.where(x > 0, x, -jnp.inf), jnp.exp(x)), values)


def test_a_loop_of_known_length_is_written_out() -> None:
    def loop(x: Any) -> Any:
        def step(carry: Any, row: Any) -> Any:
            carry = jnp.tanh(carry + row)
            return carry, 2 * carry

        rows = jnp.swapaxes(x, 0, 1)
        last, every = lax.scan(step, jnp.zeros_like(x[:, 0]), rows)
        _, backwards = lax.scan(step, last, rows, reverse=True)
        return last, jnp.swapaxes(every, 0, 1), jnp.swapaxes(backwards, 0, 1)

    check(loop, X)


def test_what_is_not_needed_is_not_written() -> None:
    check(lambda x: (lax.cummax(x, axis=1), 2 * x)[1], X)
    check(lambda x: jax.jit(lambda y: (lax.cummax(y, axis=1), 2 * y))(x)[1], X)


def test_the_same_operation_is_written_once() -> None:
    (batch,) = jax.export.symbolic_shape("batch")
    graph = Graph(batch)
    value = graph.input("x", (batch, 3), np.float32)
    translate(graph, lambda x: jnp.exp(x) + jnp.exp(x), (value,), {})
    assert [node.op_type for node in graph.nodes] == ["Exp", "Add"]


def test_an_operation_without_a_rule_is_named_with_its_layer() -> None:
    class Highest(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return lax.cummax(x, axis=1)

    with pytest.raises(NoRuleError, match=r"the layer Highest computes 'cummax'.* rules=\{'cummax': rule\}"):
        translated(lambda x: Highest().apply({}, x), X)
    with pytest.raises(NoRuleError, match="outside of any layer, computes 'cummax'"):
        translated(lambda x: lax.cummax(x, axis=1), X)
    with pytest.raises(NoRuleError, match="computes 'reduce_window'"):  # of another operation than max and add
        translated(lambda x: lax.reduce_window(x, jnp.float32(-9), lax.max, (1, 2, 1), (1, 1, 1), "VALID"), X)
    with pytest.raises(NoRuleError, match="computes 'scan'"):
        translated(lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, length=LONGEST_SCAN + 1)[0], X)
    with pytest.raises(NoRuleError, match="'and' on whole numbers"):
        translated(lambda x: x & 3, INTS)


def test_a_rule_of_the_user() -> None:
    def rule(graph: Graph, eqn: Any, x: Any) -> Any:
        size = eqn.invars[0].aval.shape[1]
        columns = graph.add("Split", graph.whole(x), outputs=size, axis=1)
        for n in range(1, size):
            columns[n] = graph.add("Max", columns[n - 1], columns[n])
        return graph.result(graph.add("Concat", *columns, axis=1), eqn.outvars[0].aval)

    check(lambda x: lax.cummax(x, axis=1), X, cummax=rule)
