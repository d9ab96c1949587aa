"""Ending a command by a signal: a run that trains is asked by the first one, and ended at once by the second one."""

import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # a terminal's Ctrl-C, and a cluster's preemption
ECHO = 0.02  # seconds; coreutils' `timeout` sends its signal to the process, and to its group
SHOW_CURSOR = "\x1b[?25h"  # which a progress bar hides

PollSignal: TypeAlias = Callable[[], int | None]


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised as SIGINT is."""


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """The shell's for the signal."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


# Signals that raised an exception. Where one hits a destructor or a callback of an import, it is swallowed.
_raised: list[int] = []


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Have SIGTERM raise an exception, as SIGINT does; ``caught`` knows of those that were swallowed."""

    def handle(number: int, frame: Any) -> None:
        _raised.append(number)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    _raised.clear()
    ignored = signal.getsignal(signal.SIGINT) is not signal.default_int_handler  # as in a shell's background
    with _handled(dict.fromkeys(SIGNALS[ignored:], handle)):
        yield


@contextlib.contextmanager
def caught() -> Iterator[PollSignal]:
    """Hold back the first signal: what is yielded says its number, or None as long as there was none.

    The second one ends the process. Python itself would run a handler when a compiled program is done, and once for two
    signals; so a thread reads what the system tells of each of them.
    """
    seen: list[int] = []
    first = -math.inf

    def take(number: int) -> None:
        nonlocal first
        seen.append(number)
        first = time.monotonic()
        cursor = SHOW_CURSOR if sys.stderr.isatty() else ""
        text = f"{cursor}rlgd: stopping soon, and saving; once more to end at once"
        with contextlib.suppress(OSError):  # who reads it may have ended by the same signal
            print(text, file=sys.stderr, flush=True)

    told, tells = socket.socketpair()
    tells.setblocking(False)

    def watch() -> None:
        while number := told.recv(1):
            if number[0] not in SIGNALS or time.monotonic() - first < ECHO:
                continue
            if seen:
                os._exit(128 + number[0])
            take(number[0])

    thread = threading.Thread(target=watch, name="rlgd-signals", daemon=True)
    thread.start()
    # Told before it is held back: no signal falls between the two.
    before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    with told, tells, _handled(dict.fromkeys(SIGNALS, lambda number, frame: None)):
        if _raised:
            take(_raised[0])
        try:
            yield lambda: seen[0] if seen else None
        finally:
            signal.set_wakeup_fd(before)
            tells.shutdown(socket.SHUT_WR)  # the thread ends
            thread.join()


@contextlib.contextmanager
def _handled(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
