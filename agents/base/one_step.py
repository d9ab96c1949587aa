"""Agents that take one step of ascent on each rollout."""

import abc
from typing import Any

import jax
from jax import Array

from rlgd.agents.base.actor_critic import ActorCriticAgent
from rlgd.agents.base.experience import Experience, experience
from rlgd.agents.base.fisher import Weights, fisher
from rlgd.agents.base.gradients import Gradient, policy_and_value_gradient
from rlgd.agents.base.learning import climb_once, conclude
from rlgd.ascent.diagnostics import halves
from rlgd.hyperparameters import hyperparameters
from rlgd.maths.distributions import Distribution
from rlgd.pytrees import AgentState, Metrics, Params, Rollout
from rlgd.spaces import Spec


@hyperparameters
class OneStepAgent(ActorCriticAgent):
    """One step of ascent on each rollout, along the gradient of ``score`` and of the value error."""

    @abc.abstractmethod
    def score(self, policy: Distribution, rows: Experience) -> Array:
        """What the policy climbs: a mean over the rows, of which some are masked; see ``rlgd.maths.objectives``."""

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: one step of policy and value function."""
        rows = experience(self, spec, state, rollout)
        gradient, metrics = self.score_gradient(spec, progress)(state.params, rows, key)
        gradient, more = self.corrected(spec, state, rollout, rows, progress, gradient)
        metrics |= more
        weights = Weights(value=self.vf_coef)
        curvature = fisher(self, spec, state.params, (rows.features, rows.mask), key, weights)
        params, opt_state, metrics = climb_once(self, state, gradient, metrics, progress, curvature)
        metrics |= {"train/explained_variance": rows.explained_variance(), **rows.lag()}
        return conclude(self, spec, state, rollout, params, opt_state, rows.value_memory), metrics

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The estimate that ``update`` follows."""
        rows = experience(self, spec, state, rollout)
        return self.score_gradient(spec, progress)(state.params, rows, key)[0]

    def half_gradients(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Any:
        """The estimates on every other row."""
        rows, gradient = experience(self, spec, state, rollout), self.score_gradient(spec, progress)
        return jax.vmap(lambda half: gradient(state.params, half, key)[0].policy)(halves(rows))

    def corrected(
        self, spec: Spec, state: AgentState, rollout: Rollout, rows: Experience, progress: Array, gradient: Params
    ) -> tuple[Params, Metrics]:
        """What the ascent is given instead of the gradient, and metrics of that: the gradient itself."""
        return gradient, {}

    def passes(self) -> int:
        """Acting, and one gradient."""
        return 2

    def score_gradient(self, spec: Spec, progress: Array) -> Gradient:
        """The gradient of ``score`` and of the value error."""

        def score(policy: Distribution, rows: Experience) -> tuple[Array, Metrics]:
            return self.score(policy, rows), {}

        return policy_and_value_gradient(self, spec, progress, score, vf_coef=self.vf_coef)
