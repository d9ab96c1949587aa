"""A random rollout for an agent, in the form of an environment's spec: what ``check`` lets the agent learn from."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rlgd import spaces
from rlgd.agents.base.contract import AgentContract
from rlgd.pytrees import AgentState, Obs, Rollout, View
from rlgd.spaces import BoxSpec, DiscreteSpec, LeafSpec, MultiDiscreteSpec, Spec

EPISODE_ROWS = 32  # of a rollout of whole episodes
OBS, ENDS, ACT, REWARD, LAST, FINAL = range(6)  # purposes of the random keys


def random_rollout(agent: AgentContract, spec: Spec, state: AgentState, key: Array) -> Rollout:
    """Random observations and rewards, the actions that the agent takes, and ends of episodes of every kind."""
    if agent.whole_episodes:
        return _whole_episodes(agent, spec, state, key)
    length, num_envs = agent.rollout_length, agent.num_envs  # type: ignore[attr-defined]
    limit = max(2, length // 2)
    truncated = jnp.broadcast_to((jnp.arange(length)[:, None] + 1) % limit == 0, (length, num_envs))
    terminated = jax.random.bernoulli(jax.random.fold_in(key, ENDS), 0.1, (length, num_envs)) & ~truncated
    done = truncated | terminated
    firsts = jnp.concatenate([jnp.ones((1, num_envs), bool), done[:-1]])
    final_obs = random_obs(spec, jax.random.fold_in(key, FINAL), length // limit, num_envs)
    return _played(agent, spec, state, key, firsts, terminated, truncated, None, final_obs)


def _whole_episodes(agent: AgentContract, spec: Spec, state: AgentState, key: Array) -> Rollout:
    num_envs, time = agent.num_envs, jnp.arange(EPISODE_ROWS)[:, None]
    lengths = jax.random.randint(jax.random.fold_in(key, ENDS), (1, num_envs), 1, EPISODE_ROWS + 1)
    firsts = jnp.broadcast_to(time == 0, (EPISODE_ROWS, num_envs))
    final_obs = spaces.blank(spec.obs, 0, num_envs)
    terminated = time == lengths - 1
    return _played(agent, spec, state, key, firsts, terminated, jnp.zeros_like(terminated), time < lengths, final_obs)


def _played(
    agent: AgentContract,
    spec: Spec,
    state: AgentState,
    key: Array,
    firsts: Array,
    terminated: Array,
    truncated: Array,
    mask: Array | None,
    final_obs: Obs,
) -> Rollout:
    obs = random_obs(spec, jax.random.fold_in(key, OBS), *firsts.shape)
    memory, act_key = agent.memory(spec, agent.num_envs), jax.random.fold_in(key, ACT)

    def act(memory: Any, row: tuple[Array, Obs, Array]) -> tuple[Any, Array]:
        t, seen, first = row
        action, memory = agent.act(spec, state.actor, memory, View(seen, first), jax.random.fold_in(act_key, t))
        return memory, action

    _, action = jax.lax.scan(act, memory, (jnp.arange(len(firsts)), obs, firsts))
    return Rollout(
        obs=obs,
        action=action,
        reward=jax.random.normal(jax.random.fold_in(key, REWARD), firsts.shape),
        terminated=terminated,
        truncated=truncated,
        mask=mask,
        action_mask=None,
        last_obs=random_obs(spec, jax.random.fold_in(key, LAST), agent.num_envs),
        final_obs=final_obs,
        first=firsts[0],
        memory=memory,
    )


def random_obs(spec: Spec, key: Array, *batch: int) -> Obs:
    """Random observations ``[*batch, ...]``, as they are stored."""
    keys = iter(jax.random.split(key, len(spaces.leaf_specs(spec.obs))))

    def random(part: LeafSpec) -> Array:
        shape, dtype = spaces.obs_shape_dtype(part)
        size = (*batch, *shape)
        if isinstance(part, DiscreteSpec):
            return part.start + jax.random.randint(next(keys), size, 0, part.n, dtype)
        if isinstance(part, MultiDiscreteSpec):
            limits, start = (jnp.asarray(numbers, dtype).reshape(shape) for numbers in (part.nvec, part.start))
            return jax.random.randint(next(keys), size, 0, jnp.broadcast_to(limits, size), dtype) + start
        if isinstance(part, BoxSpec) and jnp.issubdtype(dtype, jnp.floating):
            return jax.random.normal(next(keys), size, dtype)
        return jax.random.randint(next(keys), size, 0, 2, jnp.int32).astype(dtype)

    return spaces.map_parts(random, spec.obs)
