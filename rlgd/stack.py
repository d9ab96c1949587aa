"""Members of a study that share a program: stacked, trained side by side, each with seeds and numbers of its own.

What a member does is what ``rlgd.training.chunks`` and ``rlgd.run`` do for a run alone: chunks end at the same
iterations, evaluations and criteria are looked at after the same steps, and a member that leaves the finite numbers
keeps its last finite state, while the others go on.
"""

import dataclasses
import functools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd import estimator, evaluation, training
from rlgd.agents.common import Agent
from rlgd.data import FAULTS, Actor, AgentState, LoopState
from rlgd.envs import DeviceEnv
from rlgd.records import Recorder, Row
from rlgd.rollout import collect
from rlgd.run import EVAL_SEED
from rlgd.rundir import RunConfig
from rlgd.stopping import Stop, Watch
from rlgd.training import Chunk

ROWS = 50  # of a member's curve
DIVERGED = "diverged"  # an outcome's reason


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one member.

    Attributes:
        episode_return, episode_length: means of the greedy policy's evaluation; NaN if it was not finite either.
        steps, training_seconds: of its training; its share of the time that the program took.
        reason: what ended it, "total_timesteps", a criterion, or "diverged" with what was not finite first in ``why``.
        objective: J of its policy, where the environment can be solved exactly; else NaN.
        rows: its curve.
    """

    episode_return: float
    episode_length: float
    steps: int
    training_seconds: float
    reason: str
    why: str
    objective: float
    rows: tuple[Row, ...]


def rows_every(settings: RunConfig) -> int:
    """Iterations in a row of a member's curve."""
    return max(1, settings.total_timesteps // (settings.rows_an_iteration * ROWS))


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
        return collect(agent, env, training.initialize(agent, env, key), key)

    leaves = jax.tree.leaves(jax.eval_shape(state_and_rollout, jax.random.key(0)))
    return 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


class Programs:
    """What is compiled once for all members of a group, for slices of one size."""

    def __init__(self, group: RunConfig, size: int, exact: bool) -> None:
        self.group, self.size, self.exact = group, size, exact
        self.compile_seconds = 0.0
        self._lock = threading.Lock()
        self._compiled: dict[str, Any] = {}
        env, length, episodes = group.env, group.chunk_length, group.eval_episodes
        target = evaluation.playable(None, env, episodes, None)
        assert isinstance(env, DeviceEnv)
        assert isinstance(target, DeviceEnv)

        def begin(agent: Agent, key: Array, progress_per_step: Array) -> LoopState:
            loop = training.initialize(agent, env, key)
            return dataclasses.replace(loop, progress_per_step=progress_per_step)

        def advance(agent: Agent, loop: LoopState, iterations: Array, rows: Array) -> Any:
            return training.run_iterations(agent, env, length, loop, iterations, rows)

        def evaluate(agent: Agent, actor: Actor, key: Array) -> tuple[Array, Array]:
            return evaluation.play_on_device(agent, target, actor, key, episodes, True)

        def objective(agent: Agent, state: AgentState) -> Array:
            problem = estimator.problem_of(env)
            assert problem is not None
            return problem.objective(estimator.policy_of(agent, env.spec, problem, state)(state.params.policy))

        self._functions: dict[str, Callable[..., Any]] = {"begin": begin, "advance": advance, "evaluate": evaluate}
        self.is_solved = estimator.applies(group.agent, env)
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


class Fitting:
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


class Lane:
    """One member on its way."""

    def __init__(self, settings: RunConfig) -> None:
        self.settings = settings
        self.recorder = Recorder(rows_every(settings))
        self.watch = Watch()
        self.rows: list[Row] = []
        self.steps = self.iteration = 0
        self.evaluated_at: int | None = None
        self.evaluation = (math.nan, math.nan)
        self.objective = math.nan
        self.stop: Stop | None = None

    @property
    def diverged(self) -> bool:
        """Whether it left the finite numbers; no criterion is the reason then."""
        return self.stop is not None and self.stop.criterion == DIVERGED

    @property
    def next_pause(self) -> int:
        """The step at which to evaluate, or to end."""
        total, every = self.settings.total_timesteps, self.settings.evaluate_every
        return total if every is None else min(total, (self.steps // every + 1) * every)

    def take(self, chunk: Chunk) -> bool:
        """Record a chunk; whether an evaluation is due."""
        before, every = self.steps, self.settings.evaluate_every
        self.iteration += len(chunk.metrics["rollout/steps"])
        self.steps = chunk.steps
        self.record(self.recorder.rows(chunk))
        if chunk.fault is not None:
            what = f"{FAULTS[chunk.fault.quantity]} was not finite in iteration {chunk.fault.iteration}"
            self.stop = Stop(DIVERGED, what)
        elif self.stop is None and self.steps >= self.settings.total_timesteps:
            self.stop = Stop("total_timesteps", "")
        return every is not None and self.steps // every > before // every and chunk.fault is None

    def record(self, rows: Iterable[Row]) -> None:
        """Keep rows of the curve, and look at what they show."""
        for row in rows:
            self.rows.append(row)
            self.stop = self.stop or self.watch.row(self.settings.stopping, row.step, row.values)

    def take_evaluation(self, mean: float, length: float) -> None:
        """Keep an evaluation, with patience only the best, and look at what it shows."""
        self.evaluated_at = self.steps
        self.rows.append(Row(self.steps, self.recorder.seconds, {"eval/episode_return": mean}))
        stop = self.watch.evaluation(self.settings.stopping, self.steps, mean)
        if not self.diverged:
            self.stop = stop or self.stop
        if self.settings.stopping.patience is None or self.watch.best_step == self.steps:
            self.evaluation = mean, length

    def outcome(self) -> Outcome:
        """What became of it."""
        assert self.stop is not None
        return Outcome(
            *self.evaluation, self.steps, self.recorder.seconds, *self.stop, self.objective, tuple(self.rows)
        )


def train(
    programs: Programs, members: Sequence[RunConfig], told: Callable[[list[float]], None] = lambda returns: None
) -> list[Outcome]:
    """Train members of one group, at most ``programs.size``, and evaluate their policies.

    ``told`` the returns of all of them after each evaluation; it may raise, which ends the training.
    """
    return _Slice(programs, members).train(told)


class _Slice:
    """Members and their stacked states."""

    def __init__(self, programs: Programs, members: Sequence[RunConfig]) -> None:
        self.programs = programs
        self.lanes = [Lane(settings) for settings in members]
        # A slice that is not full repeats its last member, which stays where it is: all slices have one shape.
        padded = [*members, *[members[-1]] * (programs.size - len(members))]
        agents = [settings.agent.prepared() for settings in padded]
        self.agents = jax.tree.map(lambda *leaves: jnp.stack(leaves), *agents)
        keys = jnp.stack([jax.random.key(settings.seed) for settings in padded])
        per_step = np.array([1 / settings.total_timesteps for settings in padded], np.float32)
        self.loops = programs("begin", self.agents, keys, per_step)

    def train(self, told: Callable[[list[float]], None]) -> list[Outcome]:
        lanes = self.lanes
        while any(lane.stop is None for lane in lanes):
            chunks = self._advance()
            due = {n for n, chunk in chunks.items() if lanes[n].take(chunk)}
            self._evaluate(due)
            if due:
                told([lane.evaluation[0] for lane in lanes])
        for lane in lanes:
            lane.record(lane.recorder.rest())
        self._evaluate({n for n, lane in enumerate(lanes) if lane.evaluated_at != lane.steps})
        if self.programs.is_solved:
            objectives = self.programs("objective", self.agents, self.loops.agent_state)
            for lane, objective in zip(lanes, objectives.tolist(), strict=False):  # the padding comes last
                lane.objective = objective
        return [lane.outcome() for lane in lanes]

    def _advance(self) -> dict[int, Chunk]:
        """A chunk of each member that goes on."""
        length, size = self.programs.group.chunk_length, self.programs.size
        iterations, rows = np.zeros(size, np.int32), np.zeros(size, np.int32)
        progress = np.array(self.loops.progress)
        going = [n for n, lane in enumerate(self.lanes) if lane.stop is None]
        for n in going:
            lane = self.lanes[n]
            if lane.iteration % length == 0:
                progress[n] = lane.steps / lane.settings.total_timesteps
            iterations[n] = length - lane.iteration % length
            rows[n] = min(lane.next_pause - lane.steps, 2**31 - 1)
        before = dataclasses.replace(self.loops, progress=progress)
        program = self.programs.compiled("advance", self.agents, before, iterations, rows)
        start = time.perf_counter()
        after, *rest = program(self.agents, before, iterations, rows)
        metrics, done = jax.device_get(rest)
        broken = done > 0
        broken &= metrics["nonfinite/count"][np.arange(size), np.maximum(done - 1, 0)] > 0
        if broken.any():
            # Theirs is the last finite state: the same iterations again, but for the last.
            after, _, _ = program(self.agents, before, np.where(broken, done - 1, iterations).astype(np.int32), rows)
        self.loops = jax.block_until_ready(after)
        seconds = time.perf_counter() - start
        taken = {n: int(metrics["rollout/steps"][n, : done[n]].sum(dtype=np.int64)) for n in going}
        chunks = {}
        for n in going:
            history = {name: values[n, : done[n]] for name, values in metrics.items()}
            share = seconds * taken[n] / max(sum(taken.values()), 1)
            steps, fault = self.lanes[n].steps + taken[n], training.take_fault(history, self.lanes[n].iteration)
            chunks[n] = Chunk(after, steps, history, share, 0.0, fault)
        return chunks

    def _evaluate(self, which: set[int]) -> None:
        """Evaluate the policies of some members, all in one program, and look at their criteria."""
        if not which:
            return
        means = self._play(EVAL_SEED)
        for n in which:
            self.lanes[n].take_evaluation(*means[n])
        reached = {n for n in which if means[n][0] >= _target(self.lanes[n]) and not self.lanes[n].diverged}
        again = self._play(EVAL_SEED + 1) if reached else []
        for n in reached:
            if again[n][0] >= _target(self.lanes[n]):
                seen = f"evaluations gave {means[n][0]:.1f} and {again[n][0]:.1f}"
                self.lanes[n].stop = Stop("target_return", seen)

    def _play(self, seed: int) -> list[tuple[float, float]]:
        """The mean return and length of every member's greedy policy, on the same episodes for all."""
        keys = jnp.stack([jax.random.key(seed)] * self.programs.size)
        played = self.programs("evaluate", self.agents, self.loops.agent_state.actor, keys)
        returns, lengths = (np.asarray(x, np.float64).mean(axis=1) for x in jax.device_get(played))
        return list(zip(returns.tolist(), lengths.tolist(), strict=True))


def _target(lane: Lane) -> float:
    target = lane.settings.stopping.target_return
    return math.inf if target is None else float(target)
