"""What a run compiles, how long that takes, and how much memory the programs take, without training."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env
from rlgd.envs.host.host_vector import HostVector
from rlgd.pytrees import View
from rlgd.system.mesh import active
from rlgd.training.chunks import chunk_length
from rlgd.training.host_rollout import HostRows
from rlgd.training.loop import initialize
from rlgd.training.placement import shardings
from rlgd.training.rollout import most_truncations, rollout_length
from rlgd.training.runners import chunk_program, learn_program, measure_on_device_program, measure_program


class Program(NamedTuple):
    """A compiled program.

    Attributes:
        name: what it does.
        compile_seconds: wall time; a program in the compilation cache is only read.
        memory_bytes: of its arguments, results and temporary arrays, on each device; None where the compiler does not
            say.
    """

    name: str
    compile_seconds: float
    memory_bytes: int | None


def programs_of(agent: Agent, env: Env, mesh: Mesh | None = None, overlap: bool = False) -> Iterator[Program]:
    """Compile what trains: on the device a chunk of iterations, on the host the update after each rollout; and what is
    measured. ``overlap``: rollouts say who collected them.

    Raises:
        UsageError: if environments on the host cannot be made.
        EnvironmentFault: if they cannot be reset.
    """
    prepared = agent.prepared()
    loop = jax.eval_shape(lambda key: initialize(prepared, env, key, 1), jax.random.key(0))
    measured = f"what is measured, {_in_so_many(agent.measure_every)}"
    if isinstance(env, DeviceEnv):
        length, number = chunk_length(agent, env), jax.ShapeDtypeStruct((), np.int32)
        if mesh is not None:
            where = shardings(prepared, env, mesh)
            loop = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), loop, where)
        train, measure = chunk_program.program(env), measure_on_device_program.program(env)
        name = f"training, {length} iteration{'s' if length > 1 else ''} at a time"
        with active(mesh):
            yield _compiled(name, lambda: train.lower(prepared, length, loop, number, number))
            if agent.measure_every:
                yield _compiled(measured, lambda: measure.lower(prepared, loop))
        return
    with contextlib.closing(env.open(agent.num_envs)) as vector:
        rollout = _blank_rollout(prepared, vector, loop)
        if overlap:
            rollout = dataclasses.replace(rollout, actor=loop.agent_state.actor)
        given = prepared, vector.spec, loop, rollout
        yield _compiled("update", lambda: learn_program.lower(*given))
        if agent.measure_every:
            yield _compiled(measured, lambda: measure_program.lower(*given))


def _in_so_many(every: int) -> str:
    return "in each iteration" if every == 1 else f"in 1 of {every} iterations"


def _blank_rollout(agent: Agent, vector: HostVector, loop: Any) -> Any:
    """A rollout of these environments with nothing in it."""
    obs, first, spec = vector.reset(0), np.ones(agent.num_envs, bool), vector.spec
    length, view = rollout_length(agent, spec), View(obs, first, vector.action_mask)
    action = jax.eval_shape(
        lambda state, memory, key: agent.act(spec, state.actor, memory, view, key)[0],
        loop.agent_state, loop.memory, jax.random.key(0),
    )  # fmt: skip
    rows = HostRows(length, view, agent.reads_lives)
    rows.action = np.zeros((length, *action.shape), action.dtype)
    masked = agent.whole_episodes or vector.has_reset_rows
    rollout = rows.rollout(obs, first, masked, 0 if masked else most_truncations(spec, length))
    return dataclasses.replace(rollout, memory=loop.memory)


def _compiled(name: str, lower: Callable[[], Any]) -> Program:
    start = time.perf_counter()
    sizes = lower().compile().memory_analysis()
    parts = ("argument", "output", "temp")
    memory = None if sizes is None else sum(getattr(sizes, f"{part}_size_in_bytes") for part in parts)
    return Program(name, time.perf_counter() - start, memory)
