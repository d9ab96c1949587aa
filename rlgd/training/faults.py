"""What is not finite in an iteration."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.agents.base.faults import FAULTS, FINITE, OBSERVATION, PARAMETERS, REWARD
from rlgd.errors import Diverged, EnvironmentFault, RlgdError
from rlgd.pytrees import Metrics, Rollout


def find_faults(updates: Array, rollout: Rollout, learned: Any) -> Metrics:
    """How many numbers of an iteration are not finite, and which were the first, all int32 scalars.

    ``updates`` says for each update which of its quantities is not finite. Nothing is repaired, so what follows is not
    finite either.
    """
    updates = updates.reshape(-1)
    update = jnp.argmax(updates > 0).astype(jnp.int32)
    rewards = _count_nonfinite(_real(rollout.reward, rollout.mask))
    real = jax.tree.map(lambda obs: _real(obs, rollout.mask), rollout.obs)
    observations = _count_nonfinite((real, rollout.last_obs, rollout.final_obs))
    parameters = _count_nonfinite(learned)
    first = jnp.where(parameters > 0, PARAMETERS, FINITE)
    first = jnp.where(updates[update] > 0, updates[update], first)
    first = jnp.where(rewards > 0, REWARD, jnp.where(observations > 0, OBSERVATION, first))
    count = jnp.sum(updates > 0, dtype=jnp.int32) + parameters + rewards + observations
    return {"fault/count": count, "fault/first": first.astype(jnp.int32), "fault/update": update}


def _real(x: Array, mask: Array | None) -> Array:
    """``x [T, N, ...]`` with 0 in rows that are not transitions."""
    return x if mask is None else jnp.where(mask.reshape(*mask.shape, *(1,) * (x.ndim - 2)), x, 0)


def _count_nonfinite(tree: Any) -> Array:
    numbers = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return sum((jnp.sum(~jnp.isfinite(x), dtype=jnp.int32) for x in numbers), jnp.zeros((), jnp.int32))


class Fault(NamedTuple):
    """The first quantity that is not finite, as an index into ``FAULTS``; where it is; how many are not finite."""

    quantity: int
    iteration: int
    update: int
    amount: int


def take_fault(metrics: dict[str, np.ndarray], first_iteration: int) -> Fault | None:
    """Remove the fault from the metrics of a chunk, together with the iteration it is in."""
    count, quantity, update = (metrics.pop(f"fault/{name}")[-1] for name in ("count", "first", "update"))
    if count == 0:
        return None
    for name, values in metrics.items():
        metrics[name] = values[:-1]
    return Fault(int(quantity), first_iteration + len(metrics["rollout/steps"]), int(update), int(count))


def in_words(fault: Fault) -> str:
    """What is not finite, and where."""
    return f"{FAULTS[fault.quantity]} is not finite in iteration {fault.iteration}"


def explained(fault: Fault) -> RlgdError:
    """The error for something that is not finite."""
    where = in_words(fault)
    if fault.quantity in (OBSERVATION, REWARD):
        return EnvironmentFault(f"{where}. The last finite state is kept.")
    if fault.quantity != PARAMETERS:
        where += f", update {fault.update}"
    return Diverged(
        f"training diverged: {where}. The last finite state is kept. "
        "A smaller learning_rate, or a max_grad_norm, may help."
    )
