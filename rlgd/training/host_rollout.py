"""Collecting a rollout on the host: a loop over Gymnasium's environments."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.envs.host.host_step import HostStep
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import UsageError
from rlgd.pytrees import LoopState, Obs, Rollout, View
from rlgd.training import episodes
from rlgd.training.host_acting import HostActing
from rlgd.training.rollout import most_truncations, rollout_length

NO_LIVES = "terminal_on_life_loss is set, but the infos of {} have no number of lives."


def begin_episodes(
    agent: Agent, vector: HostVector, loop: LoopState, entropy: tuple[int, ...], first: int = 0
) -> LoopState:
    """New episodes in every environment; their seeds derive from ``entropy`` and their number, from ``first`` on.

    Raises:
        UsageError: if lives are asked for, and the environments tell none.
        EnvironmentFault: if they cannot be reset.
    """
    sequence = np.random.SeedSequence(entropy)
    obs = vector.reset(int(sequence.generate_state(1)[0] >> 1) + first)
    if agent.reads_lives and not vector.tells_lives:
        raise UsageError(NO_LIVES.format(vector.env_id))
    return dataclasses.replace(
        loop,
        obs=jax.tree.map(jnp.asarray, obs),
        first=jnp.ones(agent.num_envs, bool),
        memory=agent.memory(vector.spec, agent.num_envs),
        episodes=episodes.begin(agent.num_envs),
    )


def collect_on_host(
    agent: Agent, vector: HostVector, loop: LoopState, key: Array, device: jax.Device | None = None
) -> tuple[Rollout, LoopState]:
    """The rows of one iteration from Gymnasium; the same rows as ``collect`` gives for the same environment.

    ``device`` is where the policy acts; None: JAX's default device.

    Raises:
        EnvironmentFault: if the environment raises, or gives an observation or reward that is not finite.
    """
    spec, actor, memory = vector.spec, loop.agent_state.actor, loop.memory
    if agent.whole_episodes:
        obs, first = vector.reset(), np.ones(agent.num_envs, bool)
        memory = agent.memory(spec, agent.num_envs)
    else:
        obs, first = jax.tree.map(np.asarray, loop.obs), np.asarray(loop.first)
    length = rollout_length(agent, spec)
    view = View(obs, first, vector.action_mask)
    rows, alive = HostRows(length, view, agent.reads_lives), np.ones(agent.num_envs, bool)
    device = jax.local_devices()[0] if device is None else device
    acting = HostActing(agent, spec, actor, memory, view, key, length, device)
    for t in range(length):
        started = acting.start(t, view)
        rows.see(t, view)  # while the policy acts
        action, env_action = acting.fetch(started)
        step = vector.step(env_action)
        view = View(step.obs, step.first, vector.action_mask)
        if agent.whole_episodes:
            step = step.only(alive)
            alive &= ~(step.terminated | step.truncated)
        rows.add(t, action, step)
        vector.infos.add(step)
        if not alive.any():
            break
    masked = agent.whole_episodes or vector.has_reset_rows
    least = 0 if masked else most_truncations(spec, length)
    rollout = dataclasses.replace(rows.rollout(view.obs, first, masked, least), memory=loop.memory)
    after: dict[str, Any] = {"obs": view.obs, "first": view.first, "memory": jax.tree.map(np.asarray, acting.memory)}
    return rollout, dataclasses.replace(loop, **after)


class HostRows:
    """The rows of one rollout while it is collected, ``[T, N, ...]`` in NumPy; rows never reached stay masked.

    ``lives``: whether they say where one was lost.
    """

    def __init__(self, length: int, view: View, lives: bool) -> None:
        def room(x: np.ndarray) -> np.ndarray:
            return np.zeros((length, *x.shape), x.dtype)

        # New arrays for each rollout: on the CPU, JAX reads these bytes themselves, without a copy.
        self.obs = jax.tree.map(room, view.obs)
        self.action_mask = jax.tree.map(room, view.action_mask)
        self._seen = jax.tree.leaves((self.obs, self.action_mask))
        self.action: np.ndarray | None = None
        rows = (length, len(view.first))
        self.reward = np.zeros(rows, np.float32)
        self.terminated, self.truncated, self.mask = (np.zeros(rows, bool) for _ in range(3))
        self.life_lost = np.zeros(rows, bool) if lives else None
        self.final_obs: list[list[Obs]] = [[] for _ in range(rows[1])]

    def see(self, t: int, view: View) -> None:
        """Write what the policy sees in row ``t``."""
        for whole, part in zip(self._seen, jax.tree.leaves((view.obs, view.action_mask)), strict=True):
            whole[t] = part

    def add(self, t: int, action: np.ndarray, step: HostStep) -> None:
        """Write the action of row ``t`` and its result."""
        if self.action is None:
            self.action = np.zeros((len(self.reward), *action.shape), action.dtype)
        self.action[t], self.reward[t], self.mask[t] = action, step.reward, step.valid
        self.terminated[t], self.truncated[t] = step.terminated, step.truncated
        if self.life_lost is not None and step.life_lost is not None:
            self.life_lost[t] = step.life_lost
        for n, obs in step.final_obs.items():
            self.final_obs[n].append(obs)

    def rollout(self, last_obs: Obs, first: np.ndarray, masked: bool, least: int) -> Rollout:
        """The rows as a ``Rollout``, with room for ``least`` final observations or for 1, 2, 4, ...: few shapes."""
        most = max(len(seen) for seen in self.final_obs)
        room = least if most <= least else 1 << (most - 1).bit_length()
        final_obs = jax.tree.map(lambda x: np.zeros((room, *x.shape), x.dtype), last_obs)
        wholes = jax.tree.leaves(final_obs)
        for n, seen in enumerate(self.final_obs):
            for k, obs in enumerate(seen):
                for whole, part in zip(wholes, jax.tree.leaves(obs), strict=True):
                    whole[k, n] = part
        rows: dict[str, Any] = {
            "obs": self.obs,
            "action": self.action,
            "reward": self.reward,
            "terminated": self.terminated,
            "truncated": self.truncated,
            "mask": self.mask if masked else None,
            "action_mask": self.action_mask,
            "life_lost": () if self.life_lost is None else self.life_lost,
        }
        ends: dict[str, Any] = {"last_obs": last_obs, "final_obs": final_obs, "first": first}
        return Rollout(**rows, **ends)
