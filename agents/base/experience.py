"""A rollout as rows to learn from, with advantages and targets."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.actor_critic import RolloutAgent
from rlgd.agents.base.agent import Agent
from rlgd.maths import blocks, minibatches, natural_gradient, objectives, returns
from rlgd.maths.distributions import Distribution
from rlgd.pytrees import Actor, AgentState, Features, Metrics, Params, Rollout
from rlgd.spaces import Spec

T = TypeVar("T")


class Experience(NamedTuple):
    """Rows to learn from, with all that is computed before the first step of ascent.

    A row is one step of one environment, ``[T * N, ...]``. For recurrent networks a row is a sequence of L steps of one
    environment, ``[T / L * N, L, ...]``, with the memories that the networks had before it. ``log_prob`` is that of
    the policy that acted. ``value_memory`` is that of the value function after it. ``weight`` are importance weights of
    what the policy climbs; None: all are 1.
    """

    features: Features
    action: Array
    log_prob: Array
    value: Array
    advantage: Array
    value_target: Array
    mask: Array | None
    value_memory: Array | None = None
    weight: Array | None = None

    def explained_variance(self) -> Array:
        """How well the value function that acted predicts the targets."""
        return objectives.explained_variance(self.value, self.value_target, self.mask)

    def lag(self) -> Metrics:
        """KL(acted, learns) in nats, estimated from the weights; nothing where the policy that learns has acted."""
        if self.weight is None:
            return {}
        log_ratio = jnp.log(self.weight)
        return {"train/lag_kl": objectives.approx_kl(log_ratio, jnp.zeros_like(log_ratio), self.mask)}


def by_environment(tree: T) -> T:
    """``[T, N, ...]`` to ``[N, T, ...]``, and back, in every array."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


def as_sequences(tree: T, length: int) -> T:
    """``[T, N, ...]`` to sequences, ``[T / length * N, length, ...]``, in every array."""

    def cut(x: Array) -> Array:
        return jnp.swapaxes(x.reshape(-1, length, *x.shape[1:]), 1, 2)

    return minibatches.as_rows(jax.tree.map(cut, tree))


def from_sequences(sequences: Array, num_envs: int) -> Array:
    """The opposite of ``as_sequences``."""
    cut = minibatches.by_time(sequences, num_envs)
    return jnp.swapaxes(cut, 1, 2).reshape(-1, num_envs, *sequences.shape[2:])


def true_next(following: Array, final: Array, truncated: Array) -> Array:
    """The value of each row's true next observation, ``[T, N]``.

    Args:
        following: ``[T, N]``, values of ``obs[t + 1]``: after an episode's end, of the next episode's first one.
        final: ``[K, N]``, values of ``Rollout.final_obs``.
        truncated: ``[T, N]`` bool.
    """
    if final.shape[0] == 0:
        return following
    index = jnp.clip(jnp.cumsum(truncated, axis=0) - 1, 0, final.shape[0] - 1)
    return jnp.where(truncated, jnp.take_along_axis(final, index, axis=0), following)


def experience(agent: RolloutAgent, spec: Spec, state: AgentState, rollout: Rollout) -> Experience:
    """Values, log-probabilities and advantages with the parameters and normalizers that acted.

    Where an older policy acted (``Rollout.actor``), log-probabilities are of that one, and the weights are those of the
    state's policy against it: what a mean over the rows with these weights estimates is the policy gradient at the
    state (Degris, White & Sutton 2012, arXiv 1205.4839: actions weigh as the policy that learns would take them, while
    states and advantages stay those that the policy that acted has met).
    """
    model, recurrent = agent.networks(spec), agent.is_recurrent

    def evaluate(rows: tuple[Features, Array]) -> tuple[Array, Array, Params]:
        decision, read = model.read(state.params, rows[0])
        assert decision is not None
        assert read is not None
        memory = Params(decision.output.memory, read.memory)
        return decision.policy.log_prob(rows[1]), read.outputs[..., 0], memory

    rows, weight = _features(agent, spec, state, rollout), None
    action = _as_rows(agent)(rollout.action)
    log_prob, value, remembered = blocks.map_rows(evaluate, (rows, action))
    if rollout.actor != ():
        acted = _log_prob_of_actor(agent, spec, state, rollout, action)
        log_prob, weight = acted, objectives.importance_ratio(log_prob, acted)
    by_time = by_environment(value) if recurrent else minibatches.by_time(value, agent.num_envs)
    memory = by_environment(remembered) if recurrent else remembered
    next_value = _next_value(agent, spec, state, rollout, by_time, memory.value)
    reward = agent.training_reward(state, rollout)
    advantage, value_target = returns.gae(
        reward, by_time, next_value, rollout.without_future, rollout.truncated, agent.gamma, agent.gae_lambda,
        agent.gae_correction,
    )  # fmt: skip
    if agent.normalize_advantage:
        advantage = objectives.normalize_advantage(advantage, rollout.mask)
    as_rows: Callable[[Any], Any] = minibatches.as_rows
    value_memory = None
    if recurrent:
        length = agent.sequence_steps
        as_rows = functools.partial(as_sequences, length=length)
        before = jax.tree.map(functools.partial(_before_sequences, length=length), memory, rows.memory)
        alone = rows._replace(memory=None)
        rows, action, log_prob, value, weight = as_rows(by_environment((alone, action, log_prob, value, weight)))
        rows = rows._replace(memory=before)
        if memory.value is not None:
            value_memory = minibatches.as_rows(memory.value[length - 1 :: length])
    return Experience(
        rows, action, log_prob, value, as_rows(advantage), as_rows(value_target), as_rows(rollout.mask), value_memory,
        weight,
    )  # fmt: skip


def _log_prob_of_actor(agent: Agent, spec: Spec, state: AgentState, rollout: Rollout, action: Array) -> Array:
    """Log-probabilities of the actions under the policy and the normalizers that collected them."""
    actor: Actor = rollout.actor
    rows = _features(agent, spec, dataclasses.replace(state, obs_statistics=actor.obs_statistics), rollout)

    def log_prob(rows: tuple[Features, Array]) -> Array:
        return agent.distribution(spec, actor.policy, rows[0]).log_prob(rows[1])

    return blocks.map_rows(log_prob, (rows, action))


def _before_sequences(after: Array, start: Array, length: int) -> Array:
    """The memory before each sequence, from that after each step ``[T, N, size]`` and that before the rollout."""
    return minibatches.as_rows(jnp.concatenate([start[None], after[length - 1 : -1 : length]]))


def kl_of_update(agent: Agent, spec: Spec, state: AgentState, rollout: Rollout, policy: Any) -> Array:
    """KL(old, new) in nats, the mean over a rollout's rows, a scalar.

    Args:
        agent, spec, state, rollout: as in ``Agent.update``.
        policy: the parameters after the update.
    """

    def distribution(policy: Any, rows: Features) -> Distribution:
        return agent.distribution(spec, policy, rows)

    rows, mask = _features(agent, spec, state, rollout), _as_rows(agent)(rollout.mask)
    return natural_gradient.mean_kl(distribution, state.params.policy, policy, rows, mask)


def _as_rows(agent: Agent) -> Callable[[Any], Any]:
    return by_environment if agent.is_recurrent else minibatches.as_rows


def _features(agent: Agent, spec: Spec, state: AgentState, rollout: Rollout) -> Features:
    """What the networks read at the rows of a rollout, with the memories that they had at its beginning."""
    as_rows = _as_rows(agent)
    rows = agent.features(spec, state.obs_statistics, as_rows(rollout.obs), as_rows(rollout.action_mask))
    if not agent.is_recurrent:
        return rows
    hidden = rollout.memory.hidden if agent.networks(spec).policy.memory_size is not None else None
    return rows._replace(first=by_environment(rollout.firsts), memory=Params(hidden, state.value_memory))


def _next_value(
    agent: RolloutAgent, spec: Spec, state: AgentState, rollout: Rollout, value: Array, memory: Array | None
) -> Array:
    """The value of each row's true next observation, ``[T, N]``.

    Args:
        agent, spec, state, rollout: as in ``experience``.
        value: ``[T, N]``, of the rows.
        memory: ``[T, N, size]``, of the value function after each row; None without recurrence.
    """
    last_and_final: Any = jax.tree.map(
        lambda last, final: jnp.concatenate([last[None], final]), rollout.last_obs, rollout.final_obs
    )
    features = agent.features(spec, state.obs_statistics, minibatches.as_rows(last_and_final))
    if memory is not None:
        before = _memory_before(memory, rollout.truncated, len(features.vector))
        memory_before = Params(None, minibatches.as_rows(before))
        features = features._replace(first=jnp.zeros(len(features.vector), bool), memory=memory_before)
    values = minibatches.by_time(agent.value(spec, state.params, features), agent.num_envs)
    following = jnp.concatenate([value[1:], values[:1]])
    return true_next(following, values[1:], rollout.truncated)


def _memory_before(memory: Array, truncated: Array, places: int) -> Array:
    """The memory with which the last and the final observations are read, ``[1 + K, N, size]``.

    Args:
        memory: ``[T, N, size]``, after each row.
        truncated: ``[T, N]`` bool; the k-th of each environment belongs to its k-th final observation.
        places: N (1 + K).
    """
    num_final = places // truncated.shape[1] - 1
    number = jnp.cumsum(truncated, axis=0) - 1
    rows = [jnp.argmax(truncated & (number == k), axis=0) for k in range(num_final)]
    found = [jnp.take_along_axis(memory, row[None, :, None], axis=0)[0] for row in rows]
    return jnp.stack([memory[-1], *found])
