"""Gradient ascent: an optimizer, its hyper-parameters, schedules and regularization, as one value that can be swept.

optax descends. The sign is turned once, at the front of the chain: there, weight decay still shrinks the weights;
behind the optimizer it would make them grow.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rlgd import hyperparameters as hp
from rlgd.ascent import optimizers, schedules
from rlgd.ascent.optimizers import OPTIMIZERS, Optimizer
from rlgd.ascent.rollout_moments import decay, relative, reset
from rlgd.ascent.rules import Descent
from rlgd.ascent.trees import apply_step, clip_by_norm, cosine, global_norm
from rlgd.errors import UsageError, unknown
from rlgd.hyperparameters import hyperparameters, static, traced
from rlgd.pytrees import Scalar

__all__ = ["OPTIMIZERS", "Ascent", "apply_step", "clip_by_norm", "cosine", "global_norm"]

# What becomes of the moments at every new rollout, on which rlgd.clock has the formulas.
ROLLOUT_MOMENTS = ("keep", "reset", "decay", "relative")
OWN_FIELDS = ("momentum", "second_moment", "epsilon")  # each optimizer uses some of them


@hyperparameters
class Ascent:
    """How parameters climb. ``Ascent("adam", learning_rate=1e-3).transformation()`` is ready to use.

    A field left at None takes the optimizer's own default (``OPTIMIZERS``); a field that is set and that the optimizer
    does not use is refused. Regularization acts on every parameter that it is given, biases included.
    """

    optimizer: str = static(
        "adam", "the rule that turns gradients into steps; `rlgd list optimizers` explains each", choices=(*OPTIMIZERS,)
    )
    learning_rate: float = traced(1e-3, "step size", "[0, inf)")
    momentum: float | None = traced(
        None, "coefficient of the first moment: heavy ball's and Nesterov's beta, Adam's and Lion's b1", "[0, 1)"
    )
    second_moment: float | None = traced(
        None, "coefficient of the second average: Adam's b2, of squares; Lion's b2", "[0, 1)"
    )
    epsilon: float | None = traced(None, "keeps the adaptive methods' denominator from 0", "(0, inf)")
    weight_decay: float | None = traced(
        None, "decoupled: each step takes learning_rate times this of the weights", "[0, inf)"
    )
    l1: float | None = traced(None, "this times the sum of |w| is taken from the objective", "[0, inf)")
    l2: float | None = traced(None, "half of this times the sum of w^2 is taken from the objective", "[0, inf)")
    max_grad_norm: float | None = traced(
        None, "a gradient with a larger global norm is scaled down to it; None: never", "(0, inf)"
    )
    schedule: str = static("constant", f"factor of the learning rate over the run: {schedules.SYNTAX}")
    momentum_schedule: str = static("constant", "factor of the momentum over the run, as for schedule")
    rollout_moments: str = static(
        "keep", "what becomes of the moments at every new rollout; relative is Adam-Rel", choices=ROLLOUT_MOMENTS
    )
    moment_decay: float | None = traced(
        None, "share of the moments that rollout_moments=decay keeps; None: half", "[0, 1]"
    )
    outer_learning_rate: float | None = traced(
        None, "share of a whole iteration's displacement that is taken; None: all of it", "[0, inf)"
    )
    outer_momentum: float | None = traced(
        None, "Nesterov momentum over whole iterations, in addition to the optimizer's; None: none", "[0, 1)"
    )

    def validate(self) -> None:
        """Check ranges, and that every field that is set has an effect.

        Raises:
            UsageError: naming the field, what was given and what is allowed.
        """
        hp.validate(self)
        ascent = self.resolved()
        least, most = schedules.parse(self.momentum_schedule).bounds
        if ascent.momentum is not None and not np.all(np.asarray(ascent.momentum) * most < 1):
            raise UsageError(
                f"momentum_schedule {self.momentum_schedule!r} brings momentum from {ascent.momentum} to "
                f"{np.max(np.asarray(ascent.momentum) * most):g}; allowed: below 1."
            )
        if self.momentum_schedule != "constant" and np.all(np.asarray(ascent.momentum) == 0):
            raise UsageError(f"momentum_schedule {self.momentum_schedule!r} has no effect: momentum is 0.")
        for name in OPTIMIZERS[self.optimizer].positive:
            if np.any(np.asarray(getattr(ascent, name)) == 0) or (name == "momentum" and least == 0):
                raise UsageError(f"{name} is 0 at some time, with which {self.optimizer} fails; allowed: above 0.")

    def resolved(self) -> "Ascent":
        """A copy in which every field that is used has its value.

        Raises:
            UsageError: for an unknown name or schedule, and for a field that is set without effect.
        """
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        for schedule in (self.schedule, self.momentum_schedule):
            schedules.parse(schedule)
        row = OPTIMIZERS[self.optimizer]
        used: dict[str, float] = {"weight_decay": 0.0, "max_grad_norm": math.inf} | row.defaults
        for name in OWN_FIELDS:
            if getattr(self, name) is not None and name not in row.defaults:
                raise _without_effect(name, self.optimizer, [o for o, r in OPTIMIZERS.items() if name in r.defaults])
        if self.momentum_schedule != "constant" and not _schedules_momentum(row):
            users = [name for name, other in OPTIMIZERS.items() if _schedules_momentum(other)]
            raise _without_effect("momentum_schedule", self.optimizer, users)
        if self.rollout_moments not in ROLLOUT_MOMENTS:
            raise unknown("rollout_moments", self.rollout_moments, ROLLOUT_MOMENTS)
        if not _follows_clock(row, self.rollout_moments):
            users = [name for name, other in OPTIMIZERS.items() if _follows_clock(other, self.rollout_moments)]
            raise _without_effect(f"rollout_moments {self.rollout_moments!r}", self.optimizer, users)
        if self.rollout_moments == "decay":
            used["moment_decay"] = 0.5
        elif self.moment_decay is not None:
            raise UsageError(f"moment_decay is set, but rollout_moments is {self.rollout_moments!r}; choose 'decay'.")
        if self.outer_learning_rate is not None or self.outer_momentum is not None:
            used |= {"outer_learning_rate": 1.0, "outer_momentum": 0.0}
        missing = {name: value for name, value in used.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)  # type: ignore[arg-type]

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        """The optax transformation; build it where it is used, from values that may be traced.

        ``init(params) -> state`` and ``update(gradient, state, params, progress=0.0, new_rollout=False) ->
        (step, state)``: the gradient is the objective's, the step is to be added, ``progress`` is the share of the run
        done, in [0, 1], and ``new_rollout`` says that this is the first update on a new rollout (see
        ``rollout_moments``).
        """
        ascent = self.resolved()

        def init(params: Any) -> Any:
            rule, dtype = ascent._like(params)
            return rule._descent(jnp.zeros((), dtype)).init(params)

        def update(
            gradient: Any,
            state: Any,
            params: Any,
            progress: Scalar = 0.0,
            new_rollout: bool | Array = False,
            **other: Any,
        ) -> tuple[Any, Any]:
            rule, dtype = ascent._like(params)
            clipped = clip_by_norm(rule.penalized(gradient, params), rule.max_grad_norm)
            # optax's bias corrections mix floats and integers, which strict promotion refuses, and a few optimizers
            # multiply matrices by numbers.
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                descent = optax.with_extra_args_support(rule._descent(jnp.asarray(progress, dtype)))
                downhill = jax.tree.map(jnp.negative, clipped)
                step, state = descent.update(downhill, state, params, new_rollout=new_rollout)
            return step, state

        return optax.GradientTransformationExtraArgs(init, update)

    def penalized(self, gradient: Any, params: Any) -> Any:
        """The gradient of the objective less its penalties: ``g - l1 sign(w) - l2 w``."""
        if self.l1 is not None:
            gradient = jax.tree.map(lambda g, w: g - jnp.asarray(self.l1, g.dtype) * jnp.sign(w), gradient, params)
        if self.l2 is not None:
            gradient = jax.tree.map(lambda g, w: g - jnp.asarray(self.l2, g.dtype) * w, gradient, params)
        return gradient

    def step_size(self, progress: Scalar) -> Array:
        """The learning rate as it is applied, at a share ``progress`` of the run."""
        return schedules.applied(self.learning_rate, self.schedule, progress)

    def momentum_at(self, progress: Scalar) -> Array:
        """The momentum as it is applied, at a share ``progress`` of the run; 0 without one."""
        momentum = self.resolved().momentum
        return schedules.applied(0.0 if momentum is None else momentum, self.momentum_schedule, progress)

    def effective_step(self, progress: Scalar) -> Array:
        """How far a steady gradient of length 1 would move the parameters in each step, before any adaptive scaling.

        ``learning_rate / (1 - momentum)`` where momentum adds gradients up, ``learning_rate`` where it averages them.
        """
        step = self.step_size(progress)
        return step / (1 - self.momentum_at(progress)) if OPTIMIZERS[self.optimizer].sums_gradients else step

    def outer(self) -> "Ascent | None":
        """The ascent over whole iterations, or None: its gradient is the displacement that the iteration's updates
        made, and its step is taken from where the iteration began (outer-PPO: Tan et al. 2024, arXiv 2411.00666).

            v = outer_momentum v + d;    w = w + outer_learning_rate (d + outer_momentum v),    d = w_end - w
        """
        ascent = self.resolved()
        if ascent.outer_learning_rate is None:
            return None
        return Ascent("nesterov", ascent.outer_learning_rate, ascent.outer_momentum).resolved()

    def first_moment(self, state: Any) -> Any:
        """The average (or sum) of past gradients of the objective in ``transformation()``'s state; None without."""
        return optimizers.first_moment(self.optimizer, state)

    def epsilon_share(self, state: Any) -> Array | None:
        """The share of parameters whose step epsilon decides, in [0, 1]; None for methods that are not adaptive."""
        ascent = self.resolved()
        return optimizers.epsilon_share(self.optimizer, state, ascent.second_moment, ascent.epsilon)

    def _like(self, params: Any) -> tuple["Ascent", Any]:
        """With numbers of the parameters' type, and that type; they would otherwise take on that of the numbers."""
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return jax.tree.map(lambda number: jnp.asarray(number, dtype), self), dtype

    def _descent(self, progress: Array) -> Descent:
        row = OPTIMIZERS[self.optimizer]
        learning_rate = self.step_size(progress)
        values = {name: getattr(self, name) for name in row.defaults if name != "weight_decay"}
        if self.momentum_schedule != "constant":
            values["momentum"] = self.momentum_at(progress)
        if row.decays:
            return self._on_clock(row.build(learning_rate, weight_decay=self.weight_decay, **values))
        shrink = optax.add_decayed_weights(-learning_rate * jnp.asarray(self.weight_decay, learning_rate.dtype))
        return optax.chain(self._on_clock(row.build(learning_rate, **values)), shrink)

    def _on_clock(self, descent: Descent) -> Descent:
        if self.rollout_moments == "reset":
            return reset(descent)
        if self.rollout_moments == "decay":
            assert self.moment_decay is not None
            return decay(descent, self.moment_decay)
        return relative(descent) if self.rollout_moments == "relative" else descent


def _schedules_momentum(row: Optimizer) -> bool:
    return "momentum" in row.defaults and "momentum_schedule" not in row.excludes


def _follows_clock(row: Optimizer, rollout_moments: str) -> bool:
    return row.relative if rollout_moments == "relative" else rollout_moments not in row.excludes


def _without_effect(field: str, optimizer: str, users: list[str]) -> UsageError:
    return UsageError(
        f"{field} is set, but {optimizer} does not use it; leave it out, or choose one of {', '.join(users)}."
    )
