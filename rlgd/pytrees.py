"""The values that flow between collectors, agents and the training loop.

Time-major everywhere: T = ``rollout_length`` rows by N = ``num_envs`` environments lead, ``[T, N, ...]``.
"""

import dataclasses
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

T = TypeVar("T")
Metrics = dict[str, Array]
Scalar = float | Array  # one number, which may be traced


def pytree(cls: type[T]) -> type[T]:
    """Register a frozen dataclass, all of whose fields hold arrays, as a pytree."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return jax.tree_util.register_dataclass(cls, data_fields=names, meta_fields=[])


# One observation of each environment: an array ``[N, ...]``, or a dictionary or tuple of such.
Obs: TypeAlias = Any


class View(NamedTuple):
    """What a policy sees: ``obs [N, ...]``, ``first [N]`` (an episode begins here), ``action_mask [N, n]`` or None."""

    obs: Obs
    first: Any  # on the host NumPy's arrays, as the others
    action_mask: Any = None


class Features(NamedTuple):
    """What the networks read: ``vector [..., d]`` of numbers, ``images`` of ``[..., height, width, channels]``.

    ``action_mask [..., n]``, bool or None, says which actions are allowed.

    Networks with a memory read sequences, ``[N, T, ...]``, or one step of each environment, ``[N, ...]``. Then
    ``first``, ``[N, T]`` or ``[N]`` bool, says where episodes begin; ``memory``, ``[N, size]``, is what is remembered
    from before.
    """

    vector: Array
    images: tuple[Array, ...] = ()
    action_mask: Array | None = None
    first: Array | None = None
    memory: Any = None


@pytree
@dataclasses.dataclass(frozen=True)
class Rollout:
    """T rows of N environments, the same from every collector.

    Attributes:
        obs: ``[T, N, ...]`` in the environment's dtype; a dictionary or tuple of arrays where its space is one, as are
            ``last_obs`` and ``final_obs``.
        action: ``[T, N, ...]`` as sampled: unclipped, before tanh, counted from 0.
        reward: ``[T, N]`` float32, raw.
        terminated, truncated: ``[T, N]`` bool, about the transition that begins in the row. Where both are set,
            termination wins.
        mask: ``[T, N]`` bool, False where the row is no real transition; None where all are.
        action_mask: ``[T, N, n]`` bool, which actions were allowed; None where all are.
        last_obs: ``[N, ...]`` the observation after the last row.
        final_obs: ``[K, N, ...]`` the true observation after each environment's k-th truncation, before any reset.
            K = 0 where ``obs[t + 1]`` already is the true one.
        first: ``[N]`` bool, which environments begin an episode in row 0.
        memory: what the policy remembered before row 0; () if it remembers nothing.
    """

    obs: Obs
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    mask: Array | None
    action_mask: Array | None
    last_obs: Obs
    final_obs: Obs
    first: Array
    memory: Any = ()

    @property
    def done(self) -> Array:
        """``[T, N]`` bool: the episode ended, for whichever reason."""
        return self.terminated | self.truncated

    @property
    def firsts(self) -> Array:
        """``[T, N]`` bool: an episode begins in the row. A row that is a reset still belongs to the episode before."""
        behind = self.done[:-1]
        if self.mask is not None:
            behind = self.mask[1:] & (behind | ~self.mask[:-1])
        return jnp.concatenate([self.first[None], behind])


@pytree
@dataclasses.dataclass(frozen=True)
class Params:
    """Policy and value function, two trees: what concerns the one never touches the other."""

    policy: Any
    value: Any


class Actor(NamedTuple):
    """All that acting needs."""

    policy: Any
    obs_statistics: Any


@pytree
@dataclasses.dataclass(frozen=True)
class AgentState:
    """All that an agent learns. Arrays only; a part that an agent does not use is None.

    Attributes:
        params: parameters of policy and value function.
        opt_state: the optimizer's state for each of the two.
        outer_opt_state: that of the ascent over whole iterations, for each of the two.
        obs_statistics: running mean and variance of the encoded observations.
        reward_statistics: running variance of the discounted return and the returns so far, ``[N]``.
        measured: what the diagnostics keep between measurements.
        value_memory: what the value function remembers of each environment, ``[N, size]``.
    """

    params: Params
    opt_state: Params
    outer_opt_state: Params | None = None
    obs_statistics: Any = None
    reward_statistics: Any = None
    measured: Any = None
    value_memory: Any = None

    @property
    def actor(self) -> Actor:
        return Actor(self.params.policy, self.obs_statistics)


@pytree
@dataclasses.dataclass(frozen=True)
class LoopState:
    """Everything a run is, at the boundary between two iterations.

    ``progress`` is the share of the run done, in [0, 1]; ``progress_per_step`` is what one step adds to it (0 for a run
    without an end). The number of steps is not here: it outgrows 32 bits, so the loop keeps it as a Python integer.
    """

    agent_state: AgentState
    env_state: Any
    obs: Obs
    first: Array
    memory: Any
    episodes: Any
    iteration: Array
    key: Array
    progress: Array
    progress_per_step: Array
