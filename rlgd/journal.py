"""What a run leaves on disk while it trains: curves and checkpoints. Trouble with storage is no more than a warning as
long as there is another try; what could not be saved in the end is a ``StorageFault``.
"""

import contextlib
import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlgd import checkpoint, durable, rundir
from rlgd.data import LoopState
from rlgd.errors import StorageFault
from rlgd.records import Row
from rlgd.rundir import BEST, CHECKPOINTS, METRICS, RunConfig
from rlgd.stopping import Watch
from rlgd.tensorboard import TensorBoard

MAX_LINE = 2**20  # bytes of a row
log = logging.getLogger("rlgd")


@dataclasses.dataclass(frozen=True)
class Counters:
    """What a checkpoint keeps beside arrays; plain values.

    Attributes:
        training_seconds, compile_seconds, start: of the run so far, and the time of its beginning.
        rows: of the curves, behind which the state is.
        pending: metrics of the iterations that are in no row yet, by name.
        evaluated_at: the step of the newest evaluation.
        watch: what the criteria to stop have seen.
        stop: the criterion that ended the run here and what it saw, or None.
        end: what was to end it.
    """

    training_seconds: float
    compile_seconds: float
    start: float
    rows: int = 0
    pending: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    evaluated_at: int = 0
    watch: dict[str, Any] = dataclasses.field(default_factory=Watch().to_dict)
    stop: tuple[str, str] | None = None
    end: dict[str, Any] | None = None


class Journal:
    """The curves and checkpoints of a run that trains.

    Args:
        directory: the run's.
        settings: what is trained.
        counters: of the checkpoint that is gone on from; later rows, and what a kill left unfinished, are removed.
        steps: of that checkpoint, or None.
    """

    def __init__(self, directory: Path, settings: RunConfig, counters: Counters, steps: int | None) -> None:
        self.directory, self.settings = directory, settings
        for name in (CHECKPOINTS, BEST):
            checkpoint.remove_unfinished(directory / name)
        kept, self.rows = _cut(directory / METRICS, counters.rows)
        self._metrics = durable.Appender(directory / METRICS)
        about = (counters.start, settings.hyperparameters(), settings.group())
        self._board = TensorBoard(directory, *about) if steps is None else TensorBoard.again(directory, *about, kept)
        self._saver = checkpoint.Saver()
        self._best: tuple[int, LoopState, Counters] | None = None  # that is not saved yet
        # Those up to the one that is gone on from; this process writes none of them anew.
        self._saved = {step for step in checkpoint.all_steps(directory / CHECKPOINTS) if step <= (steps or 0)}
        self._saved_at, self._saved_steps = time.monotonic(), steps or 0
        self._about = settings.to_json() | {"numbers": checkpoint.numbers()}
        self._warned = False

    def write(self, row: Row) -> None:
        """Add a row to the curves."""
        self.rows += 1
        record = {"step": row.step, "seconds": row.seconds} | row.values
        self._metrics.append(json.dumps(record).encode() + b"\n")
        self._board.write(row)
        fault = self._metrics.fault or self._board.fault
        if fault is not None and not self._warned:
            self._warned = True
            log.warning("%s. Training goes on, and tries again.", fault)

    def save_is_due(self, steps: int) -> bool:
        """Whether the interval between checkpoints is over; one in seconds waits for the one that is being written."""
        every = self.settings.checkpoint_interval()[1]
        return self.seconds_are_over() if every is None else steps // every > self._saved_steps // every

    def seconds_are_over(self) -> bool:
        """The same for an interval in seconds."""
        seconds = self.settings.checkpoint_interval()[0]
        return seconds is not None and not self._saver.busy and time.monotonic() - self._saved_at >= seconds

    def save(self, steps: int, loop: LoopState, counters: Counters) -> None:
        """Write a checkpoint in the background, and remove those that are older than the newest ``keep``."""
        self._saved_at, self._saved_steps = time.monotonic(), steps
        folder, best = self.directory / CHECKPOINTS, self.directory / BEST

        def job() -> None:
            self._write_best()
            self._write_checkpoint(folder, steps, loop, counters)
            # The beginning is there for a run that is killed before its first interval is over.
            newest = sorted(self._saved - {0} or {0})[-self.settings.keep :]
            self._saved.intersection_update(newest)
            with contextlib.suppress(OSError):  # what cannot be removed is in nobody's way
                checkpoint.keep_only(folder, newest)
                # Only now: a run that is killed goes on from here at the earliest, with the best one up to here.
                best_step = counters.watch["best_step"]
                if best_step in checkpoint.all_steps(best):
                    checkpoint.keep_only(best, {best_step, *_from(best, steps)})

        self._saver.submit(job)

    def save_best(self, steps: int, loop: LoopState, counters: Counters) -> None:
        """Write the checkpoint of the best policy so far, in the background; if it fails, with the next one again."""
        self._best = steps, loop, counters
        self._saver.submit(self._write_best)

    def _write_best(self) -> None:
        if self._best is not None:
            steps, loop, counters = best = self._best
            checkpoint.save(self.directory / BEST, steps, loop, self._about, dataclasses.asdict(counters))
            if self._best is best:
                self._best = None

    def wait(self) -> None:
        """Wait until everything is written."""
        self._saver.wait()

    def close(self, steps: int, loop: LoopState, counters: Counters, summary: Callable[[], dict[str, Any]]) -> None:
        """Write the last checkpoint and ``summary.json``, and close the files.

        Raises:
            StorageFault: if something could not be written.
        """
        self.save(steps, loop, counters)
        self._saver.close()
        faults = [self._saver.fault]
        for file in (self._metrics, self._board):
            try:
                file.close()
            except OSError as error:
                faults.append(durable.why(error, self.directory))
            faults.append(file.fault)
        try:
            unsaved = {"reason": f"StorageFault: {self._saver.fault}"} if self._saver.fault else {}
            rundir.write_summary(self.directory, summary() | unsaved)
        except StorageFault as fault:
            faults.append(str(fault))
        if any(faults):
            raise StorageFault("; ".join(dict.fromkeys(fault for fault in faults if fault)))

    def _write_checkpoint(self, folder: Path, steps: int, loop: LoopState, counters: Counters) -> None:
        try:
            self._metrics.sync()  # the rows that the checkpoint counts
        except OSError as error:
            raise StorageFault(f"{self._metrics.path}: {durable.why(error, self.directory)}") from error
        plain = dataclasses.asdict(counters)
        if steps in self._saved and steps in checkpoint.all_steps(folder):
            checkpoint.update_counters(folder, steps, plain)  # the state of a step is always the same
        else:
            checkpoint.save(folder, steps, loop, self._about, plain)
        self._saved.add(steps)


def _from(directory: Path, steps: int) -> list[int]:
    """Checkpoints of this step and later ones; this step may have been evaluated since its counters were taken."""
    return [later for later in checkpoint.all_steps(directory) if later >= steps]


def read_counters(manifest: checkpoint.Manifest, steps: int) -> Counters:
    """The counters of a checkpoint.

    Raises:
        StorageFault: if they are none.
    """
    try:
        counters = Counters(**manifest.counters)
        pending = {str(name): [float(x) for x in values] for name, values in counters.pending.items()}
        watch = Watch.from_dict(counters.watch)
        times = [float(getattr(counters, name)) for name in ("training_seconds", "compile_seconds", "start")]
        whole = (counters.rows, counters.evaluated_at, watch.best_step, watch.waited)
        if not all(map(math.isfinite, times)) or not all(isinstance(n, int) and 0 <= n < 2**63 for n in whole):
            raise ValueError("numbers out of range")
        if not all(isinstance(x, float | int | None) for x in (watch.best_return, watch.last_return)):
            raise TypeError("returns are no numbers")
        if len({len(values) for values in pending.values()}) > 1:
            raise ValueError("metrics of different length")
        stop = None if counters.stop is None else (str(counters.stop[0]), str(counters.stop[1]))
        return dataclasses.replace(counters, pending=pending, stop=stop)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise StorageFault(f"the checkpoint of step {steps:,} holds no counters of a run: {error}.") from error


def _cut(path: Path, number: int) -> tuple[list[Row], int]:
    """Remove what is behind the first ``number`` rows of a file: those that can be read, and how many there are."""
    rows: list[Row] = []
    lines = size = 0
    if not path.exists():
        return rows, lines
    with os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "rb+") as file:
        while lines < number and (line := file.readline(MAX_LINE)).endswith(b"\n"):
            lines, size = lines + 1, size + len(line)
            try:
                values = {str(name): float(value) for name, value in json.loads(line).items()}
                step = values.pop("step")
                if not 0 <= step < 2**63 or not all(name.encode() for name in values):
                    raise ValueError
                rows.append(Row(int(step), values.pop("seconds"), values))
            except (ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError):
                log.warning("row %d of %s is damaged; TensorBoard does without it.", lines, path)
        file.truncate(size)
    if lines < number:
        log.warning("%s has lost %d rows; the curves have a gap.", path, number - lines)
    return rows, lines
