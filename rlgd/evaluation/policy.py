"""A trained agent as a function of observations: NumPy in, NumPy out."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from rlgd import spaces
from rlgd.agents.base.agent import Agent
from rlgd.errors import UsageError, whole_number
from rlgd.evaluation import policy_file
from rlgd.maths.seeds import random_key
from rlgd.pytrees import Actor, Obs, View
from rlgd.spaces import LeafSpec, Spec


class Policy:
    """``policy(obs)`` returns the most probable action, in the environment's own shape and dtype.

    A policy with a memory (``network="lstm"`` and others) remembers all observations since ``reset()``: call that when
    an episode begins, or pass ``first`` for the environments of a batch in which one begins.
    """

    def __init__(self, agent: Agent, spec: Spec, actor: Actor) -> None:
        self.agent, self._prepared = agent, agent.prepared()
        self._remembers = agent.is_recurrent  # gSDE's noise alone is not kept from one call to the next
        self.spec = spec
        self.actor = actor
        self._expected = spaces.map_parts(_expected, spec.obs, spaces.names(spec.obs, "obs"))
        self._shapes = [spaces.obs_shape_dtype(part)[0] for part in spaces.leaf_specs(spec.obs)]
        self._ready: _Ready | None = None
        self._blank: tuple[int, Any] = (-1, None)
        self._unread = frozenset(agent.critic_parts(spec))
        self.reset()

    def reset(self) -> None:
        """Clear the memory: the next observation begins an episode."""
        self._memory: Any = None

    def copy(self) -> "Policy":
        """The same policy, with a memory of its own, which is empty."""
        return Policy(self.agent, self.spec, self.actor)

    def save(self, path: str | Path) -> None:
        """Write the policy to one file, which ``Policy.load`` reads anywhere: without its run, and without its
        environment. The memory is not part of it.

        The file has the layout of safetensors. Another policy in its place is replaced; another file is not.

        Raises:
            UsageError: if there is something else in the place of the file.
            StorageFault: if it cannot be written.
        """
        policy_file.write(Path(path), self.agent, self.spec, self.actor)

    @classmethod
    def load(cls, path: str | Path, *, agent: type[Agent] | None = None, **parts: Any) -> "Policy":
        """A policy that ``save`` wrote. No code that the file names is imported.

        Args:
            path: of the file.
            agent: the class of an agent that is not rlgd's.
            parts: the network or the optimizer, where it is not rlgd's: ``network=MyTorso``.

        Raises:
            UsageError: if there is no such file, or it is of another kind; if a part is needed, or is another one.
            StorageFault: if it is damaged.
        """
        return cls(*policy_file.read(Path(path), agent, parts))

    @classmethod
    def from_safetensors(
        cls,
        path: str | Path,
        *,
        architecture: str | Path | None = None,
        agent: type[Agent] | None = None,
        **parts: Any,
    ) -> "Policy":
        """A policy whose arrays any program wrote as safetensors: say, fine-tuned in PyTorch.

        Args:
            path: of the file. Its arrays have the names and shapes that ``rlgd export --to safetensors`` writes.
            architecture: the file ``architecture.json`` of that export; None: the one beside the arrays, unless the
                arrays have their description with them, as those that rlgd wrote.
            agent: the class of an agent that is not rlgd's.
            parts: as for ``load``.

        Raises:
            UsageError, StorageFault: as ``load`` does.
        """
        described = None if architecture is None else Path(architecture)
        return cls(*policy_file.read_arrays(Path(path), described, agent, parts))

    def __call__(
        self,
        obs: Any,
        *,
        deterministic: bool = True,
        key: Array | int | np.integer[Any] | None = None,
        action_mask: ArrayLike | None = None,
        first: ArrayLike | None = None,
    ) -> Any:
        """Choose actions.

        Args:
            obs: one observation ``[*shape]``, or a batch ``[N, *shape]``, as the environment gives it; a dictionary or
                tuple of arrays where its space is one, in which what the critic alone reads may be missing.
            deterministic: whether to take the most probable action; otherwise one is sampled, which needs ``key``.
            key: a JAX key or an integer seed; the same key gives the same action (with a memory, after the same
                observations). gSDE draws new noise in each call; a policy with a memory keeps it as in training.
            action_mask: which actions are allowed, ``[n]``, or ``[N, n]`` for a batch; None: all are.
            first: whether an episode begins, a bool, or ``[N]`` for a batch; None: only after ``reset()``.

        Returns:
            One action, or a batch of them, ready for ``env.step``: clipped or squashed into the bounds; a dictionary or
            tuple of arrays where the space of actions is one.

        Raises:
            UsageError: for a wrong shape, a number that changes in the dtype of training, a sampled action without a
                key, or a batch of another size than the memory's.
        """
        batch, single, num_envs = self._batch(obs)
        if key is None and not deterministic:
            raise UsageError("a sampled action needs a key: policy(obs, deterministic=False, key=...).")
        key = random_key(whole_number("key", key)) if isinstance(key, int | np.integer) else key
        mask = None if action_mask is None else self._mask(action_mask, single, num_envs)
        view = View(batch, self._first(first, num_envs), mask)
        memory, ready = self._memory, self._ready
        if ready is None or ready.actor is not self.actor:
            ready = self._ready = _Ready.of(self._prepared, self.spec, self.actor)
        memory = self._blank_memory(num_envs) if memory is None else memory
        given, memory = ready.act(ready.arrays, memory, view, key, deterministic)
        if self._remembers:
            self._memory = memory
        whole = spaces.converted_action(self.spec.action, given)
        return spaces.map_parts(lambda part, leaf: leaf[0], self.spec.action, whole) if single else whole

    def _batch(self, obs: Any) -> tuple[Obs, bool, int]:
        """The observation as a batch, whether it was a single one, and the batch's size."""
        try:
            batch = spaces.map_parts(_as_stored, self.spec.obs, self._expected, self._completed(obs))
        except (KeyError, IndexError, TypeError) as error:
            raise UsageError(f"obs has another structure than the observations trained on: {error!r}.") from error
        shapes = [array.shape for _, array in spaces.leaves(self.spec.obs, batch)]
        if shapes == self._shapes:
            return spaces.map_parts(lambda part, array: array[None], self.spec.obs, batch), True, 1
        pairs = zip(self._shapes, shapes, strict=True)
        sizes = {given[0] if given and given[1:] == shape else None for shape, given in pairs}
        size = sizes.pop() if len(sizes) == 1 else None
        if size is None:
            given, wanted = (", ".join(map(str, each)) for each in (shapes, self._shapes))
            batched = ", ".join(str(("N", *shape)) for shape in self._shapes)
            raise UsageError(f"obs has shape {given}; expected {wanted}, or {batched} for a batch.")
        return batch, False, size

    def _completed(self, obs: Any) -> Any:
        """The observation with zeros in place of what the critic alone reads, where that is missing."""
        if not (self._unread and isinstance(self.spec.obs, spaces.DictSpec) and isinstance(obs, Mapping)):
            return obs
        parts = dict(self.spec.obs.parts)
        missing = {name: part for name, part in parts.items() if name in self._unread and name not in obs}
        if not missing:
            return obs
        known = next(name for name in parts if name not in self._unread)
        part, array = next(iter(spaces.leaves(parts[known], obs[known])))
        batch = np.shape(array)[: np.ndim(array) - len(spaces.obs_shape_dtype(part)[0])]
        return dict(obs) | {name: spaces.blank(part, *batch) for name, part in missing.items()}

    def _first(self, first: ArrayLike | None, num_envs: int) -> NDArray[np.bool_]:
        """Which environments begin an episode, ``[N]``."""
        begins = np.full(num_envs, self._memory is None) if first is None else np.atleast_1d(np.asarray(first, bool))
        if begins.shape != (num_envs,):
            raise UsageError(f"first has shape {begins.shape}; expected {(num_envs,)}.")
        remembered = {len(leaf) for leaf in jax.tree.leaves(self._memory)} - {num_envs}
        if remembered:
            raise UsageError(
                f"obs is a batch of {num_envs}, but the policy remembers {remembered.pop()} episodes; call reset()."
            )
        return begins

    def _blank_memory(self, num_envs: int) -> Any:
        """The memory before the first observations, which is made once for batches of one size; () serves all."""
        size, memory = self._blank
        if size != num_envs and memory != ():
            memory = self._prepared.memory(self.spec, num_envs)
            self._blank = num_envs, memory
        return memory

    def _mask(self, action_mask: ArrayLike, single: bool, num_obs: int) -> NDArray[np.bool_]:
        mask = np.asarray(action_mask, bool)
        size = spaces.mask_size(self.spec.action)
        if size is None:
            raise UsageError("these actions have no masks; leave action_mask out.")
        expected = (size,) if single else (num_obs, size)
        if mask.shape != expected:
            raise UsageError(f"action_mask has shape {mask.shape}; expected {expected}.")
        return mask[None] if single else mask

    def __getstate__(self) -> dict[str, Any]:
        """Without what is compiled, which the next call finds or makes."""
        return {**self.__dict__, "_ready": None}

    def __repr__(self) -> str:
        kind = type(self.spec.action).__name__.removesuffix("Spec")
        return f"Policy({type(self.agent).__name__}, {kind} actions)"


class _Expected(NamedTuple):
    """What messages call an array of an observation, and its type in training."""

    name: str
    dtype: np.dtype[Any]


def _expected(part: LeafSpec, name: str) -> _Expected:
    return _Expected(name, spaces.obs_shape_dtype(part)[1])


def _as_stored(part: LeafSpec, expected: _Expected, leaf: Any) -> NDArray[Any]:
    return spaces.as_stored(expected.name, leaf, expected.dtype)


def env_action(
    agent: Agent, spec: Spec, actor: Actor, memory: Any, view: View, key: Array, greedy: bool
) -> tuple[Array, Any]:
    """The action, as the environment receives it, and the policy's new memory."""
    action, memory = agent.act(spec, actor, memory, view, key, greedy)
    return agent.action_head(spec).to_env(action), memory


class _Ready(NamedTuple):
    """What a policy needs for every call, made by its first one.

    Attributes:
        actor: whose arrays these are.
        arrays: of agent and actor.
        act: ``(arrays, memory, view, key, greedy) -> (action, memory)``, compiled; the most probable action needs no
            key.
    """

    actor: Actor
    arrays: list[Array]
    act: Any

    @staticmethod
    def of(agent: Agent, spec: Spec, actor: Actor) -> "_Ready":
        """For an agent that is prepared."""
        arrays, structure = jax.tree.flatten((agent, actor))
        return _Ready(actor, arrays, _program(spec, structure))


@functools.lru_cache(maxsize=64)  # each keeps the parts of users that its agents have
def _program(spec: Spec, structure: Any) -> Any:
    """``_Ready.act`` of all policies of one structure.

    Of an agent it takes the arrays alone: to find them again in every call takes longer than computing a small policy.
    """

    def act(arrays: list[Array], memory: Any, view: View, key: Array | None, greedy: bool) -> tuple[Array, Any]:
        agent, actor = jax.tree.unflatten(structure, arrays)
        return env_action(agent, spec, actor, memory, view, jax.random.key(0) if key is None else key, greedy)

    return jax.jit(act, static_argnums=4)
