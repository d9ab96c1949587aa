"""One run from its first chunk, or the first after a resume, to its summary."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rlgd.envs import DeviceEnv
from rlgd.errors import Interrupted, RlgdError, StorageFault
from rlgd.evaluation.policy import Policy
from rlgd.pytrees import LoopState
from rlgd.run.cadence import Cadence
from rlgd.run.config import RunConfig
from rlgd.run.counters import Counters
from rlgd.run.evaluations import Evaluations
from rlgd.run.recording import Recording
from rlgd.run.result import TrainResult, curves
from rlgd.run.sinks.audience import Audience
from rlgd.run.sinks.rows import Row, RowAverager
from rlgd.run.start import Start
from rlgd.run.status import RunStatus
from rlgd.run.stopping import SINK, CriteriaState, Fired
from rlgd.run.summary import INTERRUPTED, summarize
from rlgd.system.mesh import make_mesh, together
from rlgd.system.processes import are_several, end_together, is_first, largest, of_first
from rlgd.system.signals import PollSignal
from rlgd.training import chunks, faults
from rlgd.training.host_acting import acting_device
from rlgd.training.loop import iterations_done
from rlgd.training.runners import DeviceRunner, HostRunner, OverlappingRunner, Runner
from rlgd.training.shares import share_of


class Caller(NamedTuple):
    """Who watches a run while it trains.

    Attributes:
        sinks: see the run, and may ask for its end; see ``rlgd.run.sinks.Sink``.
        poll_signal: the number of a signal that asks the run to end, or None.
        metrics: whether metrics are kept for the result.
    """

    sinks: Sequence[Any] = ()
    poll_signal: PollSignal = lambda: None
    metrics: bool = True


class Run:
    """A run that trains.

    Args:
        config: what is trained.
        cadence: how often things happen.
        start: where the run begins.
        recording: where it is written.
        caller: who sees its rows, and may end it.
    """

    def __init__(self, config: RunConfig, cadence: Cadence, start: Start, recording: Recording, caller: Caller) -> None:
        self.config, self.cadence, self.start = config, cadence, start
        self.recording, self.caller = recording, caller
        self._loop = start.loop
        self._mesh = make_mesh(config.settings.devices, config.settings.shuffle)
        self.averager = _row_averager(cadence, start)
        self.evaluations = Evaluations(config, cadence.eval_max_steps, recording.load_best, self._between_steps)
        counters = start.counters
        criteria = CriteriaState.from_dict(counters.criteria)
        self.status = RunStatus(
            config.settings.stopping, cadence, start.steps, counters.evaluated_at, criteria, counters.stop
        )
        self.audience = Audience(caller.sinks)
        self.history: list[dict[str, np.ndarray]] = []

    @property
    def loop(self) -> LoopState:
        """The state after the newest chunk, on one device."""
        return together(self._loop)

    def train(self) -> TrainResult:
        """Train to the end; whatever ends it, the last state is saved and the sinks are closed."""
        failure: BaseException | None = None
        try:
            self.audience.tell("begin", self.config, self.recording.directory)
            if not self.start.resumed:
                self._save()
            self._heed_sinks()
            if self.status.stop is None:
                self._train_chunks()
            self._end_if_signalled()
            self._write_rest()
            self._save()
            if self.recording.evaluates_at_end or self.cadence.eval_steps is not None:
                self.evaluations.announce()
                self._evaluate()
                self.evaluations.complete(self._result_policy())
                self.evaluations.warn_of_cut_episodes()
            end_together()
        except BaseException as error:
            failure = error
            if isinstance(error, RlgdError) and not isinstance(error, Interrupted):
                self._write_rest()  # of an interrupted run they wait in the checkpoint
            with contextlib.suppress(Exception):  # it must not hide what ended the run
                self._hand_over(error)
            raise
        finally:
            self._finish(failure)
        return self._result()

    def _train_chunks(self) -> None:
        """Train until something ends it: the last step, a criterion, or a signal."""
        with self._runner() as runner:
            if self.status.evaluation_is_due:
                self._evaluate()
                self._heed_sinks()
            if self.status.stop is not None:
                return
            # On the host environments can be slow, so criteria are checked after every row of the curves.
            row_length = None if isinstance(self.config.env, DeviceEnv) else self.cadence.row_length
            length, total, pauses = self.cadence.chunk_length, self.cadence.total_timesteps, self.cadence.pauses
            for chunk in chunks.chunks(runner, self._loop, length, total, self.status.steps, pauses, row_length):
                self._take(chunk)
                if self.status.stop is not None or self._signal() is not None:
                    return
                (due,) = of_first(self.recording.save_is_due(self.status.steps))
                if due:
                    self._save()

    @contextlib.contextmanager
    def _runner(self) -> Iterator[Runner]:
        """What runs iterations; on the host the environments are open, with new episodes in all of them."""
        agent, env = self.config.agent.prepared(), self.config.env
        if isinstance(env, DeviceEnv):
            yield DeviceRunner(agent, env, self.cadence.chunk_length, self._mesh)
            return
        share, settings = share_of(agent.num_envs, self._mesh), self.config.settings
        with contextlib.closing(env.open(share.number)) as vector:
            self._loop = share.begin_episodes(agent, vector, self._loop, (settings.seed, self.start.steps))
            device = acting_device(settings.act_device, agent, vector.spec)
            if settings.overlap:
                left = self.cadence.total_timesteps - self.status.steps
                yield OverlappingRunner(agent, vector, left, self._pause_on_host, device)
            else:
                yield HostRunner(agent, vector, self._pause_on_host, device, share)

    def _take(self, chunk: chunks.Chunk) -> None:
        """Record a chunk, evaluate if it is due, and check the criteria.

        Raises:
            Diverged, EnvironmentFault: if something in the chunk is not finite.
            EnvironmentFault, KeyboardInterrupt: if that cut the chunk short.
        """
        # With several processes all gather at the same place: later each may do something else.
        self._loop = together(chunk.loop) if are_several() else chunk.loop
        self.status = self.status.reached(chunk.steps)
        if self.caller.metrics:
            self.history.append(chunk.metrics)
        self._write(self.averager.rows(chunk))
        if chunk.fault is not None:
            raise faults.explained(chunk.fault)
        if chunk.cut_short is not None:
            raise chunk.cut_short
        if self.status.evaluation_is_due and chunk.steps < self.cadence.total_timesteps:
            self._evaluate()
        if self._is_out_of_time():
            self.status = self.status.out_of_time()
        self._tell_checkpoints()
        self._heed_sinks()

    def _tell_checkpoints(self) -> None:
        """Tell the sinks of the checkpoints that were written since the last time: their writer is another thread."""
        for step, path in self.recording.new_checkpoints():
            self.audience.tell("checkpoint", step, path)

    def _heed_sinks(self) -> None:
        """End the run if a sink of any process asked for it, and steps are left."""
        stop = self.audience.stop
        if largest(int(stop is not None)) and self.status.steps < self.cadence.total_timesteps:
            self.status = self.status.stopped(Fired(SINK, "another process asked" if stop is None else stop.why))

    def _write(self, rows: Iterable[Row], judge: bool = True) -> None:
        """Write rows of the curves, and let the criteria ``judge`` them."""
        rows = list(rows)
        for row in rows:
            self.recording.write(row)
        self.status = self.status.after_rows(rows, judge)
        for row in rows:
            self.audience.tell("write", row)

    def _write_rest(self) -> None:
        """Write the row of the iterations that are left over at the end."""
        self._write(self.averager.rest(), judge=False)

    def _evaluate(self) -> None:
        """Evaluate the policy, once at each step."""
        if self.status.evaluated_at == self.status.steps:
            return
        result, values = self.evaluations.measure(self.loop)
        (mean,) = of_first(result.mean)
        needs_second = self.status.needs_second_evaluation(mean)
        second = of_first(self.evaluations.second_mean(self.loop))[0] if needs_second else None
        # Nothing below takes long: the evaluation and what is recorded of it change together.
        self.status = self.status.after_evaluation(mean, second)
        self.evaluations.keep(result, self.loop.agent_state, self.status.is_best)
        if self.status.is_best:
            self.recording.save_best(self.status.steps, self.loop, self._counters())
        self._write([Row(self.status.steps, self.averager.seconds, values)], judge=False)
        self.audience.tell("evaluation", result, self.evaluations.policy(self.loop.agent_state))

    def _save(self) -> None:
        self.recording.save(self.status.steps, self.loop, self._counters())

    def _counters(self) -> Counters:
        averager, status = self.averager, self.status
        return Counters(
            training_seconds=averager.seconds,
            compile_seconds=averager.compile_seconds,
            start=self.start.counters.start,
            rows=self.recording.rows,
            pending=averager.pending(),
            recent=averager.recent.kept(),
            evaluated_at=status.evaluated_at,
            criteria=status.criteria.to_dict(),
            stop=status.stop,
            end=self.config.settings.ending(),
        )

    def _is_out_of_time(self) -> bool:
        limit = self.config.settings.stopping.max_seconds
        if limit is None:
            return False
        (is_over,) = of_first(time.monotonic() > self.start.began_at + limit)
        return bool(is_over)

    def _signal(self) -> int | None:
        """The signal that asks this process, or another one, to end the run."""
        return largest(self.caller.poll_signal() or 0) or None

    def _pause_on_host(self) -> bool:
        """Whether something waits for the end of a chunk."""
        waits = self.recording.seconds_are_over() or self.caller.poll_signal() is not None
        return largest(int(waits)) > 0 or self._is_out_of_time()

    def _between_steps(self) -> None:
        """What happens between the steps of an evaluation: one process alone must not end it."""
        if not are_several():
            self._end_if_signalled()

    def _end_if_signalled(self) -> None:
        number = self._signal()
        if number is not None:
            where = f"interrupted at step {self.status.steps:,}"
            raise Interrupted(f"{where}{self.recording.how_to_resume}", number, another_says=not is_first())

    def _hand_over(self, failure: BaseException) -> None:
        """Make the last state reachable from what ended the run: the caller may have no other way to it."""
        for name, value in (("policy", self.evaluations.policy(self.loop.agent_state)), ("state", self.loop)):
            setattr(failure, name, value)
        failure.add_note(f"{self.status.steps:,} steps are kept: .policy and .state{self.recording.how_to_resume}")

    def _finish(self, failure: BaseException | None) -> None:
        """Close the recording, then the sinks, which may take long, whatever happens."""
        interrupted = isinstance(failure, Interrupted | KeyboardInterrupt)
        reason = self.status.outcome.criterion
        if failure is not None:
            reason = INTERRUPTED if interrupted else f"{type(failure).__name__}: {failure}"
        summary = summarize(reason, self.status, self.averager, self.evaluations)
        failed = failure is not None and not interrupted
        try:
            self.recording.close(self.status.steps, self.loop, self._counters(), summary, failed)
        except StorageFault as fault:
            summary["reason"] = f"{type(fault).__name__}: {fault}"
            raise
        finally:
            self._tell_checkpoints()
            self.audience.tell("close", summary)

    def _result_policy(self) -> Policy:
        if self.status.best_is_result:
            return self.evaluations.best_policy()
        return self.evaluations.policy(self.loop.agent_state)

    def _result(self) -> TrainResult:
        stop, averager = self.status.outcome, self.averager
        return TrainResult(
            policy=self._result_policy(),
            state=self.loop,
            metrics=curves(self.history, self.start.steps),
            run_dir=self.recording.directory,
            reason=stop.criterion,
            why=stop.why,
            steps=averager.step,
            training_seconds=averager.seconds,
            compile_seconds=averager.compile_seconds,
            evaluation=self.evaluations.result,
        )


def _row_averager(cadence: Cadence, start: Start) -> RowAverager:
    counters = start.counters
    return RowAverager(
        cadence.row_length,
        start.steps,
        counters.training_seconds,
        counters.compile_seconds,
        iterations_done(start.loop),
        counters.pending,
        counters.recent,
    )
