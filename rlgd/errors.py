"""The errors of rlgd, each with the exit code of the command line."""

import difflib
import numbers
from collections.abc import Iterable
from typing import Any

MAX_MESSAGE, MAX_LISTED = 300, 160  # characters of a message, and of the names that it lists


def shortened(message: str) -> str:
    """A message without its middle if it is too long: what was given can have any length."""
    if len(message) <= MAX_MESSAGE:
        return message
    gap = " ... "
    head = (MAX_MESSAGE - len(gap)) * 2 // 3
    return message[:head] + gap + message[len(message) - (MAX_MESSAGE - len(gap) - head) :]


class RlgdError(Exception):
    """A failure with one message that explains it, of at most ``MAX_MESSAGE`` characters.

    Attributes:
        exit_code: the exit status of the process.
        policy: of a run that it ended, the ``rlgd.Policy`` of the last state that is kept; else None.
        state: that state; else None.
    """

    exit_code = 1
    policy: Any = None
    state: Any = None

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message))


class UsageError(RlgdError, ValueError):
    """The caller's mistake. The message says what was given, what is allowed, and what to do."""

    exit_code = 2


class EnvironmentFault(RlgdError):
    """The environment broke its contract: a non-finite observation, a wrong shape, an exception in ``step``."""

    exit_code = 3


class Diverged(RlgdError):
    """Training produced infinite numbers or NaN; the last finite state is kept."""

    exit_code = 4


class StorageFault(RlgdError):
    """A file could not be written, or its content is not what was written."""

    exit_code = 5


class Interrupted(RlgdError):
    """A signal ended a run; its state is saved. The exit code is the shell's for that signal, 128 + number.

    ``another_says``: another process of the run tells the user.
    """

    def __init__(self, message: str, number: int, another_says: bool = False) -> None:
        super().__init__(message)
        self.exit_code, self.another_says = 128 + number, another_says


def _listed(names: list[str]) -> str:
    """Names in a message: as many as are read at a glance."""
    width = 0
    shown: list[str] = []
    for name in names:
        width += len(name) + 2
        if width > MAX_LISTED and shown:
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(name)
    return ", ".join(shown)


def unknown(kind: str, given: str, known: Iterable[str]) -> UsageError:
    """The error for an unknown name: it gives the nearest known names, or all of them if none is near."""
    names = sorted(known)
    by_lower = {name.lower(): name for name in names}
    near = [by_lower[match] for match in difflib.get_close_matches(str(given).lower(), by_lower, n=3, cutoff=0.6)]
    nearest = f"did you mean {' or '.join(repr(name) for name in near)}?"
    hint = nearest if near else f"known: {_listed(names)}."
    return UsageError(f"unknown {kind} {given!r}; {hint}")


def whole_number(name: str, value: Any, low: int = 0) -> int:
    """``value`` as an ``int``, if it is a whole number of any type, such as NumPy's.

    Raises:
        UsageError: if it is not, or is below ``low``; ``name`` says which value it is.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < low:
        raise UsageError(f"{name} is {shown(value)}; allowed: a whole number from {low}.")
    return int(value)


def shown(value: Any) -> str:
    """A value in a message; Python writes no number of more than some thousand digits."""
    try:
        return repr(value)
    except ValueError:
        return f"a {type(value).__name__} that is too long to write"
