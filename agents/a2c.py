"""Advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, synchronous)."""

from typing import Any

import jax
from jax import Array

from rlgd.agents.base.actor_critic import ActorCriticAgent
from rlgd.agents.base.experience import Experience, experience
from rlgd.agents.base.gradients import Gradient, policy_and_value_gradient
from rlgd.agents.base.learning import climb_once, conclude
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.diagnostics import halves
from rlgd.hyperparameters import hyperparameters, nested, static
from rlgd.maths import objectives
from rlgd.maths.distributions import Distribution
from rlgd.pytrees import AgentState, Metrics, Params, Rollout
from rlgd.spaces import Spec


@hyperparameters
class A2C(ActorCriticAgent):
    """One step of ascent on each short rollout."""

    rollout_length: int = static(5, "steps of each environment in one iteration", "[1, inf)")
    normalize_advantage: bool = static(False, "shift and scale each rollout's advantages to mean 0 and variance 1")
    ascent: Ascent = nested(Ascent("adam", learning_rate=1e-3, max_grad_norm=0.5, schedule="linear"))

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: one step along the gradient of mean(log pi(a|s) * A), and of the value error."""
        rows = experience(self, spec, state, rollout)
        gradient, metrics = self._score_gradient(spec, progress)(state.params, rows, key)
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

    def passes(self) -> int:
        """Acting, and one gradient."""
        return 2

    def _score_gradient(self, spec: Spec, progress: Array) -> Gradient:
        def score(policy: Distribution, rows: Experience) -> tuple[Array, Metrics]:
            return objectives.score_function(policy.log_prob(rows.action), rows.advantage, rows.mask), {}

        return policy_and_value_gradient(self, spec, progress, score, vf_coef=self.vf_coef)
