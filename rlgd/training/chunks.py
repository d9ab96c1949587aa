"""Chunks of iterations, from the first to the last of a run."""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env
from rlgd.models import features, torsos
from rlgd.pytrees import LoopState
from rlgd.training.faults import Fault, take_fault
from rlgd.training.rollout import rollout_length
from rlgd.training.runners import Runner

CHUNK_COST = 1_000_000  # rows times passes over them: about a second on one CPU core for a small network
HOST_ROW_COST = 20  # what stepping on the host costs, in passes
MAX_CHUNK = 4096  # iterations; bounds what a chunk's metrics take


def chunk_length(agent: Agent, env: Env) -> int:
    """How many iterations make a chunk of about a second: estimated from the configuration alone, never measured."""
    spec = env.spec
    widths = (features.num_features(spec.obs), *agent.hidden_sizes, 1)
    num_weights = 2 * sum(before * after for before, after in itertools.pairwise(widths))
    if agent.recurrence is not None:
        num_weights += 2 * agent.recurrence.cost(widths[0])
    num_weights += 2 * sum(torsos.convolution_cost(shape) for shape in features.image_shapes(spec.obs))
    row_cost = agent.passes() * (1 + num_weights / 10_000) + (0 if isinstance(env, DeviceEnv) else HOST_ROW_COST)
    return int(np.clip(CHUNK_COST // (agent.num_envs * rollout_length(agent, spec) * row_cost), 1, MAX_CHUNK))


class Chunk(NamedTuple):
    """What a chunk of iterations did.

    Attributes:
        loop: the state behind it; before the iteration that left the finite numbers, if one did.
        steps: environment steps of the whole run so far.
        metrics: NumPy arrays, ``[iterations]``; ``rollout/steps`` are each iteration's.
        training_seconds, compile_seconds: wall time of this chunk.
        fault: what left the finite numbers; the run cannot go on then.
    """

    loop: LoopState
    steps: int
    metrics: dict[str, np.ndarray]
    training_seconds: float
    compile_seconds: float
    fault: Fault | None = None


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

    Chunks end at multiples of ``length`` iterations, counted from the run's beginning, and with the iterations that
    reach a multiple of one of ``pauses`` steps, and at multiples of ``row_every`` iterations. Only at the first is
    ``progress`` set anew from the exact number of steps: pausing more or less often changes no bit of the result.
    """
    iteration = iterations_done(loop)
    fault = None
    while steps < total_timesteps and fault is None:
        if iteration % length == 0:
            loop = dataclasses.replace(loop, progress=jnp.asarray(steps / total_timesteps, loop.progress.dtype))
        end = min([total_timesteps, *((steps // every + 1) * every for every in pauses)])
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
        yield Chunk(loop, steps, metrics, seconds, compile_seconds, fault)


def iterations_done(loop: LoopState) -> int:
    """Iterations of a run so far; the state's own counter wraps to negative numbers, beyond which it still counts."""
    return int(loop.iteration) % 2**32
