"""Members of a study that share a program: stacked, trained side by side, each with its own seed and numbers.

A member does what ``rlgd.training.chunks`` and ``rlgd.run`` do for a run alone: chunks end at the same iterations,
evaluations and criteria come after the same steps, and a member with numbers that are not finite keeps its last finite
state, while the others continue.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.evaluation.evaluator import EVAL_SEED
from rlgd.maths.seeds import random_key
from rlgd.pytrees import LoopState
from rlgd.run.cadence import cadence
from rlgd.run.config import RunConfig
from rlgd.run.sinks.rows import Row, RowAverager
from rlgd.run.status import RunStatus
from rlgd.run.stopping import Fired
from rlgd.studies.compiling import Compiling
from rlgd.studies.outcome import DIVERGED, ROWS, Outcome
from rlgd.studies.plan import Plan
from rlgd.studies.programs import Programs, variant_of
from rlgd.training import faults
from rlgd.training.chunks import Chunk
from rlgd.training.measuring import before_next, in_first, is_measured


class Member:
    """One member while it trains."""

    def __init__(self, config: RunConfig) -> None:
        pace = cadence(config, ROWS)
        self.config = config
        self.status = RunStatus(config.settings.stopping, pace)
        self.averager = RowAverager(pace.row_length)
        self.rows: list[Row] = []
        self.evaluation = (math.nan, math.nan)
        self.objective = math.nan

    def take(self, chunk: Chunk) -> bool:
        """Record a chunk; whether an evaluation is due."""
        rows = list(self.averager.rows(chunk))
        self.rows += rows
        self.status = self.status.reached(chunk.steps).after_rows(rows)
        if chunk.fault is not None:  # the reason, even if a criterion fired in the same chunk
            self.status = dataclasses.replace(self.status, stop=Fired(DIVERGED, faults.in_words(chunk.fault)))
        return self.status.evaluation_is_due and chunk.fault is None

    def take_evaluation(self, mean: float, length: float, second: float | None) -> None:
        """Keep an evaluation, with patience only the best, and let the criteria judge it."""
        self.rows.append(Row(self.status.steps, self.averager.seconds, {"eval/episode_return": mean}))
        self.status = self.status.after_evaluation(mean, second)
        if self.status.is_best or self.config.settings.stopping.patience is None:
            self.evaluation = mean, length

    def outcome(self) -> Outcome:
        """What became of it."""
        status, seconds, iterations = self.status, self.averager.seconds, self.averager.iteration
        rows = tuple(self.rows)
        return Outcome(*self.evaluation, status.steps, seconds, *status.outcome, self.objective, rows, iterations)


class Slice(NamedTuple):
    """Members that train side by side.

    Attributes:
        group: its number in ``Plan.groups``.
        size: places, at least as many as members.
        members: their numbers in ``Plan.members``.
    """

    group: int
    size: int
    members: tuple[int, ...]

    def programs(self, plan: Plan, exact: bool, compiling: Compiling) -> Programs:
        """The programs of its group, which all slices of the group can share."""
        return Programs(plan.members[self.members[0]], self.size, exact, compiling)

    def train(self, plan: Plan, programs: Programs, available: float) -> dict[int, Outcome]:
        """Train the members, which may take ``available`` bytes; their outcomes by number."""
        programs.check_fits(available)
        return dict(zip(self.members, train_slice(programs, [plan.members[n] for n in self.members]), strict=True))


def train_slice(
    programs: Programs, members: Sequence[RunConfig], on_progress: Callable[[list[Outcome]], None] = lambda so_far: None
) -> list[Outcome]:
    """Train members of one group, at most ``programs.size``, and evaluate their policies.

    ``on_progress`` takes the outcomes of all of them so far after each evaluation; it may raise, which ends the
    training.
    """
    return MemberBatch(programs, members).train(on_progress)


class MemberBatch:
    """Members and their stacked states."""

    def __init__(self, programs: Programs, members: Sequence[RunConfig]) -> None:
        self.programs = programs
        self.members = [Member(config) for config in members]
        self.every = members[0].agent.measure_every
        # A batch that is not full repeats its last member, which does nothing: all batches have one shape.
        padded = [*members, *[members[-1]] * (programs.size - len(members))]
        self.variants = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(variant_of, padded))
        keys = jnp.stack([random_key(config.settings.seed) for config in padded])
        per_step = np.array([1 / config.settings.total_timesteps for config in padded], np.float32)
        self.loops = programs("begin", self.variants, keys, per_step)

    def train(self, on_progress: Callable[[list[Outcome]], None]) -> list[Outcome]:
        """Train the members to their ends, and evaluate their policies."""
        members = self.members
        while not all(member.status.is_over for member in members):
            chunks = self._advance()
            due = {n for n, chunk in chunks.items() if members[n].take(chunk)}
            self._evaluate(due)
            if due:
                on_progress([member.outcome() for member in members])
        for member in members:
            member.rows += member.averager.rest()
        self._evaluate({n for n, member in enumerate(members) if member.status.evaluated_at != member.status.steps})
        if self.programs.is_solved:
            objectives = self.programs("objective", self.variants, self.loops.agent_state)
            for member, objective in zip(members, objectives.tolist(), strict=False):  # the padding comes last
                member.objective = objective
        return [member.outcome() for member in members]

    def _advance(self) -> dict[int, Chunk]:
        """A chunk of each member that is not over."""
        size = self.programs.size
        length = self.programs.chunk_length
        iterations, rows = np.zeros(size, np.int32), np.zeros(size, np.int32)
        progress = np.array(self.loops.progress)
        active = [n for n, member in enumerate(self.members) if not member.status.is_over]
        for n in active:
            status, iteration = self.members[n].status, self.members[n].averager.iteration
            if iteration % length == 0:
                progress[n] = status.steps / status.cadence.total_timesteps
            iterations[n] = length - iteration % length
            rows[n] = min(status.cadence.next_pause(status.steps) - status.steps, 2**31 - 1)
            iterations[n] = before_next(self.every, iteration, iterations[n])
        self.loops = dataclasses.replace(self.loops, progress=progress)
        before, measured = self._measured(active)
        program = self.programs.compiled("advance", self.variants, before, iterations, rows)
        start = time.perf_counter()
        after, *rest = program(self.variants, before, iterations, rows)
        history, done = jax.device_get(rest)
        metrics = history.metrics()
        broken = done > 0
        broken &= metrics["fault/count"][np.arange(size), np.maximum(done - 1, 0)] > 0
        if broken.any():
            # The last finite state of these members: the same iterations again, but for the last.
            after, _, _ = program(self.variants, before, np.where(broken, done - 1, iterations).astype(np.int32), rows)
            after = _chosen(broken & (done == 1), self.loops, after)
        self.loops = jax.block_until_ready(after)
        seconds = time.perf_counter() - start
        taken = {n: int(metrics["rollout/steps"][n, : done[n]].sum(dtype=np.int64)) for n in active}
        chunks = {}
        for n in active:
            member = self.members[n]
            own = {name: values[n, : done[n]] for name, values in metrics.items()}
            own |= in_first({name: values[n] for name, values in measured.items()}, int(done[n]))
            share = seconds * taken[n] / max(sum(taken.values()), 1)
            fault = faults.take_fault(own, member.averager.iteration)
            chunks[n] = Chunk(after, member.status.steps + taken[n], own, share, 0.0, fault)
        return chunks

    def _measured(self, active: Sequence[int]) -> tuple[LoopState, dict[str, np.ndarray]]:
        """The states that remember what is measured of the next iterations, and the metrics, ``[size]``."""
        due = np.zeros(self.programs.size, bool)
        due[active] = [is_measured(self.every, self.members[n].averager.iteration) for n in active]
        if not due.any():
            return self.loops, {}
        metrics, states = self.programs("measure", self.variants, self.loops)
        loops = dataclasses.replace(self.loops, agent_state=_chosen(due, states, self.loops.agent_state))
        return loops, {name: np.where(due, values, np.nan) for name, values in jax.device_get(metrics).items()}

    def _evaluate(self, which: set[int]) -> None:
        """Evaluate the policies of some members, all in one program, and let their criteria judge them."""
        if not which:
            return
        played = self._play(EVAL_SEED)
        promising = {n for n in which if self.members[n].status.needs_second_evaluation(played[n][0])}
        second = self._play(EVAL_SEED + 1) if promising else []
        for n in which:
            self.members[n].take_evaluation(*played[n], second[n][0] if n in promising else None)

    def _play(self, seed: int) -> list[tuple[float, float]]:
        """The mean return and length of every member's greedy policy, on the same episodes for all."""
        keys = jnp.stack([jax.random.key(seed)] * self.programs.size)
        played = self.programs("evaluate", self.variants, self.loops.agent_state.actor, keys)
        returns, lengths = (np.asarray(x, np.float64).mean(axis=1) for x in jax.device_get(played))
        return list(zip(returns.tolist(), lengths.tolist(), strict=True))


def _chosen(which: np.ndarray, new: Any, old: Any) -> Any:
    """Of stacked states ``new`` where ``which [size]`` is true, else ``old``."""

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(which.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, new, old)
