"""How far something is, for a person, on standard error: a bar on a terminal, else a plain line now and then."""

import contextlib
import datetime
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINE_EVERY = 2.0  # seconds between plain lines
LINE_WIDTH = 80  # of plain lines
BAR_WIDTH = 8  # of the bar, at least
GAP = "  "


class State(NamedTuple):
    """What is shown.

    Attributes:
        unit: what is counted, such as "steps".
        done, total: how many.
        doing: what happens now, or how fast.
        facts: short texts, the most important first; those that do not fit are left out.
        seconds_left: an estimate; None: it is not known yet.
        share: of the work that is done; None: ``done / total``.
    """

    unit: str
    done: int
    total: int
    doing: str
    facts: Sequence[str] = ()
    seconds_left: float | None = None
    share: float | None = None

    def numbers(self) -> str:
        """How many of how many."""
        total = f"{self.total:,}"
        return f"{self.done:>{len(total)},} / {total} {self.unit}"


class Display:
    """Shows states as they come. On a terminal the seconds are counted between two of them, too."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._began = self._last_line = time.monotonic()
        self._live: Live | None = None
        self._is_closed = False

    def show(self, state: State) -> None:
        """Show a state."""
        now = time.monotonic()
        if self._is_closed:  # by an interrupt, while threads go on
            return
        self._state, self._at = state, now
        if self._console.is_interactive:
            if self._live is None:
                self._live = Live(self, console=self._console)
                self._live.start()
        elif state.done >= state.total or now - self._last_line > LINE_EVERY:
            self._last_line = now
            with contextlib.suppress(OSError):  # nobody has to read it
                print(self._line(), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._is_closed = True
        if self._live is not None:
            self._live.stop()

    def _times(self) -> str:
        now, left = time.monotonic(), self._state.seconds_left
        left = None if left is None else round(left - (now - self._at))
        rest = f", {_clock(left)} left" if left is not None and left > 0 else ""  # what is over was a wrong estimate
        return f"{_clock(now - self._began)}{rest}"

    def _line(self) -> str:
        state = self._state
        count = f"{GAP}{state.numbers()}{GAP}"
        parts = [*state.facts[:1], self._times(), state.doing, *state.facts[1:]]
        return count + fitted(parts, LINE_WIDTH - len(count))

    def __rich__(self) -> Group:
        """The bar with numbers on its sides, and the facts below."""
        state, width, count = self._state, self._console.width, GAP + self._state.numbers()
        sides = fitted([self._times(), state.doing], width - len(count) - BAR_WIDTH - 2 * len(GAP))
        share = state.done / max(state.total, 1) if state.share is None else state.share
        row = Table.grid(padding=(0, len(GAP)), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        row.add_row(Text(count), ProgressBar(1.0, share), Text(sides))
        return Group(row, Text(GAP + fitted(state.facts, width - len(GAP)), no_wrap=True))


def fitted(parts: Sequence[str], room: int) -> str:
    """As many of the first parts, side by side, as there is room for; the first one is cut if it has to be."""
    parts = [part for part in parts if part]
    while len(parts) > 1 and len(GAP.join(parts)) > room:
        parts.pop()
    text = GAP.join(parts)
    return text if len(text) <= room else f"{text[: max(room - 3, 0)]}..."


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
