"""Ending a command by a signal: the first one lets training stop and save, the second one ends the process at once."""

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

from rlgd.errors import RlgdError

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # a terminal's Ctrl-C, and a cluster's preemption
ECHO = 0.02  # seconds in which a signal may arrive twice: coreutils' `timeout` sends it to process and group
SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides the cursor

PollSignal: TypeAlias = Callable[[], int | None]


class Terminated(KeyboardInterrupt):
    """SIGTERM as an exception, like SIGINT's."""


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """The shell's exit code for the signal."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


# Signals that raised an exception. In a destructor or a callback of an import, Python swallows the exception.
_raised: list[int] = []


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Make SIGTERM raise an exception, as SIGINT does.

    Python may swallow it. ``caught`` sees such a signal too; without ``caught`` it is raised again at the end.
    """
    swallowed = False

    def handle(number: int, frame: Any) -> None:
        _raised.append(number)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def report(unraisable: Any) -> None:
        nonlocal swallowed
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            swallowed = True  # a traceback of it would tell the user nothing
        else:
            unraisable_hook(unraisable)

    def show(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """What an extension module calls that is just being imported, before it raises an error of its own."""
        nonlocal swallowed
        if issubclass(kind, KeyboardInterrupt):
            swallowed = True
        else:
            hook(kind, error, trace)

    unraisable_hook, sys.unraisablehook = sys.unraisablehook, report
    hook, sys.excepthook = sys.excepthook, show
    _raised.clear()
    ignored = signal.getsignal(signal.SIGINT) is not signal.default_int_handler  # as in a shell's background
    with _handled(dict.fromkeys(SIGNALS[ignored:], handle)):
        try:
            yield
        except Exception as error:
            # An extension module that is just being imported turns the signal's exception into an error of its own.
            if not _raised or isinstance(error, RlgdError):
                raise
            raise _interrupt() from error
        finally:
            sys.unraisablehook, sys.excepthook = unraisable_hook, hook
        if swallowed and _raised:
            raise _interrupt()


def _interrupt() -> KeyboardInterrupt:
    return Terminated() if _raised[0] == signal.SIGTERM else KeyboardInterrupt()


@contextlib.contextmanager
def caught() -> Iterator[PollSignal]:
    """Catch the first signal: the yielded function returns its number, or None before it arrives.

    The second signal ends the process. Python runs a handler only when the current compiled program has finished, and
    only once for two signals of a kind; so a thread reads each signal from the wake-up socket.
    """
    seen: list[int] = []
    first = -math.inf

    def take(number: int) -> None:
        nonlocal first
        seen.append(number)
        first = time.monotonic()
        cursor = SHOW_CURSOR if sys.stderr.isatty() else ""
        again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
        text = f"{cursor}rlgd: stopping after this chunk ({again} stops at once)"
        with contextlib.suppress(OSError):  # the reader of standard error may have ended by the same signal
            print(text, file=sys.stderr, flush=True)

    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def watch() -> None:
        while number := receiver.recv(1):
            if number[0] not in SIGNALS or time.monotonic() - first < ECHO:
                continue
            if seen:
                os._exit(128 + number[0])
            take(number[0])

    thread = threading.Thread(target=watch, name="rlgd-signals", daemon=True)
    thread.start()
    # The socket first, then the handlers: no signal is lost between the two.
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    with receiver, sender, _handled(dict.fromkeys(SIGNALS, lambda number, frame: None)):
        if _raised:
            take(_raised[0])
            _raised.clear()
        try:
            yield lambda: seen[0] if seen else None
        finally:
            signal.set_wakeup_fd(before)
            sender.shutdown(socket.SHUT_WR)  # ends the thread
            thread.join()


@contextlib.contextmanager
def _handled(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
