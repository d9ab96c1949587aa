"""One run from its first chunk, or the first after a resume, to its summary."""

import contextlib
import dataclasses
import logging
import math
import shlex
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlgd.agents.base.agent import Agent
from rlgd.agents.base.faults import FAULTS, OBSERVATION, PARAMETERS, REWARD
from rlgd.envs import DeviceEnv
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import Diverged, EnvironmentFault, Interrupted, RlgdError, StorageFault
from rlgd.evaluation.evaluator import EVAL_SEED, EvalResult, evaluate
from rlgd.evaluation.policy import Policy
from rlgd.exact import comparison
from rlgd.pytrees import AgentState, LoopState
from rlgd.run import layout, loading
from rlgd.run.checkpoints.folder import VerifiedCheckpoint, all_steps, keep_only
from rlgd.run.checkpoints.state import restore
from rlgd.run.config import RunConfig
from rlgd.run.counters import Counters, read_counters
from rlgd.run.loading import load, shapes
from rlgd.run.recording import Journal
from rlgd.run.sinks import Sink
from rlgd.run.sinks.rows import Recorder, Row
from rlgd.run.stopping import CRITERIA, Stop, Watch
from rlgd.run.summary import INTERRUPTED, is_finished
from rlgd.system import files
from rlgd.system.signals import PollSignal
from rlgd.training import chunks, episodes, faults, runners
from rlgd.training.host_rollout import acting_device
from rlgd.training.loop import initialize

log = logging.getLogger("rlgd")


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What training led to.

    Attributes:
        policy: the trained policy, ``policy(obs)``; with ``patience`` the one that was evaluated best.
        state: the whole state at the end, from which training can go on.
        metrics: every metric as an array ``[iterations]``, with ``step``, the number of environment steps behind each.
            ``rollout/episode_return`` and ``rollout/episode_length`` are NaN where no episode ended, diagnostics where
            they were not measured.
        run_dir: where it was written, or None.
        reason: what ended it: "total_timesteps", or the name of a criterion.
        why: what the criterion saw.
        steps: environment steps.
        training_seconds, compile_seconds: wall time.
        evaluation: of the final policy, if the run was written.
    """

    policy: Policy
    state: LoopState
    metrics: dict[str, np.ndarray]
    run_dir: Path | None
    reason: str
    why: str
    steps: int
    training_seconds: float
    compile_seconds: float
    evaluation: EvalResult | None


class Run:
    """One run from its first (or resumed) chunk to its summary."""

    loop: LoopState

    def __init__(
        self, settings: RunConfig, directory: Path | None, sinks: Sequence[Sink], poll_signal: PollSignal, metrics: bool
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.journal: Journal | None = None
        self.poll_signal = poll_signal
        self.first_step = self.steps = 0
        self.recorder = Recorder(settings.log_every)
        self.counters = Counters(0.0, 0.0, time.time())  # those of the checkpoint that is gone on from
        self.resumed = False
        self.watch = Watch()
        limit = settings.stopping.max_seconds
        self.deadline = math.inf if limit is None else time.monotonic() + limit
        self.sinks = list(sinks)
        self.history: list[dict[str, np.ndarray]] | None = [] if metrics else None
        self.evaluation: EvalResult | None = None
        self.evaluated_at = 0
        self.best: AgentState | None = None
        self.stop: Stop | None = None

    def look_up(self) -> VerifiedCheckpoint:
        """Find the newest checkpoint, and take up its counters."""
        assert self.directory is not None
        _, found = loading.find_checkpoint(self.directory, "latest")
        counters = read_counters(found.manifest, found.steps)
        self.first_step = self.steps = found.steps
        self.counters, self.resumed = counters, True
        self.recorder.step, self.recorder.seconds = found.steps, counters.training_seconds
        self.recorder.compile_seconds = counters.compile_seconds
        self.recorder.go_on_with(counters.pending)
        self.watch = Watch.from_dict(counters.watch)
        self.evaluated_at = counters.evaluated_at
        self.stop = None if counters.stop is None else Stop(*counters.stop)
        return found

    def why_finished(self, steps: int, asked_anew: bool) -> str | None:
        """Why there is nothing left to do, in words; None if there is something."""
        assert self.directory is not None
        if not is_finished(self.directory, steps):
            return None
        if steps >= self.settings.total_timesteps:
            return ""
        if self.stop is None or asked_anew or self.counters.end != self.settings.end():
            return None
        return f"stopped by {self.stop.criterion}; give it another value, or more total_timesteps"

    def read(self, found: VerifiedCheckpoint) -> LoopState:
        """The state of a checkpoint."""
        assert self.directory is not None
        agent, env = self.settings.agent.prepared(), self.settings.env
        like = shapes(self.directory, lambda key: initialize(agent, env, key))
        return restore(self.directory / layout.CHECKPOINTS, found.steps, like)

    def complete(self, loop: LoopState, why: str = "") -> TrainResult:
        """The result of a run that has nothing left to do."""
        self.recorder.iteration = chunks.iterations_done(loop)
        self.stop = Stop("already complete", why)
        return self._result(loop)

    def forget_later_best(self) -> None:
        """A best checkpoint behind the one that is gone on from belongs to another future."""
        assert self.directory is not None
        best = self.directory / layout.BEST
        steps = all_steps(best)
        keep_only(best, {step for step in steps if step <= self.first_step})
        if self.watch.best_step not in steps:
            self.watch = Watch(last_return=self.watch.last_return)

    def train(self, loop: LoopState) -> TrainResult:
        """Train to the end; whatever ends it, the last state is saved and the sinks are closed."""
        self.loop = loop
        self.recorder.iteration = chunks.iterations_done(loop)
        failure: BaseException | None = None
        try:
            if self.directory is not None:
                self._open_journal()
            if self.stop is None:
                self._train_chunks()
            self._end_if_asked()
            self._write(self.recorder.rest())
            self._save()
            if self.directory is not None or self.settings.evaluate_every:
                self._evaluate()
                self._evaluate_best()
            self.stop = self.stop or Stop("total_timesteps", "")
        except BaseException as error:
            failure = error
            if isinstance(error, RlgdError) and not isinstance(error, Interrupted):
                self._write(self.recorder.rest())  # what is in no row yet is in the checkpoint otherwise
            raise
        finally:
            self._finish(failure)
        return self._result(self.loop)

    def _open_journal(self) -> None:
        assert self.directory is not None
        resumed_at = self.first_step if self.resumed else None
        try:
            self.journal = Journal(self.directory, self.settings, self.counters, resumed_at)
        except OSError as error:
            raise StorageFault(f"{self.directory} cannot be written: {files.why(error, self.directory)}") from error
        if not self.resumed:
            self._save()

    def _save(self) -> None:
        if self.journal is not None:
            self.journal.save(self.steps, self.loop, self._counters())

    def _train_chunks(self) -> None:
        """Train until something ends it: the last step, a criterion, or a signal."""
        settings, length = self.settings, self.settings.chunk_length
        agent, env, row_every = settings.agent.prepared(), settings.env, None
        with contextlib.ExitStack() as stack:
            if isinstance(env, DeviceEnv):
                runner: runners.Runner = runners.DeviceRunner(agent, env, length)
            else:
                vector = stack.enter_context(contextlib.closing(env.open(agent.num_envs)))
                self.loop = self._enter(agent, vector, self.loop)
                device = acting_device(settings.act_device, agent, vector.spec)
                runner = runners.HostRunner(agent, vector, self._pause_on_host, device)
                # On the host environments can be slow, and criteria are looked at behind every row of the curves.
                row_every = settings.log_every
            if self._evaluation_is_due():
                self._evaluate()
                if self.stop is not None:
                    return
            pauses = [every for every in (settings.evaluate_every, settings.checkpoint_interval()[1]) if every]
            for chunk in chunks.chunks(
                runner, self.loop, length, settings.total_timesteps, self.first_step, pauses, row_every
            ):
                self.loop, self.steps = chunk.loop, chunk.steps
                self._take(chunk)
                if chunk.fault is not None:
                    raise _explained(chunk.fault, self._policy(self.loop.agent_state))
                if time.monotonic() > self.deadline:
                    limit = settings.stopping.max_seconds
                    self._stop(Stop("max_seconds", f"{limit:g} seconds were over at step {chunk.steps:,}"))
                if self.stop is not None or self.poll_signal() is not None:
                    return
                if self.journal is not None and self.journal.save_is_due(self.steps):
                    self._save()

    def _stop(self, stop: Stop | None) -> None:
        """The first criterion that fires ends the run."""
        self.stop = self.stop or stop

    def _pause_on_host(self) -> bool:
        """Whether something waits for the end of a chunk."""
        due = self.journal is not None and self.journal.seconds_are_over()
        return due or self.poll_signal() is not None or time.monotonic() > self.deadline

    def _end_if_asked(self) -> None:
        number = self.poll_signal()
        if number is not None:
            how = "" if self.directory is None else f"; go on with `rlgd resume {shlex.quote(str(self.directory))}`"
            raise Interrupted(f"interrupted at step {self.steps:,}{how}", number)

    def _enter(self, agent: Agent, vector: HostVector, loop: LoopState) -> LoopState:
        """New episodes in every host environment, with seeds that the run's seed and the step determine."""
        sequence = np.random.SeedSequence([self.settings.seed, self.first_step])
        obs = vector.reset(int(sequence.generate_state(1)[0] >> 1))
        return dataclasses.replace(
            loop,
            obs=jax.tree.map(jnp.asarray, obs),
            first=jnp.ones(agent.num_envs, bool),
            memory=agent.memory(vector.spec, agent.num_envs),
            episodes=episodes.begin(agent.num_envs),
        )

    def _take(self, chunk: chunks.Chunk) -> None:
        """Record a chunk, evaluate where it is due, and look at the criteria."""
        if self.history is not None:
            self.history.append(chunk.metrics)
        self._write(self.recorder.rows(chunk), judge=True)
        if chunk.fault is None and chunk.steps < self.settings.total_timesteps and self._evaluation_is_due():
            self._evaluate()

    def _evaluation_is_due(self) -> bool:
        every = self.settings.evaluate_every
        return every is not None and self.steps // every > self.evaluated_at // every

    def _write(self, rows: Iterable[Row], judge: bool = False) -> None:
        """Write rows, and let criteria ``judge`` them."""
        rows = list(rows)
        for row in rows:
            if self.journal is not None:
                self.journal.write(row)
            stop = self.watch.row(self.settings.stopping, row.step, row.values)
            self._stop(stop if judge else None)
        for row in rows:
            for sink in self.sinks:
                sink.write(row)

    def _evaluate(self) -> None:
        """Evaluate the policy, once at each step; the best one so far is kept."""
        settings, step = self.settings, self.steps
        if self.evaluated_at == step:
            if self.evaluation is None and settings.stopping.patience is None:
                self.evaluation = self._play(EVAL_SEED)  # a kill came between its row and the summary
            return
        evaluation = self._play(EVAL_SEED)
        values = {
            "eval/episode_return": evaluation.mean,
            "eval/episode_length": float(evaluation.lengths.mean()),
        }
        if settings.agent.measure_every and comparison.applies(settings.agent, settings.env):
            values |= self._compare()
        target = settings.stopping.target_return if settings.evaluate_every else None
        again = None
        if target is not None and evaluation.mean >= target:
            again = self._play(EVAL_SEED + 1).mean
        # From here on nothing takes long: an evaluation is made and known, or it is neither.
        self.evaluated_at = step
        if target is not None and again is not None and again >= target:
            seen = f"the evaluations at step {step:,} gave {evaluation.mean:.1f} and {again:.1f}"
            self._stop(Stop("target_return", seen))
        if settings.evaluate_every:
            self._judge(evaluation)
        else:
            self.evaluation = evaluation
        self._write([Row(step, self.recorder.seconds, values)])

    def _judge(self, evaluation: EvalResult) -> None:
        """Whether it is the best one, or there was none for too long."""
        self._stop(self.watch.evaluation(self.settings.stopping, self.steps, evaluation.mean))
        is_best = self.watch.best_step == self.steps
        if is_best or self.settings.stopping.patience is None:
            self.evaluation = evaluation
        if is_best:
            self.best = self.loop.agent_state
            if self.journal is not None:
                self.journal.save_best(self.steps, self.loop, self._counters())

    def _evaluate_best(self) -> None:
        """With patience, the result may be older than this part of the run."""
        if self.evaluation is None:
            policy = self._policy(self.best)
            self.evaluation = self._play(EVAL_SEED, policy)

    def _policy(self, state: AgentState | None) -> Policy:
        """Of a state of the agent, or of the run's best one on disk."""
        if state is None:
            assert self.directory is not None
            if self.journal is not None:
                self.journal.wait()
            return load(self.directory, "best")
        return Policy(self.settings.agent, self.settings.env.spec, state.actor)

    def _play(self, seed: int, policy: Policy | None = None) -> EvalResult:
        settings = self.settings
        policy = policy or self._policy(self.loop.agent_state)
        return evaluate(
            policy, settings.evaluation_env, episodes=settings.eval_episodes, seed=seed, between=self._end_if_asked
        )

    def _compare(self) -> dict[str, float]:
        """The agent's estimator against the exact gradient, with random keys of its own."""
        assert isinstance(self.settings.env, DeviceEnv)
        key = jax.random.fold_in(jax.random.key(EVAL_SEED), self.loop.iteration)
        error = comparison.compare(self.settings.agent.prepared(), self.settings.env, self.loop.agent_state, key)
        return {f"exact/{name}": float(value) for name, value in error._asdict().items()}

    def _counters(self) -> Counters:
        recorder = self.recorder
        return Counters(
            training_seconds=recorder.seconds,
            compile_seconds=recorder.compile_seconds,
            start=self.counters.start,
            rows=0 if self.journal is None else self.journal.rows,
            pending=recorder.pending(),
            evaluated_at=self.evaluated_at,
            watch=self.watch.to_dict(),
            stop=self.stop,
            end=self.settings.end(),
        )

    def _finish(self, failure: BaseException | None) -> None:
        try:
            for sink in self.sinks:
                sink.close()
        finally:
            if self.journal is not None:
                self._close_journal(self.journal, failure)

    def _close_journal(self, journal: Journal, failure: BaseException | None) -> None:
        if failure is None:
            assert self.stop is not None
            reason = self.stop.criterion
        else:
            reason = INTERRUPTED if isinstance(failure, Interrupted) else f"{type(failure).__name__}: {failure}"
        counters = self._counters()
        if self.stop is not None and self.stop.criterion not in CRITERIA:
            counters = dataclasses.replace(counters, stop=None)  # the last step is no criterion
        try:
            journal.close(self.steps, self.loop, counters, lambda: self._summary(reason))
        except StorageFault as fault:
            if failure is None or isinstance(failure, Interrupted):
                raise
            log.error("%s", fault)
        finally:
            journal.wait()  # whatever interrupts this: the lock is not let go while something is written

    def _summary(self, reason: str) -> dict[str, Any]:
        recorder, evaluation = self.recorder, self.evaluation
        summary: dict[str, Any] = {
            "reason": reason,
            "why": self.stop.why if self.stop else "",
            "steps": recorder.step,
            "iterations": recorder.iteration,
            "training_seconds": recorder.seconds,
            "compile_seconds": recorder.compile_seconds,
            "steps_per_second": recorder.step / max(recorder.seconds, 1e-9),
        }
        if self.watch.best_return > -math.inf:
            summary["best"] = {"step": self.watch.best_step, "mean_return": self.watch.best_return}
        if evaluation is not None:
            summary["evaluation"] = {
                "env": self.settings.evaluation_env.env_id,
                "episodes": len(evaluation.returns),
                "policy": "greedy",
                "mean_return": evaluation.mean,
                "std_return": evaluation.std,
                "mean_length": float(evaluation.lengths.mean()),
            }
        return summary

    def _result(self, loop: LoopState) -> TrainResult:
        assert self.stop is not None
        history = self.history or []
        raw = {name: np.concatenate([part[name] for part in history]) for name in (history[0] if history else {})}
        best_is_the_result = self.settings.stopping.patience is not None and self.watch.best_return > -math.inf
        return TrainResult(
            policy=self._policy(self.best if best_is_the_result else loop.agent_state),
            state=loop,
            metrics=_curves(raw, self.first_step) if raw else {},
            run_dir=self.directory,
            reason=self.stop.criterion,
            why=self.stop.why,
            steps=self.recorder.step,
            training_seconds=self.recorder.seconds,
            compile_seconds=self.recorder.compile_seconds,
            evaluation=self.evaluation,
        )


def _explained(fault: faults.Fault, policy: Policy) -> RlgdError:
    """The error for something that is not finite."""
    what = FAULTS[fault.quantity]
    where = f"{what} is not finite in iteration {fault.iteration}"
    if fault.quantity in (OBSERVATION, REWARD):
        return EnvironmentFault(f"{where}. The last finite state is kept.")
    if fault.quantity != PARAMETERS:
        where += f", update {fault.update}"
    diverged = Diverged(
        f"training diverged: {where}. The last finite state is kept. "
        "A smaller learning_rate, or a max_grad_norm, may help."
    )
    diverged.policy = policy
    return diverged


def _curves(raw: dict[str, np.ndarray], first_step: int) -> dict[str, np.ndarray]:
    ended = raw["rollout/episodes"]
    steps = first_step + np.cumsum(raw.pop("rollout/steps"), dtype=np.int64)
    curves = {"step": steps}
    for name, values in raw.items():
        if name.endswith("_sum"):
            mean = np.divide(values, ended, out=np.full(len(values), math.nan), where=ended > 0)
            curves[name.replace("/", "/episode_").removesuffix("_sum")] = mean
        else:
            curves[name] = values
    return curves
