"""Returns and lengths of episodes from raw rewards, as sums and counts; whoever shows them takes the mean."""

import dataclasses

import jax.numpy as jnp
from jax import Array

from rlgd.envs.aliases import SUCCESS, SUCCESSES
from rlgd.maths.objectives import masked_mean
from rlgd.pytrees import Metrics, Rollout, pytree


@pytree
@dataclasses.dataclass(frozen=True)
class Episodes:
    """The unfinished episode of each environment: ``episode_return [N]`` float32, ``episode_length [N]`` int32."""

    episode_return: Array
    episode_length: Array


def begin(num_envs: int) -> Episodes:
    """Every environment at the start of an episode."""
    return Episodes(jnp.zeros(num_envs), jnp.zeros(num_envs, jnp.int32))


def advance(episodes: Episodes, rollout: Rollout) -> tuple[Episodes, Metrics]:
    """The unfinished episodes after a rollout, and sums over the episodes that ended in it.

    Every reward up to the last end in an environment belongs to a finished episode, and every later one to the
    unfinished episode, so no scan over time is needed.

    Returns:
        The unfinished episodes, and ``rollout/episodes`` (how many ended), ``rollout/return_sum``,
        ``rollout/length_sum`` and ``rollout/steps`` (real rows).
    """
    done = rollout.done
    real = jnp.ones(done.shape, bool) if rollout.mask is None else rollout.mask
    reward = jnp.where(real, rollout.reward, 0)
    unfinished = jnp.cumsum(done[::-1], axis=0)[::-1] == 0
    ended = jnp.any(done, axis=0)
    return_so_far, length_so_far = episodes.episode_return, episodes.episode_length
    finished = real & ~unfinished
    sums = {
        "rollout/episodes": jnp.sum(done, dtype=jnp.int32),
        "rollout/return_sum": jnp.sum(jnp.where(ended, return_so_far, 0)) + jnp.sum(jnp.where(finished, reward, 0)),
        "rollout/length_sum": jnp.sum(jnp.where(ended, length_so_far, 0)) + jnp.sum(finished, dtype=jnp.int32),
        "rollout/steps": jnp.sum(real, dtype=jnp.int32),
    }
    new_return = jnp.where(ended, 0, return_so_far) + jnp.sum(jnp.where(unfinished, reward, 0), axis=0)
    new_length = jnp.where(ended, 0, length_so_far) + jnp.sum(unfinished & real, axis=0, dtype=jnp.int32)
    return Episodes(new_return, new_length), sums


def told(rollout: Rollout) -> Metrics:
    """What the environments on the device told: the mean of each number, and how many episodes were a success.

    Returns:
        ``info/NAME``, and ``rollout/successes`` where the environment says of an episode whether it was one.
    """
    if not rollout.info:
        return {}
    real = jnp.ones(rollout.done.shape, bool) if rollout.mask is None else rollout.mask
    means = {f"info/{name}": masked_mean(x, real) for name, x in rollout.info.items()}
    if (success := rollout.info.get(SUCCESS)) is not None:
        del means[f"info/{SUCCESS}"]
        means[SUCCESSES] = jnp.sum(rollout.done & real & (success != 0)).astype(float)
    return means
