"""Who is at work in a directory: a running trial has a locked file. A lock dies with its process, even by a kill."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rlgd.system.lock import Claim, is_claimed

if TYPE_CHECKING:
    import optuna

RUNNING = "running"  # the folder of the files


class Presence(Protocol):
    """How the processes of a search know of one another which trials are being worked on."""

    def arrive(self, trial: "optuna.Trial") -> None:
        """Say that this process works on a trial; another process of the same directory does not look meanwhile."""

    def leave(self) -> None:
        """Say that it does so no more; a trial that has not ended counts as killed."""

    def at_work(self, running: "list[optuna.trial.FrozenTrial]") -> "list[optuna.trial.FrozenTrial]":
        """Those of the running trials whose processes live."""

    def why_lost(self, trial: Any) -> str:
        """Why others can have taken a trial of a process that lives for killed."""


class LockedFiles:
    """Locked files in a directory. The system releases a lock when its process ends."""

    def __init__(self, directory: Path) -> None:
        self._folder = directory / RUNNING
        self._claim: Claim | None = None

    def arrive(self, trial: "optuna.Trial") -> None:
        """Lock the file of a trial."""
        self._claim = Claim(self._path(trial))

    def leave(self) -> None:
        """Release and remove the file."""
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def at_work(self, running: "list[optuna.trial.FrozenTrial]") -> "list[optuna.trial.FrozenTrial]":
        """Those with a locked file; other files are removed."""
        claimed = [trial for trial in running if is_claimed(self._path(trial))]
        for path in self._folder.glob("*.lock"):
            if not is_claimed(path):
                path.unlink(missing_ok=True)
        return claimed

    def why_lost(self, trial: Any) -> str:
        """The file was removed by somebody."""
        return f"{self._path(trial)} was removed while it ran"

    def _path(self, trial: Any) -> Path:
        return self._folder / f"{trial.number}.lock"
