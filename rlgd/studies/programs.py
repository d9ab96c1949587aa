"""The compiled programs of a group of members."""

import dataclasses
import functools
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv
from rlgd.envs.randomization import as_parameter, overridden, overrides
from rlgd.errors import UsageError
from rlgd.evaluation import evaluator
from rlgd.exact import comparison
from rlgd.pytrees import Actor, AgentState, LoopState, Metrics
from rlgd.run.cadence import cadence
from rlgd.run.config import RunConfig
from rlgd.studies.compiling import Compiling
from rlgd.training.loop import initialize, run_iterations
from rlgd.training.measuring import measure_on_device


class Variant(NamedTuple):
    """What is different in each member of a group: the numbers of its agent, and those of its environment."""

    agent: Agent
    env_values: dict[str, Array]


def variant_of(config: RunConfig) -> Variant:
    """The numbers of a member."""
    values = {name: as_parameter(value) for name, value in overrides(config.env).items()}
    return Variant(config.agent.prepared(), values)


def _each(function: Callable[..., Any], exact: bool) -> Callable[..., Any]:
    """``function`` of one member, applied to stacked members: side by side, or one after another with exact bits."""
    return (lambda *args: jax.lax.map(lambda one: function(*one), args)) if exact else jax.vmap(function)


def _compiler_options(exact: bool) -> dict[str, Any]:
    """Less optimization on the CPU, unless the bits must be those of a run alone.

    Compiling takes most of the time of a short study; this makes it faster, and training not slower.
    """
    return {} if exact or jax.default_backend() != "cpu" else {"xla_backend_optimization_level": 1}


# Each function of a program is a mapping of memory; the programs of a group take about 2,000, and Linux gives a process
# 65,530.
MOST_KEPT = 8


class Shelf:
    """The programs that were used last, at most ``MOST_KEPT`` groups of them, by what their groups are known by."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Any, Programs] = {}  # from the one used longest ago to the last one

    def get(self, key: Any, make: Callable[[], "Programs"]) -> "Programs":
        """The programs with this key, made where there are none."""
        with self._lock:
            programs = self._kept.pop(key, None)
            if programs is None:
                programs = make()
            self._kept[key] = programs
            while len(self._kept) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            return programs


class Programs:
    """The programs of a group, for slices of one size; each is compiled once, at its first use.

    ``begin`` initializes members, ``advance`` trains them for a chunk, ``measure`` makes the diagnostics of their next
    iteration, ``evaluate`` plays episodes with their greedy policies, and ``objective`` (only where the environment
    can be solved exactly) gives their exact J.

    Attributes:
        config: of one member of the group.
        size: the number of members in a slice.
        exact: run members one after another, with the bits of a run alone, and not side by side.
        compiling: is told when one of them is compiled.
        is_solved: whether there is an ``objective``.
        traces: how often each program was traced.
    """

    def __init__(self, config: RunConfig, size: int, exact: bool, compiling: Compiling) -> None:
        self.config, self.size, self.exact, self.compiling = config, size, exact, compiling
        self._lock, self._fit_lock = threading.Lock(), threading.Lock()
        self._fits = False
        self._compiled: dict[str, Any] = {}
        self.chunk_length = cadence(config).chunk_length
        env, length, episodes = config.env, self.chunk_length, config.settings.eval_episodes
        target = evaluator.playable(None, env, cadence(config).eval_max_steps)
        assert isinstance(env, DeviceEnv)
        assert isinstance(target, DeviceEnv)

        def begin(one: Variant, key: Array, progress_per_step: Array) -> LoopState:
            loop = initialize(one.agent, overridden(env, one.env_values), key)
            return dataclasses.replace(loop, progress_per_step=progress_per_step)

        def advance(one: Variant, loop: LoopState, iterations: Array, rows: Array) -> Any:
            return run_iterations(one.agent, overridden(env, one.env_values), length, loop, iterations, rows)

        def measure(one: Variant, loop: LoopState) -> tuple[Metrics, AgentState]:
            return measure_on_device(one.agent, overridden(env, one.env_values), loop)

        def evaluate(one: Variant, actor: Actor, key: Array) -> tuple[Array, Array]:
            return evaluator.play_on_device(one.agent, overridden(target, one.env_values), actor, key, episodes, True)

        def objective(one: Variant, state: AgentState) -> Array:
            problem = comparison.problem_of(env)
            assert problem is not None
            return problem.objective(comparison.policy_of(one.agent, env.spec, problem, state)(state.params.policy))

        self._functions: dict[str, Callable[..., Any]] = {
            "begin": begin,
            "advance": advance,
            "measure": measure,
            "evaluate": evaluate,
        }
        self.is_solved = comparison.applies(config.agent, env)
        if self.is_solved:
            self._functions["objective"] = objective
        self.traces: Counter[str] = Counter()

    def __call__(self, name: str, *args: Any) -> Any:
        """Run a program on stacked arguments."""
        return self.compiled(name, *args)(*args)

    def compiled(self, name: str, *args: Any) -> Any:
        """A program for stacked arguments of these shapes; compiled at the first call."""
        with self._lock:
            if name not in self._compiled:
                # Stacked, the orthogonal initialization of many members compiles longer than it runs.
                one_by_one = self.exact or name == "begin"
                program = _each(functools.partial(self._traced, name), one_by_one)
                options = _compiler_options(self.exact)
                with self.compiling.one():
                    self._compiled[name] = jax.jit(program, compiler_options=options).lower(*args).compile()
            return self._compiled[name]

    def _traced(self, name: str, *args: Any) -> Any:
        self.traces[name] += 1
        return self._functions[name](*args)

    def check_fits(self, available: float) -> None:
        """Compile the training program, and check once that a slice fits into memory.

        Args:
            available: bytes that the slice may take.

        Raises:
            UsageError: how much it takes, and what takes less.
        """
        with self._fit_lock:
            if self._fits:
                return
            needed, free = (size / 2**20 for size in (self.memory(), available))
            if needed > free:
                raise UsageError(
                    f"{self.size} members side by side take {needed:,.0f} MiB, but {free:,.0f} MiB are free for "
                    "them; a smaller --slice-size or fewer --workers take less."
                )
            self._fits = True

    def memory(self) -> float:
        """Bytes that a slice needs while it trains, as the compiler reports."""
        variants = jax.tree.map(lambda x: jnp.stack([x] * self.size), variant_of(self.config))
        keys = jnp.stack([jax.random.key(0)] * self.size)
        per_step, counts = np.zeros(self.size, np.float32), np.zeros(self.size, np.int32)
        loops = jax.eval_shape(_each(self._functions["begin"], self.exact), variants, keys, per_step)
        analysis = self.compiled("advance", variants, loops, counts, counts).memory_analysis()
        parts = ("temp", "argument", "output")
        return float(sum(getattr(analysis, f"{part}_size_in_bytes") for part in parts)) if analysis else 0.0
