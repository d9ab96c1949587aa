"""The moments of an optimizer at a new rollout.

At every new rollout the data and the target have changed. An optimizer that keeps averaging as if nothing had happened
averages over different problems. Each function here wraps a transformation. The ``update`` of the result takes
``new_rollout``, a bool that may be traced: True for the first update on a new rollout.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rlgd.ascent.formulas import Descent
from rlgd.ascent.optimizers import without_effect
from rlgd.ascent.own import OPTIMIZER, optimizer_row
from rlgd.errors import UsageError, unknown
from rlgd.hyperparameters import hyperparameters, static, traced
from rlgd.pytrees import Scalar

State = Any
MODES = ("keep", "reset", "decay", "relative")
DEFAULT_MOMENT_DECAY = 0.5


@hyperparameters
class RolloutMoments:
    """What happens to the optimizer's moments and its count of updates at every new rollout.

    "keep" changes nothing. "reset" starts from zero. "decay" keeps the share ``moment_decay`` of the moments.
    "relative" keeps the moments and restarts the count (Adam-Rel).
    """

    rollout_moments: str = static(
        "keep", "what becomes of the moments at every new rollout; relative is Adam-Rel", choices=MODES
    )
    moment_decay: float | None = traced(
        None, "share of the moments that rollout_moments=decay keeps; None: half", "[0, 1]"
    )

    def resolved(self, optimizer: Any) -> "RolloutMoments":
        """A copy in which ``moment_decay`` is set if it is used.

        Raises:
            UsageError: for an unknown mode, for one that has no effect on the optimizer, and for a decay without use.
        """
        mode = self.rollout_moments
        if mode not in MODES:
            raise unknown("rollout_moments", mode, MODES)
        if not optimizer_row(optimizer).allows(mode):
            name = OPTIMIZER.name(optimizer)
            raise without_effect(f"rollout_moments {mode!r}", name, lambda row: row.allows(mode))
        if mode != "decay" and self.moment_decay is not None:
            raise UsageError(f"moment_decay is set, but rollout_moments is {mode!r}; choose 'decay'.")
        if mode != "decay" or self.moment_decay is not None:
            return self
        return dataclasses.replace(self, moment_decay=DEFAULT_MOMENT_DECAY)

    def around(self, inner: Descent) -> Descent:
        """``inner`` with this behaviour at new rollouts. It must be resolved."""
        if self.rollout_moments == "reset":
            return reset(inner)
        if self.rollout_moments == "decay":
            assert self.moment_decay is not None
            return decay(inner, self.moment_decay)
        return relative(inner) if self.rollout_moments == "relative" else inner


def reset(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Start from zero, moments and count, at every new rollout (Asadi, Fakoor & Sabach 2023, arXiv 2306.17833)."""
    return _at_new_rollouts(inner, lambda state, fresh: fresh)


def decay(inner: optax.GradientTransformation, share: Scalar) -> optax.GradientTransformationExtraArgs:
    """Keep a ``share`` of the moments at every new rollout: ``share state + (1 - share) fresh``, a partial ``reset``.

    The count of updates continues, so bias corrections take the averages to be older than they are: after
    ``share = 0`` Adam's next step is (1 - m) / sqrt(1 - b) times that of a reset.
    """

    def toward(fresh: Array, old: Array) -> Array:
        kept = jnp.asarray(share, old.dtype)
        return kept * old + (1 - kept) * fresh if _is_float(old) else old

    return _at_new_rollouts(inner, lambda state, fresh: jax.tree.map(toward, fresh, state))


def relative(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Keep the moments and restart the count at every new rollout: Adam-Rel (Ellis et al. 2024, arXiv 2412.17113).

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
    whole = optax.with_extra_args_support(inner)

    def update(
        gradient: Any, state: State, params: Any = None, *, new_rollout: bool | Array = False, **other: Any
    ) -> tuple[Any, State]:
        changed = change(state, inner.init(params))
        state = jax.tree.map(lambda new, old: jnp.where(new_rollout, new, old), changed, state)
        return whole.update(gradient, state, params, **other)

    return optax.GradientTransformationExtraArgs(inner.init, update)
