"""Advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, synchronous)."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.experience import Experience, as_sequences, from_sequences
from rlgd.agents.base.one_step import OneStepAgent
from rlgd.agents.base.variance_reduction import VarianceReduction, sum_within_episodes
from rlgd.ascent.ascent import Ascent
from rlgd.hyperparameters import hyperparameters, nested, static
from rlgd.maths import blocks, minibatches, objectives
from rlgd.maths.distributions import Distribution
from rlgd.pytrees import AgentState, Features, Metrics, Params, Rollout
from rlgd.spaces import Spec


@hyperparameters
class A2C(OneStepAgent):
    """One step of ascent on each short rollout."""

    rollout_length: int = static(5, "steps of each environment in one iteration", "[1, inf)")
    normalize_advantage: bool = static(False, "shift and scale each rollout's advantages to mean 0 and variance 1")
    ascent: Ascent = nested(Ascent("adam", learning_rate=1e-3, max_grad_norm=0.5, schedule="linear"))
    variance: VarianceReduction = nested(VarianceReduction())

    def validate(self) -> None:
        super().validate()
        self.variance.check(self)

    def init(self, spec: Spec, key: Array) -> AgentState:
        return self.variance.begun(super().init(spec, key))

    @property
    def corrects_lag(self) -> bool:
        """Unless momentum is corrected, which takes weights of its own."""
        return not self.variance.is_on

    def score(self, policy: Distribution, rows: Experience) -> Array:
        """The mean of log pi(a|s) * A."""
        advantage = objectives.weighted(rows.advantage, rows.weight)
        return objectives.score_function(policy.log_prob(rows.action), advantage, rows.mask)

    def passes(self) -> int:
        """Acting, and one gradient, or those of the correction too."""
        return 2 + 2 * self.variance.is_on

    def corrected(
        self, spec: Spec, state: AgentState, rollout: Rollout, rows: Experience, progress: Array, gradient: Params
    ) -> tuple[Params, Metrics]:
        """The gradient, corrected if ``variance`` says so; a weight is that of an episode's part in the rollout."""
        if not self.variance.is_on:
            return gradient, {}
        score_gradient = self.score_gradient(spec, progress)

        def log_ratio(policy: Any) -> Array:
            def log_prob(rows: tuple[Features, Array]) -> Array:
                return self.distribution(spec, policy, rows[0]).log_prob(rows[1])

            ratios = blocks.map_rows(log_prob, (rows.features, rows.action)) - rows.log_prob
            if rows.mask is not None:
                ratios = jnp.where(rows.mask, ratios, 0)
            if self.is_recurrent:
                summed = sum_within_episodes(from_sequences(ratios, self.num_envs), rollout.done)
                return as_sequences(summed, self.sequence_steps)
            by_time = minibatches.by_time(ratios, self.num_envs)
            return minibatches.as_rows(sum_within_episodes(by_time, rollout.done))

        def gradient_at(policy: Any, weight: Array) -> Any:
            return score_gradient(Params(policy, None), rows._replace(weight=weight))[0].policy

        momentum, previous = self.ascent.momentum_at(progress), state.previous
        corrected, metrics = self.variance.corrected(
            momentum, gradient.policy, state.params.policy, previous, log_ratio, gradient_at
        )
        return Params(corrected, gradient.value), metrics
