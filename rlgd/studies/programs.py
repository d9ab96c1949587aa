"""The compiled programs of a group of members."""

import dataclasses
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv
from rlgd.evaluation import evaluator
from rlgd.exact import comparison
from rlgd.pytrees import Actor, AgentState, LoopState
from rlgd.run.cadence import cadence
from rlgd.run.config import RunConfig
from rlgd.training.device_rollout import collect
from rlgd.training.loop import initialize, run_iterations


def _each(function: Callable[..., Any], exact: bool) -> Callable[..., Any]:
    """``function`` of one member, for stacked members: side by side, or (the bits of one alone) one after another."""
    return (lambda *args: jax.lax.map(lambda one: function(*one), args)) if exact else jax.vmap(function)


def _compiler_options(exact: bool) -> dict[str, Any]:
    """On the CPU programs are optimized less than a run's alone, where their bits may differ: compiling, most of what a
    short study takes, is faster, and training is not slower.
    """
    return {} if exact or jax.default_backend() != "cpu" else {"xla_backend_optimization_level": 1}


def bytes_of(settings: RunConfig) -> int:
    """About what a member takes while it trains: its state, a rollout, and as much again for the update."""
    agent, env = settings.agent.prepared(), settings.env
    assert isinstance(env, DeviceEnv)

    def state_and_rollout(key: Array) -> Any:
        return collect(agent, env, initialize(agent, env, key), key)

    leaves = jax.tree.leaves(jax.eval_shape(state_and_rollout, jax.random.key(0)))
    return 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


class Programs:
    """What is compiled once for all members of a group, for slices of one size."""

    def __init__(self, group: RunConfig, size: int, exact: bool) -> None:
        self.group, self.size, self.exact = group, size, exact
        self.compile_seconds = 0.0
        self._lock = threading.Lock()
        self._compiled: dict[str, Any] = {}
        self.chunk_length = cadence(group).chunk_length
        env, length, episodes = group.env, self.chunk_length, group.settings.eval_episodes
        target = evaluator.playable(None, env, episodes, None)
        assert isinstance(env, DeviceEnv)
        assert isinstance(target, DeviceEnv)

        def begin(agent: Agent, key: Array, progress_per_step: Array) -> LoopState:
            loop = initialize(agent, env, key)
            return dataclasses.replace(loop, progress_per_step=progress_per_step)

        def advance(agent: Agent, loop: LoopState, iterations: Array, rows: Array) -> Any:
            return run_iterations(agent, env, length, loop, iterations, rows)

        def evaluate(agent: Agent, actor: Actor, key: Array) -> tuple[Array, Array]:
            return evaluator.play_on_device(agent, target, actor, key, episodes, True)

        def objective(agent: Agent, state: AgentState) -> Array:
            problem = comparison.problem_of(env)
            assert problem is not None
            return problem.objective(comparison.policy_of(agent, env.spec, problem, state)(state.params.policy))

        self._functions: dict[str, Callable[..., Any]] = {"begin": begin, "advance": advance, "evaluate": evaluate}
        self.is_solved = comparison.applies(group.agent, env)
        if self.is_solved:
            self._functions["objective"] = objective
        self.traces: Counter[str] = Counter()

    def __call__(self, name: str, *args: Any) -> Any:
        """Run a program on stacked arguments."""
        return self.compiled(name, *args)(*args)

    def compiled(self, name: str, *args: Any) -> Any:
        """A program for stacked arguments like these; compiled the first time that it is asked for."""
        with self._lock:
            if name not in self._compiled:
                start = time.perf_counter()
                # Side by side the factorizations that begin a network take longer to compile than to run.
                one_by_one = self.exact or name == "begin"
                program = _each(functools.partial(self._traced, name), one_by_one)
                options = _compiler_options(self.exact)
                self._compiled[name] = jax.jit(program, compiler_options=options).lower(*args).compile()
                self.compile_seconds += time.perf_counter() - start
            return self._compiled[name]

    def _traced(self, name: str, *args: Any) -> Any:
        self.traces[name] += 1
        return self._functions[name](*args)

    def memory(self) -> float:
        """Bytes that a slice takes while it trains, as the compiler says."""
        agents = jax.tree.map(lambda x: jnp.stack([x] * self.size), self.group.agent.prepared())
        keys = jnp.stack([jax.random.key(0)] * self.size)
        per_step, counts = np.zeros(self.size, np.float32), np.zeros(self.size, np.int32)
        loops = jax.eval_shape(_each(self._functions["begin"], self.exact), agents, keys, per_step)
        analysis = self.compiled("advance", agents, loops, counts, counts).memory_analysis()
        parts = ("temp", "argument", "output")
        return float(sum(getattr(analysis, f"{part}_size_in_bytes") for part in parts)) if analysis else 0.0


class ProgramCache:
    """The programs of a group, for slices that fit into ``budget`` bytes: made when they are needed, once."""

    def __init__(self, group: RunConfig, size: int, exact: bool, budget: float) -> None:
        self.arguments = group, size, exact
        self.budget = budget
        self._lock = threading.Lock()
        self._made: Programs | None = None

    @property
    def compile_seconds(self) -> float:
        """What compiling took so far."""
        return 0.0 if self._made is None else self._made.compile_seconds

    def programs(self) -> Programs:
        """Those for slices of the size that was asked for, or half as large, and so on, until one fits."""
        with self._lock:
            if self._made is None:
                group, size, exact = self.arguments
                self._made = Programs(group, size, exact)
                while self._made.size > 1 and self._made.memory() > self.budget:
                    self._made = Programs(group, self._made.size // 2, exact)
            return self._made
