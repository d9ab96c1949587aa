"""Advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, synchronous)."""

import dataclasses

import jax
from jax import Array

from rlgd import batches, objectives
from rlgd.agents.common import ActorCriticAgent, Experience, experience
from rlgd.ascent import Ascent
from rlgd.config import hyperparameters, nested, static
from rlgd.data import AgentState, Metrics, Params, Rollout, Spec


@hyperparameters
class A2C(ActorCriticAgent):
    """One step of ascent on each short rollout."""

    rollout_length: int = static(5, "steps of each environment in one iteration", "[1, inf)")
    normalize_advantage: bool = static(False, "shift and scale advantages to mean 0 and variance 1")
    ascent: Ascent = nested(Ascent("adam", learning_rate=1e-3, max_grad_norm=0.5, schedule="linear"))

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: one step along the gradient of mean(log pi(a|s) * A), and of the value error."""
        rows = experience(self, spec, state, rollout)
        advantage = rows.advantage
        if self.normalize_advantage:
            advantage = objectives.normalize_advantage(advantage, rows.mask)

        def objective(params: Params, block: Experience, share: Array) -> tuple[Array, Metrics]:
            policy = self.distribution(spec, params.policy, block.features)
            value = self.value(spec, params.value, block.features)
            score = objectives.score_function(policy.log_prob(block.action), block.advantage, block.mask)
            entropy = objectives.masked_mean(policy.entropy(), block.mask)
            error = objectives.value_error(value, block.value_target, block.mask)
            metrics = {"train/objective": score, "train/value_error": error, "train/entropy": entropy}
            total = share * (score + self.ent_coef * entropy - self.vf_coef * error)
            return total, jax.tree.map(lambda x: share * x, metrics)

        def of_block(block: Experience, share: Array) -> tuple[Params, Metrics]:
            return jax.grad(objective, has_aux=True)(state.params, block, share)

        gradient, metrics = batches.weighted_sum(of_block, rows._replace(advantage=advantage), rows.mask)
        params, moments, ascent_metrics = self.ascend(state.params, state.moments, gradient, progress)
        state = self.observe(spec, dataclasses.replace(state, params=params, moments=moments), rollout)
        metrics |= ascent_metrics | self.ascent_metrics(progress)
        metrics["train/explained_variance"] = objectives.explained_variance(rows.value, rows.value_target, rows.mask)
        return state, metrics
