"""How far the runs of a suite are: those that have ended, and as a sink the one that this process trains."""

from collections.abc import Sequence
from pathlib import Path

from rlgd.reproduction.jobs import Job
from rlgd.reproduction.runs import read_score
from rlgd.run.config import RunConfig
from rlgd.run.sinks.rows import Row
from rlgd.system.progress import Best, OnProgress, Progress


class JobsProgress:
    """Tells how far runs are, by their steps.

    What is best is the best seed of the newest row: returns of different environments cannot be compared.
    """

    def __init__(self, jobs: Sequence[Job], on_progress: OnProgress) -> None:
        self._number, self._all_steps = len(jobs), sum(job.total_timesteps for job in jobs)
        self._on_progress = on_progress
        self._done = self._steps = self._running = 0  # runs that have ended, their steps, those of the present run
        self._row = ""
        self._best: Best | None = None
        self._compiling = False
        self._tell()

    def ended(self, job: Job) -> None:
        """A run has ended."""
        score, _ = read_score(job.directory, job.sampled)
        if score is not None and (self._best is None or job.row != self._row or score > self._best.score):
            self._row, self._best = job.row, Best(f"{job.row} seed {job.seed}", score)
        self._done, self._steps, self._running = self._done + 1, self._steps + job.total_timesteps, 0
        self._compiling = False
        self._tell()

    def begin(self, config: RunConfig, run_dir: Path | None) -> None:
        """A run begins: it is compiled first."""
        self._compiling = True
        self._tell()

    def write(self, row: Row) -> None:
        """A run trains."""
        self._compiling, self._running = False, row.step
        self._tell()

    def _tell(self) -> None:
        share = min((self._steps + self._running) / max(self._all_steps, 1), 1.0)
        self._on_progress(Progress("runs", self._done, self._number, self._best, self._compiling, share=share))
