"""What runs iterations: many in one compiled program on the device, one by one on the host."""

import dataclasses
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv
from rlgd.envs.device.programs import JitPerEnv
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import EnvironmentFault
from rlgd.pytrees import LoopState, Metrics, Rollout
from rlgd.system.mesh import active
from rlgd.training.history import concatenated
from rlgd.training.loop import iterations_done, learn, run_iterations
from rlgd.training.measuring import Measurements, before_next, in_first, measure, measure_on_device
from rlgd.training.placement import placed, shardings
from rlgd.training.shares import Share, share_of

chunk_program = JitPerEnv(run_iterations, 1, static_argnums=(2,))
learn_program = jax.jit(learn, static_argnums=(1,))
measure_on_device_program = JitPerEnv(measure_on_device, 1)
measure_program = jax.jit(measure, static_argnums=(1,))


class Runner(Protocol):
    """Runs up to ``iterations``, on the device or on the host; it stops after the first one that reaches ``rows``.

    It may stop earlier, to measure what comes next. It also stops after an iteration with something that is not finite.
    The state that is returned is then the one before that iteration, and the metrics, ``[iterations]``, include it.

    Attributes:
        compile_seconds: wall time of compiling so far.
        cut_short: a fault of the environment, or an interrupt, that ended the newest call after its first iteration,
            so that what was learned before is not lost; None if nothing did. The caller raises it.
    """

    def __call__(self, loop: LoopState, iterations: int, rows: int) -> tuple[LoopState, dict[str, np.ndarray]]: ...

    @property
    def compile_seconds(self) -> float:
        """Wall time of compiling so far."""
        ...

    cut_short: EnvironmentFault | KeyboardInterrupt | None


class DeviceRunner:
    """Whole chunks as one compiled program. An interrupt waits in ``cut_short`` until the program has ended.

    A measured iteration is the first of a call: what is measured has a program of its own, which runs before. With a
    ``mesh`` the states that it returns lie on its devices, see ``rlgd.training.placement``.
    """

    def __init__(self, agent: Agent, env: DeviceEnv, length: int, mesh: Mesh | None = None) -> None:
        self.env, self.mesh, self._where = env, mesh, None if mesh is None else shardings(agent, env, mesh)
        self.program = functools.partial(chunk_program, agent, env, length)
        measure = functools.partial(measure_on_device_program, agent, env)
        self.measurements = Measurements(agent.measure_every, measure)
        self._compile_seconds = 0.0
        self._is_compiled = False
        self.cut_short: EnvironmentFault | KeyboardInterrupt | None = None

    @property
    def compile_seconds(self) -> float:
        """Wall time of compiling so far."""
        return self._compile_seconds + self.measurements.compile_seconds

    def forget(self) -> None:
        """Let go of the compiled programs of all agents in this environment."""
        chunk_program.program(self.env).clear_cache()
        measure_on_device_program.program(self.env).clear_cache()
        self._is_compiled = False

    def __call__(self, loop: LoopState, iterations: int, rows: int) -> tuple[LoopState, dict[str, np.ndarray]]:
        with active(self.mesh):
            return self._run(loop if self._where is None else placed(loop, self._where), iterations, rows)

    def _run(self, loop: LoopState, iterations: int, rows: int) -> tuple[LoopState, dict[str, np.ndarray]]:
        iteration = iterations_done(loop)
        begun, measured = self.measurements(loop, iteration)
        if not self._is_compiled:
            start = time.perf_counter()
            # No iteration: this takes the time of compiling.
            jax.block_until_ready(self.program(begun, np.int32(0), np.int32(0)))
            self._compile_seconds += time.perf_counter() - start
            self._is_compiled = True
        limit = np.int32(min(rows, 2**31 - 1))
        number = np.int32(before_next(self.measurements.every, iteration, iterations))
        started = None
        try:
            started = self.program(begun, number, limit)
            after, history = self._read(started, loop, begun, limit)
        except KeyboardInterrupt as interrupt:
            if started is None:
                raise
            self.cut_short = interrupt
            after, history = self._read(started, loop, begun, limit)
        return after, history | in_first(measured, len(history["rollout/steps"]))

    def _read(
        self, started: Any, loop: LoopState, begun: LoopState, limit: np.int32
    ) -> tuple[LoopState, dict[str, np.ndarray]]:
        """Wait for the program that began from ``begun``, and read its metrics."""
        after, *rest = started
        stacked, done = jax.device_get(rest)
        history = {name: values[:done] for name, values in stacked.metrics().items()}
        if history["fault/count"][-1] > 0:
            # The same iterations again, without the last one: a copy of each state would slow down all iterations.
            after = self.program(begun, np.int32(done - 1), limit)[0] if done > 1 else loop
        return after, history


class HostRunner:
    """Rollouts from Gymnasium, one compiled update each.

    ``pause``: whether to end the chunk before its next iteration. ``act_device``: where the policy acts. ``share``: the
    environments of ``vector`` among those of all processes; None: it has all, and one device learns.
    """

    def __init__(
        self,
        agent: Agent,
        vector: HostVector,
        pause: Callable[[], bool] = lambda: False,
        act_device: jax.Device | None = None,
        share: Share | None = None,
    ) -> None:
        self.agent = agent
        self.share = share_of(agent.num_envs, None) if share is None else share
        self._where, self._learn = None, learn_program
        if (mesh := self.share.mesh) is not None:
            self._where = shardings(agent, vector.spec, mesh)
            everywhere = NamedSharding(mesh, PartitionSpec())
            self._learn = jax.jit(learn, static_argnums=(1,), out_shardings=(self._where, everywhere))
        self.act_device = act_device
        self.vector = vector
        self.pause = pause
        measure = functools.partial(measure_program, agent, vector.spec)
        self.measurements = Measurements(agent.measure_every, measure)
        self._compile_seconds = 0.0
        self._compiled: set[int] = set()
        self.cut_short: EnvironmentFault | KeyboardInterrupt | None = None

    @property
    def compile_seconds(self) -> float:
        """Wall time of compiling so far."""
        return self._compile_seconds + self.measurements.compile_seconds

    def __call__(self, loop: LoopState, iterations: int, rows: int) -> tuple[LoopState, dict[str, np.ndarray]]:
        loop = loop if self._where is None else placed(loop, self._where)
        history: list[dict[str, Any]] = []
        iteration = iterations_done(loop)
        kept = (loop, 0)  # state and number of iterations; one variable, so that an interrupt finds them together
        seen, finite = 0, True
        try:
            while len(history) < iterations and seen < rows and finite and not (history and self._ends()):
                after, metrics = self._iterate(kept[0], iteration + len(history))
                seen += int(metrics["rollout/steps"])
                finite = int(metrics["fault/count"]) == 0
                history.append(metrics)
                kept = (after if finite else kept[0], len(history))
        except (EnvironmentFault, KeyboardInterrupt) as fault:
            if not kept[1]:
                raise
            self.cut_short = fault
        loop, count = kept
        return loop, concatenated([{name: np.asarray(x)[None] for name, x in m.items()} for m in history[:count]])

    def _ends(self) -> bool:
        return self.cut_short is not None or self.pause()

    def _iterate(self, loop: LoopState, iteration: int) -> tuple[LoopState, dict[str, Any]]:
        """One iteration: the state after it, and its metrics."""
        collected = self._collect(loop)
        after, metrics = self._learn_from(collected.rollout, collected.loop, iteration)
        return after, {**metrics, **collected.infos}

    def _collect(self, loop: LoopState) -> "Collected":
        rollout, after = self.share.collect(self.agent, self.vector, loop, self.act_device)
        return Collected(rollout, after, self.vector.infos.take())

    def _learn_from(self, rollout: Rollout, begun: LoopState, iteration: int) -> tuple[LoopState, Metrics]:
        with active(self.share.mesh):  # of learning: the policy acts on one device
            begun, measured = self.measurements(begun, iteration, rollout)
            start = time.perf_counter()
            after, metrics = self._learn(self.agent, self.vector.spec, begun, rollout)
        num_final = jax.tree.leaves(rollout.final_obs)[0].shape[0]
        if num_final not in self._compiled:
            self._compiled.add(num_final)
            jax.block_until_ready(metrics)
            self._compile_seconds += time.perf_counter() - start
        return after, metrics | measured


class Collected(NamedTuple):
    """A rollout, the state of the loop after its last step, and the numbers in the infos of its steps."""

    rollout: Rollout
    loop: LoopState
    infos: dict[str, Any]


class OverlappingRunner(HostRunner):
    """Learns from a rollout in a thread of its own, while this thread collects the next one.

    So all rollouts but the first are collected with a policy that is one update older than the one that learns from
    them, and each says which (``Rollout.actor``). What is computed does not depend on which thread is faster.

    ``left``: rows until the end of the run, beyond which nothing is collected. The rest is as for ``HostRunner``.
    """

    def __init__(
        self,
        agent: Agent,
        vector: HostVector,
        left: int,
        pause: Callable[[], bool] = lambda: False,
        act_device: jax.Device | None = None,
    ) -> None:
        super().__init__(agent, vector, pause, act_device)
        self._left = left
        self._ahead: Collected | None = None

    def _iterate(self, loop: LoopState, iteration: int) -> tuple[LoopState, dict[str, Any]]:
        collected = self._collect(loop) if self._ahead is None else self._ahead
        rollout, self._ahead = collected.rollout, None
        place = {name: getattr(collected.loop, name) for name in ("obs", "first", "memory")}
        begun = dataclasses.replace(loop, **place)
        self._left -= rollout.reward.size if rollout.mask is None else int(np.count_nonzero(rollout.mask))
        with ThreadPoolExecutor(1, "rlgd-learning") as thread:
            learning = thread.submit(self._learn_from, rollout, begun, iteration)
            if self._left > 0:
                # What was learned so far is kept if the environments fail now, or the user interrupts.
                try:
                    self._ahead = self._collect(dataclasses.replace(begun, iteration=begun.iteration + 1))
                except (EnvironmentFault, KeyboardInterrupt) as fault:
                    self.cut_short = fault
            after, metrics = learning.result()
        return after, {**metrics, **collected.infos}

    def _collect(self, loop: LoopState) -> Collected:
        collected = super()._collect(loop)
        rollout = dataclasses.replace(collected.rollout, actor=loop.agent_state.actor)
        return collected._replace(rollout=rollout)
