"""When programs are compiled: several threads and processes do it at once, and a person waits only once."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

Interval: TypeAlias = tuple[float, float]  # begin and end, in seconds since the epoch: machines agree on it


class Compiling:
    """The compilations since this object was made.

    Args:
        on_change: called when a compilation of this process begins or ends, in its thread.

    Attributes:
        on_change: as given.
        intervals: of compilations that have ended; those of other processes are added here.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self.on_change = on_change
        self.intervals: list[Interval] = []
        self._running: list[float] = []
        self._began = time.time()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """A block in which something is compiled."""
        begin = time.time()
        self._running.append(begin)
        try:
            self.on_change()
            yield
        finally:
            self._running.remove(begin)
            self.intervals.append((begin, time.time()))
            self.on_change()

    @property
    def is_running(self) -> bool:
        """Whether this process compiles now."""
        return bool(self._running)

    @property
    def seconds(self) -> float:
        """Wall time in which something was compiled: never more than the time since this object was made."""
        now, seconds, counted = time.time(), 0.0, self._began
        for begin, end in sorted([*self.intervals, *((begin, now) for begin in self._running)]):
            end = min(end, now)
            seconds += max(0.0, end - max(begin, counted))
            counted = max(counted, end)
        return seconds
