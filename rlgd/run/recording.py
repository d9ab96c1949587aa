"""Where a run writes what it does: curves, checkpoints, summary; or nowhere."""

from pathlib import Path
from typing import Any, Protocol

from rlgd.evaluation.policy import Policy
from rlgd.pytrees import LoopState
from rlgd.run.counters import Counters
from rlgd.run.loading import load
from rlgd.run.sinks.rows import Row


class Recording(Protocol):
    """Where a run writes what it does: a directory, or nowhere."""

    @property
    def directory(self) -> Path | None:
        """The directory of the run, or None."""

    @property
    def rows(self) -> int:
        """How many rows the curves have, those of earlier parts of the run included."""

    @property
    def evaluates_at_end(self) -> bool:
        """Whether the policy is evaluated at the end of the run in any case."""

    @property
    def how_to_resume(self) -> str:
        """The end of a sentence that says how an interrupted run is resumed."""

    def write(self, row: Row) -> None:
        """Add a row to the curves."""

    def save_is_due(self, steps: int) -> bool:
        """Whether the interval between checkpoints is over."""

    def seconds_are_over(self) -> bool:
        """The same for an interval in seconds; False for one in steps."""

    def save(self, steps: int, loop: LoopState, counters: Counters) -> None:
        """Write a checkpoint in the background."""

    def new_checkpoints(self) -> list[tuple[int, Path]]:
        """The steps and folders of the checkpoints that were completed since the last call, and are still there."""

    def save_best(self, steps: int, loop: LoopState, counters: Counters) -> None:
        """Write the checkpoint of the best policy so far, in the background."""

    def load_best(self) -> Policy:
        """The best policy, of this or an earlier part of the run."""

    def close(self, steps: int, loop: LoopState, counters: Counters, summary: dict[str, Any], failed: bool) -> None:
        """Write the last checkpoint and the summary; a run that ``failed`` has a more important error to raise."""


class NoRecording:
    """The recording of a run that writes nothing: there is no directory, or another process writes it.

    Args:
        another_writes: the directory that another process writes; None: there is none.
    """

    directory = None
    rows = 0
    how_to_resume = ""

    def __init__(self, another_writes: Path | None = None) -> None:
        self._written = another_writes
        self.evaluates_at_end = another_writes is not None  # all processes evaluate, if one does

    def write(self, row: Row) -> None:
        """Write nothing."""

    def save_is_due(self, steps: int) -> bool:
        """Always False: nothing is saved."""
        return False

    def seconds_are_over(self) -> bool:
        """Always False: nothing is saved."""
        return False

    def save(self, steps: int, loop: LoopState, counters: Counters) -> None:
        """Save nothing."""

    def new_checkpoints(self) -> list[tuple[int, Path]]:
        """Always empty: nothing is saved."""
        return []

    def save_best(self, steps: int, loop: LoopState, counters: Counters) -> None:
        """Save nothing."""

    def load_best(self) -> Policy:
        """That of an earlier part of the run; a run that is not on disk has its best policy in memory."""
        if self._written is None:
            raise LookupError("nothing was written")
        return load(self._written, "best")

    def close(self, steps: int, loop: LoopState, counters: Counters, summary: dict[str, Any], failed: bool) -> None:
        """Save nothing."""
