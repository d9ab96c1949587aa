"""Removing runs that are not worth keeping."""

import contextlib
import itertools
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rlgd.errors import UsageError
from rlgd.run.catalog import RunRecord, rank
from rlgd.run.directory import open_to_write, remove_run
from rlgd.run.layout import BEST, CHECKPOINTS
from rlgd.system.lock import LOCK

DAY = 86_400.0  # seconds


class Wish(NamedTuple):
    """Which runs may go: those to which all that is given applies.

    Attributes:
        unfinished: runs that were not trained to their end.
        below: runs with a lower mean return at their end.
        older_than: runs that nothing was written to for this number of days.
        keep: all but this number with the highest returns, of each agent in each environment.
    """

    unfinished: bool = False
    below: float | None = None
    older_than: float | None = None
    keep: int | None = None


def chosen(records: Iterable[RunRecord], wish: Wish) -> list[RunRecord]:
    """The runs that may go; none that a process is writing.

    Raises:
        UsageError: if nothing is wished, or a number is negative.
    """
    if wish == Wish():
        raise UsageError("nothing says which runs to remove; give --unfinished, --below, --older-than or --keep.")
    for name in ("older_than", "keep"):
        if (value := getattr(wish, name)) is not None and not value >= 0:
            raise UsageError(f"{name} is {value}; allowed: a number from 0.")
    records = list(records)
    kept: set[Path] = set()
    if wish.keep is not None:
        ordered = sorted(records, key=lambda record: (*_kind(record), rank(record)))
        for _, group in itertools.groupby(ordered, _kind):
            kept |= {record.directory for record in itertools.islice(group, wish.keep)}
    return [record for record in records if not record.running and record.directory not in kept and _goes(record, wish)]


def _kind(record: RunRecord) -> tuple[str, str]:
    return record.agent, record.env


def _goes(record: RunRecord, wish: Wish) -> bool:
    if wish.unfinished and record.is_finished:
        return False
    if wish.below is not None and not record.outcome()["mean_return"] < wish.below:
        return False
    return wish.older_than is None or _idle_seconds(record.directory) > wish.older_than * DAY


def _files(directory: Path) -> Iterable[os.stat_result]:
    for place, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):  # it has just been removed
                yield os.lstat(Path(place, name))


def _idle_seconds(directory: Path) -> float:
    return time.time() - max((status.st_mtime for status in _files(directory)), default=0.0)


def size(directory: Path) -> int:
    """The bytes of all files in a directory."""
    return sum(status.st_size for status in _files(directory))


def remove(directory: Path) -> None:
    """Remove what rlgd wrote there, and the directory itself if nothing else is in it.

    Raises:
        UsageError: if another process writes the run, or the directory cannot be written.
    """
    lock = open_to_write(directory)
    try:
        remove_run(directory)
        (directory / LOCK).unlink()
    except OSError as error:
        raise UsageError(f"{directory} cannot be removed: {error.strerror}.") from error
    finally:
        lock.release()
    for folder in (directory / CHECKPOINTS, directory / BEST, directory):
        with contextlib.suppress(OSError):  # somebody else's files are in it
            folder.rmdir()
