"""An agent of a user: A2C whose advantages are clipped, so that one rare return cannot turn the gradient."""

import jax.numpy as jnp
from jax import Array

from rlgd.agents import ActorCriticAgent
from rlgd.agents.base.experience import Experience, experience
from rlgd.agents.base.gradients import Gradient, policy_and_value_gradient
from rlgd.agents.base.learning import climb_once, conclude
from rlgd.hyperparameters import hyperparameters, traced
from rlgd.maths import objectives
from rlgd.maths.distributions import Distribution
from rlgd.pytrees import AgentState, Metrics, Params, Rollout
from rlgd.spaces import Spec


@hyperparameters
class ClippedA2C(ActorCriticAgent):
    """One step of ascent on each rollout, with clipped advantages."""

    adv_clip: float = traced(2.0, "the largest advantage", "(0, inf)")

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        rows = experience(self, spec, state, rollout)
        gradient, metrics = self._gradient_of(spec, progress)(state.params, rows, key)
        params, opt_state, metrics = climb_once(self, state, gradient, metrics, progress)
        return conclude(self, spec, state, rollout, params, opt_state, rows.value_memory), metrics

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        return self._gradient_of(spec, progress)(state.params, experience(self, spec, state, rollout), key)[0]

    def passes(self) -> int:
        return 2  # over the rows: acting, and one gradient

    def _gradient_of(self, spec: Spec, progress: Array) -> Gradient:
        def score(policy: Distribution, rows: Experience) -> tuple[Array, Metrics]:
            advantage = jnp.clip(rows.advantage, -self.adv_clip, self.adv_clip)
            return objectives.score_function(policy.log_prob(rows.action), advantage, rows.mask), {}

        return policy_and_value_gradient(self, spec, progress, score, vf_coef=self.vf_coef)
