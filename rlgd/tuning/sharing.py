"""How several processes share a search: which trials are theirs, and when there are enough.

A search is at home in a directory (a journal, and locked files that say who is at work) or in a storage of Optuna,
such as a database (``storage.py``). Processes that share a directory decide one after another, under a lock. Where they
do not, several may begin a trial at once; then one that has enough others with smaller numbers is given up. The storage
numbers trials, so all agree on that. A trial whose process was killed neither counts nor keeps others waiting.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rlgd.errors import StorageFault, UsageError
from rlgd.system.files import check_own, make_folder, why
from rlgd.system.lock import alone
from rlgd.tuning.journal import JOURNAL, STATE, WHY, counted_trials, import_optuna, open_journal
from rlgd.tuning.presence import RUNNING, LockedFiles, Presence

if TYPE_CHECKING:
    import optuna

# In the directory of a search: its results, and the lock for those who decide. ``ELSEWHERE`` is there in place of the
# journal if the search is in a storage.
BEST, SUMMARY, LOCK, ELSEWHERE = "best.json", "summary.md", "search.lock", "search.json"
HISTORY, IMPORTANCE = "history.png", "importance.png"
RESULTS = (BEST, SUMMARY, HISTORY, IMPORTANCE)
JOBS = "jobs"  # the folder of what Slurm's jobs read and print
POLL_SECONDS = 0.2  # between two looks at the trials of other processes

log = logging.getLogger("rlgd")


class Home(Protocol):
    """Where the trials of a search are."""

    def check(self, directory: Path) -> None:
        """Check that the directory is the search's, before anything is written.

        Raises:
            UsageError: naming what is in the way.
        """

    def open(self, directory: Path, identity: dict[str, Any]) -> "tuple[optuna.Study, Presence]":
        """The search, or a new one with this identity. No other process opens it in this directory meanwhile.

        Raises:
            OSError: if the directory cannot be written.
            UsageError: if it is another search, or cannot be reached.
            StorageFault: if it is damaged.
        """

    def faults_named(self) -> "contextlib.AbstractContextManager[None]":
        """A block in which failures of the home are ``StorageFault``."""


class InDirectory:
    """A search whose journal is in its directory."""

    def check(self, directory: Path) -> None:
        """Without a journal nothing of a search may be there."""
        if (directory / ELSEWHERE).exists():
            raise UsageError(
                f"{directory} has the results of a search in a storage; give it, or name another directory."
            )
        check_own(directory, JOURNAL, RESULTS, "search", folders=(RUNNING, JOBS))

    def open(self, directory: Path, identity: dict[str, Any]) -> "tuple[optuna.Study, Presence]":
        """Open the journal."""
        study = open_journal(directory, identity)
        make_folder(directory, RUNNING)
        return study, LockedFiles(directory)

    def faults_named(self) -> "contextlib.AbstractContextManager[None]":
        """The journal names its own."""
        return contextlib.nullcontext()


class SharedSearch:
    """The trials of a search.

    Attributes:
        study, directory, home: as given.

    Args:
        study: Optuna's.
        presence: tells who is at work.
        directory: of the search.
        home: of the search.
        seed: of the search; the values of a trial follow from it, the trial's number and earlier trials.
    """

    @classmethod
    def open(cls, directory: Path, identity: dict[str, Any], seed: int, home: Home | None = None) -> "SharedSearch":
        """The search in ``directory``, or in another ``home``; or a new one with this ``identity``.

        Raises:
            UsageError: if the directory cannot be written, or holds something else; see also ``Home.open``.
            StorageFault: if the search is damaged.
        """
        home = home or InDirectory()
        home.check(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with alone(directory / LOCK):
                study, presence = home.open(directory, identity)
        except OSError as error:
            raise UsageError(f"the search's directory {directory} cannot be written: {error.strerror}.") from error
        return cls(study, presence, directory, home, seed)

    def __init__(self, study: "optuna.Study", presence: Presence, directory: Path, home: Home, seed: int) -> None:
        self.study, self.directory, self.home = study, directory, home
        self._presence, self._seed = presence, seed
        self._library = import_optuna()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the other processes of this directory from beginning and ending trials, and from publishing.

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
            self._presence.leave()

    def _wait_for_trial(self, limit: int) -> "optuna.Trial | None":
        waiting = False
        while True:
            with self.alone():
                ended, running = len(counted_trials(self.study)), len(self._running())
                if ended >= limit:
                    return None
                trial = self._begin(limit) if ended + running < limit else None
                if trial is not None:
                    return trial
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
                raise StorageFault(f"trial {trial.number} is lost: {self._presence.why_lost(trial)}.")
            if state not in ("complete", "pruned"):
                trial.set_user_attr(STATE, state)
                trial.set_user_attr(WHY, reason)
            self.study.tell(trial, score, self._library.trial.TrialState[states.get(state, "PRUNED")])
            self._presence.leave()

    def _running(self) -> "list[optuna.trial.FrozenTrial]":
        """The trials that are running; those of processes that were killed are given up."""
        unfinished = self.study.get_trials(states=(self._library.trial.TrialState.RUNNING,))
        at_work = self._presence.at_work(unfinished)
        for trial in unfinished:
            if trial not in at_work:
                self._give_up(trial)
        return at_work

    def _give_up(self, trial: Any) -> None:
        with contextlib.suppress(ValueError, self._library.exceptions.UpdateFinishedTrialError):  # others were first
            self.study.tell(trial.number, state=self._library.trial.TrialState.FAIL)

    def _begin(self, limit: int) -> "optuna.Trial | None":
        """A new trial; None if trials with smaller numbers, which others began meanwhile, are enough."""
        trial = self.study.ask()
        self._presence.arrive(trial)
        # In this order: one that ends meanwhile is seen twice, and not missed.
        others = {other.number for other in [*self._running(), *counted_trials(self.study)]}
        if sum(number < trial.number for number in others) >= limit:
            self._give_up(trial)
            self._presence.leave()
            return None
        # The sampler is asked for values when the trial suggests them. The number is known only now.
        (seed,) = np.random.SeedSequence([self._seed, trial.number]).generate_state(1)
        self.study.sampler = self._library.samplers.TPESampler(seed=int(seed))
        return trial
