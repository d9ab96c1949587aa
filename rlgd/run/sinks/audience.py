"""All sinks of a run: what they raise costs the run nothing, and what they ask for is remembered."""

import inspect
import logging
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from rlgd.plugins import described
from rlgd.run.sinks import Stop

log = logging.getLogger("rlgd")


class Audience:
    """The sinks of a run.

    Attributes:
        stop: the first stop that a sink asked for, or None.
    """

    def __init__(self, sinks: Iterable[Any]) -> None:
        self._sinks = list(sinks)
        self.stop: Stop | None = None

    def has(self, sink: Any) -> bool:
        """Whether a sink is still told: it has not raised."""
        return any(other is sink for other in self._sinks)

    def tell(self, event: str, *values: Any) -> None:
        """Call a method of every sink that has it; a sink that raises is reported, and left out from then on."""
        for sink in tuple(self._sinks):
            if (method := getattr(sink, event, None)) is None:
                continue
            try:
                answer = method(*_taken(event, method, values))
            except Exception as error:  # any code of users and services runs here
                self._sinks = [other for other in self._sinks if other is not sink]
                log.warning("%s", _complaint(sink, event, error))
                continue
            if isinstance(answer, Stop) and self.stop is None:
                self.stop = answer


def _taken(event: str, method: Callable[..., Any], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values that a method takes: a ``close`` without arguments, as earlier versions had it, takes none."""
    return () if event == "close" and not inspect.signature(method).parameters else values


def _complaint(sink: Any, event: str, error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    name = getattr(sink, "name", None) or described(type(sink))
    what = f"{type(error).__name__}: {error}".partition("\n")[0]
    return f"the run continues without the sink {name}, whose {event} failed: {what} ({place.filename}:{place.lineno})"
