"""What a run compiles, how long that takes, and how much memory the programs take, without training."""

import contextlib
import dataclasses
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env
from rlgd.envs.host.host_vector import HostVector
from rlgd.pytrees import View
from rlgd.training.chunks import chunk_length
from rlgd.training.host_rollout import HostRows
from rlgd.training.loop import initialize
from rlgd.training.rollout import most_truncations, rollout_length
from rlgd.training.runners import chunk_program, learn_program


class Program(NamedTuple):
    """A compiled program.

    Attributes:
        name: what it does.
        compile_seconds: wall time; a program in the compilation cache is only read.
        memory_bytes: of its arguments, results and temporary arrays; None where the compiler does not say.
    """

    name: str
    compile_seconds: float
    memory_bytes: int | None


def training_program(agent: Agent, env: Env) -> Program:
    """Compile what trains: on the device a chunk of iterations, on the host the update after each rollout.

    Raises:
        UsageError: if environments on the host cannot be made.
        EnvironmentFault: if they cannot be reset.
    """
    prepared = agent.prepared()
    loop = jax.eval_shape(lambda key: initialize(prepared, env, key, 1), jax.random.key(0))
    start = time.perf_counter()
    if isinstance(env, DeviceEnv):
        length, number = chunk_length(agent, env), jax.ShapeDtypeStruct((), np.int32)
        lowered = chunk_program.program(env).lower(prepared, length, loop, number, number)
        return _compiled(f"training, {length} iteration{'s' if length > 1 else ''} at a time", lowered, start)
    with contextlib.closing(env.open(agent.num_envs)) as vector:
        rollout = _blank_rollout(prepared, vector, loop)
        return _compiled("update", learn_program.lower(prepared, vector.spec, loop, rollout), start)


def _blank_rollout(agent: Agent, vector: HostVector, loop: Any) -> Any:
    """A rollout of these environments with nothing in it."""
    obs, first, spec = vector.reset(0), np.ones(agent.num_envs, bool), vector.spec
    length, view = rollout_length(agent, spec), View(obs, first, vector.action_mask)
    action = jax.eval_shape(
        lambda state, memory, key: agent.act(spec, state.actor, memory, view, key)[0],
        loop.agent_state, loop.memory, jax.random.key(0),
    )  # fmt: skip
    rows = HostRows(length, view)
    rows.action = np.zeros((length, *action.shape), action.dtype)
    masked = agent.whole_episodes or vector.has_reset_rows
    rollout = rows.rollout(obs, first, masked, 0 if masked else most_truncations(spec, length))
    return dataclasses.replace(rollout, memory=loop.memory)


def _compiled(name: str, lowered: Any, start: float) -> Program:
    sizes = lowered.compile().memory_analysis()
    parts = ("argument", "output", "temp")
    memory = None if sizes is None else sum(getattr(sizes, f"{part}_size_in_bytes") for part in parts)
    return Program(name, time.perf_counter() - start, memory)
