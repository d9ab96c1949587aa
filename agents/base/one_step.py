"""Agents that take one step of ascent on each rollout."""

import abc
from typing import Any

import jax
from jax import Array

from rlgd.agents.base.actor_critic import ActorCriticAgent
from rlgd.agents.base.experience import Experience, by_environment, experience
from rlgd.agents.base.gradients import Gradient, policy_and_value_gradient
from rlgd.agents.base.learning import climb_once, conclude
from rlgd.agents.base.variance_reduction import VarianceReduction, sum_within_episodes
from rlgd.ascent.diagnostics import halves
from rlgd.hyperparameters import hyperparameters, nested
from rlgd.maths import minibatches
from rlgd.maths.distributions import Distribution
from rlgd.pytrees import AgentState, Features, Metrics, Params, Rollout
from rlgd.spaces import Spec


@hyperparameters
class OneStepAgent(ActorCriticAgent):
    """One step of ascent on each rollout, along the gradient of ``score`` and of the value error."""

    variance: VarianceReduction = nested(VarianceReduction())

    def validate(self) -> None:
        super().validate()
        self.variance.check(self)

    @abc.abstractmethod
    def score(self, policy: Distribution, rows: Experience) -> Array:
        """What the policy climbs: a mean over the rows, of which some are masked; see ``rlgd.maths.objectives``."""

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: one step of policy and value function."""
        rows = experience(self, spec, state, rollout)
        gradient, metrics = self._score_gradient(spec, progress)(state.params, rows, key)
        if self.variance.is_on:
            gradient, more = self._corrected(spec, state, rollout, rows, progress, gradient)
            metrics |= more
        params, opt_state, metrics = climb_once(self, state, gradient, metrics, progress)
        metrics["train/explained_variance"] = rows.explained_variance()
        return conclude(self, spec, state, rollout, params, opt_state, rows.value_memory), metrics

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The estimate that ``update`` follows."""
        rows = experience(self, spec, state, rollout)
        return self._score_gradient(spec, progress)(state.params, rows, key)[0]

    def half_gradients(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Any:
        """The estimates on every other row."""
        rows, gradient = experience(self, spec, state, rollout), self._score_gradient(spec, progress)
        return jax.vmap(lambda half: gradient(state.params, half, key)[0].policy)(halves(rows))

    def init(self, spec: Spec, key: Array) -> AgentState:
        return self.variance.begun(super().init(spec, key))

    def passes(self) -> int:
        """Acting, and one gradient, or those of the correction too."""
        return 2 + 2 * self.variance.is_on

    def _corrected(
        self, spec: Spec, state: AgentState, rollout: Rollout, rows: Experience, progress: Array, gradient: Params
    ) -> tuple[Params, Metrics]:
        """The gradient with its correction; an importance weight is that of an episode's part in the rollout."""
        score_gradient = self._score_gradient(spec, progress)

        def log_ratio(policy: Any) -> Array:
            def log_prob(rows: tuple[Features, Array]) -> Array:
                return self.distribution(spec, policy, rows[0]).log_prob(rows[1])

            ratios = minibatches.map_rows(log_prob, (rows.features, rows.action)) - rows.log_prob
            if self.is_recurrent:
                return by_environment(sum_within_episodes(by_environment(ratios), rollout.done))
            by_time = minibatches.by_time(ratios, self.num_envs)
            return minibatches.as_rows(sum_within_episodes(by_time, rollout.done))

        def gradient_at(policy: Any, weight: Array) -> Any:
            weighted = rows._replace(advantage=rows.advantage * weight)
            return score_gradient(Params(policy, None), weighted)[0].policy

        momentum = self.ascent.momentum_at(progress)
        corrected, metrics = self.variance.corrected(
            momentum, gradient.policy, state.params.policy, state.previous, log_ratio, gradient_at
        )
        return Params(corrected, gradient.value), metrics

    def _score_gradient(self, spec: Spec, progress: Array) -> Gradient:
        def score(policy: Distribution, rows: Experience) -> tuple[Array, Metrics]:
            return self.score(policy, rows), {}

        return policy_and_value_gradient(self, spec, progress, score, vf_coef=self.vf_coef)
