"""Chunks of iterations, from the first one of a run to the last."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env
from rlgd.errors import EnvironmentFault
from rlgd.pytrees import LoopState
from rlgd.training.faults import Fault, take_fault
from rlgd.training.loop import iterations_done
from rlgd.training.rollout import rollout_length
from rlgd.training.runners import Runner

CHUNK_COST = 1_000_000  # rows times passes over them: about a second on one CPU core with a small network
HOST_ROW_COST = 20  # the cost of stepping on the host, in passes
MAX_CHUNK = 4096  # iterations; bounds what a chunk's metrics take


def chunk_length(agent: Agent, env: Env) -> int:
    """The number of iterations that take about a second: estimated from the configuration, never measured."""
    spec = env.spec
    multiplications = sum(agent.num_weights(spec)) + agent.convolution_cost(spec)
    row_cost = agent.passes() * (1 + multiplications / 10_000) + (0 if isinstance(env, DeviceEnv) else HOST_ROW_COST)
    return int(np.clip(CHUNK_COST // (agent.num_envs * rollout_length(agent, spec) * row_cost), 1, MAX_CHUNK))


class Chunk(NamedTuple):
    """What a chunk of iterations did.

    Attributes:
        loop: the state after the chunk; if an iteration is not finite, the state before that iteration.
        steps: environment steps of the whole run so far.
        metrics: NumPy arrays, ``[iterations]``; ``rollout/steps`` are each iteration's.
        training_seconds, compile_seconds: wall time of this chunk.
        fault: what is not finite, or None; the run cannot continue after a fault.
        cut_short: what ended the chunk early, see ``Runner``; no chunk follows.
    """

    loop: LoopState
    steps: int
    metrics: dict[str, np.ndarray]
    training_seconds: float
    compile_seconds: float
    fault: Fault | None = None
    cut_short: EnvironmentFault | KeyboardInterrupt | None = None


def chunks(
    runner: Runner,
    loop: LoopState,
    length: int,
    total_timesteps: int,
    steps: int = 0,
    pauses: Sequence[int] = (),
    row_every: int | None = None,
) -> Iterator[Chunk]:
    """Train to the end of the run, a chunk at a time.

    Chunks end at multiples of ``length`` iterations, counted from the run's beginning. They also end with the iteration
    that reaches a multiple of one of ``pauses`` steps, at multiples of ``row_every`` iterations, and where the runner
    stops to measure. ``progress`` is set from the exact number of steps only at multiples of ``length``, so pauses
    change no bit of the result.
    """
    iteration = iterations_done(loop)
    fault = None
    while steps < total_timesteps and fault is None and runner.cut_short is None:
        if iteration % length == 0:
            loop = dataclasses.replace(loop, progress=jnp.asarray(steps / total_timesteps, loop.progress.dtype))
        end = next_pause(steps, total_timesteps, pauses)
        iterations = length - iteration % length
        if row_every is not None:
            iterations = min(iterations, row_every - iteration % row_every)
        start, compiled = time.perf_counter(), runner.compile_seconds
        loop, metrics = runner(loop, iterations, end - steps)
        compile_seconds = runner.compile_seconds - compiled
        seconds = time.perf_counter() - start - compile_seconds
        fault = take_fault(metrics, iteration)
        iteration += len(metrics["rollout/steps"])
        steps += int(metrics["rollout/steps"].sum(dtype=np.int64))
        yield Chunk(loop, steps, metrics, seconds, compile_seconds, fault, runner.cut_short)


def next_pause(steps: int, total_timesteps: int, pauses: Sequence[int]) -> int:
    """The end of the run, or the first multiple of one of ``pauses`` after ``steps``."""
    return min([total_timesteps, *((steps // every + 1) * every for every in pauses)])
