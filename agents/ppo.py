"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rlgd import batches, objectives
from rlgd.agents.common import ActorCriticAgent, Experience, experience
from rlgd.ascent import Ascent
from rlgd.config import hyperparameters, nested, static, traced
from rlgd.data import AgentState, Metrics, Params, Rollout, Spec
from rlgd.errors import UsageError


@hyperparameters
class PPO(ActorCriticAgent):
    """Several epochs of minibatch ascent on the clipped surrogate of each rollout."""

    ascent: Ascent = nested(Ascent("adam", learning_rate=1e-3, max_grad_norm=0.5, schedule="linear"))
    num_epochs: int = static(8, "passes over each rollout", "[1, inf)")
    num_minibatches: int = static(8, "equal parts of the rollout, one step of ascent each", "[1, inf)")
    clip_eps: float = traced(0.2, "how far the policy's ratio may move before it is clipped", "(0, inf)")
    clip_value: bool = static(False, "clip the value function's change by clip_eps too")
    target_kl: float | None = traced(None, "skip the rest of an iteration once approx_kl exceeds this", "(0, inf)")

    def validate(self) -> None:
        super().validate()
        rows = self.num_envs * self.rollout_length
        if rows % self.num_minibatches:
            divisors = [n for n in range(1, rows + 1) if rows % n == 0]
            nearest = sorted(sorted(divisors, key=lambda n: abs(n - self.num_minibatches))[:3])
            raise UsageError(
                f"num_minibatches is {self.num_minibatches}, which does not divide num_envs * rollout_length = "
                f"{self.num_envs} * {self.rollout_length} = {rows}; nearest that do: "
                f"{', '.join(str(n) for n in nearest)}."
            )

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: ``num_epochs`` passes over the rollout in ``num_minibatches`` shuffled parts."""
        rows = experience(self, spec, state, rollout)
        size = rows.advantage.shape[0]

        def minibatch(carry: Carry, index: Array) -> tuple[Carry, Metrics]:
            params, moments, running = carry
            batch = jax.tree.map(lambda x: x[index], rows)
            if self.normalize_advantage:
                batch = batch._replace(advantage=objectives.normalize_advantage(batch.advantage, batch.mask))
            gradient, metrics = self._gradient(spec, params, batch)
            if self.target_kl is not None:
                running &= metrics["train/approx_kl"] <= self.target_kl
            new_params, new_moments, ascent_metrics = self.ascend(params, moments, gradient, progress)
            # Without target_kl ``running`` is the constant True, and the compiler drops the choice.
            params, moments = jax.tree.map(
                lambda new, old: jnp.where(running, new, old), (new_params, new_moments), (params, moments)
            )
            return (params, moments, running), metrics | ascent_metrics | {"train/updates": running.astype(float)}

        def epoch(carry: Carry, number: Array) -> tuple[Carry, Metrics]:
            order = batches.shuffle(jax.random.fold_in(key, number), size)
            index = order.reshape(self.num_minibatches, -1)
            return jax.lax.scan(minibatch, carry, index)

        carry = (state.params, state.moments, jnp.array(True))
        (params, moments, _), stacked = jax.lax.scan(epoch, carry, jnp.arange(self.num_epochs))
        state = self.observe(spec, dataclasses.replace(state, params=params, moments=moments), rollout)
        metrics = mean_over_updates(stacked) | self.ascent_metrics(progress)
        metrics["train/explained_variance"] = objectives.explained_variance(rows.value, rows.value_target, rows.mask)
        return state, metrics

    def _gradient(self, spec: Spec, params: Params, batch: Experience) -> tuple[Params, Metrics]:
        def objective(params: Params, block: Experience, share: Array) -> tuple[Array, Metrics]:
            policy = self.distribution(spec, params.policy, block.features)
            value = self.value(spec, params.value, block.features)
            log_prob, mask = policy.log_prob(block.action), block.mask
            surrogate = objectives.clipped_surrogate(log_prob, block.log_prob, block.advantage, self.clip_eps, mask)
            entropy = objectives.masked_mean(policy.entropy(), mask)
            if self.clip_value:
                error = objectives.clipped_value_error(value, block.value, block.value_target, self.clip_eps, mask)
            else:
                error = objectives.value_error(value, block.value_target, mask)
            metrics = {
                "train/objective": surrogate,
                "train/value_error": error,
                "train/entropy": entropy,
                "train/approx_kl": objectives.approx_kl(log_prob, block.log_prob, mask),
                "train/clip_fraction": objectives.clip_fraction(log_prob, block.log_prob, self.clip_eps, mask),
            }
            total = share * (surrogate + self.ent_coef * entropy - self.vf_coef * error)
            return total, jax.tree.map(lambda x: share * x, metrics)

        def of_block(block: Experience, share: Array) -> tuple[Params, Metrics]:
            return jax.grad(objective, has_aux=True)(params, block, share)

        return batches.weighted_sum(of_block, batch, batch.mask)


Carry = tuple[Params, Params, Array]


def mean_over_updates(stacked: dict[str, Any]) -> Metrics:
    """Means of ``[num_epochs, num_minibatches]`` metrics over the minibatches learned from, and their number."""
    updates = stacked.pop("train/updates")
    count = jnp.sum(updates)
    means = {name: jnp.sum(jnp.where(updates > 0, x, 0)) / jnp.maximum(count, 1) for name, x in stacked.items()}
    return means | {"train/updates": count}
