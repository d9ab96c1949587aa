"""A population in one compiled program: members train side by side, then the worst take over what the best have.

Population based training (Jaderberg et al. 2017, arXiv 1711.09846). In each generation every member trains for the same
number of steps; then those of the lowest quarter that score below a random member of the highest quarter become copies
of it, with other hyper-parameters: at a random distance from the copied ones, or, in a quarter of the cases, anywhere
("pbt"); or where a bandit expects the score to rise most ("pb2", ``bandit.py``). With "fixed" all go on as they began:
a search over as many fixed values with the same budget, to compare with.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv
from rlgd.evolution import bandit
from rlgd.evolution.dimension import Dimension, with_places
from rlgd.maths.seeds import random_key
from rlgd.pytrees import LoopState, pytree
from rlgd.training.loop import initialize, run_iterations

METHODS = ("pbt", "pb2", "fixed")
FARTHEST = 0.2  # how far a copied hyper-parameter moves at most, in units of its range
ANYWHERE = 0.25  # how often it is drawn anew instead
REMEMBERED = 8  # generations that the bandit learns from


class Shape(NamedTuple):
    """What decides the program of a population.

    Attributes:
        env: on the device.
        dimensions: what evolves.
        method: one of ``METHODS``.
        iterations: at most, of each member in a generation.
        generations: how many there will be.
        total_timesteps: environment steps of each member in all of them.
    """

    env: DeviceEnv
    dimensions: tuple[Dimension, ...]
    method: str
    iterations: int
    generations: int
    total_timesteps: int


@pytree
@dataclasses.dataclass(frozen=True)
class Population:
    """The members, stacked. M of them, D hyper-parameters, G generations that are remembered.

    Attributes:
        loops: their training states.
        places: of their hyper-parameters, ``[M, D]`` in [0, 1].
        steps: environment steps of each member and of those it descends from, ``[M]`` int32.
        score: mean return of the episodes that ended in the last generation with any, ``[M]``; -inf before.
        trials: the last generations, ``[G, M, ...]``.
        generation: how many there were, int32.
        key: of all that is random between generations.
    """

    loops: LoopState
    places: Array
    steps: Array
    score: Array
    trials: bandit.Trials
    generation: Array
    key: Array


class Generation(NamedTuple):
    """What a generation did, for each member ``[M]``; stacked for several, ``[generations, M]``.

    Attributes:
        places: with which it trained, ``[M, D]``.
        score: at its end.
        steps: environment steps in it.
        parent: the member that it is a copy of in the next one; itself if it goes on.
    """

    places: Any
    score: Any
    steps: Any
    parent: Any


def begin(agent: Agent, shape: Shape, members: int, seed: int) -> Population:
    """New members, each with its own seed, spread evenly over the ranges: each dimension is a Latin square."""
    of_places, of_members, of_generations = (jax.random.fold_in(random_key(seed), n) for n in range(3))
    dimensions = len(shape.dimensions)
    columns = [jax.random.permutation(key, members) for key in jax.random.split(of_places, dimensions)]
    places = (jnp.stack(columns, axis=1).astype(jnp.float32) + 0.5) / members

    def one(key: Array, place: Array) -> LoopState:
        return initialize(with_places(agent, shape.dimensions, place), shape.env, key, shape.total_timesteps)

    # One after another: stacked, the orthogonal initialization of many members compiles longer than it runs.
    loops = jax.lax.map(lambda both: one(*both), (jax.random.split(of_members, members), places))
    unknown = jnp.zeros((REMEMBERED, members))
    trials = bandit.Trials(jnp.zeros((REMEMBERED, members, dimensions)), unknown, unknown, unknown.astype(bool))
    score = jnp.full(members, -jnp.inf)
    none = jnp.zeros((), jnp.int32)
    return Population(loops, places, jnp.zeros(members, jnp.int32), score, trials, none, of_generations)


def advance(agent: Agent, shape: Shape, population: Population) -> tuple[Population, Generation]:
    """One generation: train to its share of all steps, then exploit and explore."""
    # Steps come in whole iterations; where one generation has more of them, the next has less.
    ends = np.array([(n + 1) * shape.total_timesteps // shape.generations for n in range(shape.generations)], np.int32)
    end = jnp.asarray(ends)[population.generation]

    def train(place: Array, loop: LoopState, before: Array) -> tuple[LoopState, Array, Array]:
        own = with_places(agent, shape.dimensions, place)
        loop, history, done = run_iterations(
            own, shape.env, shape.iterations, loop, jnp.int32(shape.iterations), end - before
        )
        metrics, happened = history.metrics(), jnp.arange(shape.iterations) < done

        def total(name: str) -> Array:
            return jnp.sum(jnp.where(happened, metrics[name], 0))

        episodes = total("rollout/episodes")
        mean = total("rollout/return_sum") / jnp.maximum(episodes, 1).astype(float)
        score = jnp.where(total("fault/count") > 0, -jnp.inf, jnp.where(episodes > 0, mean, jnp.nan))
        return loop, score, total("rollout/steps")

    loops, score, steps = jax.vmap(train)(population.places, population.loops, population.steps)
    score = jnp.where(jnp.isnan(score), population.score, score)  # no episode ended: what is known is older
    trials = _remembered(population, score)
    of_parents, of_values, of_copies = jax.random.split(jax.random.fold_in(population.key, population.generation), 3)
    parent = jnp.arange(len(score)) if shape.method == "fixed" else _parents(of_parents, score)
    copied = parent != jnp.arange(len(parent))
    explored = _explored(shape, population, trials, parent, of_values)
    places = jnp.where(copied[:, None], explored, population.places)
    after = Population(
        _copied(loops, parent, copied, of_copies),
        places,
        (population.steps + steps)[parent],
        jnp.where(copied, score[parent], score),
        trials,
        population.generation + 1,
        population.key,
    )
    return after, Generation(population.places, score, steps, parent)


def quarter(members: int) -> int:
    """How many members at most become copies."""
    return max(members // 4, 1)


def _parents(key: Array, score: Array) -> Array:
    """For each member the one that it becomes a copy of, itself if it goes on, ``[M]``."""
    number, order = quarter(len(score)), jnp.argsort(score)
    worst, best = order[:number], jax.random.choice(key, order[-number:], (number,))
    better = score[best] > score[worst]
    return jnp.arange(len(score)).at[worst].set(jnp.where(better, best, worst))


def _copied(loops: LoopState, parent: Array, copied: Array, key: Array) -> LoopState:
    """The states after copying: a copy goes on where its parent is, with random numbers of its own."""
    taken: LoopState = jax.tree.map(lambda x: x[parent], loops)
    fresh = jax.random.split(key, len(parent))
    return dataclasses.replace(taken, key=jnp.where(copied, fresh, taken.key))


def _remembered(population: Population, score: Array) -> bandit.Trials:
    """The trials with those of this generation in the place of the oldest."""
    slot, old = population.generation % REMEMBERED, population.trials
    rise = score - population.score
    known = jnp.isfinite(rise)
    return bandit.Trials(
        old.place.at[slot].set(population.places),
        old.time.at[slot].set(population.generation.astype(old.time.dtype)),
        old.rise.at[slot].set(jnp.where(known, rise, 0)),
        old.known.at[slot].set(known),
    )


def _explored(shape: Shape, population: Population, trials: bandit.Trials, parent: Array, key: Array) -> Array:
    """Places for members that become copies, ``[M, D]``; those of others have no meaning."""
    members, dimensions = population.places.shape
    if shape.method == "pb2":
        flat: bandit.Trials = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trials)
        now = (population.generation + 1).astype(jnp.float32)
        suggested = bandit.suggested(flat, now, quarter(members), key)
        copied = parent != jnp.arange(members)
        return suggested[jnp.clip(jnp.cumsum(copied) - 1, 0, len(suggested) - 1)]
    near, far, which = jax.random.split(key, 3)
    moved = population.places[parent] + jax.random.uniform(
        near, (members, dimensions), minval=-FARTHEST, maxval=FARTHEST
    )
    anew = jax.random.uniform(far, (members, dimensions))
    return jnp.where(jax.random.uniform(which, (members, dimensions)) < ANYWHERE, anew, jnp.clip(moved, 0, 1))
