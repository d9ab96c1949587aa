"""The bandit of PB2: a Gaussian process says where a member's score would rise most (Parker-Holder et al. 2020).

Population based bandits, arXiv 2002.02518. What was tried, when, and by how much the score rose are the data; the
kernel forgets with time. All of it has fixed shapes, so it is part of a compiled program.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

CANDIDATES = 256
LENGTHS = (0.1, 0.3, 1.0)  # of the kernel, in units of a range
FORGOTTEN = (0.01, 0.1, 0.3)  # share of the covariance that is lost in two generations
NOISE = 0.1  # variance of a rise, of which the variance is 1


class Trials(NamedTuple):
    """What was tried: ``place [n, dimensions]``, ``time [n]`` in generations, ``rise [n]``, ``known [n]`` bool."""

    place: Array
    time: Array
    rise: Array
    known: Array


def suggested(trials: Trials, now: Array, number: int, key: Array) -> Array:
    """Places to try next, ``[number, dimensions]``: each where the upper bound of the rise is highest.

    The ones before count as tried, with what is expected of them, so that they do not all go to the same place.

    Args:
        trials: so far.
        now: the generation that comes, a scalar float.
        number: of places.
        key: of the candidates.
    """
    dimensions = trials.place.shape[1]
    count = jnp.maximum(jnp.sum(trials.known, dtype=trials.rise.dtype), 1)
    mean = jnp.sum(jnp.where(trials.known, trials.rise, 0)) / count
    centred = jnp.where(trials.known, trials.rise - mean, 0)
    scale = jnp.sqrt(jnp.sum(jnp.square(centred)) / count)
    rise = centred / jnp.where(scale > 0, scale, 1)
    room = jnp.zeros((number, dimensions))
    place, time = jnp.concatenate([trials.place, room]), jnp.concatenate([trials.time, jnp.full(number, now)])
    rise, known = (jnp.concatenate([x, jnp.zeros(number, x.dtype)]) for x in (rise, trials.known))
    length, forgotten = _best_kernel(place, time, rise, known)
    confidence = jnp.sqrt(0.2 + jnp.log1p(0.4 * now))

    def choose(
        carry: tuple[Array, Array, Array], step: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array, Array], Array]:
        place, rise, known = carry
        slot, key = step
        candidates = jax.random.uniform(key, (CANDIDATES, dimensions))
        mean, deviation = _predicted(place, time, rise, known, candidates, now, length, forgotten)
        best = jnp.argmax(mean + confidence * deviation)
        carry = place.at[slot].set(candidates[best]), rise.at[slot].set(mean[best]), known.at[slot].set(True)
        return carry, candidates[best]

    slots = len(trials.place) + jnp.arange(number)
    return jax.lax.scan(choose, (place, rise, known), (slots, jax.random.split(key, number)))[1]


def _covariance(a: Array, a_time: Array, b: Array, b_time: Array, length: Array, forgotten: Array) -> Array:
    distance = jnp.sum(jnp.square(a[:, None] - b[None]), axis=-1)
    age = jnp.abs(a_time[:, None] - b_time[None])
    return jnp.exp(-distance / (2 * jnp.square(length))) * jnp.power(1 - forgotten, age / 2)


def _factor(place: Array, time: Array, known: Array, length: Array, forgotten: Array) -> Array:
    """The Cholesky factor of the covariance of the rises; what is not known has variance 1 and nothing to say."""
    both = known[:, None] & known[None]
    covariance = jnp.where(both, _covariance(place, time, place, time, length, forgotten), 0)
    return jnp.linalg.cholesky(covariance + jnp.diag(jnp.where(known, NOISE, 1)))


def _best_kernel(place: Array, time: Array, rise: Array, known: Array) -> tuple[Array, Array]:
    """The length and the forgetting with the highest likelihood."""
    grid = jnp.array([(length, forgotten) for length in LENGTHS for forgotten in FORGOTTEN])

    def log_likelihood(pair: Array) -> Array:
        factor = _factor(place, time, known, *pair)
        white = jax.scipy.linalg.solve_triangular(factor, rise, lower=True)
        return -0.5 * jnp.sum(jnp.square(white)) - jnp.sum(jnp.log(jnp.diag(factor)))

    length, forgotten = grid[jnp.argmax(jax.lax.map(log_likelihood, grid))]
    return length, forgotten


def _predicted(
    place: Array,
    time: Array,
    rise: Array,
    known: Array,
    candidates: Array,
    now: Array,
    length: Array,
    forgotten: Array,
) -> tuple[Array, Array]:
    """Mean and standard deviation of the rise at the candidates, ``[candidates]`` each."""
    factor = _factor(place, time, known, length, forgotten)
    across = _covariance(place, time, candidates, jnp.full(len(candidates), now), length, forgotten)
    across = jnp.where(known[:, None], across, 0)
    white = jax.scipy.linalg.solve_triangular(factor, jnp.concatenate([across, rise[:, None]], axis=1), lower=True)
    mean = white[:, :-1].T @ white[:, -1]
    return mean, jnp.sqrt(jnp.maximum(1 - jnp.sum(jnp.square(white[:, :-1]), axis=0), 0))
