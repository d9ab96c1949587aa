"""The directory of a run: how it is made, locked and emptied."""

import os
import shlex
import time
from pathlib import Path

from rlgd.errors import StorageFault, UsageError
from rlgd.run.cadence import Cadence
from rlgd.run.changes import Change
from rlgd.run.checkpoints.folder import all_steps, keep_only, remove_unfinished
from rlgd.run.config import RunConfig
from rlgd.run.config_file import read_config, write_config
from rlgd.run.layout import BEST, CHECKPOINTS, CONFIG, METRICS, SERVICES, SUMMARY, TABLE, writing
from rlgd.run.sinks import csv_file, tensorboard
from rlgd.system.lock import Lock


def create(directory: Path, config: RunConfig, cadence: Cadence, overwrite: bool) -> Lock:
    """Make the directory and write the configuration; returns the right to write in it.

    Raises:
        UsageError: if it has a run and ``overwrite`` is False, another process writes in it, or it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = Lock(directory)
        try:
            _make_room(directory, overwrite)
            lock.sign()
            write_config(directory, config, cadence, [])
        except BaseException:
            lock.release()
            raise
    except UsageError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"the run directory {str(directory)!r} cannot be written: {reason}.") from error
    return lock


def open_to_write(directory: Path) -> Lock:
    """Returns the right to write in the directory of a run.

    Raises:
        UsageError: if another process writes in it, or it cannot be written.
    """
    with writing(directory):
        lock = Lock(directory)
        try:
            lock.sign()
        except OSError:
            lock.release()
            raise
    for name in (CHECKPOINTS, BEST, METRICS):
        if (directory / name).is_symlink():
            lock.release()
            raise UsageError(f"{directory / name} is a link; a run writes in its own directory only.")
    return lock


def _make_room(directory: Path, overwrite: bool) -> None:
    """Remove the run in a directory if ``overwrite`` allows it, and no file of anybody else."""
    if (directory / CONFIG).exists():
        if not overwrite:
            raise UsageError(
                f"{directory} already has a run; resume it with `rlgd resume {shlex.quote(str(directory))}`, "
                "or replace it with --overwrite."
            )
        try:
            read_config(directory)
        except StorageFault as fault:
            raise UsageError(f"{fault} Remove it yourself, or name another directory.") from fault
        remove_run(directory)
    for path in (directory / name for name in (METRICS, SUMMARY, SERVICES, CHECKPOINTS, BEST)):
        free = not path.is_symlink() and path.is_dir() and path.name in (CHECKPOINTS, BEST)
        if os.path.lexists(path) and not (free and not all_steps(path)):
            raise UsageError(f"{path} is in the way, and belongs to no run; remove it, or name another directory.")


def remove_run(directory: Path) -> None:
    """Remove what rlgd wrote, and nothing else; the configuration last, because it makes the directory a run."""
    for folder in (directory / CHECKPOINTS, directory / BEST):
        if not folder.is_symlink():
            remove_unfinished(folder)
            keep_only(folder, ())
    files = (directory / name for name in (METRICS, SUMMARY, SERVICES, CONFIG))
    for path in (*tensorboard.own_files(directory), *files):
        path.unlink(missing_ok=True)
    if csv_file.is_own(table := directory / TABLE):
        table.unlink()


def record(directory: Path, config: RunConfig, cadence: Cadence, steps: int, changes: list[Change]) -> None:
    """Write the present configuration, with what was changed at which step.

    Raises:
        UsageError: if it cannot be written.
    """
    history = read_config(directory).get("history")
    history = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    if changes:
        named = {change.name: {"before": change.before, "now": change.now} for change in changes}
        entry = {"step": steps, "time": time.strftime("%Y-%m-%d %H:%M:%S"), "changes": named}
        # A run that was killed before its next checkpoint is changed at the same step again.
        history = [*(before for before in history if before.get("step") != steps), entry]
    with writing(directory):
        write_config(directory, config, cadence, history)
        (directory / SUMMARY).unlink(missing_ok=True)  # it describes an earlier end
