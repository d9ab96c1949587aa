"""A trained agent as a function of observations: NumPy in, NumPy out."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from rlgd import spaces
from rlgd.agents.common import Agent
from rlgd.data import Actor, LeafSpec, Obs, Spec, View
from rlgd.errors import UsageError


class Policy:
    """``policy(obs)`` is what to do: the most probable action, in the environment's own shape and dtype."""

    def __init__(self, agent: Agent, spec: Spec, actor: Actor) -> None:
        self.agent = agent.prepared()
        self.spec = spec
        self.actor = actor
        self._unused_key = jax.random.key(0)

    def __call__(
        self,
        obs: Any,
        *,
        deterministic: bool = True,
        key: Array | int | np.integer[Any] | None = None,
        action_mask: ArrayLike | None = None,
    ) -> NDArray[Any]:
        """Choose actions.

        Args:
            obs: one observation ``[*shape]``, or a batch ``[N, *shape]``, raw as the environment gives it; a dictionary
                or tuple of such where its space is one.
            deterministic: the most probable action; otherwise one is sampled, which needs ``key``.
            key: a JAX key or an integer seed; the same key gives the same action.
            action_mask: which actions are allowed, ``[n]``, or ``[N, n]`` for a batch; None: all are.

        Returns:
            One action, or a batch of them, ready for ``env.step``: clipped or squashed into the bounds.

        Raises:
            UsageError: for a wrong shape, or a sampled action without a key.
        """
        batch, single = self._batch(obs)
        if key is None:
            if not deterministic:
                raise UsageError("a sampled action needs a key: policy(obs, deterministic=False, key=...).")
            key = self._unused_key
        key = jax.random.key(int(key)) if isinstance(key, int | np.integer) else key
        mask = None if action_mask is None else self._mask(action_mask, single, len(jax.tree.leaves(batch)[0]))
        action = np.asarray(_act(self.agent, self.spec, self.actor, batch, mask, key, deterministic))
        whole = action.astype(self.spec.action.dtype)  # back from the 32 bits of the device
        return whole[0] if single else whole

    def _batch(self, obs: Any) -> tuple[Obs, bool]:
        """The observation as a batch, and whether it was a single one."""
        parts = []

        def read(part: LeafSpec, leaf: Any) -> NDArray[Any]:
            shape, dtype = spaces.obs_shape_dtype(part)
            array = np.asarray(leaf, dtype)
            parts.append((shape, array.shape))
            return array

        try:
            batch = spaces.map_parts(read, self.spec.obs, obs)
        except (KeyError, IndexError, TypeError) as error:
            raise UsageError(f"obs has another structure than the observations trained on: {error!r}.") from error
        single = all(shape == given for shape, given in parts)
        sizes = {given[0] if given and given[1:] == shape else None for shape, given in parts if not single}
        if not single and (len(sizes) > 1 or None in sizes):
            given = ", ".join(str(given) for _, given in parts)
            wanted = ", ".join(str(shape) for shape, _ in parts)
            batched = ", ".join(str(("N", *shape)) for shape, _ in parts)
            raise UsageError(f"obs has shape {given}; expected {wanted}, or {batched} for a batch.")
        return (jax.tree.map(lambda x: x[None], batch) if single else batch), single

    def _mask(self, action_mask: ArrayLike, single: bool, num_obs: int) -> NDArray[np.bool_]:
        mask = np.asarray(action_mask, bool)
        size = spaces.mask_size(self.spec.action)
        if size is None:
            raise UsageError("these actions have no masks; leave action_mask out.")
        expected = (size,) if single else (num_obs, size)
        if mask.shape != expected:
            raise UsageError(f"action_mask has shape {mask.shape}; expected {expected}.")
        return mask[None] if single else mask

    def __repr__(self) -> str:
        kind = type(self.spec.action).__name__.removesuffix("Spec")
        return f"Policy({type(self.agent).__name__}, {kind} actions)"


@functools.partial(jax.jit, static_argnums=(1, 6))
def _act(
    agent: Agent, spec: Spec, actor: Actor, obs: Obs, action_mask: Array | None, key: Array, greedy: bool
) -> Array:
    return env_action(agent, spec, actor, obs, action_mask, key, greedy)


def env_action(
    agent: Agent, spec: Spec, actor: Actor, obs: Obs, action_mask: Array | None, key: Array, greedy: bool
) -> Array:
    """What a memoryless policy does at ``obs [N, ...]``, as the environment receives it."""
    num_envs = jax.tree.leaves(obs)[0].shape[0]
    view = View(obs, jnp.ones(num_envs, bool), action_mask)
    action, _ = agent.act(spec, actor, agent.memory(spec, num_envs), view, key, greedy)
    return spaces.action_head(spec.action, agent.squash).to_env(action)
