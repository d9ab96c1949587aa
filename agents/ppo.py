"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.actor_critic import ActorCriticAgent
from rlgd.agents.base.experience import Experience, experience
from rlgd.agents.base.faults import first_fault
from rlgd.agents.base.fisher import Weights, fisher
from rlgd.agents.base.gradients import Gradient, policy_and_value_gradient, squared_error
from rlgd.agents.base.learning import applied_schedules, ascend, conclude, kept_form
from rlgd.ascent import schedules
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.diagnostics import halves
from rlgd.ascent.fisher import Fisher
from rlgd.hyperparameters import hyperparameters, nested, static, traced
from rlgd.maths import objectives
from rlgd.maths.distributions import Distribution
from rlgd.maths.minibatches import epochs, minibatch
from rlgd.pytrees import AgentState, Metrics, Params, Rollout
from rlgd.spaces import Spec

ORDER, DROPOUT, MEASURE = range(3)  # purposes of an update's random keys


@hyperparameters
class PPO(ActorCriticAgent):
    """Several epochs of minibatch ascent on the clipped surrogate of each rollout."""

    ascent: Ascent = nested(Ascent("adam", learning_rate=1e-3, max_grad_norm=0.5, schedule="linear"))
    num_epochs: int = static(8, "passes over each rollout", "[1, inf)")
    num_minibatches: int = static(
        8,
        "equal parts of the rollout, one step of ascent each: 1 is batch ascent, one per row is stochastic",
        "[1, inf)",
    )
    measure_every: int = static(
        16, "log the ascent's angles, noise and step lengths once in this many iterations; 0: never", "[0, inf)"
    )
    clip_eps: float = traced(0.2, "how far the policy's ratio may move before it is clipped", "(0, inf)")
    clip_value: bool = static(False, "clip the value function's change by clip_eps too")
    clip_eps_schedule: str = static("constant", "factor of clip_eps over the run, as for schedule")
    target_kl: float | None = traced(None, "skip the rest of an iteration once approx_kl exceeds this", "(0, inf)")

    def validate(self) -> None:
        super().validate()
        schedules.check(self.clip_eps_schedule)
        self.check_minibatches(self.num_minibatches)

    @property
    def corrects_lag(self) -> bool:
        """Always: the surrogate's ratios are against the policy that acted."""
        return True

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """Algorithm 1: advantages of a rollout, then ``num_epochs`` epochs of ascent on the surrogate, in minibatches.

        With one minibatch this is batch ascent, with one per row it is stochastic ascent.
        """
        rows = experience(self, spec, state, rollout)
        gradient = self._surrogate_gradient(spec, progress)
        order_key, dropout_key = (jax.random.fold_in(key, purpose) for purpose in (ORDER, DROPOUT))

        kept = kept_form(self, state.params)

        def step(climb: Climb, batch: Experience, number: Array) -> tuple[Climb, Metrics]:
            dropout = jax.random.fold_in(dropout_key, number)
            params = kept.split(climb.params)
            direction, metrics = gradient(params, batch, dropout)
            curvature = fisher(self, spec, params, (batch.features, batch.mask), dropout, Weights(value=self.vf_coef))
            if curvature is not None:
                curvature = curvature._replace(score=kept.join(curvature.score))
            return self._step(climb, kept.join(direction), metrics, progress, number, curvature)

        climb = Climb(kept.join(state.params), kept.join_state(state.opt_state), jnp.array(True))
        climb, stacked = epochs(step, climb, rows, self.num_envs, order_key, self.num_epochs, self.num_minibatches)
        params, opt_state = kept.split(climb.params), kept.split_state(climb.opt_state)
        metrics = _mean_over_updates(stacked) | self._applied(progress)
        metrics |= {"train/explained_variance": rows.explained_variance(), **rows.lag()}
        return conclude(self, spec, state, rollout, params, opt_state, rows.value_memory), metrics

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The estimate that the first step of ``update`` follows, on the whole rollout.

        Every ratio is 1, unless an older policy acted.
        """
        rows = experience(self, spec, state, rollout)
        return self._surrogate_gradient(spec, progress)(state.params, rows, key)[0]

    def half_gradients(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Any:
        """The gradients on the two halves of a minibatch."""
        rows, gradient = experience(self, spec, state, rollout), self._surrogate_gradient(spec, progress)
        batch = minibatch(rows, self.num_envs, jax.random.fold_in(key, MEASURE), self.num_minibatches)
        dropout_key = jax.random.fold_in(key, DROPOUT)
        return jax.vmap(lambda half: gradient(state.params, half, dropout_key)[0].policy)(halves(batch))

    def passes(self) -> int:
        """Acting, and all epochs."""
        return 1 + self.num_epochs

    def clip_range(self, progress: Array) -> Array:
        """``clip_eps`` as it is applied when the share ``progress`` of the run is done."""
        return schedules.applied(self.clip_eps, self.clip_eps_schedule, progress)

    def _surrogate_gradient(self, spec: Spec, progress: Array) -> Gradient:
        clip_eps = self.clip_range(progress)

        def surrogate(policy: Distribution, rows: Experience) -> tuple[Array, Metrics]:
            log_prob, old_log_prob, mask = policy.log_prob(rows.action), rows.log_prob, rows.mask
            metrics = {
                "train/approx_kl": objectives.approx_kl(log_prob, old_log_prob, mask),
                "train/clip_fraction": objectives.clip_fraction(log_prob, old_log_prob, clip_eps, mask),
            }
            return objectives.clipped_surrogate(log_prob, old_log_prob, rows.advantage, clip_eps, mask), metrics

        def clipped_error(value: Array, rows: Experience) -> Array:
            return objectives.clipped_value_error(value, rows.value, rows.value_target, clip_eps, rows.mask)

        error = clipped_error if self.clip_value else squared_error
        return policy_and_value_gradient(self, spec, progress, surrogate, error, self.vf_coef)

    def _step(
        self,
        climb: "Climb",
        gradient: Params,
        metrics: Metrics,
        progress: Array,
        number: Array,
        curvature: Fisher | None,
    ) -> tuple["Climb", Metrics]:
        """One minibatch's step, unless an earlier one went beyond ``target_kl``; ``number`` counts the minibatches."""
        running = climb.running
        if self.target_kl is not None:
            # The first one always counts: under dropout its ratios are not 1.
            running &= (metrics["train/approx_kl"] <= self.target_kl) | (number == 0)
        *after, ascent_metrics = ascend(self, climb.params, climb.opt_state, gradient, progress, number == 0, curvature)
        # Without target_kl ``running`` is the constant True, and the compiler drops the choice.
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(running, new, old), tuple(after), (climb.params, climb.opt_state)
        )
        return Climb(params, opt_state, running), metrics | ascent_metrics | {"train/updates": running.astype(float)}

    def _applied(self, progress: Array) -> Metrics:
        return applied_schedules(self, progress) | {"train/clip_eps": self.clip_range(progress)}


class Climb(NamedTuple):
    """What changes from minibatch to minibatch, in the form of ``kept_form``.

    ``running``: no earlier one went beyond ``target_kl``.
    """

    params: Params
    opt_state: Params
    running: Array


def _mean_over_updates(stacked: Metrics) -> Metrics:
    """Means of ``[num_epochs, num_minibatches]`` metrics over the minibatches learned from, and their number."""
    faults, updates = first_fault(stacked), stacked.pop("train/updates")
    count = jnp.sum(updates)
    means = {name: jnp.sum(jnp.where(updates > 0, x, 0)) / jnp.maximum(count, 1) for name, x in stacked.items()}
    return means | {"train/updates": count, "first_fault": faults.reshape(-1)}
