"""Ending a run by a signal: the first one asks, the second one ends it at once."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # a terminal's Ctrl-C, and a cluster's preemption

Asked: TypeAlias = Callable[[], int | None]


@contextlib.contextmanager
def caught() -> Iterator[Asked]:
    """Hold back the first signal: what is yielded says its number, or None as long as there was none.

    The second one ends the process, as the system does by default.
    """
    seen: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if seen:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        seen.append(number)
        print("rlgd: stopping soon, and saving; once more to end at once", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield lambda: seen[0] if seen else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
