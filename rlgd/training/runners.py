"""What runs iterations: many in one compiled program on the device, one by one on the host."""

import functools
import time
from collections.abc import Callable
from typing import Protocol

import jax
import numpy as np

from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv
from rlgd.envs.device.programs import JitPerEnv
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import EnvironmentFault
from rlgd.pytrees import LoopState, Metrics
from rlgd.training.host_rollout import collect_on_host
from rlgd.training.loop import ROLLOUT, iteration_key, learn, run_iterations

_run_jitted = JitPerEnv(run_iterations, 1, static_argnums=(2,))
_learn_jitted = jax.jit(learn, static_argnums=(1,))


class Runner(Protocol):
    """Runs up to ``iterations``, on the device or on the host; it stops after the first one that reaches ``rows``.

    It also stops after an iteration with something that is not finite. The state that is returned is then the one
    before that iteration, and the metrics, ``[iterations]``, include it.
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
        # No iteration: the first time, this takes the time of compiling.
        jax.block_until_ready(self.program(loop, np.int32(0), np.int32(0)))
        self.compile_seconds += time.perf_counter() - start
        limit = np.int32(min(rows, 2**31 - 1))
        after, metrics, done = self.program(loop, np.int32(iterations), limit)
        history = {name: np.asarray(values)[: int(done)] for name, values in metrics.items()}
        if history["fault/count"][-1] > 0:
            # The same iterations again, without the last one: a copy of each state would slow down all iterations.
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
                    self.agent, self.vector, loop, iteration_key(loop, ROLLOUT), self.act_device
                )
            except EnvironmentFault as fault:
                if not history:
                    raise
                self._fault = fault  # raised by the next call, so that what was learned before is not lost
                break
            start = time.perf_counter()
            after, metrics = _learn_jitted(self.agent, self.vector.spec, begun, rollout)
            history.append(metrics)
            seen += int(metrics["rollout/steps"])
            finite = int(metrics["fault/count"]) == 0
            if finite:
                loop = after
            num_final = jax.tree.leaves(rollout.final_obs)[0].shape[0]
            if num_final not in self._compiled:
                self._compiled.add(num_final)
                self.compile_seconds += time.perf_counter() - start
        return loop, {name: np.stack([np.asarray(m[name]) for m in history]) for name in history[0]}
