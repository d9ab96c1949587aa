"""Variance-reduced momentum: past gradients are carried along to where the parameters are now.

A first moment averages gradients of past parameters. With the change of the gradient since then, measured on the new
rollout alone, it averages as if all of them had been taken here. For the gradient g of a rollout at the parameters w
and momentum m, in update t the optimizer is given

    g(w) + (1 - m^(t - 1)) m / (1 - m) D

so that its average is d = g(w) + m (d_before - (g(w) - D)), less the share m^t of g(w) that an average from 0 lacks.

    storm    D = g(w) - g(w_before), at w_before with importance weights p_before / p: STORM-PG (Yuan, Lian, Liu & Zhou
             2020, arXiv 2003.04302), and IS-MBPG (Huang et al. 2020, arXiv 2007.06680), whose step and momentum are
             the law "storm" of ``rlgd.ascent.control``
    hessian  D = H(w) (w - w_before), H the Hessian of the objective on the rollout: HA-PG (Shen et al. 2019), at the
             end of the step instead of at a random place on it

Adam's first moment with storm is MARS's (Yuan et al. 2024, arXiv 2411.10438).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.ascent.own import OPTIMIZER
from rlgd.ascent.trees import global_norm
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, static, traced
from rlgd.models.own import SHARED
from rlgd.pytrees import AgentState, Metrics, Previous

KINDS = ("off", "storm", "hessian")
MAX_WEIGHT = 2.0
# Those whose first moment is an average of plain gradients by the coefficient momentum, and is what moves the weights.
OPTIMIZERS = ("momentum", "adam", "adamw", "amsgrad", "adamax", "radam", "yogi", "signum")


@hyperparameters
class VarianceReduction:
    """How the gradients in the first moment are carried along. The module has the formulas."""

    variance_reduction: str = static(
        "off",
        "past gradients in the first moment follow the parameters: by importance weights or curvature",
        choices=KINDS,
    )
    max_importance_weight: float | None = traced(None, "bound of storm's importance weights; None: 2", "(1, inf)")

    @property
    def is_on(self) -> bool:
        """Whether gradients are corrected."""
        return self.variance_reduction != "off"

    def check(self, agent: Agent) -> None:
        """Refuse an agent that has no moment to correct, and a bound without use.

        Raises:
            UsageError: naming the field.
        """
        if self.max_importance_weight is not None and self.variance_reduction != "storm":
            raise UsageError(
                f"max_importance_weight is set, but variance_reduction is {self.variance_reduction!r}; choose 'storm'."
            )
        if not self.is_on:
            return
        ascent = agent.ascent
        rule, given = ascent.rule, f"variance_reduction is {self.variance_reduction!r}"
        if rule.optimizer not in OPTIMIZERS:
            name = OPTIMIZER.name(rule.optimizer)
            raise UsageError(f"{given}, but {name} does not average gradients; choose one of {', '.join(OPTIMIZERS)}.")
        if np.any(np.asarray(rule.resolved().momentum) == 0):
            raise UsageError(f"{given}, but momentum is 0, so there is nothing to correct.")
        if ascent.outer.sync_every is not None:
            raise UsageError(f"{given}, which a federated ascent (sync_every) does not have; leave one out.")
        if ascent.moments.rollout_moments in ("reset", "decay"):
            mode = ascent.moments.rollout_moments
            raise UsageError(f"{given}, but rollout_moments {mode!r} forgets what it corrects; leave one out.")
        if agent.value_network == SHARED:
            raise UsageError(
                f"{given}, but value_network is 'policy': its layers have gradients of both; leave one out."
            )
        if agent.dropout is not None:
            raise UsageError(f"{given}, but under dropout there are no importance weights; leave one out.")

    def begun(self, state: AgentState) -> AgentState:
        """An agent's first state, with what is kept for corrections."""
        if not self.is_on:
            return state
        previous = Previous(jax.tree.map(jnp.copy, state.params.policy), jnp.zeros(()))
        return dataclasses.replace(state, previous=previous)

    def corrected(
        self,
        momentum: Array,
        gradient: Any,
        policy: Any,
        previous: Previous | None,
        log_ratio: Callable[[Any], Array],
        gradient_at: Callable[[Any, Array], Any],
    ) -> tuple[Any, Metrics]:
        """What the policy's optimizer is given instead of ``gradient``, and metrics.

        Args:
            momentum: as applied, a scalar.
            gradient: at ``policy``.
            policy: the parameters.
            previous: of the state.
            log_ratio: from parameters to the logarithm of each row's importance weight against ``policy``.
            gradient_at: from parameters and weights to the gradient there on the same rollout, with these weights.
        """
        assert previous is not None
        metrics: Metrics = {}
        if self.variance_reduction == "storm":
            ratio = log_ratio(previous.policy)
            most = jnp.asarray(MAX_WEIGHT if self.max_importance_weight is None else self.max_importance_weight)
            bound = jnp.log(most.astype(ratio.dtype))
            weight = jnp.exp(jnp.minimum(ratio, bound))
            difference = jax.tree.map(jnp.subtract, gradient, gradient_at(previous.policy, weight))
            metrics["ascent/importance_weight"] = jnp.mean(weight)
            metrics["ascent/importance_bounded"] = jnp.mean((ratio > bound).astype(ratio.dtype))
        else:
            along = (policy,), (jax.tree.map(jnp.subtract, policy, previous.policy),)
            ratio, slope = jax.jvp(log_ratio, *along)  # the weights are 1, so this is their derivative too
            curved = jax.jvp(lambda policy: gradient_at(policy, jnp.ones_like(ratio)), *along)[1]
            moved = gradient_at(policy, 1 + slope)
            difference = jax.tree.map(lambda x, y, g: x + y - g, curved, moved, gradient)
        factor = momentum * (1 - jnp.power(momentum, previous.updates)) / (1 - momentum)
        correction = jax.tree.map(lambda x: factor * x, difference)
        metrics["ascent/correction_norm"] = global_norm(correction)
        return jax.tree.map(jnp.add, gradient, correction), metrics


def sum_within_episodes(values: Array, done: Array) -> Array:
    """For each row the sum over the rows of its episode in the rollout, ``[T, N]``; ``done [T, N]`` is bool."""
    number = jnp.arange(len(done), dtype=jnp.int32)[:, None]
    ends = jax.lax.cummin(jnp.where(done, number, len(done) - 1), axis=0, reverse=True)
    begins = jax.lax.cummax(jnp.where(jnp.roll(done, 1, axis=0), number, 0), axis=0)
    total = jnp.concatenate([jnp.zeros_like(values[:1]), jnp.cumsum(values, axis=0)])
    return jnp.take_along_axis(total, ends + 1, axis=0) - jnp.take_along_axis(total, begins, axis=0)
