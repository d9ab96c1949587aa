"""What a run writes to its directory while it trains: curves and checkpoints.

Trouble with storage is only a warning as long as there will be another try; what could not be saved in the end is a
``StorageFault``.
"""

import collections
import contextlib
import dataclasses
import json
import logging
import shlex
import time
from pathlib import Path
from typing import Any

from rlgd.errors import StorageFault
from rlgd.evaluation.policy import Policy
from rlgd.pytrees import LoopState
from rlgd.run import config_file, description
from rlgd.run.cadence import Cadence, crosses
from rlgd.run.checkpoints import saver, state
from rlgd.run.checkpoints.folder import all_steps, keep_only, remove_unfinished
from rlgd.run.checkpoints.manifest import update_counters
from rlgd.run.config import RunConfig
from rlgd.run.counters import Counters
from rlgd.run.layout import BEST, CHECKPOINTS, METRICS
from rlgd.run.loading import load
from rlgd.run.sinks.metrics_file import cut, record
from rlgd.run.sinks.rows import Row
from rlgd.run.sinks.tensorboard import TensorBoard
from rlgd.run.start import Start
from rlgd.run.summary import write_summary
from rlgd.system import files

log = logging.getLogger("rlgd")


class DiskRecording:
    """The curves and checkpoints of a run in its directory.

    Args:
        directory: the run's.
        config: what is trained.
        cadence: how often it is saved.
        start: where the run begins; rows after it, and what a kill left unfinished, are removed.

    Raises:
        StorageFault: if the directory cannot be written.
    """

    evaluates_at_end = True

    def __init__(self, directory: Path, config: RunConfig, cadence: Cadence, start: Start) -> None:
        self.directory = directory
        self.how_to_resume = f"; resume it with `rlgd resume {shlex.quote(str(directory))}`"
        self._cadence, self._keep = cadence, config.settings.keep
        try:
            for name in (CHECKPOINTS, BEST):
                remove_unfinished(directory / name)
            kept, self.rows = cut(directory / METRICS, start.counters.rows)
            self._metrics = files.Appender(directory / METRICS)
            about = (
                *(directory, start.counters.start, description.hyperparameters(config)),
                *(description.group(config), description.unused(config)),
            )
            self._board = TensorBoard.continued(kept, *about) if start.resumed else TensorBoard(*about)
        except OSError as error:
            raise StorageFault(f"{directory} cannot be written: {files.why(error, directory)}") from error
        self._saver = saver.Saver()
        self._best: tuple[int, LoopState, Counters] | None = None  # the newest one that is not saved yet
        # Checkpoints up to the one that the run resumes from; this process does not write them again.
        self._saved = {step for step in all_steps(directory / CHECKPOINTS) if step <= start.steps and start.resumed}
        self._new: collections.deque[int] = collections.deque()  # those that nobody has asked for yet
        self._saved_at, self._saved_steps = time.monotonic(), start.steps
        self._about = config_file.to_json(config, cadence) | {"numbers": state.numbers()}
        self._warned = False

    def write(self, row: Row) -> None:
        """Add a row to the curves."""
        self.rows += 1
        self._metrics.append(json.dumps(record(row)).encode() + b"\n")
        self._board.write(row)
        fault = self._metrics.fault or self._board.fault
        if fault is not None and not self._warned:
            self._warned = True
            log.warning("%s. Training continues, and tries again.", fault)

    def save_is_due(self, steps: int) -> bool:
        """Whether the interval between checkpoints is over; one in seconds waits for the one that is being written."""
        every = self._cadence.checkpoints.steps
        return self.seconds_are_over() if every is None else crosses(every, self._saved_steps, steps)

    def seconds_are_over(self) -> bool:
        """The same for an interval in seconds; False for one in steps."""
        seconds = self._cadence.checkpoints.seconds
        return seconds is not None and not self._saver.busy and time.monotonic() - self._saved_at >= seconds

    def save(self, steps: int, loop: LoopState, counters: Counters) -> None:
        """Write a checkpoint in the background, and remove those that are older than the newest ``keep``."""
        self._saved_at, self._saved_steps = time.monotonic(), steps
        folder, best = self.directory / CHECKPOINTS, self.directory / BEST

        def job() -> None:
            self._write_best()
            self._write_checkpoint(folder, steps, loop, counters)
            # The state at step 0 is kept for a run that is killed before its first interval is over.
            newest = sorted(self._saved - {0} or {0})[-self._keep :]
            self._saved.intersection_update(newest)
            with contextlib.suppress(OSError):  # what cannot be removed does no harm
                keep_only(folder, newest)
                # Not earlier: from now on a killed run resumes from this step or a later one, and may need the best
                # policy up to this step.
                best_step = counters.criteria["best_step"]
                if best_step in all_steps(best):
                    keep_only(best, {best_step, *_from(best, steps)})

        self._saver.submit(job)

    def new_checkpoints(self) -> list[tuple[int, Path]]:
        """The steps and folders of the checkpoints that were completed since the last call, and are still there."""
        new = [self._new.popleft() for _ in range(len(self._new))]  # the thread that saves may add one meanwhile
        return [(step, self.directory / CHECKPOINTS / str(step)) for step in new if step in self._saved]

    def save_best(self, steps: int, loop: LoopState, counters: Counters) -> None:
        """Write the checkpoint of the best policy so far, in the background; a failure is tried again with the next."""
        self._best = steps, loop, counters
        self._saver.submit(self._write_best)

    def _write_best(self) -> None:
        if self._best is not None:
            steps, loop, counters = best = self._best
            state.save(self.directory / BEST, steps, loop, self._about, dataclasses.asdict(counters))
            if self._best is best:
                self._best = None

    def load_best(self) -> Policy:
        """The best policy, of this or an earlier part of the run."""
        self._saver.wait()
        return load(self.directory, "best")

    def close(self, steps: int, loop: LoopState, counters: Counters, summary: dict[str, Any], failed: bool) -> None:
        """Write the last checkpoint and ``summary.json``, and close the files.

        Raises:
            StorageFault: if something could not be written; in a run that ``failed`` it is logged instead.
        """
        try:
            self.save(steps, loop, counters)
            self._saver.close()
            if faults := self._close_files(summary):
                raise StorageFault("; ".join(dict.fromkeys(faults)))
        except StorageFault as fault:
            if not failed:
                raise
            log.error("%s", fault)
        finally:
            self._saver.wait()  # also when interrupted: the lock is released only when nothing is being written

    def _close_files(self, summary: dict[str, Any]) -> list[str]:
        """Write the summary and close the files; returns what could not be written."""
        faults = [self._saver.fault]
        for file in (self._metrics, self._board):
            try:
                file.close()
            except OSError as error:
                faults.append(files.why(error, self.directory))
            faults.append(file.fault)
        try:
            unsaved = {"reason": f"StorageFault: {self._saver.fault}"} if self._saver.fault else {}
            write_summary(self.directory, summary | unsaved)
        except StorageFault as fault:
            faults.append(str(fault))
        return [fault for fault in faults if fault]

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
            self._new.append(steps)
        self._saved.add(steps)


def _from(directory: Path, steps: int) -> list[int]:
    """The checkpoints of this step, which may have been evaluated after its counters were taken, and of later ones."""
    return [later for later in all_steps(directory) if later >= steps]
