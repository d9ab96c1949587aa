"""Gradient accumulation: a step with the mean of several gradients, as of a batch that is larger by their number.

Between two steps the parameters do not move, so the gradients are of one objective at one place.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.hyperparameters import hyperparameters, traced
from rlgd.pytrees import Scalar

# Takes a gradient, the optimizer's state and whether this is the first update on a new rollout.
Climb: TypeAlias = Callable[[Any, Any, bool | Array], tuple[Any, Any]]


@hyperparameters
class Accumulation:
    """How many gradients become a step."""

    gradient_accumulation_steps: float | None = traced(
        None, "gradients whose mean makes one step; None: each makes one", "[1, inf)"
    )


class Accumulated(NamedTuple):
    """The optimizer's state, and the gradients since its last step.

    Attributes:
        inner: the optimizer's own state.
        total: the sum of the gradients, like the parameters.
        gathered: their number, a scalar int32.
        new_rollout: whether one of them was the first on a new rollout.
    """

    inner: Any
    total: Any
    gathered: Array
    new_rollout: Array


def begun(inner: Any, params: Any) -> Accumulated:
    """The state before the first gradient."""
    return Accumulated(inner, jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32), jnp.zeros((), bool))


def accumulated(
    climb: Climb, gradient: Any, state: Accumulated, new_rollout: bool | Array, number: Scalar
) -> tuple[Any, Accumulated]:
    """The step and the state after one more gradient: a step of ``climb`` if there are ``number`` of them, else 0.

    A ``number`` that is not whole is rounded up.
    """
    count, flag = state.gathered + 1, state.new_rollout | new_rollout
    total = jax.tree.map(jnp.add, state.total, gradient)
    step, inner = climb(jax.tree.map(lambda x: x / count.astype(x.dtype), total), state.inner, flag)
    is_full = count >= jnp.ceil(jnp.asarray(number, float)).astype(count.dtype)
    after = Accumulated(inner, jax.tree.map(jnp.zeros_like, total), jnp.zeros_like(count), jnp.zeros_like(flag))
    waiting = Accumulated(state.inner, total, count, flag)
    step = jax.tree.map(lambda x: jnp.where(is_full, x, 0), step)
    return step, jax.tree.map(lambda new, old: jnp.where(is_full, new, old), after, waiting)
