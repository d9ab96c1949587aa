"""Rows in blocks: each as large as the processor likes them, and sums that are those of all rows."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import Array

from rlgd.maths import blocks
from rlgd.maths.objectives import masked_mean
from rlgd.system.layout import ACCELERATOR, CPU, Layout, laid_out

ROWS, COLUMNS = 24, 2
IN_TURN, BESIDE = CPU._replace(block_rows=8), ACCELERATOR._replace(beside_rows=8)


@pytest.fixture
def small_blocks() -> Iterator[None]:
    with laid_out(IN_TURN):
        yield


@pytest.mark.parametrize("rows", [1, 1000, 1024, 1025, 1031, 2048, 2062, 3 * 1024, 10_000, 65_536, 100_003])
def test_blocks_are_equal_and_fit_the_cache(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    number, most = blocks.num_blocks(rows), CPU.block_rows
    assert most is not None
    assert rows % number == 0
    if number > 1:
        assert most / 8 <= rows // number <= most
    else:
        assert rows <= most or not any(rows % size == 0 for size in range(most // 8, most + 1))


@pytest.mark.parametrize(
    ("rows", "image", "most"),
    [(256, (84, 84, 4), 37), (96, (2, 84, 84, 4), 18), (3072, (10, 10, 4), 1024), (8, (2000, 2000, 3), 1)],
)
def test_rows_with_large_images_are_taken_few_at_a_time(rows: int, image: tuple[int, ...], most: int) -> None:
    """Convolutions make windows of all pixels, many times as many numbers, and those should fit the cache."""
    seen: list[int] = []

    def function(tree: Any) -> Array:
        seen.append(len(tree["image"]))
        return tree["number"]

    tree = {"image": jax.ShapeDtypeStruct((rows, *image), jnp.uint8), "number": jax.ShapeDtypeStruct((rows,), float)}
    with laid_out(CPU):
        jax.eval_shape(lambda tree: blocks.map_rows(function, tree), tree)
        jax.eval_shape(lambda tree: blocks.weighted_sum(lambda rows, *_: function(rows), tree, None), tree)
    assert set(seen) == {max(size for size in range(1, most + 1) if rows % size == 0)}
    with laid_out(ACCELERATOR):
        assert blocks.num_blocks(rows, math.prod(image)) == 1


def test_blocks_are_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert blocks.num_beside(65_536, 1000) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert blocks.num_blocks(65_536) == 1


@pytest.mark.parametrize(
    ("rows", "numbers", "beside"),
    [(511, 9, 1), (512, 9, 2), (520, 9, 2), (32_768, 9, 128), (2**20, 9, 128), (2**20, 2**20, 4), (2**20, 2**23, 1)],
)
def test_sums_beside_one_another_are_long_and_few(rows: int, numbers: int, beside: int) -> None:
    with laid_out(ACCELERATOR):
        assert blocks.num_beside(rows, numbers) == beside
        assert blocks.num_beside(100_003, numbers) == 1  # a prime number has no equal parts


def test_blocks_beside_one_another_are_told_apart() -> None:
    with laid_out(BESIDE):
        numbers = blocks.weighted_sum(lambda rows, share, number: jax.nn.one_hot(number, 3), rows_of(), None)
        whole = blocks.weighted_sum(lambda rows, share, number: share, rows_of(), None, may_be_beside=False)
    np.testing.assert_array_equal(numbers, np.ones(3))
    assert whole == 1


def test_sums_beside_one_another_keep_their_types() -> None:
    """A count that is no float32 stays exact beside sums that are."""

    def of_block(rows: dict[str, Array], share: Array, number: Array) -> dict[str, Array]:
        count = jnp.where(number == 0, 2**24 + 1, 0)
        return {"count": count, "mean": share * jnp.mean(rows["x"], axis=0), "half": share.astype(jnp.bfloat16)}

    with laid_out(BESIDE):
        sums = blocks.weighted_sum(of_block, rows_of(), None)
    assert {name: x.dtype.name for name, x in sums.items()} == {"count": "int32", "mean": "float32", "half": "bfloat16"}
    assert sums["count"] == 2**24 + 1
    np.testing.assert_allclose(sums["mean"], np.mean(rows_of()["x"], axis=0), rtol=1e-5, atol=1e-6)


def rows_of(seed: int = 0) -> dict[str, Array]:
    x = np.random.default_rng(seed).normal(size=(ROWS, COLUMNS))
    return {"x": jnp.asarray(x, jnp.float32), "label": jnp.arange(ROWS)}


@pytest.mark.usefixtures("small_blocks")
def test_map_rows_keeps_the_rows_in_place() -> None:
    assert blocks.num_blocks(ROWS) == 3

    def function(rows: dict[str, Array]) -> dict[str, Array]:
        return {
            "sum": jnp.sum(rows["x"], axis=1),
            "label": rows["label"] * 2,
            "rows": 0 * rows["label"] + len(rows["x"]),
        }

    result = blocks.map_rows(function, rows_of())
    np.testing.assert_array_equal(result.pop("rows"), 8)
    jax.tree.map(np.testing.assert_array_equal, result, {n: x for n, x in function(rows_of()).items() if n != "rows"})


def objective(
    weights: Array, rows: dict[str, Array], mask: Array | None, share: Array
) -> tuple[Array, dict[str, Array]]:
    error = jnp.tanh(rows["x"] @ weights) - rows["label"].astype(float)
    mean = share * masked_mean(jnp.square(error), mask)
    return mean, {"error": share * masked_mean(error, mask)}


def gradient(rows: dict[str, Array], mask: Array | None) -> Any:
    """Objective, diagnostics and gradient over all rows, through ``weighted_sum``."""

    def block(tree: tuple[dict[str, Array], Array | None], share: Array, number: Array) -> Any:
        return jax.value_and_grad(objective, has_aux=True)(jnp.array([0.3, -0.2]), *tree, share)

    return blocks.weighted_sum(block, (rows, mask), mask)


@pytest.mark.parametrize("layout", [IN_TURN, BESIDE], ids=["in turn", "beside"])
@given(mask=st.none() | st.lists(st.booleans(), min_size=ROWS, max_size=ROWS))
def test_weighted_sum_over_blocks_equals_the_whole(layout: Layout, mask: list[bool] | None) -> None:
    given_mask = None if mask is None else jnp.array(mask)
    with laid_out(layout):
        in_blocks = jax.jit(lambda *given: gradient(*given))(rows_of(), given_mask)
    whole = jax.value_and_grad(objective, has_aux=True)(jnp.array([0.3, -0.2]), rows_of(), given_mask, jnp.ones(()))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), in_blocks, whole)


@pytest.mark.parametrize("layout", [IN_TURN, BESIDE], ids=["in turn", "beside"])
def test_a_block_without_a_row_counts_for_nothing(layout: Layout) -> None:
    mask = jnp.arange(ROWS) < 3
    rows = rows_of()
    rows["x"] = jnp.where(mask[:, None], rows["x"], jnp.nan)
    kept = jax.tree.map(lambda x: x[:3], rows)
    expected = masked_mean(jnp.sum(kept["x"], axis=1))
    with laid_out(layout):
        result = blocks.weighted_sum(
            lambda tree, share, number: share * masked_mean(jnp.sum(tree[0]["x"], axis=1), tree[1]),
            (rows, mask),
            mask,
        )
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_few_rows_are_one_block() -> None:
    assert blocks.num_blocks(ROWS) == 1
    total = blocks.weighted_sum(lambda rows, share, number: share * jnp.mean(rows["x"]), rows_of(), None)
    np.testing.assert_allclose(total, np.mean(rows_of()["x"]), rtol=1e-6)
    assert math.isclose(blocks.map_rows(lambda rows: rows["x"][:, 0], rows_of())[3], rows_of()["x"][3, 0])
