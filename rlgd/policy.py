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
from rlgd.data import Actor, BoxSpec, Spec, View
from rlgd.errors import UsageError


class Policy:
    """``policy(obs)`` is what to do: the most probable action, in the environment's own shape and dtype."""

    def __init__(self, agent: Agent, spec: Spec, actor: Actor) -> None:
        self.agent = agent.prepared()
        self.spec = spec
        self.actor = actor
        self._unused_key = jax.random.key(0)

    def __call__(
        self, obs: ArrayLike, *, deterministic: bool = True, key: Array | int | np.integer[Any] | None = None
    ) -> NDArray[Any]:
        """Choose actions.

        Args:
            obs: one observation ``[*shape]``, or a batch ``[N, *shape]``, raw as the environment gives it.
            deterministic: the most probable action; otherwise one is sampled, which needs ``key``.
            key: a JAX key or an integer seed; the same key gives the same action.

        Returns:
            One action, or a batch of them, ready for ``env.step``: clipped or squashed into the bounds.

        Raises:
            UsageError: for a wrong shape, or a sampled action without a key.
        """
        shape, dtype = spaces.obs_shape_dtype(self.spec.obs)
        batch = np.asarray(obs, dtype)
        single = batch.shape == shape
        if single:
            batch = batch[None]
        if batch.shape[1:] != shape:
            raise UsageError(f"obs has shape {np.shape(obs)}; expected {shape}, or {('N', *shape)} for a batch.")
        if key is None:
            if not deterministic:
                raise UsageError("a sampled action needs a key: policy(obs, deterministic=False, key=...).")
            key = self._unused_key
        key = jax.random.key(int(key)) if isinstance(key, int | np.integer) else key
        action = np.asarray(_act(self.agent, self.spec, self.actor, batch, key, deterministic))
        whole = action.astype(self.spec.action.dtype)  # back from the 32 bits of the device
        return whole[0] if single else whole

    def __repr__(self) -> str:
        kind = "Box" if isinstance(self.spec.action, BoxSpec) else "Discrete"
        return f"Policy({type(self.agent).__name__}, {kind} actions)"


@functools.partial(jax.jit, static_argnums=(1, 5))
def _act(agent: Agent, spec: Spec, actor: Actor, obs: Array, key: Array, greedy: bool) -> Array:
    return env_action(agent, spec, actor, obs, key, greedy)


def env_action(agent: Agent, spec: Spec, actor: Actor, obs: Array, key: Array, greedy: bool) -> Array:
    """What a memoryless policy does at ``obs [N, ...]``, as the environment receives it."""
    num_envs = obs.shape[0]
    view = View(obs, jnp.ones(num_envs, bool))
    action, _ = agent.act(spec, actor, agent.memory(spec, num_envs), view, key, greedy)
    return spaces.action_head(spec.action, agent.squash).to_env(action)
