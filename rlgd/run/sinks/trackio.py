"""trackio, whose database lies on this machine, where TRACKIO_DIR says; TRACKIO_PROJECT chooses the project."""

import contextlib
import os
import sys
from typing import Any

import trackio

from rlgd.run.sinks.services import PROJECT, About, Memory, Service


class Trackio(Service):
    """A run of trackio, in the group of its study, or of the runs that differ by their seed.

    trackio has one run at a time in a process: this one ends a run that the caller has begun.

    Args:
        options: of ``trackio.init``, in place of what follows from the run.
    """

    name = "trackio"

    def _start(self, told: About, memory: Memory) -> None:
        defaults: dict[str, Any] = {
            "project": os.environ.get("TRACKIO_PROJECT", PROJECT),
            "name": f"{told.name} {memory.id[:8]}",  # by which trackio knows it again
            "group": told.group,
            "config": told.values | {"job_type": told.job_type, "tags": ", ".join(told.tags)},
            "resume": "allow",
            "embed": False,
        }
        with _saying_it_aside():
            self._run = trackio.init(**defaults | self._options)

    def _log(self, values: dict[str, Any], step: int) -> None:
        self._run.log(values, step=step)

    def _end(self, kept: dict[str, Any], status: str) -> None:
        self._log(kept | {"final/status": status}, kept["final/steps"])
        with _saying_it_aside():
            trackio.finish()  # not the run's own: else trackio ends it again at exit, and prints that


def _saying_it_aside() -> "contextlib.AbstractContextManager[Any]":
    """Let trackio print on standard error: the output belongs to the result of the command."""
    return contextlib.redirect_stdout(sys.stderr)
