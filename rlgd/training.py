"""The training loop: pure ``initialize`` and ``iterate``, and chunks of iterations that are one compiled program.

Nothing here knows where metrics go: ``chunks`` yields them.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd import episodes, networks, spaces
from rlgd.agents.common import Agent
from rlgd.data import FINITE, OBSERVATION, PARAMETERS, REWARD, LoopState, Metrics, Rollout, Spec
from rlgd.envs import DeviceEnv, Env
from rlgd.envs.host import HostVector
from rlgd.errors import EnvironmentFault
from rlgd.rollout import collect, collect_on_host, padded_limit, rollout_length

INIT, ENV, ROLLOUT, UPDATE = range(4)  # purposes of the random keys of a run
CHUNK_COST = 1_000_000  # rows times passes over them: about a second on one CPU core for a small network
HOST_ROW_COST = 20  # what stepping on the host costs, in passes
MAX_CHUNK = 4096  # iterations; bounds what a chunk's metrics take


def initialize(agent: Agent, env: Env, key: Array, total_timesteps: int | None = None) -> LoopState:
    """The state before the first iteration.

    Args:
        agent: its values may be traced or stacked.
        env: a device or host environment; a host environment's observations are filled in when it is opened.
        key: the root of all randomness of the run.
        total_timesteps: the length of the run, which schedules refer to; None: progress stays 0.
    """
    spec, num_envs = env.spec, agent.num_envs
    if agent.whole_episodes:
        padded_limit(spec)
    env_state: Any = ()
    if isinstance(env, DeviceEnv):
        env_state, obs = env.reset(jax.random.fold_in(key, ENV), num_envs)
    else:
        obs = spaces.blank(spec.obs, num_envs)
    return LoopState(
        agent_state=agent.init(spec, jax.random.fold_in(key, INIT)),
        env_state=env_state,
        obs=obs,
        first=jnp.ones(num_envs, bool),
        memory=agent.memory(spec, num_envs),
        episodes=episodes.begin(num_envs),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
        progress=jnp.zeros(()),
        progress_per_step=jnp.asarray(1 / total_timesteps if total_timesteps else 0.0),
    )


def iterate(agent: Agent, env: DeviceEnv, loop: LoopState) -> tuple[LoopState, Metrics]:
    """One iteration on the device: collect a rollout, learn from it. Pure: jit it, vmap it over agents and states."""
    rollout, loop = collect(agent, env, loop, _iteration_key(loop, ROLLOUT))
    return learn(agent, env.spec, loop, rollout)


def learn(agent: Agent, spec: Spec, loop: LoopState, rollout: Rollout) -> tuple[LoopState, Metrics]:
    """The second half of an iteration: the agent's update and the episodes' statistics."""
    agent_state, metrics = agent.update(
        spec, loop.agent_state, rollout, jnp.clip(loop.progress, 0, 1), _iteration_key(loop, UPDATE)
    )
    learned = (agent_state.params, agent_state.obs_statistics, agent_state.reward_statistics)
    metrics |= _faults(metrics.pop("nonfinite"), rollout, learned)
    counters, sums = episodes.advance(loop.episodes, rollout)
    loop = dataclasses.replace(
        loop,
        agent_state=agent_state,
        episodes=counters,
        iteration=loop.iteration + 1,
        progress=loop.progress + loop.progress_per_step * sums["rollout/steps"].astype(loop.progress.dtype),
    )
    return loop, metrics | sums


def _faults(updates: Array, rollout: Rollout, learned: Any) -> Metrics:
    """How much of an iteration is not finite, and what was so first, all int32 scalars.

    ``updates`` says of each update which of its quantities is not; nothing is mended, so what follows it is not either.
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
    return {"nonfinite/count": count, "nonfinite/first": first.astype(jnp.int32), "nonfinite/update": update}


def _real(x: Array, mask: Array | None) -> Array:
    """``x [T, N, ...]`` with 0 in rows that are no transitions."""
    return x if mask is None else jnp.where(mask.reshape(*mask.shape, *(1,) * (x.ndim - 2)), x, 0)


def _count_nonfinite(tree: Any) -> Array:
    numbers = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return sum((jnp.sum(~jnp.isfinite(x), dtype=jnp.int32) for x in numbers), jnp.zeros((), jnp.int32))


def _iteration_key(loop: LoopState, purpose: int) -> Array:
    return _fold_in_both(loop.key, purpose, loop.iteration)


@functools.partial(jax.jit, static_argnums=1)  # the host asks for a key in every iteration
def _fold_in_both(key: Array, purpose: int, iteration: Array) -> Array:
    return jax.random.fold_in(jax.random.fold_in(key, purpose), iteration)


def chunk_length(agent: Agent, env: Env) -> int:
    """How many iterations make a chunk of about a second: estimated from the configuration alone, never measured."""
    spec = env.spec
    widths = (spaces.num_features(spec.obs), *agent.hidden_sizes, 1)
    num_weights = 2 * sum(before * after for before, after in itertools.pairwise(widths))
    if agent.recurrence is not None:
        num_weights += 2 * agent.recurrence.cost(widths[0])
    num_weights += 2 * sum(networks.convolution_cost(shape) for shape in spaces.image_shapes(spec.obs))
    passes = 1 + getattr(agent, "num_epochs", 1) + getattr(agent, "cg_iters", 0)
    row_cost = passes * (1 + num_weights / 10_000) + (0 if isinstance(env, DeviceEnv) else HOST_ROW_COST)
    return int(np.clip(CHUNK_COST // (agent.num_envs * rollout_length(agent, spec) * row_cost), 1, MAX_CHUNK))


# Asked for its shapes and then for itself, it is traced once.
_iterate_once_traced = jax.jit(iterate, static_argnums=1, inline=True)


def run_iterations(
    agent: Agent, env: DeviceEnv, length: int, loop: LoopState, iterations: Array, rows: Array
) -> tuple[LoopState, Metrics, Array]:
    """Up to ``iterations`` (at most ``length``) iterations, ending with the first that reaches ``rows`` real rows or in
    which something is not finite.

    One program whatever the number: the metrics are ``[length]``, of which the first ``n`` returned are valid.
    """
    blank = jax.eval_shape(functools.partial(_iterate_once_traced, agent, env), loop)[1]
    stacked = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), blank)

    def unfinished(carry: Any) -> Array:
        _, stacked, done, seen = carry
        finite = stacked["nonfinite/count"][jnp.maximum(done - 1, 0)] == 0
        return (done < iterations) & (seen < rows) & finite

    def body(carry: Any) -> Any:
        loop, stacked, done, seen = carry
        loop, metrics = _iterate_once_traced(agent, env, loop)
        stacked = jax.tree.map(lambda whole, x: whole.at[done].set(x), stacked, metrics)
        return loop, stacked, done + 1, seen + metrics["rollout/steps"]

    zero = jnp.zeros((), jnp.int32)
    loop, stacked, done, _ = jax.lax.while_loop(unfinished, body, (loop, stacked, zero, zero))
    return loop, stacked, done


_run_jitted = jax.jit(run_iterations, static_argnums=(1, 2))
_learn_jitted = jax.jit(learn, static_argnums=(1,))


class Fault(NamedTuple):
    """What was not finite first, one of ``FAULTS`` by its number; where; and how many numbers and updates were not."""

    quantity: int
    iteration: int
    update: int
    amount: int


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


class Runner(Protocol):
    """Runs iterations, on the device or on the host: up to ``iterations``, ending with the first to reach ``rows``.

    An iteration that is not finite ends it too; the state that is returned is then the one before that iteration, and
    the metrics, ``[iterations]``, have that iteration last.
    """

    def __call__(self, loop: LoopState, iterations: int, rows: int) -> tuple[LoopState, dict[str, np.ndarray]]: ...

    compile_seconds: float


class DeviceRunner:
    """Whole chunks as one compiled program."""

    def __init__(self, agent: Agent, env: DeviceEnv, length: int) -> None:
        self.program = functools.partial(_run_jitted, agent, env, length)
        self.compile_seconds = 0.0

    def __call__(self, loop: LoopState, iterations: int, rows: int) -> tuple[LoopState, dict[str, np.ndarray]]:
        start = time.perf_counter()
        # No iteration at all: what this takes is compilation, the first time.
        jax.block_until_ready(self.program(loop, np.int32(0), np.int32(0)))
        self.compile_seconds += time.perf_counter() - start
        limit = np.int32(min(rows, 2**31 - 1))
        after, metrics, done = self.program(loop, np.int32(iterations), limit)
        history = {name: np.asarray(values)[: int(done)] for name, values in metrics.items()}
        if history["nonfinite/count"][-1] > 0:
            # The same iterations again, but for the last: a state to keep at hand in each would cost time in all.
            after, _, _ = self.program(loop, np.int32(done - 1), limit)
        return after, history


class HostRunner:
    """Rollouts from Gymnasium, one compiled update each.

    ``pause``: whether to end the chunk before its next iteration. ``act_device``: where the policy acts.
    """

    def __init__(
        self,
        agent: Agent,
        vector: HostVector,
        pause: Callable[[], bool] = lambda: False,
        act_device: jax.Device | None = None,
    ) -> None:
        self.agent = agent
        self.act_device = act_device
        self.vector = vector
        self.pause = pause
        self.compile_seconds = 0.0
        self._compiled: set[int] = set()
        self._fault: EnvironmentFault | None = None

    def __call__(self, loop: LoopState, iterations: int, rows: int) -> tuple[LoopState, dict[str, np.ndarray]]:
        if self._fault is not None:
            raise self._fault
        history: list[Metrics] = []
        seen, finite = 0, True
        while len(history) < iterations and seen < rows and finite and not (history and self.pause()):
            try:
                rollout, begun = collect_on_host(
                    self.agent, self.vector, loop, _iteration_key(loop, ROLLOUT), self.act_device
                )
            except EnvironmentFault as fault:
                if not history:
                    raise
                self._fault = fault  # for the next call: what was learned before it is not lost
                break
            start = time.perf_counter()
            after, metrics = _learn_jitted(self.agent, self.vector.spec, begun, rollout)
            history.append(metrics)
            seen += int(metrics["rollout/steps"])
            finite = int(metrics["nonfinite/count"]) == 0
            if finite:
                loop = after
            num_final = jax.tree.leaves(rollout.final_obs)[0].shape[0]
            if num_final not in self._compiled:
                self._compiled.add(num_final)
                self.compile_seconds += time.perf_counter() - start
        return loop, {name: np.stack([np.asarray(m[name]) for m in history]) for name in history[0]}


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


def take_fault(metrics: dict[str, np.ndarray], first_iteration: int) -> Fault | None:
    """Take what is known of non-finite numbers out of a chunk's metrics, and with it the iteration that has them."""
    count, quantity, update = (metrics.pop(f"nonfinite/{name}")[-1] for name in ("count", "first", "update"))
    if count == 0:
        return None
    for name, values in metrics.items():
        metrics[name] = values[:-1]
    return Fault(int(quantity), first_iteration + len(metrics["rollout/steps"]), int(update), int(count))
