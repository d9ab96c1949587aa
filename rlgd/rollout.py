"""Collecting a ``Rollout``: on the device by a scan, on the host by a loop. Both draw the same actions from a key."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd import spaces
from rlgd.agents.common import ActorCriticAgent, Agent
from rlgd.data import Actor, LoopState, Rollout, Spec, View
from rlgd.envs.device import DeviceEnv, Timestep, select_envs
from rlgd.envs.host import HostStep, HostVector
from rlgd.errors import UsageError

EPISODE_BLOCK = 32  # whole episodes are collected so many steps at a time, until all have ended
ACT, STEP, RESET = range(3)  # purposes of the random keys of a rollout


def collect(agent: Agent, env: DeviceEnv, loop: LoopState, key: Array) -> tuple[Rollout, LoopState]:
    """One iteration's rows on the device: ``rollout_length`` steps, or one whole episode of each environment.

    Returns:
        The rollout, and the loop state with environments and memory behind it.
    """
    if agent.whole_episodes:
        return _collect_episodes(agent, env, loop, key)
    assert isinstance(agent, ActorCriticAgent)
    return _collect_steps(agent, env, loop, key, agent.rollout_length)


def _choose(
    agent: Agent, spec: Spec, actor: Actor, memory: Any, obs: Array, first: Array, key: Array, t: Array
) -> tuple[Array, Array, Any]:
    """The action as sampled, as the environment receives it, and the memory."""
    act_key = jax.random.fold_in(jax.random.fold_in(key, ACT), t)
    action, memory = agent.act(spec, actor, memory, View(obs, first), act_key)
    return action, spaces.action_head(spec.action, agent.squash).to_env(action), memory


def most_truncations(spec: Spec, length: int) -> int:
    """How often an environment's time limit can truncate in so many steps; 0 where it has none."""
    return 0 if spec.max_episode_steps is None else -(-length // spec.max_episode_steps)


def _row(obs: Array, action: Array, reward: Array, terminated: Array, truncated: Array) -> dict[str, Array]:
    return {"obs": obs, "action": action, "reward": reward, "terminated": terminated, "truncated": truncated}


def _collect_steps(agent: Agent, env: DeviceEnv, loop: LoopState, key: Array, length: int) -> tuple[Rollout, LoopState]:
    spec, actor = env.spec, loop.agent_state.actor
    num_final = most_truncations(spec, length)
    step_key, times = jax.random.fold_in(key, STEP), jnp.arange(length)
    reset_keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.fold_in(key, RESET)))(times)
    fresh_states = jax.vmap(lambda key: env.reset(key, agent.num_envs))(reset_keys)

    def step(carry: Any, row: Any) -> tuple[Any, Any]:
        state, obs, first, memory, final_obs, num_truncated = carry
        t, fresh = row
        action, env_action, memory = _choose(agent, spec, actor, memory, obs, first, key, t)
        state, timestep = env.step(jax.random.fold_in(step_key, t), state, env_action, fresh)
        final_obs = _keep_final(final_obs, num_truncated, timestep)
        done = timestep.terminated | timestep.truncated
        carry = (state, timestep.obs, done, memory, final_obs, num_truncated + timestep.truncated.astype(jnp.int32))
        return carry, _row(obs, action, timestep.reward, timestep.terminated, timestep.truncated)

    final_obs = jnp.zeros((num_final, *loop.obs.shape), loop.obs.dtype)
    start = (loop.env_state, loop.obs, loop.first, loop.memory, final_obs, jnp.zeros(loop.first.shape, jnp.int32))
    (state, obs, first, memory, final_obs, _), rows = jax.lax.scan(step, start, (times, fresh_states))
    rollout = Rollout(**rows, mask=None, action_mask=None, last_obs=obs, final_obs=final_obs, first=loop.first)
    return rollout, dataclasses.replace(loop, env_state=state, obs=obs, first=first, memory=memory)


def _keep_final(final_obs: Array, num_truncated: Array, timestep: Timestep) -> Array:
    """``final_obs [K, N, ...]`` with the observation of environments that are truncated now, each in its next place."""
    if final_obs.shape[0] == 0:
        return final_obs
    place = jnp.arange(final_obs.shape[0], dtype=jnp.int32)[:, None] == num_truncated[None]
    here = place & timestep.truncated[None]
    return jnp.where(here.reshape(*here.shape, *(1,) * (final_obs.ndim - 2)), timestep.next_obs[None], final_obs)


def padded_limit(spec: Spec) -> int:
    """The number of rows that hold a whole episode, a multiple of ``EPISODE_BLOCK``.

    Raises:
        UsageError: if the environment has no time limit.
    """
    if spec.max_episode_steps is None:
        raise UsageError(
            "this agent learns from whole episodes, but the environment has no time limit; set max_episode_steps."
        )
    return -(-spec.max_episode_steps // EPISODE_BLOCK) * EPISODE_BLOCK


def _collect_episodes(agent: Agent, env: DeviceEnv, loop: LoopState, key: Array) -> tuple[Rollout, LoopState]:
    spec, actor, num_envs = env.spec, loop.agent_state.actor, agent.num_envs
    length = padded_limit(spec)
    state, obs = env.reset(jax.random.fold_in(key, RESET), num_envs)
    alive = jnp.ones(num_envs, bool)
    step_key = jax.random.fold_in(key, STEP)

    def step(carry: Any, t: Array) -> tuple[Any, Any]:
        state, obs, alive, first, memory = carry
        action, env_action, memory = _choose(agent, spec, actor, memory, obs, first, key, t)
        moved, timestep = env.step_without_reset(jax.random.fold_in(step_key, t), state, env_action)
        terminated, truncated = alive & timestep.terminated, alive & timestep.truncated
        row = _row(obs, action, timestep.reward, terminated, truncated) | {"mask": alive}
        # Beyond its end an environment's physics may leave the finite numbers: it stays where it is.
        state, obs = select_envs(alive, (moved, timestep.next_obs), (state, obs))
        return (state, obs, alive & ~(terminated | truncated), jnp.zeros_like(first), memory), row

    def block(carry: Any) -> Any:
        index, running, rows = carry
        running, new = jax.lax.scan(step, running, index * EPISODE_BLOCK + jnp.arange(EPISODE_BLOCK))

        def place(whole: Array, part: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(whole, part, index * EPISODE_BLOCK, 0)

        return index + 1, running, jax.tree.map(place, rows, new)

    def unfinished(carry: Any) -> Array:
        index, running, _ = carry
        return (index < length // EPISODE_BLOCK) & jnp.any(running[2])

    start = (state, obs, alive, alive, agent.memory(spec, num_envs))
    _, row = jax.eval_shape(step, start, jnp.zeros((), jnp.int32))
    empty = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), row)
    _, (state, obs, _, first, memory), rows = jax.lax.while_loop(
        unfinished, block, (jnp.zeros((), jnp.int32), start, empty)
    )
    no_final = jnp.zeros((0, *obs.shape), obs.dtype)
    rollout = Rollout(**rows, action_mask=None, last_obs=obs, final_obs=no_final, first=alive)
    return rollout, dataclasses.replace(loop, env_state=state, obs=obs, first=first, memory=memory)


@functools.cache
def _choose_on_host() -> Any:
    """``_choose``, compiled; on the CPU its operations run one after the other.

    Where actions are vectors XLA otherwise hands some of them to another thread, which takes longer than they do.
    """
    one_by_one = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    options = one_by_one if jax.default_backend() == "cpu" else {}
    return jax.jit(_choose, static_argnums=(1,), compiler_options=options)


def collect_on_host(agent: Agent, vector: HostVector, loop: LoopState, key: Array) -> tuple[Rollout, LoopState]:
    """One iteration's rows from Gymnasium; the same rows as ``collect`` gives for the same environment.

    Raises:
        EnvironmentFault: if the environment raises, or gives an observation or reward that is not finite.
    """
    spec, actor, memory = vector.spec, loop.agent_state.actor, loop.memory
    if agent.whole_episodes:
        obs, first = vector.reset(), np.ones(agent.num_envs, bool)
        length, memory = padded_limit(spec), agent.memory(spec, agent.num_envs)
    else:
        assert isinstance(agent, ActorCriticAgent)
        obs, first, length = np.asarray(loop.obs), np.asarray(loop.first), agent.rollout_length
    rows, alive, start = HostRows(length, obs), np.ones(agent.num_envs, bool), first
    choose = _choose_on_host()
    for t in range(length):
        action, env_action, memory = choose(agent, spec, actor, memory, obs, first, key, np.int32(t))
        rows.obs[t] = obs
        step = vector.step(np.asarray(env_action))
        obs, first = step.obs, step.first
        if agent.whole_episodes:
            step = step.only(alive)
            alive &= ~(step.terminated | step.truncated)
        rows.add(t, np.asarray(action), step)
        if not alive.any():
            break
    masked = agent.whole_episodes or vector.has_reset_rows
    least = 0 if masked else most_truncations(spec, length)
    rollout = rows.rollout(obs, start, masked, least)
    behind: dict[str, Any] = {"obs": obs, "first": first, "memory": memory}
    return rollout, dataclasses.replace(loop, **behind)


class HostRows:
    """The rows of one rollout while it is collected, ``[T, N, ...]`` in NumPy; rows never reached stay masked."""

    def __init__(self, length: int, obs: np.ndarray) -> None:
        rows = (length, obs.shape[0])
        # New memory for each rollout: on the CPU the device reads these very bytes, without a copy.
        self.obs = np.zeros((length, *obs.shape), obs.dtype)
        self.action: np.ndarray | None = None
        self.reward = np.zeros(rows, np.float32)
        self.terminated, self.truncated, self.mask = (np.zeros(rows, bool) for _ in range(3))
        self.final_obs: list[list[np.ndarray]] = [[] for _ in range(obs.shape[0])]

    def add(self, t: int, action: np.ndarray, step: HostStep) -> None:
        """Write row ``t``."""
        if self.action is None:
            self.action = np.zeros((self.obs.shape[0], *action.shape), action.dtype)
        self.action[t], self.reward[t], self.mask[t] = action, step.reward, step.valid
        self.terminated[t], self.truncated[t] = step.terminated, step.truncated
        for n, obs in step.final_obs.items():
            self.final_obs[n].append(obs)

    def rollout(self, last_obs: np.ndarray, first: np.ndarray, masked: bool, least: int) -> Rollout:
        """The rows as a ``Rollout``, with room for ``least`` final observations, or for 1, 2, 4, ...: few shapes."""
        most = max(len(seen) for seen in self.final_obs)
        room = least if most <= least else 1 << (most - 1).bit_length()
        final_obs = np.zeros((room, *last_obs.shape), last_obs.dtype)
        for n, seen in enumerate(self.final_obs):
            final_obs[: len(seen), n] = np.reshape(seen, (len(seen), *last_obs.shape[1:]))
        rows: dict[str, Any] = {
            "obs": self.obs,
            "action": self.action,
            "reward": self.reward,
            "terminated": self.terminated,
            "truncated": self.truncated,
            "mask": self.mask if masked else None,
        }
        ends: dict[str, Any] = {"last_obs": last_obs, "final_obs": final_obs, "first": first}
        return Rollout(**rows, **ends, action_mask=None)
