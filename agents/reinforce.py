"""REINFORCE (Williams 1992): the Monte-Carlo policy gradient, on whole episodes."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.agents.base.fisher import Block, Weights, fisher, is_read, num_valid
from rlgd.agents.base.gradients import dropout_keys
from rlgd.agents.base.learning import climb_once, conclude
from rlgd.agents.base.variance_reduction import VarianceReduction
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.diagnostics import halves
from rlgd.ascent.fisher import Fisher
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, nested, static
from rlgd.maths import objectives, returns
from rlgd.pytrees import AgentState, Features, Metrics, Params, Rollout
from rlgd.spaces import Spec

T = TypeVar("T")
BASELINES = ("none", "mean", "value")
BLOCK_STEPS = 32  # steps in a block of rows; blocks after the end of the longest episode are not computed


@hyperparameters
class REINFORCE(Agent):
    """The gradient of the expected return, estimated from one whole episode in each environment.

    The estimate is the sum over a trajectory's rows, averaged over the N episodes:

        (1/N) sum_n sum_t grad log pi(a_t|s_t) * (G_t - b_t),    G_t = r_t + gamma r_{t+1} + ...

    It is unbiased because it divides by N, a constant, and not by the random number of rows. Without
    ``discount_weighting`` it is the usual estimator, which does not weight rows by gamma^t. With it the expectation is
    the exact gradient of J = E[sum_t gamma^t r_t]. A time limit ends the episode: nothing is bootstrapped.

    With gSDE, actions share their noise over ``sde_sample_freq`` steps, but log pi(a|s) is that of each step alone: the
    estimate is then unbiased only if ``sde_sample_freq`` is 1.
    """

    whole_episodes: ClassVar[bool] = True

    num_envs: int = static(16, "environments, one episode of each in one iteration", "[1, inf)")
    ascent: Ascent = nested(Ascent("adam", learning_rate=5e-3, schedule="linear"))
    baseline: str = static(
        "value", "what is subtracted from the return: the mean of other episodes, the value", choices=BASELINES
    )
    measure_every: int = static(
        16, "log the ascent's angles, noise and step lengths once in this many iterations; 0: never", "[0, inf)"
    )
    discount_weighting: bool = static(False, "weight row t by gamma^t: the exact gradient of the discounted return")
    variance: VarianceReduction = nested(VarianceReduction())

    def validate(self) -> None:
        super().validate()
        self.variance.check(self)
        if self.baseline == "mean" and self.num_envs < 2:
            raise UsageError(
                f"baseline 'mean' averages over other episodes, but num_envs is {self.num_envs}; allowed: at least 2."
            )
        if self.is_recurrent:
            raise UsageError(f"{self.remembering} has a memory; REINFORCE learns without one: choose another network.")
        of_value = {"value_network": self.value_network, "critic_obs": self.critic_obs or None}
        if self.baseline != "value" and (unread := [name for name, given in of_value.items() if given is not None]):
            raise UsageError(
                f"{unread[0]} is set, but baseline is {self.baseline!r}, which has no value function; leave it out, or "
                "set baseline to 'value'."
            )

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: one step along the estimate; the value function moves towards the returns."""
        rows = self._rows(spec, state, rollout)
        gradient, metrics = self._gradient(spec, state.params, rows, progress, key)
        if self.variance.is_on:
            gradient, more = self._corrected(spec, state, rows, progress, gradient, key)
            metrics |= more
        curvature = self._fisher(spec, state.params, rows, key)
        params, opt_state, metrics = climb_once(self, state, gradient, metrics, progress, curvature)
        if self.baseline == "value":
            metrics["train/explained_variance"] = objectives.explained_variance(rows.baseline, rows.returns, rows.mask)
        return conclude(self, spec, state, rollout, params, opt_state), metrics

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The estimate that ``update`` follows."""
        return self._gradient(spec, state.params, self._rows(spec, state, rollout), progress, key)[0]

    def half_gradients(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Any:
        """The estimates on every other episode."""
        rows = halves(self._rows(spec, state, rollout), axis=1)
        return jax.vmap(lambda half: self._gradient(spec, state.params, half, progress, key)[0].policy)(rows)

    def init(self, spec: Spec, key: Array) -> AgentState:
        return self.variance.begun(super().init(spec, key))

    def passes(self) -> int:
        """Acting, and one gradient, or those of the correction too."""
        return 2 + 2 * self.variance.is_on

    def _corrected(
        self, spec: Spec, state: AgentState, rows: "EpisodeRows", progress: Array, gradient: Params, key: Array
    ) -> tuple[Params, Metrics]:
        """The gradient with the correction of variance reduction; an importance weight is that of a whole episode."""

        def log_prob(policy: Any) -> Array:
            return self.distribution(spec, policy, rows.features).log_prob(rows.action)

        acted = log_prob(state.params.policy)

        def log_ratio(policy: Any) -> Array:
            return jnp.sum(jnp.where(rows.mask, log_prob(policy) - acted, 0), axis=0)

        def gradient_at(policy: Any, weight: Array) -> Any:
            weighted = rows._replace(weight=jnp.broadcast_to(weight, rows.mask.shape))
            return self._gradient(spec, Params(policy, state.params.value), weighted, progress, key)[0].policy

        momentum = self.ascent.momentum_at(progress)
        corrected, metrics = self.variance.corrected(
            momentum, gradient.policy, state.params.policy, state.previous, log_ratio, gradient_at
        )
        return Params(corrected, gradient.value), metrics

    def _rows(self, spec: Spec, state: AgentState, rollout: Rollout) -> "EpisodeRows":
        mask = jnp.ones(rollout.reward.shape, bool) if rollout.mask is None else rollout.mask
        reward = jnp.where(mask, self.training_reward(state, rollout), 0)
        discount = jnp.full_like(reward, self.gamma)
        episode_returns = returns.discounted_returns(reward, discount, jnp.zeros_like(reward[0]))
        features = self.features(spec, state.obs_statistics, rollout.obs, rollout.action_mask)
        if self.baseline == "value":
            baseline = self.value(spec, state.params, features)
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
    ) -> tuple[Params, Metrics]:
        episodes = rows.mask.shape[1]
        valid = jnp.sum(rows.mask, dtype=rows.returns.dtype)

        def objective(params: Params, block: EpisodeRows, number: Array) -> tuple[Array, Metrics]:
            keys = dropout_keys(self, key, number)
            learned = params if self.baseline == "value" else Params(params.policy, None)
            decision, value = self.networks(spec).read(learned, block.features, keys)
            assert decision is not None
            policy = decision.policy
            share = jnp.sum(block.mask, dtype=valid.dtype) / jnp.maximum(valid, 1)
            score = objectives.weighted(policy.log_prob(block.action) * block.advantage, block.weight)
            score = jnp.sum(jnp.where(block.mask, score, 0)) / episodes
            entropy = objectives.weighted(policy.entropy(), block.weight)
            entropy = jnp.sum(jnp.where(block.mask, entropy, 0)) / episodes
            mean_entropy = share * objectives.masked_mean(policy.entropy(), block.mask)
            metrics = {"train/objective": score, "train/entropy": mean_entropy}
            total = score + self.entropy_weight(progress) * entropy
            if value is not None:
                error = objectives.value_error(value.outputs[..., 0], block.returns, block.mask)
                metrics["train/value_error"] = share * error
                total -= metrics["train/value_error"]
            return total, metrics

        def of_block(block: EpisodeRows, number: Array) -> tuple[Params, Metrics]:
            return jax.grad(objective, has_aux=True)(params, block, number)

        return _sum_over_blocks(of_block, rows, rows.mask)

    def _fisher(self, spec: Spec, params: Params, rows: "EpisodeRows", key: Array) -> Fisher | None:
        """Of the policy that of an episode, as the gradient is; of the value function that of a row."""
        if not is_read(self):
            return None
        block = rows.features, rows.mask
        weights = Weights(num_valid(block) / rows.mask.shape[1], 1.0 if self.baseline == "value" else None)

        def summed(of_block: Callable[[Block, Array], Any], block: Block) -> Any:
            return _sum_over_blocks(of_block, block, rows.mask)

        return fisher(self, spec, params, block, key, weights, summed)


class EpisodeRows(NamedTuple):
    """The rows of N whole episodes, ``[T, N, ...]``; ``mask`` is False after each episode's end.

    ``weight`` are importance weights of what the policy climbs; None: all are 1.
    """

    features: Features
    action: Array
    advantage: Array
    baseline: Array
    returns: Array
    mask: Array
    weight: Array | None = None


def _sum_over_blocks(function: Callable[[Any, Array], T], rows: Any, mask: Array) -> T:
    """The sum of ``function(block, number)`` over blocks of steps, up to the end of the longest episode."""

    def of_block(index: Array) -> T:
        block = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, index * steps, steps), rows)
        return function(block, index)

    steps = min(BLOCK_STEPS, mask.shape[0])
    longest = jnp.max(jnp.sum(mask, axis=0, dtype=jnp.int32))
    padding = -mask.shape[0] % steps
    rows = jax.tree.map(lambda x: jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)), rows)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_block, longest))
    num_blocks = -(-longest // steps)
    return jax.lax.fori_loop(0, num_blocks, lambda i, total: jax.tree.map(jnp.add, total, of_block(i)), zero)
