"""Parameters that are joined in a vector: the same steps, and every state finds its place again."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rlgd.ascent import joined
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.optimizers import OPTIMIZERS
from rlgd.system.layout import ACCELERATOR, CPU, laid_out
from tests.support.marks import OF_EACH_KIND, quick


def trees(number: int) -> list[Any]:
    rng = np.random.default_rng(0)
    shapes = {"a": (6, 8), "b": (5,), "c": (2, 3), "d": (3, 2)}
    return [{k: jnp.asarray(3 * rng.normal(size=s), jnp.float32) for k, s in shapes.items()} for _ in range(number)]


PARAMS, *GRADIENTS = trees(5)


def climbed(ascent: Ascent, form: joined.Form) -> tuple[Any, Any]:
    """Parameters and state after some steps, from a state that is not fresh."""
    transformation = ascent.transformation()
    state = transformation.update(GRADIENTS[0], transformation.init(PARAMS), PARAMS)[1]
    params, state = form.join(PARAMS), form.join_state(state)
    for number, gradient in enumerate(GRADIENTS):
        step, state = transformation.update(form.join(gradient), state, params, new_rollout=number == 2)
        params = jax.tree.map(jnp.add, params, step)
    return form.split(params), form.split_state(state)


@pytest.fixture(name="form")
def _form() -> Any:
    def make(ascent: Ascent, layout: Any = ACCELERATOR) -> joined.Form:
        with laid_out(layout):
            return joined.form(ascent, PARAMS)

    return make


@pytest.mark.parametrize("optimizer", quick(OF_EACH_KIND, OPTIMIZERS))
@pytest.mark.parametrize("moments", ["keep", "reset"])
def test_steps_are_those_of_the_trees(optimizer: str, moments: str, form: Any) -> None:
    if not OPTIMIZERS[optimizer].allows(moments):
        return
    ascent = Ascent(optimizer, learning_rate=0.01, max_grad_norm=1.0, l2=0.01, rollout_moments=moments)
    whole, parts = climbed(ascent, form(ascent)), climbed(ascent, form(ascent, CPU))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole, parts)
    assert isinstance(form(ascent).join(PARAMS), jax.Array) == (not OPTIMIZERS[optimizer].by_array)


# Of L-BFGS the state alone depends on arrays: it keeps several of each. K-FAC's layers have names and factors.
NOT_OF_ARRAYS = ("lbfgs", "kfac")


@pytest.mark.parametrize(
    "optimizer", [name for name, row in OPTIMIZERS.items() if row.by_array and name not in NOT_OF_ARRAYS]
)
def test_where_steps_depend_on_arrays_joining_would_change_them(optimizer: str) -> None:
    """Otherwise the row says so without need."""
    ascent = Ascent(optimizer, learning_rate=0.01)

    def end(join: Any) -> Any:
        transformation, params = ascent.transformation(), join(PARAMS)
        state = transformation.init(params)
        for gradient in 3 * GRADIENTS:  # so many that SOAP's bases are no longer those of the arrays
            step, state = transformation.update(join(gradient), state, params)
            params = jax.tree.map(jnp.add, params, step)
        return ravel_pytree(params)[0]

    assert not np.allclose(end(lambda tree: ravel_pytree(tree)[0]), end(lambda tree: tree), rtol=1e-6, atol=1e-6)


def test_several_types_of_numbers_stay_apart() -> None:
    mixed = {"a": jnp.zeros(3), "b": jnp.zeros(2, jnp.bfloat16)}
    with laid_out(ACCELERATOR):
        assert joined.form(Ascent("adam"), mixed).join(mixed) is mixed
