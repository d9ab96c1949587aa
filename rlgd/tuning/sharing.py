"""How several processes share a search: which trials are theirs, and when there are enough.

A running trial is claimed by a lock that the system releases when its process ends, even by a kill. So a trial whose
process was killed neither counts nor keeps others waiting.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlgd.errors import StorageFault, UsageError
from rlgd.system.files import check_own, make_folder, why
from rlgd.system.lock import Claim, alone, is_claimed
from rlgd.tuning.journal import JOURNAL, STATE, WHY, counted_trials, import_optuna, open_journal

if TYPE_CHECKING:
    import optuna

# In the directory of a search, beside the journal: its results, and who is at work.
BEST, SUMMARY, LOCK, RUNNING = "best.json", "summary.md", "search.lock", "running"
POLL_SECONDS = 0.2  # between two looks at the trials of other processes

log = logging.getLogger("rlgd")


class SharedSearch:
    """The trials of a search.

    Attributes:
        study, directory: as given.

    Args:
        study: Optuna's.
        directory: of the search.
        seed: of the search; the values of a trial follow from it, the trial's number and earlier trials.
    """

    @classmethod
    def open(cls, directory: Path, identity: dict[str, Any], seed: int) -> "SharedSearch":
        """The search in ``directory``, or a new one with this ``identity`` (see ``open_journal``).

        Raises:
            UsageError: if the directory cannot be written, or holds something else.
            StorageFault: if the journal is damaged.
        """
        check_own(directory, JOURNAL, (BEST, SUMMARY), "search", folders=(RUNNING,))
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with alone(directory / LOCK):
                study = open_journal(directory, identity)
                make_folder(directory, RUNNING)
        except OSError as error:
            raise UsageError(f"the search's directory {directory} cannot be written: {error.strerror}.") from error
        return cls(study, directory, seed)

    def __init__(self, study: "optuna.Study", directory: Path, seed: int) -> None:
        self.study = study
        self.directory, self._seed = directory, seed
        self._library = import_optuna()
        self._claim: Claim | None = None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the other processes from beginning and ending trials, and from publishing.

        Raises:
            StorageFault: if files cannot be written.
        """
        try:
            with alone(self.directory / LOCK):
                yield
        except OSError as error:
            raise StorageFault(f"{self.directory} cannot be written: {why(error, self.directory)}.") from error

    @contextlib.contextmanager
    def next_trial(self, limit: int) -> Iterator["optuna.Trial | None"]:
        """A trial to run in the block; None if ``limit`` trials have ended.

        While other processes run the last trials, it waits, and takes over if one of them is killed. A trial that has
        not ended with the block counts as killed.
        """
        try:
            yield self._wait_for_trial(limit)
        finally:
            self._release()

    def _wait_for_trial(self, limit: int) -> "optuna.Trial | None":
        waiting = False
        while True:
            with self.alone():
                ended, running = len(counted_trials(self.study)), self._running()
                if ended >= limit:
                    return None
                if ended + running < limit:
                    return self._begin()
            if not waiting:
                log.info("waiting for trials of other processes: %d", running)
                waiting = True
            time.sleep(POLL_SECONDS)

    def end(self, trial: "optuna.Trial", state: str, score: float | None, reason: str) -> None:
        """Record how a trial ended.

        Raises:
            StorageFault: if that cannot be written, or another process took the trial for killed.
        """
        states = {"complete": "COMPLETE", "failed": "FAIL"}  # the sampler learns from the others that they are bad
        with self.alone():
            if self.study.get_trials(deepcopy=False)[trial.number].state.is_finished():
                raise StorageFault(f"trial {trial.number} is lost: {self._path(trial)} was removed while it ran.")
            if state not in ("complete", "pruned"):
                trial.set_user_attr(STATE, state)
                trial.set_user_attr(WHY, reason)
            self.study.tell(trial, score, self._library.trial.TrialState[states.get(state, "PRUNED")])
            self._release()

    def _running(self) -> int:
        """The number of running trials; those of processes that were killed are given up."""
        unfinished = self.study.get_trials(states=(self._library.trial.TrialState.RUNNING,))
        claimed = [trial for trial in unfinished if is_claimed(self._path(trial))]
        for trial in unfinished:
            if trial not in claimed:
                self.study.tell(trial.number, state=self._library.trial.TrialState.FAIL)
        for path in (self.directory / RUNNING).glob("*.lock"):
            if not is_claimed(path):
                path.unlink(missing_ok=True)
        return len(claimed)

    def _begin(self) -> "optuna.Trial":
        number = len(self.study.get_trials(deepcopy=False))
        (seed,) = np.random.SeedSequence([self._seed, number]).generate_state(1)
        self.study.sampler = self._library.samplers.TPESampler(seed=int(seed))
        trial = self.study.ask()
        self._claim = Claim(self._path(trial))
        return trial

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _path(self, trial: Any) -> Path:
        return self.directory / RUNNING / f"{trial.number}.lock"
