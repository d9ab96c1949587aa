"""The values that flow between collectors, agents and the training loop.

Time-major everywhere: T = ``rollout_length`` rows by N = ``num_envs`` environments lead, ``[T, N, ...]``.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

T = TypeVar("T")
PERCENT, DOT = "%25", "%2E"  # in names of leaves
Metrics = dict[str, Array]
Scalar = float | Array  # one number, which may be traced


def pytree(cls: type[T]) -> type[T]:
    """Register a frozen dataclass as a pytree. All of its fields must be arrays or pytrees."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return jax.tree_util.register_dataclass(cls, data_fields=names, meta_fields=[])


# One observation of each environment: an array ``[N, ...]``, or a dictionary or tuple of arrays.
Obs: TypeAlias = Any


class View(NamedTuple):
    """The input of a policy: ``obs [N, ...]``, ``first [N]`` (an episode begins here), ``action_mask [N, n]`` or None.

    On the host these are NumPy arrays.
    """

    obs: Obs
    first: Any
    action_mask: Any = None


class Features(NamedTuple):
    """The input of the networks.

    Recurrent networks read sequences, ``[N, T, ...]``, or one step of each environment, ``[N, ...]``.

    Attributes:
        vector: ``[..., d]`` float.
        images: each ``[..., height, width, channels]``.
        action_mask: ``[..., n]`` bool, which actions are allowed; None: all.
        first: ``[N, T]`` or ``[N]`` bool, where episodes begin; for recurrent networks.
        memory: ``[N, size]``, the memory before the first step, for recurrent networks; an agent has that of both its
            networks here, as ``Params``, and hands each network its own.
    """

    vector: Array
    images: tuple[Array, ...] = ()
    action_mask: Array | None = None
    first: Array | None = None
    memory: Any = None


@pytree
@dataclasses.dataclass(frozen=True)
class Rollout:
    """T rows of N environments. All collectors return the same.

    Attributes:
        obs: ``[T, N, ...]`` in the environment's dtype. For a Dict or Tuple space this is a dictionary or tuple of
            arrays, and so are ``last_obs`` and ``final_obs``.
        action: ``[T, N, ...]`` as sampled: unclipped, before tanh, counted from 0.
        reward: ``[T, N]`` float32, raw.
        terminated, truncated: ``[T, N]`` bool, about the transition that begins in the row. Where both are set,
            termination wins.
        mask: ``[T, N]`` bool, False where the row is not a real transition; None if all rows are.
        action_mask: ``[T, N, n]`` bool, which actions were allowed; None if all were.
        last_obs: ``[N, ...]`` the observation after the last row.
        final_obs: ``[K, N, ...]`` the true observation after each environment's k-th truncation, before any reset.
            K = 0 if ``obs[t + 1]`` already is the true one.
        first: ``[N]`` bool, which environments begin an episode in row 0.
        memory: the policy's memory before row 0; () if it has none.
        info: numbers that environments on the device gave after each row, by name, ``[T, N]``; () if there are none.
        actor: the ``Actor`` that collected it, which may be older than the state that learns; (): that state's own.
        life_lost: ``[T, N]`` bool, where a life was lost, for agents that learn as if the episode ended there; () for
            others.
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
    info: Any = ()
    actor: Any = ()
    life_lost: Any = ()

    @property
    def without_future(self) -> Array:
        """``[T, N]`` bool: no later reward counts, after a termination or where a life was lost."""
        return self.terminated if isinstance(self.life_lost, tuple) else self.terminated | self.life_lost

    @property
    def done(self) -> Array:
        """``[T, N]`` bool: the episode ended, by termination or truncation."""
        return self.terminated | self.truncated

    @property
    def firsts(self) -> Array:
        """``[T, N]`` bool: an episode begins in the row. A row that is a reset still belongs to the episode before."""
        after_end = self.done[:-1]
        if self.mask is not None:
            after_end = self.mask[1:] & (after_end | ~self.mask[:-1])
        return jnp.concatenate([self.first[None], after_end])


@pytree
@dataclasses.dataclass(frozen=True)
class Params:
    """Two trees, of policy and value function: parameters, gradients, optimizer states."""

    policy: Any
    value: Any


class Actor(NamedTuple):
    """The part of an agent's state that acting needs."""

    policy: Any
    obs_statistics: Any


class Met(NamedTuple):
    """What the climbers of a federated ascent had in common when they last met: that is their policy."""

    params: Params
    obs_statistics: Any


class Previous(NamedTuple):
    """What corrects the momentum: the policy's parameters before the last update, and how many updates there were."""

    policy: Any
    updates: Array


@pytree
@dataclasses.dataclass(frozen=True)
class AgentState:
    """The complete state of an agent. Arrays only; an unused part is None.

    Attributes:
        params: parameters of policy and value function.
        opt_state: the optimizer's state for each of the two.
        outer_opt_state: the state of the outer step, for each of the two.
        obs_statistics: running mean and variance of the encoded observations.
        reward_statistics: running variance of the discounted return and the returns so far, ``[N]``.
        measured: the policy's gradient when the ascent was last measured; zeros before that.
        value_memory: the memory of the value function for each environment, ``[N, size]``.
        previous: where the agent corrects its momentum, what it keeps for that; else None.
        control: what drives learning rate and momentum, see ``rlgd.ascent.control``.
        met: of a federated ascent, whose other arrays but ``outer_opt_state`` have a leading axis of climbers.
    """

    params: Params
    opt_state: Params
    outer_opt_state: Params | None = None
    obs_statistics: Any = None
    reward_statistics: Any = None
    measured: Any = None
    value_memory: Any = None
    previous: Previous | None = None
    control: Any = None
    met: Met | None = None

    @property
    def actor(self) -> Actor:
        if self.met is not None:
            return Actor(self.met.params.policy, self.met.obs_statistics)
        return Actor(self.params.policy, self.obs_statistics)


@pytree
@dataclasses.dataclass(frozen=True)
class LoopState:
    """The complete training state between two iterations.

    ``progress`` is the share of the run done, in [0, 1]. Each step adds ``progress_per_step``, which is 0 for a run
    without an end. The number of steps is not part of it: it can exceed 32 bits, so the loop keeps a Python integer.
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


def _name(path: Any) -> str:
    """The keys on the way to a leaf, joined by dots. A dot in a key is marked, so that no two leaves have one name."""
    keys = (jax.tree_util.keystr((key,), simple=True) for key in path)
    return ".".join(key.replace("%", PERCENT).replace(".", DOT) for key in keys)


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def named_leaves(tree: Any) -> dict[str, Any]:
    """The arrays by their path in the tree; random keys as their integers."""

    def plain(leaf: Any) -> Any:
        if not _is_key(leaf):
            return leaf
        return jax.random.key_data(leaf) if isinstance(leaf, Array) else jax.eval_shape(jax.random.key_data, leaf)

    return {_name(path): plain(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def with_leaves(like: T, leaf_of: Callable[[str], Array]) -> T:
    """A tree like another one, which may be abstract, with the arrays that ``leaf_of`` gives for their names.

    The reverse of ``named_leaves``.
    """

    def restored(path: Any, leaf: Any) -> Array:
        value = leaf_of(_name(path))
        return jax.random.wrap_key_data(value) if _is_key(leaf) else value

    return jax.tree_util.tree_map_with_path(restored, like)
