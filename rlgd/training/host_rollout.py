"""Collecting a rollout on the host: a loop over Gymnasium's environments."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.envs.host.host_step import HostStep
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import UsageError
from rlgd.models import features
from rlgd.pytrees import LoopState, Obs, Rollout, View
from rlgd.spaces import Spec
from rlgd.system.machine import one_thread_options
from rlgd.training import episodes
from rlgd.training.rollout import ACT, choose_action, most_truncations, rollout_length, step_key

ACT_DEVICES = ("auto", "cpu", "gpu")
FEW_NUMBERS = 2**14  # an array with at most this many numbers is small
SMALL_LAYER = 256  # a network with at most this width is small


def is_small(agent: Agent, spec: Spec) -> bool:
    """Whether the networks of an agent are so small that one CPU thread runs them fastest, step by step."""
    widths = [*agent.hidden_sizes, 0 if agent.recurrence is None else agent.recurrence.width]
    return not features.image_shapes(spec.obs) and max(widths) <= SMALL_LAYER


def acting_device(choice: str, agent: Agent, spec: Spec) -> jax.Device:
    """Where the policy acts in environments on the host.

    Args:
        choice: "cpu" or "gpu"; "auto" takes the CPU for small networks, else the device that learns.
        agent: the agent that acts.
        spec: the environment's.

    Raises:
        UsageError: if there is no such device.
    """
    try:
        if choice == "auto":
            return jax.devices("cpu")[0] if is_small(agent, spec) else jax.devices()[0]
        return jax.devices(choice)[0]
    except RuntimeError as error:
        raise UsageError(f"act_device is {choice!r}, but JAX finds no such device: {error}") from error


def begin_episodes(agent: Agent, vector: HostVector, loop: LoopState, entropy: tuple[int, ...]) -> LoopState:
    """New episodes in every environment; their seeds derive from ``entropy``."""
    sequence = np.random.SeedSequence(entropy)
    obs = vector.reset(int(sequence.generate_state(1)[0] >> 1))
    return dataclasses.replace(
        loop,
        obs=jax.tree.map(jnp.asarray, obs),
        first=jnp.ones(agent.num_envs, bool),
        memory=agent.memory(vector.spec, agent.num_envs),
        episodes=episodes.begin(agent.num_envs),
    )


@functools.lru_cache(maxsize=64)
def _acting(spec: Spec, structure: Any, leaves: tuple[jax.ShapeDtypeStruct, ...], platform: str) -> tuple[Any, Any]:
    """Two compiled functions for agents and actors of one structure: ``hand_over`` prepares their arrays once in a
    rollout, and ``choose`` is ``choose_action`` with the prepared arrays.

    Calling a compiled function takes longer than computing a small policy, and longer with each array. So all small
    arrays are joined into one, and an action that reaches the environment as it was sampled is returned only once.
    """
    dtype = jax.dtypes.canonicalize_dtype(float)  # the type of traced hyper-parameters: some array is small
    small = [n for n, leaf in enumerate(leaves) if leaf.dtype == dtype and leaf.size <= FEW_NUMBERS]
    ends = np.cumsum([leaves[n].size for n in small])[:-1]

    def hand_over(arrays: list[Array]) -> tuple[list[Array], Array]:
        others = [array for n, array in enumerate(arrays) if n not in small]
        return others, jnp.concatenate([arrays[n].reshape(-1) for n in small])

    def choose(handed: tuple[list[Array], Array], memory: Any, view: View, key: Array, t: Array) -> Any:
        arrays, together = list(handed[0]), handed[1]
        for n, part in zip(small, jnp.split(together, ends), strict=True):
            arrays.insert(n, part.reshape(leaves[n].shape))
        agent, actor = jax.tree.unflatten(structure, arrays)
        action, env_action, memory = choose_action(agent, spec, actor, memory, view, step_key(key, ACT, t))
        return action, None if env_action is action else env_action, memory

    # Otherwise XLA computes parts of vector actions in another thread.
    return jax.jit(hand_over), jax.jit(choose, compiler_options=one_thread_options(platform))


@functools.lru_cache(maxsize=8)
def _times(length: int, device: jax.Device) -> tuple[Array, ...]:
    """0 to ``length - 1``, each an array where the policy acts."""
    return tuple(jax.device_put(list(np.arange(length, dtype=np.int32)), device))


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
    rows, alive = HostRows(length, view), np.ones(agent.num_envs, bool)
    device = jax.devices()[0] if device is None else device
    arrays, structure = jax.tree.flatten((agent, actor))
    leaves = tuple(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays)
    hand_over, choose = _acting(spec, structure, leaves, device.platform)
    times, handed = _times(length, device), hand_over(arrays)
    if device != jax.devices()[0]:
        # The parameters go to the other device once in a rollout; memory comes back as NumPy arrays.
        handed, memory, key = jax.device_put((handed, memory, key), device)
    for t in range(length):
        action, env_action, memory = choose(handed, memory, view, key, times[t])
        rows.see(t, view)
        action = np.asarray(action)
        step = vector.step(action if env_action is None else np.asarray(env_action))
        view = View(step.obs, step.first, vector.action_mask)
        if agent.whole_episodes:
            step = step.only(alive)
            alive &= ~(step.terminated | step.truncated)
        rows.add(t, action, step)
        if not alive.any():
            break
    masked = agent.whole_episodes or vector.has_reset_rows
    least = 0 if masked else most_truncations(spec, length)
    rollout = dataclasses.replace(rows.rollout(view.obs, first, masked, least), memory=loop.memory)
    after: dict[str, Any] = {"obs": view.obs, "first": view.first, "memory": jax.tree.map(np.asarray, memory)}
    return rollout, dataclasses.replace(loop, **after)


class HostRows:
    """The rows of one rollout while it is collected, ``[T, N, ...]`` in NumPy; rows never reached stay masked."""

    def __init__(self, length: int, view: View) -> None:
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
        }
        ends: dict[str, Any] = {"last_obs": last_obs, "final_obs": final_obs, "first": first}
        return Rollout(**rows, **ends)
