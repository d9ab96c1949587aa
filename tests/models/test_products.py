"""Products of rows and a matrix: those of JAX with all derivatives, and a gradient that is laid out for a CPU."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import Array

from rlgd.models import dot_general
from rlgd.models.products import matmul
from rlgd.system import layout as layouts
from rlgd.system.layout import ACCELERATOR, CPU, PORTABLE, laid_out

# Rows, columns, outputs: with a copy of either factor, and with none.
SHAPES = [(256, 64, 64), (256, 48, 128), (256, 128, 64), (256, 256, 32), (256, 17, 64), (5, 3, 2), (1, 40, 40)]


def numbers(*shape: int, seed: int = 0, dtype: Any = jnp.float32) -> Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def value(x: Array, matrix: Array) -> Array:
    return jnp.sum(jnp.sin(matmul(x, matrix)))


def derivatives(x: Array, matrix: Array) -> Any:
    """The product, both gradients, a tangent, and the derivatives of the gradients along a direction, both ways."""
    given, along = (x, matrix), (jnp.cos(x), jnp.cos(matrix))

    def slope(*given: Array) -> Any:
        return jax.grad(value, (0, 1))(*given)

    def steepness(*given: Array) -> Array:
        return sum((jnp.sum(jnp.tanh(g)) for g in slope(*given)), jnp.zeros((), x.dtype))

    return (
        matmul(x, matrix),
        slope(*given),
        jax.jvp(matmul, given, along),
        jax.jvp(slope, given, along),
        jax.grad(steepness, (0, 1))(*given),
    )


def of_both(function: Callable[..., Any], *given: Any) -> list[Any]:
    """What a function gives in the CPU's layout and in the other; JAX would not trace the same function again."""
    found = []
    for layout in (CPU, ACCELERATOR):
        with laid_out(layout):
            found.append(jax.jit(lambda *given: function(*given))(*given))
    return found


def near(found: Any, expected: Any) -> None:
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4 * np.abs(other).max(initial=1))


@pytest.mark.parametrize(("rows", "columns", "outputs"), SHAPES)
def test_they_are_those_of_jax(rows: int, columns: int, outputs: int) -> None:
    given = numbers(rows, columns), numbers(columns, outputs, seed=1)
    near(*of_both(derivatives, *given))


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (2, 0, 5), (4, 0), (2, 3, 0)])
def test_rows_have_any_number_of_axes(shape: tuple[int, ...]) -> None:
    given = numbers(*shape), numbers(shape[-1], 3, seed=1)
    near(*of_both(lambda *given: (matmul(*given), jax.grad(value, (0, 1))(*given)), *given))


@pytest.mark.parametrize("axes", [(0, 0), (1, 2), (0, None), (None, 0), (2, None)])
def test_they_are_mapped_over_either_factor(axes: tuple[int | None, int | None]) -> None:
    shapes, factors = [(40, 33), (33, 36)], []
    for shape, axis in zip(shapes, axes, strict=True):
        factor = numbers(*shape) if axis is None else numbers(*shape[:axis], 3, *shape[axis:])
        factors.append(factor)
    near(*of_both(jax.vmap(derivatives, axes), *factors))
    if axes == (0, 0):
        near(*of_both(jax.vmap(jax.vmap(derivatives)), *(factor[None] for factor in factors)))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_every_dtype_stays_as_it_is(dtype: str) -> None:
    with jax.enable_x64(True):
        given = numbers(8, 40, dtype=dtype), numbers(40, 36, seed=1, dtype=dtype)
        found = of_both(lambda *given: (matmul(*given), jax.grad(value, (0, 1))(*given)), *given)
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        assert one.dtype == other.dtype == dtype
        tolerance = {"float64": 1e-12, "float32": 1e-5}.get(dtype, 0.02)
        one, other = (np.asarray(x, np.float64) for x in (one, other))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


def test_the_gradient_reads_its_first_factor_along_the_rows() -> None:
    """XLA's CPU compiler joins a transpose with the product that reads it, and the product is slow then."""
    x, matrix = numbers(1024, 64), numbers(64, 64, seed=1)
    contracted = re.compile(r" dot\(.*lhs_contracting_dims=\{(\d)\}")
    found = []
    for layout in (CPU, ACCELERATOR):
        with laid_out(layout):
            program = jax.jit(jax.grad(value, 1)).lower(x, matrix).compile().as_text() or ""
        found.append(set(contracted.findall(program)))
    assert found == [{"1"}, {"0", "1"}]


def test_a_dense_layer_has_them() -> None:
    x = numbers(2, 7, 40)
    own, theirs = linen.Dense(36, dot_general=dot_general), linen.Dense(36)
    params = own.init(jax.random.key(0), x)
    found = []
    for module in (own, theirs):
        with laid_out(CPU):
            loss = jax.grad(lambda params, module=module: jnp.sum(jnp.sin(module.apply(params, x))))
            found.append((module.apply(params, x), loss(params)))
            if module is own:
                assert "rows_times_matrix" in str(jax.make_jaxpr(loss)(params))
    near(*found)


@pytest.mark.parametrize("options", [{"precision": "highest"}, {"preferred_element_type": jnp.float32}])
def test_what_asks_for_more_is_left_to_jax(options: dict[str, Any]) -> None:
    x, matrix = numbers(8, 40), numbers(40, 36)
    with laid_out(CPU):
        program = str(jax.make_jaxpr(lambda x, m: dot_general(x, m, (((1,), (0,)), ((), ())), **options))(x, matrix))
    assert "rows_times_matrix" not in program


def test_other_programs_read_plain_products() -> None:
    for layout in (ACCELERATOR, PORTABLE):
        with laid_out(layout):
            program = jax.make_jaxpr(lambda *given: matmul(*given))(numbers(8, 40), numbers(40, 36))
            assert "rows_times_matrix" not in str(program)


def test_several_devices_are_left_to_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device has a part of an axis that is not the first: rows in one axis would have to be gathered."""
    assert layouts.layout().transposes
    monkeypatch.setattr(layouts, "num_devices", lambda: 2)
    assert not layouts.layout().transposes
    monkeypatch.undo()
    mesh = jax.make_mesh((1,), ("d",), (jax.sharding.AxisType.Explicit,))
    x, weights = (
        jax.device_put(array, jax.sharding.NamedSharding(mesh, jax.P(*names)))
        for array, names in ((numbers(8, 40), ["d"]), (numbers(40, 36), []))
    )
    expected = jax.grad(value, 1)(*map(np.asarray, (x, weights)))

    def loss(x: Array, weights: Array) -> Array:
        return jax.lax.psum(value(x, weights), "d")

    with laid_out(CPU), jax.set_mesh(mesh):
        divided = jax.shard_map(loss, in_specs=(jax.P("d"), jax.P()), out_specs=jax.P())
        for function in (value, divided):
            np.testing.assert_allclose(jax.grad(function, 1)(x, weights), expected, rtol=1e-4, atol=1e-5)


def test_wrong_shapes_are_refused_as_by_jax() -> None:
    with laid_out(CPU), pytest.raises(TypeError, match=r"\(40,\) and \(30,\)"):
        jax.eval_shape(lambda *given: matmul(*given), numbers(8, 40), numbers(30, 36))


def test_arguments_are_those_of_jax() -> None:
    x, matrix, dimensions = numbers(8, 40), numbers(40, 36, dtype=jnp.bfloat16), (((1,), (0,)), ((), ()))
    np.testing.assert_array_equal(dot_general(x, matrix, dimensions, None), jax.lax.dot_general(x, matrix, dimensions))
