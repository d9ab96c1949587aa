"""Members of a study that share a program: stacked, trained side by side, each with seeds and numbers of its own.

What a member does is what ``rlgd.training.chunks`` and ``rlgd.run`` do for a run alone: chunks end at the same
iterations, evaluations and criteria are looked at after the same steps, and a member that leaves the finite numbers
keeps its last finite state, while the others go on.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rlgd.agents.base.faults import FAULTS
from rlgd.evaluation.evaluator import EVAL_SEED
from rlgd.run.config import RunConfig
from rlgd.run.sinks.rows import Recorder, Row
from rlgd.run.stopping import Stop, Watch
from rlgd.studies.outcome import DIVERGED, ROWS, Outcome
from rlgd.studies.programs import Programs
from rlgd.training import faults
from rlgd.training.chunks import Chunk


def rows_every(settings: RunConfig) -> int:
    """Iterations in a row of a member's curve."""
    return max(1, settings.total_timesteps // (settings.rows_an_iteration * ROWS))


class Member:
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
    programs: Programs, members: Sequence[RunConfig], on_progress: Callable[[list[float]], None] = lambda returns: None
) -> list[Outcome]:
    """Train members of one group, at most ``programs.size``, and evaluate their policies.

    ``on_progress`` the returns of all of them after each evaluation; it may raise, which ends the training.
    """
    return MemberBatch(programs, members).train(on_progress)


class MemberBatch:
    """Members and their stacked states."""

    def __init__(self, programs: Programs, members: Sequence[RunConfig]) -> None:
        self.programs = programs
        self.lanes = [Member(settings) for settings in members]
        # A slice that is not full repeats its last member, which stays where it is: all slices have one shape.
        padded = [*members, *[members[-1]] * (programs.size - len(members))]
        agents = [settings.agent.prepared() for settings in padded]
        self.agents = jax.tree.map(lambda *leaves: jnp.stack(leaves), *agents)
        keys = jnp.stack([jax.random.key(settings.seed) for settings in padded])
        per_step = np.array([1 / settings.total_timesteps for settings in padded], np.float32)
        self.loops = programs("begin", self.agents, keys, per_step)

    def train(self, on_progress: Callable[[list[float]], None]) -> list[Outcome]:
        lanes = self.lanes
        while any(lane.stop is None for lane in lanes):
            chunks = self._advance()
            due = {n for n, chunk in chunks.items() if lanes[n].take(chunk)}
            self._evaluate(due)
            if due:
                on_progress([lane.evaluation[0] for lane in lanes])
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
        broken &= metrics["fault/count"][np.arange(size), np.maximum(done - 1, 0)] > 0
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
            steps, fault = self.lanes[n].steps + taken[n], faults.take_fault(history, self.lanes[n].iteration)
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


def _target(lane: Member) -> float:
    target = lane.settings.stopping.target_return
    return math.inf if target is None else float(target)
