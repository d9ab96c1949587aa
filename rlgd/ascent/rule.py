"""The rule: the optimizer that turns gradients into steps, with its own numbers."""

import dataclasses
import operator
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rlgd.ascent import optimizers
from rlgd.ascent.formulas import Descent
from rlgd.ascent.optimizers import Optimizer, without_effect
from rlgd.ascent.own import OPTIMIZER, implied, optimizer_row
from rlgd.ascent.rollout_moments import RolloutMoments
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, static, traced

OWN_FIELDS = ("momentum", "second_moment", "epsilon")  # each optimizer uses some of them


@hyperparameters
class Rule:
    """Which optimizer turns gradients into steps, and its numbers. ``OPTIMIZERS`` has the formula of each.

    A number left at None takes the optimizer's own default. A number that the optimizer does not use must stay None.
    ``momentum`` is the coefficient of the first moment for every optimizer. Weight decay is decoupled for all of them:
    each step shrinks the weights by the factor ``1 - learning_rate weight_decay``, whatever the gradient is.
    """

    optimizer: Any = static(
        "adam",
        "the rule that turns gradients into steps; `rlgd list optimizers` explains each; module:name for your own",
        kind=OPTIMIZER,
        implies=implied,
    )
    learning_rate: float = traced(
        1e-3, "step size; a factor of it, by default 1, for optimizers that estimate it", "[0, inf)"
    )
    momentum: float | None = traced(
        None, "coefficient of the first moment: heavy ball's and Nesterov's beta, Adam's and Lion's b1", "[0, 1)"
    )
    second_moment: float | None = traced(
        None, "coefficient of the second average: Adam's b2, of squares; Lion's b2", "[0, 1)"
    )
    epsilon: float | None = traced(None, "keeps the adaptive methods' denominator from 0", "(0, inf)")
    weight_decay: float | None = traced(
        None, "decoupled: each step also subtracts learning_rate * weight_decay * weights", "[0, inf)"
    )

    @property
    def row(self) -> Optimizer:
        """The optimizer's row of ``OPTIMIZERS``, or what a user gave as one.

        Raises:
            UsageError: for an unknown name, with the nearest known one.
        """
        return optimizer_row(self.optimizer)

    def resolved(self) -> "Rule":
        """A copy in which every number that the optimizer uses is set.

        Raises:
            UsageError: for an unknown optimizer, and for a number that it does not use.
        """
        defaults = {"weight_decay": 0.0} | self.row.defaults
        for name in OWN_FIELDS:
            if getattr(self, name) is not None and name not in defaults:
                raise without_effect(name, OPTIMIZER.name(self.optimizer), operator.methodcaller("uses", name))
        missing = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    def check_positive(self, least_factor: float) -> None:
        """Refuse a 0 in a number that the optimizer divides by. The rule must be resolved.

        Args:
            least_factor: the least factor of the momentum over the run.

        Raises:
            UsageError: naming the number.
        """
        for name in self.row.positive:
            if np.any(np.asarray(getattr(self, name)) == 0) or (name == "momentum" and least_factor == 0):
                raise UsageError(f"{name} is 0 at some time, with which {self.optimizer} fails; allowed: above 0.")

    def descent(self, learning_rate: Array, momentum: Array | None, moments: RolloutMoments) -> Descent:
        """The rule as optax has it: it takes the negated gradient. The rule and ``moments`` must be resolved.

        ``learning_rate`` and ``momentum`` are the numbers as applied; momentum None stands for the rule's own.
        """
        values = {name: getattr(self, name) for name in self.row.defaults if name != "weight_decay"}
        if momentum is not None:
            values["momentum"] = momentum
        if self.row.decays:
            return moments.around(self.row.build(learning_rate, weight_decay=self.weight_decay, **values))
        shrink = optax.add_decayed_weights(-learning_rate * jnp.asarray(self.weight_decay, learning_rate.dtype))
        return optax.chain(moments.around(self.row.build(learning_rate, **values)), shrink)

    def first_moment(self, state: Any) -> Any:
        """The average (or sum) of past gradients of the objective in the optimizer's state; None without one."""
        return optimizers.first_moment(self.row, state)

    def epsilon_share(self, state: Any) -> Array | None:
        """The share of parameters with a step that epsilon decides, in [0, 1]; None for methods that are not adaptive.

        The rule must be resolved.
        """
        return optimizers.epsilon_share(self.row, state, self.second_moment, self.epsilon)
