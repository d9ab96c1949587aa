"""Advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, synchronous)."""

import jax
from jax import Array

from rlgd.agents.base.actor_critic import ActorCriticAgent
from rlgd.agents.base.experience import Experience, experience
from rlgd.agents.base.faults import first_fault
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.diagnostics import halves
from rlgd.hyperparameters import hyperparameters, nested, static
from rlgd.maths import minibatches, objectives
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

        def gradient_of(rows: Experience) -> tuple[Params, Metrics]:
            return self._gradient(spec, state.params, rows, progress, key)

        measurements, measured = self.measure(state, progress, lambda: jax.vmap(gradient_of)(halves(rows))[0].policy)
        gradient, metrics = gradient_of(rows)
        params, opt_state, ascent_metrics = self.ascend(state.params, state.opt_state, gradient, progress)
        metrics |= ascent_metrics | measurements | self.schedule_metrics(progress)
        metrics["first_fault"] = first_fault(metrics)
        metrics["train/explained_variance"] = objectives.explained_variance(rows.value, rows.value_target, rows.mask)
        return self.conclude(spec, state, rollout, params, opt_state, measured, rows.value_memory), metrics

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The estimate that ``update`` follows."""
        rows = experience(self, spec, state, rollout)
        return self._gradient(spec, state.params, rows, progress, key)[0]

    def _gradient(
        self, spec: Spec, params: Params, rows: Experience, progress: Array, key: Array
    ) -> tuple[Params, Metrics]:
        def objective(params: Params, block: Experience, share: Array, number: Array) -> tuple[Array, Metrics]:
            policy_key, value_key = self.dropout_keys(key, number)
            policy = self.distribution(spec, params.policy, block.features, policy_key)
            value = self.value(spec, params.value, block.features, value_key)
            score = objectives.score_function(policy.log_prob(block.action), block.advantage, block.mask)
            entropy = objectives.masked_mean(policy.entropy(), block.mask)
            error = objectives.value_error(value, block.value_target, block.mask)
            metrics = {"train/objective": score, "train/value_error": error, "train/entropy": entropy}
            total = share * (score + self.entropy_weight(progress) * entropy - self.vf_coef * error)
            return total, jax.tree.map(lambda x: share * x, metrics)

        def of_block(block: Experience, share: Array, number: Array) -> tuple[Params, Metrics]:
            return jax.grad(objective, has_aux=True)(params, block, share, number)

        return minibatches.weighted_sum(of_block, rows, rows.mask)
