"""Jobs that tests send to workers, which import this module."""

import os
import signal
from pathlib import Path
from typing import Any


def square(number: int) -> int:
    return number * number


def process_of(_: Any) -> int:
    return os.getpid()


def fail(error: Exception) -> None:
    raise error


def die(*_: Any, **__: Any) -> None:
    """As the system ends a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker: Path, result: Any = None) -> Any:
    """Die, unless a process has done so before."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return result
    die()


def die_with_job(job: tuple[Path, int]) -> int:
    """The second part of the job, at the second try."""
    marker, number = job
    die_once(marker)
    return number


class DiesOnce:
    """Prepares a worker process; the first one does not survive it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __call__(self, *_: Any, **__: Any) -> None:
        die_once(self.marker)
