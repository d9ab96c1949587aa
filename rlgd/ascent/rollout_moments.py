"""Moments that know RL's clock. At every new rollout the data and the target have changed; an optimizer that goes on
averaging over them as if nothing had happened averages over different problems.

Each is a transformation around another one. Its ``update`` takes ``new_rollout``, a bool that may be traced: True for
the first update on a new rollout. The fourth of the family, outer momentum over whole iterations, is an ascent of its
own whose gradient is the displacement (``Ascent.outer``).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rlgd.pytrees import Scalar

State = Any


def reset(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Begin anew, moments and count, at every new rollout (Asadi, Fakoor & Sabach 2023, arXiv 2306.17833)."""
    return _at_new_rollouts(inner, lambda state, fresh: fresh)


def decay(inner: optax.GradientTransformation, share: Scalar) -> optax.GradientTransformationExtraArgs:
    """Keep a ``share`` of the moments at every new rollout: ``share state + (1 - share) fresh``, a partial ``reset``.

    The count of updates goes on, so bias corrections take the averages for older than they are: after
    ``share = 0`` Adam's next step is (1 - m) / sqrt(1 - b) times that of a reset.
    """

    def toward(fresh: Array, old: Array) -> Array:
        kept = jnp.asarray(share, old.dtype)
        return kept * old + (1 - kept) * fresh if _is_float(old) else old

    return _at_new_rollouts(inner, lambda state, fresh: jax.tree.map(toward, fresh, state))


def relative(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Keep the moments and count updates from every new rollout on: Adam-Rel (Ellis et al. 2024, arXiv 2412.17113).

    Adam's bias corrections then shorten the first steps on new data, to sqrt(1 - b) / (1 - m) at first.
    """

    def change(state: State, fresh: State) -> State:
        return jax.tree.map(lambda old, new: old if _is_float(old) else new, state, fresh)

    return _at_new_rollouts(inner, change)


def _is_float(leaf: Array) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def _at_new_rollouts(
    inner: optax.GradientTransformation, change: Callable[[State, State], State]
) -> optax.GradientTransformationExtraArgs:
    def update(
        gradient: Any, state: State, params: Any = None, *, new_rollout: bool | Array = False, **_: Any
    ) -> tuple[Any, State]:
        changed = change(state, inner.init(params))
        state = jax.tree.map(lambda new, old: jnp.where(new_rollout, new, old), changed, state)
        return inner.update(gradient, state, params)

    return optax.GradientTransformationExtraArgs(inner.init, update)
