"""The policy at work in environments on the host: one call of a compiled program for each step."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.errors import UsageError
from rlgd.models import features, own
from rlgd.pytrees import Actor, View
from rlgd.spaces import Spec
from rlgd.system.machine import one_thread_options
from rlgd.training.packing import Packing
from rlgd.training.rollout import ACT, choose_action, step_key

ACT_DEVICES = ("auto", "cpu", "gpu")
FEW_NUMBERS = 2**14  # an array with at most this many numbers is small
SMALL_LAYER = 256  # a network with at most this width is small


def is_small(agent: Agent, spec: Spec) -> bool:
    """Whether the networks of an agent are so small that one CPU thread runs them fastest, step by step."""
    if features.image_shapes(spec.obs):
        return False
    if not own.NETWORK.is_own(agent.network):
        return agent.num_weights(spec)[0] <= SMALL_LAYER**2
    layer = agent.memory_layer(agent.network)
    return max([*agent.hidden_sizes, 0 if layer is None else layer.width]) <= SMALL_LAYER


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
            return jax.local_devices(backend="cpu")[0] if is_small(agent, spec) else jax.local_devices()[0]
        return jax.local_devices(backend=choice)[0]
    except RuntimeError as error:
        raise UsageError(f"act_device is {choice!r}, but JAX finds no such device: {error}") from error


class _Programs(NamedTuple):
    """Compiled functions for agents, actors and views of one structure.

    Calling a compiled function takes longer than computing a small policy, and longer with each array. So all small
    arrays of agent and actor are joined into one, and an action that reaches the environment as it was sampled is
    returned only once.

    Attributes:
        hand_over: prepares the arrays of agent and actor once in a rollout.
        choose: ``choose_action`` with the prepared arrays and a view; the last result is None if the environment
            receives the action as it was sampled.
        choose_packed: the same with a packed view, and the actions packed.
    """

    hand_over: Any
    choose: Any
    choose_packed: Any


@functools.lru_cache(maxsize=64)
def _programs(
    spec: Spec,
    structure: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    view_structure: Any,
    seen: Packing,
    platform: str,
) -> _Programs:
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
        return memory, action, None if env_action is action else env_action

    def choose_packed(handed: tuple[list[Array], Array], memory: Any, view: Array, key: Array, t: Array) -> Any:
        whole = jax.tree.unflatten(view_structure, seen.unpacked(view))
        memory, *actions = choose(handed, memory, whole, key, t)
        actions = jax.tree.leaves(actions)
        return memory, Packing.of(actions).packed(actions)

    # Otherwise XLA computes parts of vector actions in another thread.
    options = one_thread_options(platform)
    return _Programs(
        jax.jit(hand_over), jax.jit(choose, compiler_options=options), jax.jit(choose_packed, compiler_options=options)
    )


@functools.lru_cache(maxsize=8)
def _times(length: int, device: jax.Device) -> tuple[Array, ...]:
    """0 to ``length - 1``, each an array where the policy acts."""
    return tuple(jax.device_put(list(np.arange(length, dtype=np.int32)), device))


class HostActing:
    """The policy in one rollout.

    On a CPU the program reads the very memory of the view. To another device one array goes in each step, and one
    comes back, because each transfer takes some microseconds, whatever its size.

    Args:
        agent, spec, actor: who acts, and where.
        memory: the policy's, before the first step.
        view: like those of all steps.
        key: the rollout's.
        length: the number of steps, at most.
        device: where the policy acts.
        packs: whether views and actions are packed; None: unless ``device`` is a CPU.

    Attributes:
        memory: the policy's, before the next step, where it acts.
    """

    def __init__(
        self,
        agent: Agent,
        spec: Spec,
        actor: Actor,
        memory: Any,
        view: View,
        key: Array,
        length: int,
        device: jax.Device,
        packs: bool | None = None,
    ) -> None:
        arrays, structure = jax.tree.flatten((agent, actor))
        leaves = tuple(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays)
        seen, view_structure = jax.tree.flatten(view)
        packing = Packing.of(seen)
        self._programs = _programs(spec, structure, leaves, view_structure, packing, device.platform)
        self._times, handed = _times(length, device), self._programs.hand_over(arrays)
        if device != jax.local_devices()[0]:
            # The parameters go to the other device once in a rollout; memory comes back as NumPy arrays.
            handed, memory, key = jax.device_put((handed, memory, key), device)
        self._handed, self.memory, self._key = handed, memory, key
        self._packs = device.platform != "cpu" if packs is None else packs
        self._actions: Packing | None = None
        if self._packs:
            self._view = np.zeros(packing.size, np.uint8)
            self._parts = packing.views(self._view)
            _, action, env_action = jax.eval_shape(self._programs.choose, handed, memory, view, key, self._times[0])
            actions, self._structure = jax.tree.flatten((action, env_action))
            self._actions = Packing.of(actions)

    def start(self, t: int, view: View) -> Any:
        """Begin to choose the actions of step ``t``; the view must stay as it is until they are fetched."""
        given = self._handed, self.memory
        if not self._packs:
            self.memory, *actions = self._programs.choose(*given, view, self._key, self._times[t])
            return actions
        for part, array in zip(self._parts, jax.tree.leaves(view), strict=True):
            part[...] = array
        self.memory, actions = self._programs.choose_packed(*given, self._view, self._key, self._times[t])
        return actions

    def fetch(self, started: Any) -> tuple[np.ndarray, Any]:
        """The actions as sampled, and as the environment receives them."""
        if self._actions is not None:
            action, env_action = jax.tree.unflatten(self._structure, self._actions.views(np.array(started)))
        else:
            action, env_action = jax.tree.map(np.asarray, started)
        return action, action if env_action is None else env_action
