"""What a run leaves on disk while it trains: curves and checkpoints. Trouble with storage is no more than a warning as
long as there is another try; what could not be saved in the end is a ``StorageFault``.
"""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlgd.errors import StorageFault
from rlgd.pytrees import LoopState
from rlgd.run import config_file
from rlgd.run.checkpoints import saver, state
from rlgd.run.checkpoints.folder import all_steps, keep_only, remove_unfinished
from rlgd.run.checkpoints.manifest import update_counters
from rlgd.run.config import RunConfig
from rlgd.run.counters import Counters
from rlgd.run.layout import BEST, CHECKPOINTS, METRICS
from rlgd.run.sinks.metrics_file import cut
from rlgd.run.sinks.rows import Row
from rlgd.run.sinks.tensorboard import TensorBoard
from rlgd.run.summary import write_summary
from rlgd.system import files

log = logging.getLogger("rlgd")


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
            remove_unfinished(directory / name)
        kept, self.rows = cut(directory / METRICS, counters.rows)
        self._metrics = files.Appender(directory / METRICS)
        about = (counters.start, settings.hyperparameters(), settings.group())
        self._board = TensorBoard(directory, *about) if steps is None else TensorBoard.again(directory, *about, kept)
        self._saver = saver.Saver()
        self._best: tuple[int, LoopState, Counters] | None = None  # that is not saved yet
        # Those up to the one that is gone on from; this process writes none of them anew.
        self._saved = {step for step in all_steps(directory / CHECKPOINTS) if step <= (steps or 0)}
        self._saved_at, self._saved_steps = time.monotonic(), steps or 0
        self._about = config_file.to_json(settings) | {"numbers": state.numbers()}
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
                keep_only(folder, newest)
                # Only now: a run that is killed goes on from here at the earliest, with the best one up to here.
                best_step = counters.watch["best_step"]
                if best_step in all_steps(best):
                    keep_only(best, {best_step, *_from(best, steps)})

        self._saver.submit(job)

    def save_best(self, steps: int, loop: LoopState, counters: Counters) -> None:
        """Write the checkpoint of the best policy so far, in the background; if it fails, with the next one again."""
        self._best = steps, loop, counters
        self._saver.submit(self._write_best)

    def _write_best(self) -> None:
        if self._best is not None:
            steps, loop, counters = best = self._best
            state.save(self.directory / BEST, steps, loop, self._about, dataclasses.asdict(counters))
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
                faults.append(files.why(error, self.directory))
            faults.append(file.fault)
        try:
            unsaved = {"reason": f"StorageFault: {self._saver.fault}"} if self._saver.fault else {}
            write_summary(self.directory, summary() | unsaved)
        except StorageFault as fault:
            faults.append(str(fault))
        if any(faults):
            raise StorageFault("; ".join(dict.fromkeys(fault for fault in faults if fault)))

    def _write_checkpoint(self, folder: Path, steps: int, loop: LoopState, counters: Counters) -> None:
        try:
            self._metrics.sync()  # the rows that the checkpoint counts
        except OSError as error:
            raise StorageFault(f"{self._metrics.path}: {files.why(error, self.directory)}") from error
        plain = dataclasses.asdict(counters)
        if steps in self._saved and steps in all_steps(folder):
            update_counters(folder, steps, plain)  # the state of a step is always the same
        else:
            state.save(folder, steps, loop, self._about, plain)
        self._saved.add(steps)


def _from(directory: Path, steps: int) -> list[int]:
    """Checkpoints of this step and later ones; this step may have been evaluated since its counters were taken."""
    return [later for later in all_steps(directory) if later >= steps]
