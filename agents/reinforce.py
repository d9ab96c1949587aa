"""REINFORCE (Williams 1992): the Monte-Carlo policy gradient, on whole episodes."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.agents.base.faults import first_fault
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.diagnostics import halves
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, nested, static
from rlgd.maths import objectives, returns, running_statistics
from rlgd.pytrees import AgentState, Features, Metrics, Params, Rollout
from rlgd.spaces import Spec

BASELINES = ("none", "mean", "value")
BLOCK_STEPS = 32  # rows of time that are learned from together; blocks behind the longest episode are not computed


@hyperparameters
class REINFORCE(Agent):
    """The gradient of the expected return, estimated from one whole episode in each environment.

    The estimate is the sum over a trajectory's rows, averaged over the N episodes:

        (1/N) sum_n sum_t grad log pi(a_t|s_t) * (G_t - b_t),    G_t = r_t + gamma r_{t+1} + ...

    Dividing by N, a constant, and not by the random number of rows, keeps it unbiased. Without
    ``discount_weighting`` it is the usual estimator, whose rows are not weighted by gamma^t; with it the expectation is
    the exact gradient of J = E[sum_t gamma^t r_t]. A time limit ends the episode: nothing is bootstrapped.

    Under gSDE actions share their noise over ``sde_sample_freq`` steps, and log pi(a|s) is that of each step alone: the
    estimate is unbiased with 1 only.
    """

    whole_episodes: ClassVar[bool] = True

    num_envs: int = static(16, "environments, one episode of each in one iteration", "[1, inf)")
    ascent: Ascent = nested(Ascent("adam", learning_rate=5e-3, schedule="linear"))
    baseline: str = static(
        "value", "what is subtracted from the return: the mean of other episodes, the value", choices=BASELINES
    )
    measure_every: int = static(
        8, "log the ascent's angles, noise and step lengths in one iteration of so many; 0: never", "[0, inf)"
    )
    discount_weighting: bool = static(False, "weight row t by gamma^t: the exact gradient of the discounted return")

    def validate(self) -> None:
        super().validate()
        if self.baseline == "mean" and self.num_envs < 2:
            raise UsageError(
                f"baseline 'mean' averages over other episodes, but num_envs is {self.num_envs}; allowed: at least 2."
            )

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: one step along the estimate; the value function moves towards the returns."""
        rows = self._rows(spec, state, rollout)

        def gradient_of(rows: EpisodeRows) -> tuple[Params, dict[str, Array]]:
            return self._gradient(spec, state.params, rows, progress, key)

        measurements, measured = self.measure(
            state, progress, lambda: jax.vmap(gradient_of)(halves(rows, axis=1))[0].policy
        )
        gradient, sums = gradient_of(rows)
        params, opt_state, metrics = self.ascend(state.params, state.opt_state, gradient, progress)
        metrics |= {f"train/{name}": value for name, value in sums.items()}
        metrics["first_fault"] = first_fault(metrics)
        metrics |= measurements | self.schedule_metrics(progress)
        if self.baseline == "value":
            metrics["train/explained_variance"] = objectives.explained_variance(rows.baseline, rows.returns, rows.mask)
        return self.conclude(spec, state, rollout, params, opt_state, measured), metrics

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The estimate that ``update`` follows."""
        return self._gradient(spec, state.params, self._rows(spec, state, rollout), progress, key)[0]

    def _rows(self, spec: Spec, state: AgentState, rollout: Rollout) -> "EpisodeRows":
        mask = jnp.ones(rollout.reward.shape, bool) if rollout.mask is None else rollout.mask
        reward = jnp.where(mask, running_statistics.scale_reward(state.reward_statistics, rollout.reward), 0)
        discount = jnp.full_like(reward, self.gamma)
        episode_returns = returns.discounted_returns(reward, discount, jnp.zeros_like(reward[0]))
        features = self.features(spec, state.obs_statistics, rollout.obs, rollout.action_mask)
        if self.baseline == "value":
            baseline = self.value(spec, state.params.value, features)
        elif self.baseline == "mean":
            others = jnp.sum(episode_returns, axis=1, keepdims=True) - episode_returns
            baseline = others / (self.num_envs - 1)
        else:
            baseline = jnp.zeros_like(episode_returns)
        advantage = episode_returns - baseline
        if self.discount_weighting:
            time = jnp.arange(reward.shape[0], dtype=reward.dtype)
            advantage *= jnp.power(jnp.asarray(self.gamma, reward.dtype), time)[:, None]
        return EpisodeRows(features, rollout.action, advantage, baseline, episode_returns, mask)

    def _gradient(
        self, spec: Spec, params: Params, rows: "EpisodeRows", progress: Array, key: Array
    ) -> tuple[Params, dict[str, Array]]:
        episodes = rows.mask.shape[1]
        valid = jnp.sum(rows.mask, dtype=rows.returns.dtype)

        def objective(params: Params, block: EpisodeRows, number: Array) -> tuple[Array, dict[str, Array]]:
            policy_key, value_key = self.dropout_keys(key, number)
            policy = self.distribution(spec, params.policy, block.features, policy_key)
            share = jnp.sum(block.mask, dtype=valid.dtype) / jnp.maximum(valid, 1)
            score = jnp.sum(jnp.where(block.mask, policy.log_prob(block.action) * block.advantage, 0)) / episodes
            entropy = jnp.sum(jnp.where(block.mask, policy.entropy(), 0)) / episodes
            sums = {"objective": score, "entropy": share * objectives.masked_mean(policy.entropy(), block.mask)}
            total = score + self.entropy_weight(progress) * entropy
            if self.baseline == "value":
                value = self.value(spec, params.value, block.features, value_key)
                sums["value_error"] = share * objectives.value_error(value, block.returns, block.mask)
                total -= sums["value_error"]
            return total, sums

        def of_block(index: Array) -> tuple[Params, dict[str, Array]]:
            block = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, index * steps, steps), rows)
            return jax.grad(objective, has_aux=True)(params, block, index)

        steps = min(BLOCK_STEPS, rows.mask.shape[0])
        longest = jnp.max(jnp.sum(rows.mask, axis=0, dtype=jnp.int32))
        behind = -rows.mask.shape[0] % steps
        rows = jax.tree.map(lambda x: jnp.pad(x, [(0, behind)] + [(0, 0)] * (x.ndim - 1)), rows)
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_block, longest))
        num_blocks = -(-longest // steps)
        return jax.lax.fori_loop(0, num_blocks, lambda i, total: jax.tree.map(jnp.add, total, of_block(i)), zero)


class EpisodeRows(NamedTuple):
    """The rows of N whole episodes, ``[T, N, ...]``; ``mask`` is False behind each episode's end."""

    features: Features
    action: Array
    advantage: Array
    baseline: Array
    returns: Array
    mask: Array
