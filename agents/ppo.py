"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.actor_critic import ActorCriticAgent
from rlgd.agents.base.experience import Experience, experience
from rlgd.agents.base.faults import first_fault
from rlgd.ascent import schedules
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.diagnostics import halves
from rlgd.hyperparameters import hyperparameters, nested, static, traced
from rlgd.maths import minibatches, objectives
from rlgd.pytrees import AgentState, Metrics, Params, Rollout
from rlgd.spaces import Spec

ORDER, DROPOUT, MEASURE = range(3)  # purposes of an update's random keys


@hyperparameters
class PPO(ActorCriticAgent):
    """Several epochs of minibatch ascent on the clipped surrogate of each rollout."""

    ascent: Ascent = nested(Ascent("adam", learning_rate=1e-3, max_grad_norm=0.5, schedule="linear"))
    num_epochs: int = static(8, "passes over each rollout", "[1, inf)")
    num_minibatches: int = static(
        8, "equal parts of the rollout, one step of ascent each: 1 is batch ascent, a part a row stochastic", "[1, inf)"
    )
    measure_every: int = static(
        2, "log the ascent's angles, noise and step lengths in one iteration of so many; 0: never", "[0, inf)"
    )
    clip_eps: float = traced(0.2, "how far the policy's ratio may move before it is clipped", "(0, inf)")
    clip_value: bool = static(False, "clip the value function's change by clip_eps too")
    clip_eps_schedule: str = static("constant", "factor of clip_eps over the run, as for schedule")
    target_kl: float | None = traced(None, "skip the rest of an iteration once approx_kl exceeds this", "(0, inf)")

    def validate(self) -> None:
        super().validate()
        schedules.parse(self.clip_eps_schedule)
        self.check_minibatches(self.num_minibatches)

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: ``num_epochs`` passes over the rollout in ``num_minibatches`` shuffled parts.

        One minibatch makes it batch ascent, as many as there are rows make it stochastic ascent, one row at a time.
        """
        rows = experience(self, spec, state, rollout)
        size = rows.advantage.shape[0]
        order_key, dropout_key = jax.random.fold_in(key, ORDER), jax.random.fold_in(key, DROPOUT)

        def half_gradients() -> Any:
            index = minibatches.shuffle(jax.random.fold_in(key, MEASURE), size)[: size // self.num_minibatches]
            parts = halves(jax.tree.map(lambda x: x[index], rows))
            return jax.vmap(lambda part: self._gradient(spec, state.params, part, progress, dropout_key)[0].policy)(
                parts
            )

        def minibatch(carry: Carry, part: tuple[Array, Array]) -> tuple[Carry, Metrics]:
            params, opt_state, running = carry
            index, number = part
            batch = jax.tree.map(lambda x: x[index], rows)
            gradient, metrics = self._gradient(spec, params, batch, progress, jax.random.fold_in(dropout_key, number))
            if self.target_kl is not None:
                # The first one always counts: under dropout its ratios are not 1.
                running &= (metrics["train/approx_kl"] <= self.target_kl) | (number == 0)
            new_params, new_opt_state, ascent_metrics = self.ascend(params, opt_state, gradient, progress, number == 0)
            # Without target_kl ``running`` is the constant True, and the compiler drops the choice.
            params, opt_state = jax.tree.map(
                lambda new, old: jnp.where(running, new, old), (new_params, new_opt_state), (params, opt_state)
            )
            metrics |= ascent_metrics | {"train/updates": running.astype(float)}
            return (params, opt_state, running), metrics | {"first_fault": first_fault(metrics)}

        measurements, measured = self.measure(state, progress, half_gradients)
        carry = (state.params, state.opt_state, jnp.array(True))
        (params, opt_state, _), stacked = minibatches.epochs(
            minibatch, carry, order_key, size, self.num_epochs, self.num_minibatches
        )
        metrics = mean_over_updates(stacked) | measurements | self.schedule_metrics(progress)
        metrics["train/clip_eps"] = self.clip_range(progress)
        metrics["train/explained_variance"] = objectives.explained_variance(rows.value, rows.value_target, rows.mask)
        return self.conclude(spec, state, rollout, params, opt_state, measured, rows.value_memory), metrics

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The estimate that the first step of ``update`` follows, on the whole rollout: every ratio is 1."""
        rows = experience(self, spec, state, rollout)
        return self._gradient(spec, state.params, rows, progress, key)[0]

    def clip_range(self, progress: Array) -> Array:
        """``clip_eps`` as it is applied, at a share ``progress`` of the run."""
        return schedules.applied(self.clip_eps, self.clip_eps_schedule, progress)

    def _gradient(
        self, spec: Spec, params: Params, batch: Experience, progress: Array, key: Array
    ) -> tuple[Params, Metrics]:
        clip_eps = self.clip_range(progress)

        def objective(params: Params, block: Experience, share: Array, number: Array) -> tuple[Array, Metrics]:
            policy_key, value_key = self.dropout_keys(key, number)
            policy = self.distribution(spec, params.policy, block.features, policy_key)
            value = self.value(spec, params.value, block.features, value_key)
            log_prob, mask = policy.log_prob(block.action), block.mask
            surrogate = objectives.clipped_surrogate(log_prob, block.log_prob, block.advantage, clip_eps, mask)
            entropy = objectives.masked_mean(policy.entropy(), mask)
            if self.clip_value:
                error = objectives.clipped_value_error(value, block.value, block.value_target, clip_eps, mask)
            else:
                error = objectives.value_error(value, block.value_target, mask)
            metrics = {
                "train/objective": surrogate,
                "train/value_error": error,
                "train/entropy": entropy,
                "train/approx_kl": objectives.approx_kl(log_prob, block.log_prob, mask),
                "train/clip_fraction": objectives.clip_fraction(log_prob, block.log_prob, clip_eps, mask),
            }
            total = share * (surrogate + self.entropy_weight(progress) * entropy - self.vf_coef * error)
            return total, jax.tree.map(lambda x: share * x, metrics)

        def of_block(block: Experience, share: Array, number: Array) -> tuple[Params, Metrics]:
            return jax.grad(objective, has_aux=True)(params, block, share, number)

        return minibatches.weighted_sum(of_block, batch, batch.mask)


Carry = tuple[Params, Params, Array]


def mean_over_updates(stacked: dict[str, Any]) -> Metrics:
    """Means of ``[num_epochs, num_minibatches]`` metrics over the minibatches learned from, and their number."""
    updates, faults = stacked.pop("train/updates"), stacked.pop("first_fault")
    count = jnp.sum(updates)
    means = {name: jnp.sum(jnp.where(updates > 0, x, 0)) / jnp.maximum(count, 1) for name, x in stacked.items()}
    return means | {"train/updates": count, "first_fault": faults.reshape(-1)}
