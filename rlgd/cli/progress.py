"""How far a study, a search or a reproduction is, for a person."""

import time
from types import TracebackType
from typing import Self

from rlgd.cli.options import OutputOptions
from rlgd.system.display import Display, State
from rlgd.system.progress import Progress


class ShownProgress:
    """Shows what ``on_progress`` takes, unless the output is to be quiet.

    The time left follows from what has finished since the first call, of work that is all alike.
    """

    def __init__(self, options: OutputOptions) -> None:
        self._display = None if options.quiet or options.json else Display()
        self._unit, self._began, self._begun_with = "", 0.0, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.close()

    def __call__(self, progress: Progress) -> None:
        """Show it, if there is anything to do."""
        if self._display is None or not progress.number:
            return
        now, share = time.monotonic(), progress.done / progress.number
        if progress.share is not None:
            share = progress.share
        if progress.unit != self._unit:
            self._unit, self._began, self._begun_with = progress.unit, now, share
        gained = share - self._begun_with
        left = (now - self._began) * (1 - share) / gained if gained > 0 else None
        doing = "" if progress.done >= progress.number else "compiling" if progress.compiling else "training"
        facts = [] if progress.best is None else [f"best {progress.best.label}: {progress.best.score:.1f}"]
        facts += [f"{progress.compile_seconds:.0f} s of compiling"] if progress.compile_seconds >= 1 else []
        self._display.show(State(progress.unit, progress.done, progress.number, doing, facts, left, share))
