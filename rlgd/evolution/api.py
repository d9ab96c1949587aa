"""Public ``evolve``: train a population whose hyper-parameters change while it trains."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rlgd import hyperparameters
from rlgd.agents import make_agent
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, make
from rlgd.errors import Diverged, UsageError, unknown, whole_number
from rlgd.evaluation import evaluator
from rlgd.evaluation.policy import Policy
from rlgd.evolution import storage
from rlgd.evolution.dimension import dimensions, evolving, with_places
from rlgd.evolution.population import METHODS, Generation, Population, Shape, advance, begin
from rlgd.evolution.result import BEST, SUMMARY, TABLE, TENSORBOARD, EvolveResult, line, publish, winner_s_flags
from rlgd.run import layout
from rlgd.run.config import RunConfig, agent_name
from rlgd.run.settings import RunSettings
from rlgd.system import lock
from rlgd.system.mesh import AXIS, make_mesh, together
from rlgd.system.progress import Best, OnProgress, Progress
from rlgd.training.chunks import MAX_CHUNK


def automatic(root: Path, env_id: str, agent: str) -> Path:
    """``root/evolve/<env>/<agent>/<time>``, with a suffix if this folder exists."""
    return layout.timed(root / "evolve" / layout.folder_name(env_id) / agent)


def evolve(
    agent: Agent | str,
    env: Any,
    ranges: Mapping[str, Any],
    *,
    members: int = 16,
    generations: int = 20,
    total_timesteps: int = 100_000,
    method: str = "pbt",
    eval_episodes: int = 100,
    seed: int = 0,
    devices: int = 1,
    evolve_dir: str | Path,
    on_progress: OnProgress = lambda progress: None,
) -> EvolveResult:
    """Train a population on the device: members copy better ones, and change their hyper-parameters.

    Members, copying and exploring are one compiled program for each generation (``rlgd.evolution.population``). The
    winner is the member with the highest mean return of the last generation's episodes; what its line went through is
    written as schedules that a plain run takes.

    Args:
        agent: whose settings hold for all members, or its name. Schedules of what evolves are taken away.
        env: an environment on the device: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returns.
        ranges: hyper-parameters by name: ``{"log": [low, high]}`` or ``{"linear": [low, high]}``.
        members: at least 2.
        generations: at least 2; after each of them the worst quarter may be replaced.
        total_timesteps: environment steps of each member.
        method: "pbt" (Jaderberg et al. 2017); "pb2", whose bandit chooses values (Parker-Holder et al. 2020); or
            "fixed", where nobody copies, to compare with.
        eval_episodes: of the winner's evaluation.
        seed: of the population.
        devices: of this machine, over which members are divided.
        evolve_dir: the directory; a population in it goes on where it was.
        on_progress: called with a ``Progress`` after each generation.

    Raises:
        UsageError: for a mistake, naming what was given and what is allowed.
        Diverged: if no member has a score at the end.
        StorageFault: if the directory cannot be written.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    members, generations = whole_number("members", members, 2), whole_number("generations", generations, 2)
    if not isinstance(ranges, Mapping):
        raise UsageError(
            f"ranges is {ranges!r}; expected a dictionary such as {{'learning_rate': {{'log': [1e-4, 1e-2]}}}}."
        )
    devices = whole_number("devices", devices, 1)
    if members % devices:
        raise UsageError(f"members is {members}, which {devices} devices do not divide.")
    mesh = make_mesh(devices)
    agent = make_agent(agent) if isinstance(agent, str) else agent
    if isinstance(agent, type):
        raise UsageError(f"agent is the class {agent.__name__}; give an agent, such as {agent.__name__}().")
    target = make(env)
    if not isinstance(target, DeviceEnv):
        raise UsageError(f"{target.env_id} runs on the host; a population trains in one program on the device.")
    found = dimensions(agent, ranges)
    agent = evolving(agent, found)
    settings = RunSettings(total_timesteps, eval_episodes=eval_episodes, seed=seed)
    RunConfig(agent, target, settings).validate()
    shape = Shape(
        target, found, method, _iterations(agent, settings, generations), generations, settings.total_timesteps
    )
    directory = Path(evolve_dir)
    identity = {
        "agent": agent_name(agent),
        "hyperparameters": hyperparameters.to_dict(agent),
        "env": target.env_id,
        "max_episode_steps": target.max_episode_steps,
        "ranges": [list(dimension) for dimension in found],
        "members": members,
        "generations": generations,
        "total_timesteps": settings.total_timesteps,
        "method": method,
        "seed": settings.seed,
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory} cannot be made: {error.strerror}.") from error
    with lock.held(directory):
        storage.begin(directory, identity, (BEST, TABLE, SUMMARY, TENSORBOARD))
        population, done = _train(agent.prepared(), shape, settings, members, mesh, directory, on_progress)
        result = _result(agent, shape, settings, population, done, directory)
        publish(result)
    return result


def _iterations(agent: Agent, settings: RunSettings, generations: int) -> int:
    """The most iterations that a member needs for a generation.

    Raises:
        UsageError: if the program has no room for them.
    """
    if settings.total_timesteps >= 2**31:
        raise UsageError(f"total_timesteps is {settings.total_timesteps:,}; allowed in a population: below {2**31:,}.")
    steps = -(-settings.total_timesteps // generations)
    if agent.whole_episodes:  # of which each may be as short as a step
        return min(-(-steps // agent.num_envs), MAX_CHUNK)
    iterations = -(-steps // (agent.num_envs * agent.rollout_length))  # type: ignore[attr-defined]
    if iterations > MAX_CHUNK:
        raise UsageError(
            f"a generation of {steps:,} steps has {iterations:,} iterations; allowed: at most {MAX_CHUNK:,}. Give more "
            "generations, or longer rollouts."
        )
    return iterations


def _train(
    agent: Agent,
    shape: Shape,
    settings: RunSettings,
    members: int,
    mesh: Mesh | None,
    directory: Path,
    on_progress: OnProgress,
) -> tuple[Population, Generation]:
    """The population after all generations, and what they did, arrays ``[generations, ...]``."""

    def started(agent: Agent) -> Population:
        return begin(agent, shape, members, settings.seed)

    like, generations = jax.eval_shape(started, agent), shape.generations
    stored = storage.read(directory, like)
    population, past = stored if stored is not None else (None, [])
    number = len(past[0]) if past else 0
    on_progress(Progress("generations", number, generations, compiling=True))
    if population is None:
        population = jax.jit(started)(agent)
    clock, seconds = time.perf_counter(), 0.0
    if number < generations:
        program, population = _compiled(agent, shape, population, mesh)
        seconds = time.perf_counter() - clock
    while number < generations:
        population, generation = program(agent, population)
        new = [np.asarray(x)[None] for x in jax.device_get(generation)]
        past = [np.concatenate(pair) for pair in zip(past, new, strict=True)] if past else new
        number += 1
        storage.write(directory, population, past)
        score = float(np.max(past[1][-1]))
        best = Best(f"member {int(np.argmax(past[1][-1]))}", score) if np.isfinite(score) else None
        on_progress(Progress("generations", number, generations, best, compile_seconds=seconds))
    return together(population), Generation(*past)


def _compiled(agent: Agent, shape: Shape, population: Population, mesh: Mesh | None) -> tuple[Any, Population]:
    """The program of a generation, and the population where it takes it: members are divided over the mesh."""

    def generation(agent: Agent, population: Population) -> tuple[Population, Generation]:
        return advance(agent, shape, population)

    if mesh is None:
        return jax.jit(generation).lower(agent, population).compile(), population
    members = len(population.score)

    def place(leaf: jax.Array) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(AXIS) if leaf.shape[:1] == (members,) else PartitionSpec())

    where = jax.tree.map(place, population)
    population = jax.device_put(population, where)
    everywhere = NamedSharding(mesh, PartitionSpec())
    agent = jax.device_put(agent, everywhere)
    program = jax.jit(generation, out_shardings=(where, everywhere)).lower(agent, population).compile()
    return lambda _, population: program(agent, population), population


def _result(
    agent: Agent, shape: Shape, settings: RunSettings, population: Population, done: Generation, directory: Path
) -> EvolveResult:
    best = int(np.argmax(done.score[-1]))
    if not np.isfinite(done.score[-1, best]):
        raise Diverged("no member of the population has a score: all diverged, or no episode ended in any generation.")
    values = np.stack([np.asarray(d.value(done.places[..., n])) for n, d in enumerate(shape.dimensions)], axis=-1)
    flags = winner_s_flags(agent, shape.dimensions, line(values, done.score, done.parent))
    own = with_places(agent, shape.dimensions, np.asarray(population.places)[best])
    state = jax.tree.map(lambda x: x[best], population.loops.agent_state)
    policy = Policy(own.prepared(), shape.env.spec, state.actor)
    evaluation = evaluator.evaluate(policy, shape.env, episodes=settings.eval_episodes, seed=evaluator.EVAL_SEED)
    changed = {k: v for k, v in hyperparameters.changed(agent).items() if k not in {d.name for d in shape.dimensions}}
    run = {"env": shape.env.env_id, "total_timesteps": settings.total_timesteps, **changed, **flags}
    steps = int(done.steps.sum(dtype=np.int64))
    return EvolveResult(shape.dimensions, values, done.score, done.parent, steps, evaluation, own, run, directory)
