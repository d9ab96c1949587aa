"""Gradient ascent: an optimizer, its hyper-parameters, schedules and regularization, as one value that can be swept.

optax descends. The sign is turned once, before the optimizer: weight decay then still shrinks the weights. After the
optimizer it would make them grow.
"""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rlgd import ranges
from rlgd.ascent import accumulation, schedules
from rlgd.ascent.accumulation import Accumulation
from rlgd.ascent.control import Control
from rlgd.ascent.fisher import Fisher
from rlgd.ascent.formulas import Descent
from rlgd.ascent.optimizers import without_effect
from rlgd.ascent.outer import Outer
from rlgd.ascent.own import OPTIMIZER
from rlgd.ascent.penalties import Clipping, Penalties
from rlgd.ascent.rollout_moments import RolloutMoments
from rlgd.ascent.rule import Rule
from rlgd.ascent.schedules import Schedules
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, nested
from rlgd.pytrees import Scalar


@hyperparameters
class Ascent:
    """How parameters climb. ``Ascent("adam", learning_rate=1e-3).transformation()`` is ready to use.

    The parts, in the order in which an update passes through them:

        gradient -> accumulation -> penalties -> clipping -> optimizer (knows new rollouts) -> weight decay -> step

    ``penalties`` and ``clipping`` prepare the gradient; ``rule`` is the optimizer with its step size, momentum and
    weight decay; ``schedules`` change step size and momentum over the run; ``moments`` says what a new rollout does to
    the optimizer's averages; ``outer`` is a further step over each whole iteration; ``control`` lets measurements drive
    step size, momentum and batch, in the training loop (``rlgd.training.controlling``); ``accumulation`` makes one step
    of several gradients.

    ``optimizer`` is a name of ``OPTIMIZERS``, an optax transformation, or a function that makes one of
    ``learning_rate`` and, if it takes them, ``momentum`` (or ``b1``), ``second_moment`` (``b2``), ``epsilon`` (``eps``)
    and ``weight_decay``. A transformation has its step size inside: ``learning_rate`` is then 1, a factor of its
    steps, unless it is given.

    The constructor takes the fields of the parts by their own names, those of ``rule`` also by position. A field left
    at None takes its default, which can depend on the optimizer; a field that is set without effect is refused.
    """

    rule: Rule = nested(Rule())
    penalties: Penalties = nested(Penalties())
    clipping: Clipping = nested(Clipping())
    schedules: Schedules = nested(Schedules())
    moments: RolloutMoments = nested(RolloutMoments())
    outer: Outer = nested(Outer())
    control: Control = nested(Control())
    accumulation: Accumulation = nested(Accumulation())

    if TYPE_CHECKING:

        def __init__(
            self,
            optimizer: Any = "adam",
            learning_rate: Scalar = 1e-3,
            momentum: Scalar | None = None,
            **fields: Any,
        ) -> None: ...

    def validate(self) -> None:
        """Check ranges, and that every field that is set has an effect.

        Raises:
            UsageError: naming the field, what was given and what is allowed.
        """
        ranges.validate(self)
        self.outer.validate()
        momentum = self.resolved().rule.momentum
        text = self.schedules.momentum_schedule
        least, most = schedules.parse(text).bounds
        if momentum is not None and not np.all(np.asarray(momentum) * most < 1):
            raise UsageError(
                f"momentum_schedule {text!r} brings momentum from {momentum} to "
                f"{np.max(np.asarray(momentum) * most):g}; allowed: below 1."
            )
        if self.schedules.momentum_changes and np.all(np.asarray(momentum) == 0):
            raise UsageError(f"momentum_schedule {text!r} has no effect: momentum is 0.")
        self.rule.resolved().check_positive(least)
        self.control.check(self.rule, self.schedules.schedule, text, self.moments.rollout_moments)
        self.control.check_batch(self.accumulation.gradient_accumulation_steps)
        if self.control.is_on and self.outer.sync_every is not None:
            raise UsageError(
                "a federated ascent (sync_every) has no feedback; leave it out, or what drives momentum and step size."
            )

    def resolved(self) -> "Ascent":
        """A copy in which every field that is used has its value.

        Raises:
            UsageError: for an unknown name or schedule, and for a field that is set without effect.
        """
        rule, optimizer = self.rule.resolved(), self.rule.optimizer
        self.schedules.check()
        if self.schedules.momentum_changes and not rule.row.schedules_momentum:
            raise without_effect("momentum_schedule", OPTIMIZER.name(optimizer), lambda row: row.schedules_momentum)
        return Ascent(
            rule=rule,
            penalties=self.penalties,
            clipping=self.clipping.resolved(),
            schedules=self.schedules,
            moments=self.moments.resolved(optimizer),
            outer=self.outer.resolved(),
            control=self.control,
            accumulation=self.accumulation,
        )

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        """The optax transformation; build it where it is used, from values that may be traced.

        ``init(params) -> state`` and ``update(gradient, state, params, progress=0.0, new_rollout=False, fisher=None)
        -> (step, state)``. The gradient is the objective's, the step is to be added, ``progress`` is the share of the
        run done, in [0, 1], and ``new_rollout`` says that this is the first update on a new rollout (see ``moments``).
        ``fisher`` is an estimate of the Fisher matrix for optimizers that read one. Without it they square the
        gradient, as if it were of one row.
        """
        ascent = self.resolved()

        def init(params: Any) -> Any:
            typed, dtype = ascent._like(params)
            inner = typed._descent(jnp.zeros((), dtype)).init(params)
            return accumulation.begun(inner, params) if ascent.accumulates else inner

        def update(
            gradient: Any,
            state: Any,
            params: Any,
            progress: Scalar = 0.0,
            new_rollout: bool | Array = False,
            fisher: Fisher | None = None,
            **other: Any,
        ) -> tuple[Any, Any]:
            typed, dtype = ascent._like(params)
            read = {"fisher": fisher} if ascent.fisher else {}

            def climb(gradient: Any, state: Any, new_rollout: bool | Array) -> tuple[Any, Any]:
                clipped = typed.clipping.clipped(typed.penalties.subtracted(gradient, params))
                # optax's bias corrections mix floats and integers, which strict promotion refuses, and a few optimizers
                # multiply matrices by numbers.
                with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                    descent = optax.with_extra_args_support(typed._descent(jnp.asarray(progress, dtype)))
                    downhill = jax.tree.map(jnp.negative, clipped)
                    return descent.update(downhill, state, params, new_rollout=new_rollout, **read)

            if not ascent.accumulates:
                return climb(gradient, state, new_rollout)
            number = typed.accumulation.gradient_accumulation_steps
            return accumulation.accumulated(climb, gradient, state, new_rollout, 1 if number is None else number)

        return optax.GradientTransformationExtraArgs(init, update)

    @property
    def accumulates(self) -> bool:
        """Whether several gradients may become one step."""
        return self.accumulation.gradient_accumulation_steps is not None or self.control.drives_batch

    @property
    def fisher(self) -> str:
        """What the optimizer reads of the Fisher matrix, as in ``Optimizer``; empty: nothing."""
        return self.rule.row.fisher

    def step_size(self, progress: Scalar) -> Array:
        """The learning rate as applied, at the share ``progress`` of the run."""
        return self.schedules.learning_rate_at(self.rule.learning_rate, progress)

    def momentum_at(self, progress: Scalar) -> Array:
        """The momentum as applied, at the share ``progress`` of the run; 0 without one."""
        momentum = self.rule.resolved().momentum
        return self.schedules.momentum_at(0.0 if momentum is None else momentum, progress)

    def effective_step(self, progress: Scalar) -> Array:
        """How far a steady gradient of length 1 would move the parameters in each step, before any adaptive scaling.

        ``learning_rate / (1 - momentum)`` where momentum adds gradients up, ``learning_rate`` where it averages them.
        """
        step = self.step_size(progress)
        return step / (1 - self.momentum_at(progress)) if self.rule.row.sums_gradients else step

    def outer_ascent(self) -> "Ascent | None":
        """The ascent over whole iterations, or None without one.

        Its gradient is the displacement made by the iteration's updates. Its step is added to the parameters from
        before the iteration.
        """
        outer = self.outer.resolved()
        if outer.outer_learning_rate is None:
            return None
        return Ascent("nesterov", outer.outer_learning_rate, outer.outer_momentum).resolved()

    def first_moment(self, state: Any) -> Any:
        """The average (or sum) of past gradients of the objective in ``transformation()``'s state; None without one."""
        return self.rule.first_moment(state.inner if self.accumulates else state)

    def epsilon_share(self, state: Any) -> Array | None:
        """The share of parameters with a step that epsilon decides, in [0, 1]; None if the method is not adaptive."""
        return self.rule.resolved().epsilon_share(state.inner if self.accumulates else state)

    def _like(self, params: Any) -> tuple["Ascent", Any]:
        """A copy with numbers of the parameters' dtype, and that dtype. Steps then keep the dtype of the parameters."""
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return jax.tree.map(lambda number: jnp.asarray(number, dtype), self), dtype

    def _descent(self, progress: Array) -> Descent:
        momentum = self.momentum_at(progress) if self.schedules.momentum_changes else None
        return self.rule.descent(self.step_size(progress), momentum, self.moments)
