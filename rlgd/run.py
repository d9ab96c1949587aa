"""Public ``train``, ``resume`` and ``load``: the training loop, its sinks, and the run directory."""

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd import checkpoint as checkpoints
from rlgd import episodes, estimator, journal, rundir, training
from rlgd.agents.common import Agent
from rlgd.data import FAULTS, OBSERVATION, PARAMETERS, REWARD, AgentState, LoopState
from rlgd.durable import Lock, why
from rlgd.envs import DeviceEnv, make
from rlgd.envs.host import HostVector
from rlgd.errors import Diverged, EnvironmentFault, Interrupted, RlgdError, StorageFault, UsageError
from rlgd.evaluation import EvalResult, evaluate
from rlgd.journal import Counters, Journal
from rlgd.policy import Policy
from rlgd.records import Recorder, Row
from rlgd.rollout import acting_device
from rlgd.rundir import INTERRUPTED, RunConfig
from rlgd.signals import Asked
from rlgd.stopping import CRITERIA, Stop, Stopping, Watch

log = logging.getLogger("rlgd")
T = TypeVar("T")
EVAL_SEED = 1_000_003  # evaluation plays the same episodes whatever the seed of the training


_initialize = jax.jit(training.initialize, static_argnums=(1, 3))


class Sink(Protocol):
    """Takes rows as training goes on."""

    def write(self, row: Row) -> None: ...

    def close(self) -> None: ...


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


def train(
    agent: Agent,
    env: Any,
    *,
    total_timesteps: int,
    seed: int = 0,
    run_dir: str | Path | None = None,
    eval_every: int | None = None,
    eval_episodes: int = 100,
    target_return: float | None = None,
    patience: int | None = None,
    min_gradient_norm: float | None = None,
    min_objective_change: float | None = None,
    max_seconds: float | None = None,
    backend: str = "auto",
    env_args: dict[str, Any] | None = None,
    max_episode_steps: int | None = None,
    vectorization: str = "auto",
    env_timeout: float | None = None,
    act_device: str = "auto",
    checkpoint_every: int | str = "60s",
    keep: int = 3,
    overwrite: bool = False,
    sinks: Sequence[Sink] = (),
) -> TrainResult:
    """Train an agent.

    Args:
        agent: for example ``PPO(ascent=Ascent("adam", learning_rate=1e-3))``.
        env: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returned.
        total_timesteps: environment steps; the run ends with the iteration that reaches them.
        seed: of everything random; the same seed gives the same bits on a CPU.
        run_dir: where to write configuration, curves, checkpoints and summary; None writes nothing.
        eval_every: evaluate after so many steps; None: only at the end, if the run is written, and 20 times if a
            criterion needs evaluations.
        eval_episodes: episodes of each evaluation of the greedy policy, in Gymnasium's own environment if it has one.
        target_return, patience, min_gradient_norm, min_objective_change, max_seconds: reasons to stop earlier, see
            ``rlgd.stopping.Stopping``; with ``patience`` the resulting policy is the one that was evaluated best.
        backend: "auto", "device" or "host".
        env_args: arguments for the environment.
        max_episode_steps: a time limit instead of the registered one.
        vectorization: how environments on the host are stepped: "auto", "native", "sync", "async" or "envpool".
        env_timeout: seconds that a step on the host may take, in worker processes.
        act_device: where the policy acts in environments on the host: "auto", "cpu" or "gpu".
        checkpoint_every: seconds between checkpoints, such as "60s", or steps, such as 100_000; they are written while
            training goes on, and change no bit of it.
        keep: how many of the newest checkpoints are kept; the best one, if there are evaluations, is kept apart.
        overwrite: replace what an earlier run wrote in ``run_dir``.
        sinks: take rows of metrics as training goes on.

    Raises:
        UsageError: before anything is compiled or written, for arguments that do not fit.
        EnvironmentFault: if the environment breaks; the state is saved.
        Diverged: if training leaves the finite numbers; the last finite state is saved.
        StorageFault: if in the end something could not be saved.
    """
    made = make(
        env,
        backend=backend,
        max_episode_steps=max_episode_steps,
        vectorization=vectorization,
        env_timeout=env_timeout,
        **(env_args or {}),
    )
    stopping = Stopping(target_return, patience, min_gradient_norm, min_objective_change, max_seconds)
    settings = RunConfig(
        agent, made, total_timesteps, seed, eval_every, eval_episodes, stopping, act_device, checkpoint_every, keep
    )
    return execute(settings, None if run_dir is None else Path(run_dir), overwrite, sinks)


def execute(
    settings: RunConfig,
    run_dir: Path | None = None,
    overwrite: bool = False,
    sinks: Sequence[Sink] = (),
    asked: Asked = lambda: None,
    metrics: bool = True,
) -> TrainResult:
    """Train as ``settings`` say; ``train`` with its arguments as one value.

    ``asked`` is looked at behind each chunk: the number of a signal ends the run. Without ``metrics`` the result has
    none, and a long run takes no memory for them.

    Raises:
        Interrupted: then; the state is saved.
    """
    settings.validate()
    if run_dir is not None or settings.evaluate_every:
        settings.validate_evaluation()
    lock = None if run_dir is None else rundir.create(run_dir, settings, overwrite)
    try:
        run = _Run(settings, run_dir, sinks, asked, metrics)
        key = jax.random.key(settings.seed)
        return run.train(_initialize(settings.agent.prepared(), settings.env, key, settings.total_timesteps))
    finally:
        if lock is not None:
            lock.release()


def resume(
    run_dir: str | Path,
    *,
    env: Any = None,
    total_timesteps: int | None = None,
    sinks: Sequence[Sink] = (),
    asked: Asked = lambda: None,
    metrics: bool = True,
    **changes: Any,
) -> TrainResult:
    """Go on with a run from its newest checkpoint, to its end or to a new ``total_timesteps``.

    On the device the result is the same to the bit as that of a run that was never stopped. On the host the learner's
    state is exact and the environments begin new episodes, with seeds derived from the run's seed and the step.
    With a new ``total_timesteps`` schedules stretch to the new end: the share of the run done is counted anew.

    Args:
        run_dir: a directory that ``train`` wrote.
        env: the environment, where its id alone does not say it; None takes the run's.
        total_timesteps: the new end; None keeps the run's.
        sinks: as for ``train``.
        asked, metrics: as for ``execute``.
        changes: traced hyper-parameters by flat name, such as ``learning_rate=1e-4``, criteria to stop, ``eval_every``,
            ``eval_episodes``, ``checkpoint_every`` and ``keep``; they are recorded in ``config.json``.

    Raises:
        UsageError: if there is nothing to resume, a change is not possible, or another process writes the run.
        StorageFault: if every checkpoint is damaged.
    """
    directory = Path(run_dir)
    settings = rundir.changed(rundir.read(directory, env), total_timesteps, changes)
    settings.validate()
    run = _Run(settings, directory, sinks, asked, metrics)
    if rundir.is_finished(directory, settings):
        return _resume(run, directory, False, None)
    lock = rundir.open_to_write(directory)
    try:
        return _resume(run, directory, total_timesteps is not None or bool(changes), lock)
    finally:
        lock.release()


def _resume(run: "_Run", directory: Path, asked_anew: bool, lock: Lock | None) -> TrainResult:
    settings = run.settings
    folder, found = rundir.find_checkpoint(directory, "latest")
    now = settings.to_json() | {"numbers": checkpoints.numbers()}
    changes = rundir.differences(directory, found.manifest.about, now)
    like = _shapes(directory, lambda key: training.initialize(settings.agent.prepared(), settings.env, key))
    loop = checkpoints.restore(folder, found.steps, like)
    counters = run.go_on_from(found)
    if lock is None:
        return run.complete(loop)
    if counters.reason in CRITERIA and not (asked_anew or counters.end != settings.end()):
        return run.complete(loop, f"stopped by {counters.reason}; give it another value, or more total_timesteps")
    lock.sign()
    run.forget_later_best()
    if found.manifest.about["total_timesteps"] != settings.total_timesteps:
        share = found.steps / settings.total_timesteps
        log.info("schedules stretch to the new end: %.0f%% of the run is done", 100 * share)
        loop = dataclasses.replace(
            loop,
            progress=jnp.asarray(share, loop.progress.dtype),
            progress_per_step=jnp.asarray(1 / settings.total_timesteps, loop.progress.dtype),
        )
    for change in changes:
        log.info("changed at step %s: %s", f"{found.steps:,}", change)
    rundir.record(directory, settings, found.steps, changes)
    return run.train(loop)


def load(run_dir: str | Path, checkpoint: str | int | None = None) -> Policy:
    """A run's policy, ready to act; the environment itself need not be installed.

    Args:
        run_dir: a directory that ``train`` wrote.
        checkpoint: "latest", "best" (of the evaluations), or a number of steps; None: the run's result, which is the
            best one if it was trained with ``patience``, else the latest. A damaged one is refused, but for the latest:
            then the newest that is not damaged is taken, and the log says so.

    Raises:
        UsageError: if there is no run, or it has no such checkpoint.
        StorageFault: if the checkpoint is damaged.
    """
    directory = Path(run_dir)
    agent, spec = rundir.read_agent(directory)
    folder, found = rundir.find_checkpoint(directory, checkpoint)
    like = _shapes(directory, lambda key: agent.prepared().init(spec, key))
    return Policy(agent, spec, checkpoints.restore_agent(folder, found.steps, like).actor)


def _shapes(directory: Path, make: Callable[[Array], T]) -> T:
    """What ``make`` would make, without making it."""
    try:
        return jax.eval_shape(make, jax.random.key(0))
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, UsageError):
            raise
        reason = str(error).partition("\n")[0]
        raise StorageFault(f"{directory / rundir.CONFIG} describes no arrays that can be: {reason}") from error


class _Run:
    """One run from its first (or resumed) chunk to its summary."""

    loop: LoopState

    def __init__(
        self, settings: RunConfig, directory: Path | None, sinks: Sequence[Sink], asked: Asked, metrics: bool
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.journal: Journal | None = None
        self.asked = asked
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
        self.stop = Stop("total_timesteps", "")

    def go_on_from(self, found: checkpoints.Found) -> Counters:
        """Take up the counters of a checkpoint."""
        counters = journal.read_counters(found.manifest, found.steps)
        self.first_step = self.steps = found.steps
        self.counters, self.resumed = counters, True
        self.recorder.step, self.recorder.seconds = found.steps, counters.training_seconds
        self.recorder.compile_seconds = counters.compile_seconds
        self.recorder.go_on_with(counters.pending)
        self.watch = Watch.from_dict(counters.watch)
        self.evaluated_at = counters.evaluated_at
        return counters

    def complete(self, loop: LoopState, why: str = "") -> TrainResult:
        """The result of a run that has nothing left to do."""
        self.recorder.iteration = training.iterations_done(loop)
        self.stop = Stop("already complete", why)
        return self._result(loop, self.stop.criterion)

    def forget_later_best(self) -> None:
        """A best checkpoint behind the one that is gone on from belongs to another future."""
        assert self.directory is not None
        best = self.directory / rundir.BEST
        steps = checkpoints.all_steps(best)
        checkpoints.keep_only(best, {step for step in steps if step <= self.first_step})
        if self.watch.best_step not in steps:
            self.watch = Watch(last_return=self.watch.last_return)

    def train(self, loop: LoopState) -> TrainResult:
        """Train to the end; whatever ends it, the last state is saved and the sinks are closed."""
        self.loop = loop
        self.recorder.iteration = training.iterations_done(loop)
        if self.directory is not None:
            resumed_at = self.first_step if self.resumed else None
            try:
                self.journal = Journal(self.directory, self.settings, self.counters, resumed_at)
            except OSError as error:
                raise StorageFault(f"{self.directory} cannot be written: {why(error, self.directory)}") from error
            if not self.resumed:
                self.journal.save(0, loop, self._counters())
        reason, failure = "", None
        try:
            stop = self._train_chunks()
            self._end_if_asked()
            self._write(self.recorder.rest())
            if self.journal is not None:
                self.journal.save(self.steps, self.loop, self._counters(stop.criterion if stop else ""))
            if self.directory is not None or self.settings.evaluate_every:
                stop = self._evaluate() or stop
                self._evaluate_best()
            self.stop = stop or self.stop
            reason = self.stop.criterion
        except BaseException as error:
            failure = error
            reason = INTERRUPTED if isinstance(error, Interrupted) else f"{type(error).__name__}: {error}"
            if isinstance(error, RlgdError) and not isinstance(error, Interrupted):
                self._write(self.recorder.rest())  # what is in no row yet is in the checkpoint otherwise
            raise
        finally:
            self._finish(reason, failure)
        return self._result(self.loop, reason)

    def _train_chunks(self) -> Stop | None:
        """Train until something ends it: the last step, a criterion, or a signal."""
        settings, length = self.settings, self.settings.chunk_length
        agent, env, row_every = settings.agent.prepared(), settings.env, None
        with contextlib.ExitStack() as stack:
            if isinstance(env, DeviceEnv):
                runner: training.Runner = training.DeviceRunner(agent, env, length)
            else:
                vector = stack.enter_context(contextlib.closing(env.open(agent.num_envs)))
                self.loop = self._enter(agent, vector, self.loop)
                device = acting_device(settings.act_device, agent, vector.spec)
                runner = training.HostRunner(agent, vector, self._pause_on_host, device)
                # On the host environments can be slow, and criteria are looked at behind every row of the curves.
                row_every = settings.log_every
            if self._evaluation_is_due() and (stop := self._evaluate()) is not None:
                return stop
            pauses = [every for every in (settings.evaluate_every, settings.checkpoint_interval()[1]) if every]
            for chunk in training.chunks(
                runner, self.loop, length, settings.total_timesteps, self.first_step, pauses, row_every
            ):
                self.loop, self.steps = chunk.loop, chunk.steps
                stop = self._take(chunk)
                if chunk.fault is not None:
                    raise _explained(chunk.fault, self._policy(self.loop.agent_state))
                if time.monotonic() > self.deadline:
                    limit = settings.stopping.max_seconds
                    stop = stop or Stop("max_seconds", f"{limit:g} seconds were over at step {chunk.steps:,}")
                if stop is not None or self.asked() is not None:
                    return stop
                if self.journal is not None and self.journal.save_is_due(self.steps):
                    self.journal.save(self.steps, self.loop, self._counters())
        return None

    def _pause_on_host(self) -> bool:
        """Whether something waits for the end of a chunk."""
        due = self.journal is not None and self.journal.seconds_are_over()
        return due or self.asked() is not None or time.monotonic() > self.deadline

    def _end_if_asked(self) -> None:
        number = self.asked()
        if number is not None:
            how = "" if self.directory is None else f"; go on with `rlgd resume {self.directory}`"
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

    def _take(self, chunk: training.Chunk) -> Stop | None:
        """Record a chunk, evaluate where it is due, and look at the criteria."""
        if self.history is not None:
            self.history.append(chunk.metrics)
        stop = self._write(list(self.recorder.rows(chunk)))
        if chunk.fault is None and chunk.steps < self.settings.total_timesteps and self._evaluation_is_due():
            stop = self._evaluate() or stop
        return stop

    def _evaluation_is_due(self) -> bool:
        every = self.settings.evaluate_every
        return every is not None and self.steps // every > self.evaluated_at // every

    def _write(self, rows: Iterable[Row]) -> Stop | None:
        rows, stop = list(rows), None
        for row in rows:
            if self.journal is not None:
                self.journal.write(row)
            stop = stop or self.watch.row(self.settings.stopping, row.step, row.values)
        for row in rows:
            for sink in self.sinks:
                sink.write(row)
        return stop

    def _evaluate(self) -> Stop | None:
        """Evaluate the policy, once at each step; the best one so far is kept."""
        settings, step, loop = self.settings, self.steps, self.loop
        if self.evaluated_at == step:
            if self.evaluation is None and settings.stopping.patience is None:
                self.evaluation = self._play(EVAL_SEED)  # a kill came between its row and the summary
            return None
        evaluation = self._play(EVAL_SEED)
        values = {
            "eval/episode_return": evaluation.mean,
            "eval/episode_length": float(evaluation.lengths.mean()),
        }
        if settings.agent.measure_every and estimator.applies(settings.agent, settings.env):
            values |= self._compare()
        self.evaluated_at = step
        self._write([Row(step, self.recorder.seconds, values)])
        if not settings.evaluate_every:
            self.evaluation = evaluation
            return None
        stop = self.watch.evaluation(settings.stopping, step, evaluation.mean)
        is_best = self.watch.best_step == step
        if is_best or settings.stopping.patience is None:
            self.evaluation = evaluation
        if is_best:
            self.best = loop.agent_state
            if self.journal is not None:
                self.journal.save_best(step, loop, self._counters())
        target = settings.stopping.target_return
        if target is not None and evaluation.mean >= target:
            again = self._play(EVAL_SEED + 1).mean
            if again >= target:
                seen = f"the evaluations at step {step:,} gave {evaluation.mean:.1f} and {again:.1f}"
                return Stop("target_return", seen)
        return stop

    def _evaluate_best(self) -> None:
        """With patience, the result may be older than this part of the run."""
        if self.evaluation is None:
            settings = self.settings
            policy = self._policy(self.best)
            self.evaluation = evaluate(policy, settings.evaluation_env, episodes=settings.eval_episodes, seed=EVAL_SEED)

    def _policy(self, state: AgentState | None) -> Policy:
        """Of a state of the agent, or of the run's best one on disk."""
        if state is None:
            assert self.directory is not None
            if self.journal is not None:
                self.journal.wait()
            return load(self.directory, "best")
        return Policy(self.settings.agent, self.settings.env.spec, state.actor)

    def _play(self, seed: int) -> EvalResult:
        settings = self.settings
        policy = self._policy(self.loop.agent_state)
        return evaluate(
            policy, settings.evaluation_env, episodes=settings.eval_episodes, seed=seed, between=self._end_if_asked
        )

    def _compare(self) -> dict[str, float]:
        """The agent's estimator against the exact gradient, with random keys of its own."""
        assert isinstance(self.settings.env, DeviceEnv)
        key = jax.random.fold_in(jax.random.key(EVAL_SEED), self.loop.iteration)
        error = estimator.compare(self.settings.agent.prepared(), self.settings.env, self.loop.agent_state, key)
        return {f"exact/{name}": float(value) for name, value in error._asdict().items()}

    def _counters(self, reason: str = "") -> Counters:
        recorder = self.recorder
        return Counters(
            training_seconds=recorder.seconds,
            compile_seconds=recorder.compile_seconds,
            start=self.counters.start,
            rows=0 if self.journal is None else self.journal.rows,
            pending=recorder.pending(),
            evaluated_at=self.evaluated_at,
            watch=self.watch.to_dict(),
            reason=reason,
            end=self.settings.end(),
        )

    def _finish(self, reason: str, failure: BaseException | None) -> None:
        for sink in self.sinks:
            sink.close()
        if self.journal is None:
            return
        try:
            self.journal.close(self.steps, self.loop, self._counters(reason), lambda: self._summary(reason))
        except StorageFault as fault:
            if failure is None or isinstance(failure, Interrupted):
                raise
            log.error("%s", fault)

    def _summary(self, reason: str) -> dict[str, Any]:
        recorder, evaluation = self.recorder, self.evaluation
        summary: dict[str, Any] = {
            "reason": reason,
            "why": self.stop.why,
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

    def _result(self, loop: LoopState, reason: str) -> TrainResult:
        history = self.history or []
        raw = {name: np.concatenate([part[name] for part in history]) for name in (history[0] if history else {})}
        best_is_the_result = self.settings.stopping.patience is not None and self.watch.best_return > -math.inf
        return TrainResult(
            policy=self._policy(self.best if best_is_the_result else loop.agent_state),
            state=loop,
            metrics=_curves(raw, self.first_step) if raw else {},
            run_dir=self.directory,
            reason=reason,
            why=self.stop.why,
            steps=self.recorder.step,
            training_seconds=self.recorder.seconds,
            compile_seconds=self.recorder.compile_seconds,
            evaluation=self.evaluation,
        )


def _explained(fault: training.Fault, policy: Policy) -> RlgdError:
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
