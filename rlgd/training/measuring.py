"""What is measured of the ascent in one iteration of many: a program of its own, beside the one that trains.

An iteration is measured after every ``measure_every`` of them; the first one is not, so that training begins before
this program is compiled. A measurement reads the state before the iteration and the rollout that the iteration learns
from, and changes nothing but what it keeps for the next one.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.ascent import diagnostics
from rlgd.envs import DeviceEnv
from rlgd.pytrees import AgentState, LoopState, Metrics, Rollout
from rlgd.spaces import Spec
from rlgd.training import federation
from rlgd.training.device_rollout import collect
from rlgd.training.loop import ROLLOUT, UPDATE, iteration_key, share_done


def measure(agent: Agent, spec: Spec, loop: LoopState, rollout: Rollout) -> tuple[Metrics, AgentState]:
    """Diagnostics of the iteration that learns from ``rollout``, and the agent's state that remembers them."""
    state, progress = loop.agent_state, share_done(loop)
    parts = agent.half_gradients(spec, state, rollout, progress, iteration_key(loop, UPDATE))
    metrics, gradient = diagnostics.measure(
        agent.ascent, state.opt_state.policy, state.params.policy, progress, parts, state.measured
    )
    return metrics, dataclasses.replace(state, measured=gradient)


def measure_on_device(agent: Agent, env: DeviceEnv, loop: LoopState) -> tuple[Metrics, AgentState]:
    """``measure`` of the next iteration on the device, whose rollout is collected for it alone."""
    if agent.climbers is not None:
        metrics, states = federation.each(agent, loop, lambda climber, own: measure_on_device(climber, env, own))
        whole = loop.agent_state
        states = dataclasses.replace(states, outer_opt_state=whole.outer_opt_state, met=whole.met)
        return federation.joined_metrics(metrics), states
    return measure(agent, env.spec, loop, collect(agent, env, loop, iteration_key(loop, ROLLOUT))[0])


def is_measured(every: int, iteration: int) -> bool:
    """Whether an iteration, counted from 0, is measured."""
    return every > 0 and iteration > 0 and iteration % every == 0


def before_next(every: int, iteration: int, most: int) -> int:
    """How many iterations there are from this one to before the next measurement; at most ``most``."""
    return min(most, every - iteration % every) if every else most


class Measurements:
    """The metrics of measured iterations.

    Args:
        every: one of this many iterations is measured; 0 for none.
        program: ``measure``, compiled; a function of the state and what follows it in a call.

    Attributes:
        compile_seconds: wall time of compiling so far.
    """

    def __init__(self, every: int, program: Callable[..., tuple[Metrics, AgentState]]) -> None:
        self.every, self._program = every, program
        self.compile_seconds = 0.0
        self._compiled: set[tuple[Any, ...]] = set()

    def __call__(self, loop: LoopState, iteration: int, *rest: Any) -> tuple[LoopState, dict[str, Any]]:
        """The state that remembers a measurement, and its metrics; ``loop`` and none where none is due."""
        if not is_measured(self.every, iteration):
            return loop, {}
        metrics, state = self._run(loop, *rest)
        return dataclasses.replace(loop, agent_state=state), metrics

    def _run(self, *given: Any) -> tuple[Metrics, AgentState]:
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(given))
        if shapes in self._compiled:
            return self._program(*given)
        self._compiled.add(shapes)
        start = time.perf_counter()
        measured = jax.block_until_ready(self._program(*given))
        self.compile_seconds += time.perf_counter() - start
        return measured


def in_first(metrics: Mapping[str, Array], iterations: int) -> dict[str, np.ndarray]:
    """Metrics of the first of several iterations as arrays ``[iterations]``, NaN in the others."""

    def column(value: Any) -> np.ndarray:
        value = np.asarray(value)
        values = np.full(iterations, np.nan, value.dtype)
        values[:1] = value
        return values

    return {name: column(value) for name, value in metrics.items()}
